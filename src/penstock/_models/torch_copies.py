"""Copies of a torch model, a thread each, timed against threads that share it: for nets that threads cannot share."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np

from penstock._contracts import Predict
from penstock._devices import memory_available
from penstock._models.checking import Truth
from penstock._models.drill import in_batches
from penstock._models.footprint import megabytes
from penstock._models.replicas import Replicas
from penstock._models.torch_model import TorchModel
from penstock._models.torch_net import Net
from penstock._spec import InputSpec
from penstock.errors import UsageError

SHARE = 0.5
"""Of the memory that is left: further copies that take more are not tried, for the items need some, too."""
HISTORY = 4
"""Items that a copy answers before the one that another copy answers first."""


class Copies:
    """A model with further copies of it while they are timed. Afterwards `alone` gives the first one back."""

    concurrency = "concurrent"

    def __init__(self, first: TorchModel, n: int) -> None:
        """Make `n - 1` more. Raises UsageError where they would fill the memory, ModelError where it has no copy."""
        self.name, self.version = first.name, first.version
        self.device, self.precision, self.batch_size = first.device, first.precision, first.batch_size
        further, left = (n - 1) * first.weights_bytes, memory_available()
        if further > SHARE * left:
            raise UsageError(f"{n} copies of {first.name} take {megabytes(further)} more, of {megabytes(left)} left.")
        self._first = first
        self._further: list[TorchModel] = []
        try:
            for _ in range(n - 1):
                self._further.append(first.replica(first.device))
        except BaseException:
            self._close_further()
            raise
        self._replicas = Replicas([first, *self._further], None)

    def worker(self) -> AbstractContextManager[Predict]:
        """Give the `predict` of the copy that the fewest threads are in."""
        return self._replicas.worker()

    def alone(self) -> TorchModel:
        """Close the further copies, and return the first."""
        self._close_further()
        return self._first

    def close(self) -> None:
        """Close them all; idempotent."""
        self._close_further()
        self._first.close()

    def _close_further(self) -> None:
        with ExitStack() as stack:
            while self._further:
                stack.callback(self._further.pop().close)


def remembers(net: Net, spec: InputSpec | None, truth: Truth) -> bool:
    """Tell whether what the net answered before changes an answer in any bit: then copies would not answer as one does.

    A copy that has answered other items is asked for the same item as a fresh one. Raises ModelError where the net
    cannot be copied.
    """
    before = [*truth.items[1:HISTORY], truth.items[0]]
    return not _same(_last_row(net, spec, truth.items[:1]), _last_row(net, spec, before))


def _last_row(net: Net, spec: InputSpec | None, items: list[Any]) -> Any:
    copy = net.copied(net.device)
    try:
        with TorchModel(copy, spec, {"concurrency": "one_at_a_time"}).worker() as predict:
            return in_batches(predict, items, 1)[-1]
    finally:
        copy.close()


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return np.array_equal(one, other, equal_nan=True)
