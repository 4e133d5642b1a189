"""From decoded uint8 pictures to the numbers a model wants: (x - mean) / std in float32, then the model's dtype."""

from __future__ import annotations

import numpy as np

from penstock._models.ports import Array
from penstock._spec import InputSpec
from penstock._spec.fields import CHANNELS
from penstock.errors import ItemError


def constants(spec: InputSpec) -> list[tuple[str, Array]]:
    """Return ("Sub", mean) and ("Div", std) where `spec` has them, shaped to broadcast over the model's layout."""
    shape = (1, -1, 1, 1) if spec.layout == "NCHW" else (1, 1, 1, -1)
    said = [("Sub", spec.mean), ("Div", spec.std)]
    return [(op, np.asarray(values, np.float32).reshape(shape)) for op, values in said if values]


def normalised(batch: Array, spec: InputSpec, dtype: str) -> Array:
    """Return uint8 pictures (N, H, W, C), channels in the model's order, as `dtype` in the layout of `spec`.

    Raises ItemError for anything but such pictures.
    """
    channels = CHANNELS[spec.color]
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[3] != channels:
        raise ItemError(
            f"a model with a spec takes uint8 pictures (H, W, {channels}); got {batch.dtype} {batch.shape[1:]}."
        )
    moved = batch.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else batch
    values: Array = np.ascontiguousarray(moved, dtype=np.float32)
    for op, constant in constants(spec):
        values = values - constant if op == "Sub" else values / constant
    return values.astype(dtype, copy=False)
