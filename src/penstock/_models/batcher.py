"""From "run one array" to "predict a list of items": shapes grouped, fixed batches fed, one row for each item."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from penstock._models.ports import Array, Ports, as_input, fixed_batch, has_rows, same_shape_groups
from penstock.errors import ItemError, ModelError, PenstockError

Run = Callable[[Array], list[Any]]
"""Takes one batch array, gives every output in the order of the model's ports."""
Prepare = Callable[[Array], Array]
"""Turns a stacked batch of items into what the model's input wants (normalisation outside the graph)."""


class Batcher:
    """Predicts lists of items with a function that runs one array; shared by all worker threads of a model.

    An output is cut into rows along its first axis where it has one row per item. Where the file does not declare
    that, the first item is run twice in one batch and the answer looked at. Models with an output that is not cut
    (all detections in one table, say) run one item at a time, and that output is the item's, whole.
    """

    def __init__(self, name: str, ports: Ports, prepare: Prepare | None = None) -> None:
        self.name = name
        self._ports = ports
        self._port = ports.only_input(name)
        self._prepare = prepare
        self._cut: list[bool] | None = self._declared()
        self._size = self._fixed_size()
        self._lock = threading.Lock()

    @property
    def size(self) -> int | None:
        """The only batch size the model runs at, or None where it takes any (known for sure after a prediction)."""
        return self._size

    def predict(self, run: Run, items: Sequence[Any]) -> list[Any]:
        """Return a row for each item, in order: an array, or a dict of arrays by name for several outputs.

        Raises ItemError for items of a wrong shape or dtype, ModelError where the rows do not match the items.
        """
        arrays = [np.asarray(item) for item in items]
        rows: list[Any] = [None] * len(arrays)
        for places in same_shape_groups(arrays):
            answers = self._predict_alike(run, [arrays[place] for place in places])
            for place, answer in zip(places, answers, strict=True):
                rows[place] = answer
        return rows

    def _predict_alike(self, run: Run, items: list[Array]) -> list[Any]:
        batch = self._batch_of(items)
        if self._cut is None:
            self._look(run, batch)
        size = self._size or len(batch)
        rows: list[Any] = []
        for begin in range(0, len(batch), size):
            rows.extend(self._run_batch(run, batch[begin : begin + size]))
        return rows

    def _batch_of(self, items: list[Array]) -> Array:
        if items[0].dtype == object:
            raise ItemError(f"{self.name} takes {self._port}, and this item is no array of numbers.")
        batch = items[0][None] if len(items) == 1 else np.stack(items)  # a view for one item: no copy
        return as_input(self._prepare(batch) if self._prepare else batch, self._port, self.name)

    def _run_batch(self, run: Run, batch: Array) -> list[Any]:
        n = len(batch)
        if self._size is not None and n < self._size:  # the model insists on its batch: repeat the last item
            batch = np.concatenate([batch, np.repeat(batch[-1:], self._size - n, axis=0)])
        outputs = self._answer(run, batch)
        cut = self._cut or []
        for port, output, has in zip(self._ports.outputs, outputs, cut, strict=True):
            if has and len(output) != len(batch):
                raise ModelError(
                    f"{self.name}: expected {len(batch)} rows in output {port.name!r}, got {len(output)}. "
                    "Its rows do not belong to the items; run it with a batch size of 1 in a function of your own."
                )
        columns = [
            [output[row] if has else output for row in range(n)] for output, has in zip(outputs, cut, strict=True)
        ]
        return self._rows(columns)

    def _rows(self, columns: list[list[Any]]) -> list[Any]:
        if len(columns) == 1:
            return columns[0]
        names = [port.name for port in self._ports.outputs]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def _answer(self, run: Run, batch: Array) -> list[Any]:
        try:
            return run(batch)
        except PenstockError:
            raise
        except Exception as error:
            raise ItemError(f"{self.name} failed on {batch.dtype} {batch.shape}: {first_lines(error)}") from error

    def _declared(self) -> list[bool] | None:
        cuts = [has_rows(self._port, output) for output in self._ports.outputs]
        return None if None in cuts else [bool(cut) for cut in cuts]

    def _fixed_size(self) -> int | None:
        if self._cut is not None and not all(self._cut):
            return 1
        return fixed_batch(self._port)

    def _look(self, run: Run, batch: Array) -> None:
        """Find out which outputs have a row per item, by running one item once and twice in a batch."""
        with self._lock:
            if self._cut is not None:
                return
            size = fixed_batch(self._port)
            one = self._answer(run, np.repeat(batch[:1], size or 1, axis=0))
            try:
                two = one if size else run(np.repeat(batch[:1], 2, axis=0))
            except Exception:  # noqa: BLE001 - a free batch axis in name only: such models run one by one
                two, size = one, 1
            grown = size or 2
            cut = [_rows_of(a) == (size or 1) and _rows_of(b) == grown for a, b in zip(one, two, strict=True)]
            self._size = size if all(cut) else 1
            self._cut = cut


def _rows_of(output: Any) -> int:
    return -1 if isinstance(output, np.ndarray) and output.ndim == 0 else len(output)


def first_lines(error: BaseException) -> str:
    """Return the first three lines of what an error says, as one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) or repr(error)
