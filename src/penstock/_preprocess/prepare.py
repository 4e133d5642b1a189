"""The one step between decoding and the model: geometry and colour. What becomes of the pixels is the model's part."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from penstock._preprocess.geometry import Geometry, check_geometry, geometry_of
from penstock._preprocess.resample import Pixels, choose_resample
from penstock._spec import InputSpec, short_side_of
from penstock.errors import ItemError

Prepare = Callable[[Pixels], Pixels]
_SHRINK_MARGIN = 2.9
"""A JPEG shrunk while decoding keeps this many times the size wanted: within 2/255 of Pillow on dense photos."""


def make(spec: InputSpec) -> Prepare:
    """Return the function that makes a model's input of a picture, uint8 (height, width, 3) in RGB.

    Its answer is one item without the batch axis: pixels, uint8 (height, width, channels), channels in the model's
    order. For color="rgba" it takes and gives four channels.

    Raises:
        SpecError: `spec` leaves the size open. MissingDependency: nothing installed can scale as it says.
        ItemError: from the function, for anything but such a picture.
    """
    check_geometry(spec)
    resample, color = choose_resample(spec), _color(spec)
    channels = 4 if spec.color == "rgba" else 3

    def prepare(pixels: Pixels) -> Pixels:
        _check(pixels, channels)
        found = geometry_of(spec, *pixels.shape[:2])
        if not (found.rows.unchanged and found.columns.unchanged):
            pixels = resample(pixels, found.rows, found.columns)
        return np.ascontiguousarray(filled(_padded(color(pixels), found, spec.pad_value), spec))

    return prepare


def filled(pixels: Pixels, spec: InputSpec) -> Pixels:
    """Return a picture with its width filled up on the right to a multiple of `spec.pad_to_multiple_of`, if said."""
    height, width, channels = pixels.shape
    missing = -width % (spec.pad_to_multiple_of or 1)
    if not missing:
        return pixels
    field = np.full((height, width + missing, channels), spec.pad_value, np.uint8)
    field[:, :width] = pixels
    return field


def shrink_to(spec: InputSpec) -> int | None:
    """Return the short side in pixels that a JPEG must keep where it is shrunk while decoding; None: it must not be.

    Without antialias the answer depends on single pixels of the original, and without a size every one is wanted.
    """
    sides = [spec.keep_aspect_height, short_side_of(spec), *(spec.size or ())]
    wanted = max((side for side in sides if side is not None), default=None)
    return math.ceil(wanted * _SHRINK_MARGIN) if wanted is not None and spec.antialias else None


def turns_with(spec: InputSpec, shape: Sequence[int], *, quarter: bool) -> bool:
    """Tell whether a picture of `shape` (height, width, ...) may be turned behind the model's preparation as well.

    It may be mirrored and turned by halves wherever nothing is filled up on one side, by quarters (`quarter`) where its
    input then has the shape that the turned picture's would have.
    """
    if spec.pad_to_multiple_of:
        return False
    height, width = shape[:2]
    return not quarter or geometry_of(spec, width, height).field == geometry_of(spec, height, width).field[::-1]


def _check(pixels: Any, channels: int) -> None:
    if not isinstance(pixels, np.ndarray):
        raise ItemError(f"a picture is a uint8 array (height, width, {channels}), not {type(pixels).__name__}.")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != channels or 0 in pixels.shape:
        raise ItemError(f"a picture is uint8 (height, width, {channels}); got {pixels.dtype} {pixels.shape}.")


def _color(spec: InputSpec) -> Callable[[Pixels], Pixels]:
    if spec.color == "bgr":
        return lambda pixels: pixels[..., ::-1]
    if spec.color != "gray":
        return lambda pixels: pixels
    from PIL import Image

    return lambda pixels: np.asarray(Image.fromarray(pixels).convert("L"))[..., None]


def _padded(pixels: Pixels, geometry: Geometry, value: int) -> Pixels:
    height, width, channels = pixels.shape
    if (height, width) == geometry.field:
        return pixels
    field = np.full((*geometry.field, channels), value, np.uint8)
    field[geometry.top : geometry.top + height, geometry.left : geometry.left + width] = pixels
    return field
