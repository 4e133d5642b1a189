"""From decoded uint8 pictures to the numbers a model wants: (x - mean) / std in float32, then the model's dtype."""

from __future__ import annotations

import numpy as np

from penstock._models.ports import Array
from penstock._spec import InputSpec
from penstock.errors import ItemError, SpecError

CHANNELS = {"gray": 1, "rgb": 3, "bgr": 3, "rgba": 4}


def constants(spec: InputSpec) -> list[tuple[str, Array]]:
    """Return ("Sub", mean) and ("Div", std) where `spec` has them, shaped to broadcast over the model's layout.

    Raises SpecError where they do not fit the channels, or a std is zero.
    """
    shape = (1, -1, 1, 1) if spec.layout == "NCHW" else (1, 1, 1, -1)
    found = []
    for op, name, values in (("Sub", "mean", spec.mean), ("Div", "std", spec.std)):
        if values and len(values) not in (1, CHANNELS[spec.color]):
            raise SpecError(
                f"{name}={values} has {len(values)} numbers for the {CHANNELS[spec.color]} channels of "
                f"color={spec.color!r}. Give one number, or one for each channel."
            )
        if op == "Div" and 0 in values:
            raise SpecError(f"std={values} holds a zero: every value of that channel would be infinite.")
        if values:
            found.append((op, np.asarray(values, np.float32).reshape(shape)))
    return found


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
