"""What a model file declares about its inputs and outputs, as values that no runtime is needed for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.errors import ItemError, UsageError

Array = NDArray[Any]
Dim = int | str | None
"""A size, the name of a free size, or None: free without a name."""


@dataclass(frozen=True, slots=True)
class Port:
    """One declared input or output.

    `shape` is None where even the rank is free; `dtype` is numpy's name, or the runtime's where numpy has none.
    """

    name: str
    shape: tuple[Dim, ...] | None
    dtype: str

    def __str__(self) -> str:
        """Show it as in messages: 'data' float32 (N, 3, 224, 224)."""
        dims = "of any rank" if self.shape is None else f"({', '.join(str(d) if d else '?' for d in self.shape)})"
        return f"{self.name!r} {self.dtype} {dims}"


@dataclass(frozen=True, slots=True)
class Ports:
    """The inputs and outputs of a model, weights not among them."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def only_input(self, model: str) -> Port:
        """Return the one input. Raises UsageError for a model with several: a list of items cannot feed them."""
        if len(self.inputs) == 1:
            return self.inputs[0]
        names = ", ".join(map(str, self.inputs)) or "none"
        raise UsageError(
            f"{model} has {len(self.inputs)} inputs ({names}); penstock feeds models with one. "
            "Wrap it in a function predict(batch) that fills the others, and give that as the model."
        )


def fixed_batch(port: Port) -> int | None:
    """Return the batch size that a model insists on, or None where it takes any."""
    return port.shape[0] if port.shape and isinstance(port.shape[0], int) else None


def free_in_batch_only(port: Port) -> bool:
    """Return whether the number of items is the one size that a model's input leaves open."""
    free = [not isinstance(size, int) for size in port.shape or ()]
    return free[:1] == [True] and not any(free[1:])


def has_rows(given: Port, output: Port) -> bool | None:
    """Return whether `output` has one row for each row of the input `given`, or None where that is not declared.

    Declared means: both sizes are equal numbers, or both are free under one name.
    """
    if not output.shape:
        return False if output.shape == () else None
    ours, theirs = (given.shape or (None,))[0], output.shape[0]
    if isinstance(ours, int):
        return theirs == ours
    return True if isinstance(ours, str) and ours == theirs else None


def as_input(batch: Array, port: Port, model: str) -> Array:
    """Return `batch` in the dtype the port wants. Raises ItemError where shape or dtype cannot be what it wants."""
    wanted = np.dtype(port.dtype)
    if port.shape is not None and not _fits(batch.shape, port.shape):
        raise ItemError(f"{model} takes {port}, but a batch of these items is {batch.dtype} {batch.shape}.")
    if batch.dtype == wanted:
        return np.ascontiguousarray(batch)
    if not np.can_cast(batch.dtype, wanted, "same_kind"):
        raise ItemError(f"{model} takes {port}, and {batch.dtype} values cannot become {wanted} without loss of range.")
    return np.ascontiguousarray(batch, dtype=wanted)


def same_shape_groups(items: Sequence[Array]) -> list[list[int]]:
    """Return the places of `items` grouped by shape, groups in the order of their first item."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, item in enumerate(items):
        groups.setdefault(item.shape, []).append(place)
    return list(groups.values())


def _fits(shape: tuple[int, ...], wanted: tuple[Dim, ...]) -> bool:
    # The batch axis is the batcher's business: it knows how to feed a fixed one.
    if len(shape) != len(wanted):
        return False
    return all(not isinstance(w, int) or w == s for s, w in zip(shape[1:], wanted[1:], strict=True))
