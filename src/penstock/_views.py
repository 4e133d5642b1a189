"""Views of one picture for test-time augmentation: made before the model, undone on what it gives, merged (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from penstock._options import View
from penstock._spec import InputSpec
from penstock.errors import ItemError, SpecError

Array = np.ndarray[Any, np.dtype[Any]]


def scaled(spec: InputSpec, scale: float) -> InputSpec:
    """Return `spec` for an input `scale` times as large. Raises SpecError where its size is the picture's own."""
    if scale == 1:
        return spec
    if spec.size is None and spec.keep_aspect_height is None and not isinstance(spec.short_side, int):
        raise SpecError(f"a view of scale {scale:g} wants a size to scale; say size or short_side in the spec.")
    size = None if spec.size is None else (_times(spec.size[0], scale), _times(spec.size[1], scale))
    height = None if spec.keep_aspect_height is None else _times(spec.keep_aspect_height, scale)
    short = _times(spec.short_side, scale) if isinstance(spec.short_side, int) else spec.short_side
    return replace(spec, size=size, keep_aspect_height=height, short_side=short)


def _times(side: int, scale: float) -> int:
    return max(1, round(side * scale))


def turned(picture: Array, view: View) -> Array:
    """Return a picture (H, W, C) as `view` shows it: mirrored left to right, then turned counterclockwise."""
    flipped = picture[:, ::-1] if view.flip else picture
    return np.ascontiguousarray(np.rot90(flipped, view.rotate // 90))


def undone(row: Any, view: View) -> Any:
    """Return a row with its dense outputs (C, H, W) turned back to the upright picture; others are as they are."""
    if isinstance(row, dict):
        return {name: undone(part, view) for name, part in row.items()}
    array = np.asarray(row)
    if array.ndim < 3:
        return row
    back = np.rot90(array, -(view.rotate // 90), axes=(-2, -1))
    return back[..., ::-1] if view.flip else back


def merged(rows: Sequence[Any], views: Sequence[View], merge: Any) -> Any:
    """Return one row of the rows of all `views`: dense outputs turned back and brought to the largest one's size first.

    Raises ItemError where the rows do not fit together.
    """
    upright = [undone(row, view) for row, view in zip(rows, views, strict=True)]
    if isinstance(upright[0], dict):
        return {name: _merged([row[name] for row in upright], merge) for name in upright[0]}
    return _merged(upright, merge)


def _merged(rows: Sequence[Any], merge: Any) -> Any:
    arrays = _of_one_size([np.asarray(row) for row in rows])
    if callable(merge):
        return merge(arrays)
    if merge == "max":
        return np.max(arrays, axis=0)
    return np.mean(arrays, axis=0, dtype=np.float64).astype(arrays[0].dtype)


def _of_one_size(arrays: list[Array]) -> list[Array]:
    shapes = {array.shape for array in arrays}
    if len(shapes) == 1:
        return arrays
    if any(array.ndim < 3 for array in arrays) or len({shape[:-2] for shape in shapes}) > 1:
        raise ItemError(f"the views' outputs have shapes {sorted(shapes)}, which cannot be merged.")
    height, width = max(shape[-2:] for shape in shapes)
    return [_resized(array, height, width) for array in arrays]


def _resized(array: Array, height: int, width: int) -> Array:
    """Return (..., H, W) at another size: linear, the corners of the outer pixels kept in their places."""
    for axis, length in ((-2, height), (-1, width)):
        here = array.shape[axis]
        places = np.clip((np.arange(length) + 0.5) * (here / length) - 0.5, 0, here - 1)
        below = np.floor(places).astype(np.intp)
        above = np.minimum(below + 1, here - 1)
        share = (places - below).astype(array.dtype)
        share = share.reshape(-1, *[1] * (-axis - 1))
        array = array.take(below, axis) * (1 - share) + array.take(above, axis) * share
    return array
