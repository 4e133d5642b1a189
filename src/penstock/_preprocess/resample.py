"""Scaling pictures as Pillow does (each pixel the weighted mean of what it covers), at a fraction of its cost.

Pillow's antialiased "bilinear" is a triangle of the width of two scaled pixels. Its effect is that of any smooth kernel
of the same variance, r*r/6 for a ratio r (Wells, Efficient synthesis of Gaussian filters by cascaded uniform filters,
PAMI 1986), so three cheap steps of OpenCV that add up to it take its place: whole pixels are averaged in blocks, a
small Gaussian brings the rest of the variance, and a cubic interpolation, which adds none, picks the points. Pixels
that the crop will drop are not computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from penstock._decode.tools import opencv
from penstock._preprocess.geometry import Axis
from penstock._spec import InputSpec
from penstock.errors import ItemError, MissingDependency

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
"""uint8, (height, width, channels)."""
Resample = Callable[[Pixels, Axis, Axis], Pixels]

_ONE_TO_ONE = 1.07
"""Below this ratio Pillow's triangle is a linear interpolation but for 1/255, and costs no blur."""
_KEPT_RATIO = 2
"""Blocks leave at least this ratio to the Gaussian and the cubic; below it the blocks' own shape shows (measured)."""
_LARGEST_RATIO = 8
"""Above it the blocks are so large that a scaled picture's edge shows them, and Pillow reduces first too."""
_VARIANCE = 1.1 / 6
"""Of the Gaussian, for a ratio of 1: the triangle's, and a tenth for the cubic, which sharpens (measured)."""
_SMALLEST_VARIANCE = 0.008
_THREE_TAPS = 0.45
"""Up to this variance a kernel of three taps has it exactly; a third of the weight on each side is its end."""
_FIVE_TAPS = 1.2
_LARGE = 1 << 26
"""Pictures that would be scaled to more pixels are left to Pillow, which computes the crop alone."""


def choose_resample(spec: InputSpec) -> Resample:
    """Return the function that scales and crops as `spec` says: `resample(pixels, rows, columns)`.

    Raises MissingDependency where neither OpenCV nor Pillow can do it.
    """
    cv2 = opencv()
    if cv2 is None:
        return _without_opencv(spec)
    pillow = _pillow(spec)
    if spec.color == "rgba" or (spec.antialias and spec.interpolation == "bicubic"):
        return pillow
    if spec.interpolation == "area":
        return lambda pixels, rows, columns: _whole(cv2, cv2.INTER_AREA, pixels, rows, columns)
    if not spec.antialias:
        mode = cv2.INTER_LINEAR if spec.interpolation == "bilinear" else cv2.INTER_CUBIC
        return lambda pixels, rows, columns: _whole(cv2, mode, pixels, rows, columns)
    return lambda pixels, rows, columns: _antialiased(cv2, pillow, pixels, rows, columns)


def _without_opencv(spec: InputSpec) -> Resample:
    for asked, name in ((not spec.antialias, "antialias=false"), (spec.interpolation == "area", "interpolation area")):
        if asked:  # Pillow's nearest to it, BOX, takes whole pixels: up to 4/255 off
            raise MissingDependency.of("opencv-python-headless", "images", name)
    return _pillow(spec)


def _pillow(spec: InputSpec) -> Resample:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependency.of("pillow", "images", "scaling pictures") from error

    interpolation = Image.Resampling.BICUBIC if spec.interpolation == "bicubic" else Image.Resampling.BILINEAR

    def resample(pixels: Pixels, rows: Axis, columns: Axis) -> Pixels:
        (top, bottom), (left, right) = rows.span, columns.span
        # The last pixel's end may come out a rounding error beyond the picture, which Pillow refuses.
        box = (left, top, min(right, columns.source), min(bottom, rows.source))
        image = Image.fromarray(pixels)
        return np.asarray(image.resize((columns.length, rows.length), interpolation, box=box, reducing_gap=3.0))

    return resample


def _whole(cv2: Any, mode: int, pixels: Pixels, rows: Axis, columns: Axis) -> Pixels:
    if rows.scaled * columns.scaled > _LARGE:
        raise ItemError(
            f"a picture of {columns.source:,} x {rows.source:,} pixels would be scaled to {columns.scaled:,} x "
            f"{rows.scaled:,} before it is cropped, more than the {_LARGE:,} pixels allowed."
        )
    scaled: Pixels = cv2.resize(pixels, (columns.scaled, rows.scaled), interpolation=mode)
    return scaled[rows.first : rows.first + rows.length, columns.first : columns.first + columns.length]


def _antialiased(cv2: Any, pillow: Resample, pixels: Pixels, rows: Axis, columns: Axis) -> Pixels:
    uneven = (rows.ratio > _ONE_TO_ONE) != (columns.ratio > _ONE_TO_ONE)
    if uneven or max(rows.ratio, columns.ratio) > _LARGEST_RATIO or rows.scaled * columns.scaled > _LARGE:
        return pillow(pixels, rows, columns)
    (top, bottom, above), (left, right, before) = _window(rows), _window(columns)
    part = pixels[top:bottom, left:right]
    if rows.ratio <= _ONE_TO_ONE:
        scaled = _picked(cv2, cv2.INTER_LINEAR, part, (rows.ratio, columns.ratio))
    else:
        scaled = _shrunk(cv2, part, rows.ratio, columns.ratio)
    height, width = above + rows.length, before + columns.length
    if scaled.shape[0] < height or scaled.shape[1] < width:  # the window ends at a fraction of a pixel
        missing = (max(0, height - scaled.shape[0]), max(0, width - scaled.shape[1]))
        scaled = cv2.copyMakeBorder(scaled, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
    return scaled[above:height, before:width]


def _window(axis: Axis) -> tuple[int, int, int]:
    """Return which pixels of the picture are needed (from, to), and how many scaled ones come before the first kept.

    It begins where a scaled pixel's edge falls on a pixel's edge, or nearly: a window cannot begin between pixels.
    """
    reach = 3 if axis.ratio > 1 else math.ceil(3 / axis.ratio)  # of a kernel, in scaled pixels
    candidates = range(axis.first - reach, max(0, axis.first - reach - 16), -1)
    begin = min(candidates, key=lambda k: abs(k * axis.ratio - round(k * axis.ratio)), default=0)
    if abs(begin * axis.ratio - round(begin * axis.ratio)) > 0.03:
        begin = 0
    end = math.ceil((axis.first + axis.length + reach) * axis.ratio)
    return round(begin * axis.ratio), min(axis.source, end), axis.first - begin


def _shrunk(cv2: Any, part: Pixels, row_ratio: float, column_ratio: float) -> Pixels:
    blocks = [2 ** max(0, int(math.log2(ratio / _KEPT_RATIO))) for ratio in (row_ratio, column_ratio)]
    part = _averaged(cv2, part, *blocks)
    ratios = (row_ratio / blocks[0], column_ratio / blocks[1])
    # What the blocks blur is little beside this, and they blur it less evenly than the triangle: it is not taken off.
    variances = [_VARIANCE * ratio**2 for ratio in ratios]
    return _picked(cv2, cv2.INTER_CUBIC, _blurred(cv2, part, *variances), ratios)


def _averaged(cv2: Any, part: Pixels, rows: int, columns: int) -> Pixels:
    """Return the means of blocks of rows x columns pixels; an incomplete one at the end is filled up by its last."""
    if rows == columns == 1:
        return part
    missing = (-part.shape[0] % rows, -part.shape[1] % columns)
    if any(missing):
        part = cv2.copyMakeBorder(part, 0, missing[0], 0, missing[1], cv2.BORDER_REPLICATE)
    sides = (part.shape[1] // columns, part.shape[0] // rows)
    means: Pixels = cv2.resize(part, sides, interpolation=cv2.INTER_AREA)
    return means


def _blurred(cv2: Any, part: Pixels, vertical: float, horizontal: float) -> Pixels:
    if max(vertical, horizontal) <= _THREE_TAPS:
        sigmas = [_three_tap_sigma(variance) for variance in (horizontal, vertical)]
        taps = 3
    else:
        sigmas = [math.sqrt(max(variance, _SMALLEST_VARIANCE)) for variance in (horizontal, vertical)]
        taps = 5 if max(vertical, horizontal) <= _FIVE_TAPS else 7
    blurred: Pixels = cv2.GaussianBlur(part, (taps, taps), sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REPLICATE)
    return blurred


def _three_tap_sigma(variance: float) -> float:
    """Return the sigma for which OpenCV's Gaussian of three taps (side, 1 - 2 side, side) has this variance, 2 side."""
    side = max(variance, _SMALLEST_VARIANCE) / 2
    return math.sqrt(-0.5 / math.log(side / (1 - 2 * side)))


def _picked(cv2: Any, mode: int, part: Pixels, ratios: tuple[float, float]) -> Pixels:
    """Return `part` scaled by exactly the ratios: OpenCV is told the factors, for its own would be of whole pixels."""
    if ratios == (1.0, 1.0):
        return part
    picked: Pixels = cv2.resize(part, None, fx=1 / ratios[1], fy=1 / ratios[0], interpolation=mode)
    return picked
