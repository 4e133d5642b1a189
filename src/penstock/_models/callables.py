"""A user's function, class or instance as a model: loaded, locked as it needs, its answer checked."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np

from penstock._contracts import Predict
from penstock._models.modelfile import LOADING
from penstock._models.normalise import normalised
from penstock._models.ports import same_shape_groups
from penstock._models.source_hash import describe, qualified_name
from penstock._spec import InputSpec
from penstock.errors import Closed, ItemError, ModelError, UsageError

CONCURRENCIES = ("concurrent", "one_at_a_time", "one_thread", "process")


def callable_model(
    thing: Any, spec: InputSpec | None, device: str, concurrency: str | None, processes: int = 1
) -> CallableModel | ProcessModel:
    """Return `thing` as a model on `device`: in processes where it says `concurrency = "process"`, `processes` in all.

    Raises UsageError where it is no model, needs arguments to be made, or cannot be sent to a process.
    """
    _refuse_others(thing)
    if _concurrency(thing, concurrency) == "process":
        return ProcessModel(thing, spec, device, processes)
    return CallableModel(thing, spec=spec, device=device, concurrency=concurrency)


class ProcessModel:
    """A user's model in processes, one for each worker that enters it: made and loaded there, replaced when it dies.

    What it is given and what it returns have to pickle; arrays travel through shared memory. `processes`: how many
    there will be, over all devices; they share the CPU budget.
    """

    concurrency = "process"

    def __init__(self, thing: Any, spec: InputSpec | None = None, device: str = "cpu", processes: int = 1) -> None:
        from penstock._engine.processes import model_bind

        self.name = qualified_name(thing).rpartition(".")[2]
        self.device = device
        self._thing, self._spec, self._processes = thing, spec, processes
        self._bind = model_bind("model", partial(served, thing, spec, device), thing, processes)

    def __repr__(self) -> str:
        """Show what it is."""
        return f"<ProcessModel {self.name} on {self.device}>"

    def replica(self, device: str) -> ProcessModel:
        """Return another one, whose processes load it on `device`."""
        return ProcessModel(self._thing, self._spec, device, self._processes)

    def worker(self) -> AbstractContextManager[Predict]:
        """Start the process, and give `predict(items) -> rows`.

        Raises ModelError where it cannot be made or loaded there, UsageError where its code is not found there.
        """
        return self._bind()

    def close(self) -> None:
        """Do nothing: the process ends with the worker."""


@contextmanager
def served(thing: Any, spec: InputSpec | None, device: str) -> Iterator[Predict]:
    """Give the `predict` of a user's model: what runs in its process."""
    model = CallableModel(thing, spec=spec, device=device)
    try:
        with model.worker() as predict:
            yield predict
    finally:
        model.close()


class CallableModel:
    """A function `predict(batch)`, or a class or instance with `predict` and optional `load(device)` and `close()`.

    `batch` is a list in item order; with a `spec` the items are uint8 pictures (H, W, C), and `batch` is one array
    (N, ...) of normalised numbers for each shape among them. A row is kept as it is; a dict of columns becomes a dict
    for each item.

    It is made and loaded when the first worker enters (a class without arguments, then `load(device)`). `concurrency`
    is the object's own attribute of that name where it has one, else the argument, else "one_at_a_time".

    Raises UsageError where `thing` is no model, or needs arguments to be made.
    """

    def __init__(
        self,
        thing: Any,
        *,
        name: str | None = None,
        device: str = "cpu",
        spec: InputSpec | None = None,
        concurrency: str | None = None,
    ) -> None:
        _refuse_others(thing)
        self.name = name or qualified_name(thing).rpartition(".")[2]
        self.concurrency = _concurrency(thing, concurrency)
        self._thing = thing
        self._device = device
        self._spec = spec
        self._predict: Callable[[Any], Any] | None = None
        self._close: Callable[[], Any] | None = None
        self._owner: int | None = None
        self._closed = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Show what it is and whether it is loaded."""
        state = "closed" if self._closed else "loaded" if self._predict else "not loaded"
        return f"<CallableModel {self.name} {state}: {self.concurrency}>"

    @contextmanager
    def worker(self) -> Iterator[Predict]:
        """Load the model if no worker has yet, and give `predict(items) -> rows`.

        Raises ModelError where it cannot be made or loaded, or a second thread enters a `one_thread` model.
        """
        with LOADING:
            call = self._predict or self._load()
        yield partial(self._run, call, nullcontext() if self.concurrency == "concurrent" else self._lock)

    def replica(self, device: str) -> CallableModel:
        """Return another copy, loaded on `device` when it is entered. Raises UsageError for what is one object."""
        if not inspect.isclass(self._thing):
            raise UsageError(
                f"model {self.name} is one object that one thread may call at a time: there can be no second copy. "
                "Give its class, which is made once for each, or say concurrency = 'concurrent' in it."
            )
        return CallableModel(self._thing, name=self.name, device=device, spec=self._spec, concurrency=self.concurrency)

    def describe(self) -> dict[str, Any]:
        """Return the model's part of a job's fingerprint: qualified name, and version or source hash."""
        return describe(self._thing)

    def close(self) -> None:
        """Call its `close()`, where this object made or loaded it; idempotent."""
        with LOADING:
            close, self._close, self._predict, self._closed = self._close, None, None, True
        if close is not None:
            close()

    def _load(self) -> Callable[[Any], Any]:
        if self._closed:
            raise Closed(f"model {self.name} was closed.")
        made = inspect.isclass(self._thing)
        try:
            instance = self._thing() if made else self._thing
            load = getattr(instance, "load", None)
            if load is not None:
                load(self._device)
        except Exception as error:
            raise ModelError(f"model {self.name} could not be loaded: {type(error).__name__}: {error}") from error
        if made or load is not None:  # what the user opened, the user closes
            self._close = getattr(instance, "close", None)
        self._owner = threading.get_ident()
        self._predict = getattr(instance, "predict", None) or instance
        return self._predict

    def _run(self, call: Callable[[Any], Any], turn: AbstractContextManager[Any], items: Sequence[Any]) -> list[Any]:
        if self._closed:
            raise Closed(f"model {self.name} was closed.")
        if self.concurrency == "one_thread" and threading.get_ident() != self._owner:
            raise ModelError(f"model {self.name} says concurrency='one_thread' and was called from a second thread.")
        with turn:
            if self._spec is None:
                answer = call(items if type(items) is list else list(items))
            else:
                return self._rows(call, self._spec, items)
        return rows_of(answer, len(items), self.name)

    def _rows(self, call: Callable[[Any], Any], spec: InputSpec, items: Sequence[Any]) -> list[Any]:
        arrays = [np.asarray(item) for item in items]
        rows: list[Any] = [None] * len(arrays)
        for places in same_shape_groups(arrays):
            batch = normalised(np.stack([arrays[place] for place in places]), spec, spec.dtype)
            for place, row in zip(places, rows_of(call(batch), len(places), self.name), strict=True):
                rows[place] = row
        return rows


def rows_of(answer: Any, n: int, name: str) -> list[Any]:
    """Return the `n` rows of a model's answer: a list, tuple, array, or dict of such by output name.

    Raises ItemError where there are not exactly `n`, or it is nothing of that kind.
    """
    if type(answer) is list and len(answer) == n:
        return answer
    if isinstance(answer, Mapping):
        columns = {key: rows_of(column, n, f"{name}[{key!r}]") for key, column in answer.items()}
        if not columns:
            raise ItemError(f"{name}: expected {n} rows, got an empty dict.")
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    given = type(answer).__name__
    if not isinstance(answer, list | tuple | np.ndarray) and hasattr(answer, "__array__"):
        answer = np.asarray(answer)
    if not isinstance(answer, list | tuple | np.ndarray) or (isinstance(answer, np.ndarray) and answer.ndim == 0):
        raise ItemError(
            f"{name}: expected {n} rows, got {given}. "
            "predict(batch) must return a list, tuple, array, or dict of arrays, with one row for each item."
        )
    if len(answer) != n:
        raise ItemError(f"{name}: expected {n} rows, got {len(answer)}. Return one row for each item, in order.")
    return list(answer)


def _refuse_others(thing: Any) -> None:
    is_class = inspect.isclass(thing)
    if not callable(getattr(thing, "predict", None)) and (is_class or not callable(thing)):
        raise UsageError(
            f"{thing!r} is no model: give a path to an .onnx or .pt file, an nn.Module, a function predict(batch), "
            "or a class or object with a method predict(batch)."
        )
    if is_class and _needs_arguments(thing):
        raise UsageError(
            f"class {thing.__qualname__} needs arguments to be made; penstock makes it without any. "
            "Give an instance, or a function that uses one."
        )


def _needs_arguments(thing: type) -> bool:
    try:
        parameters = inspect.signature(thing).parameters.values()
    except ValueError:  # a class built in C without a signature: calling it will tell
        return False
    empty, star = inspect.Parameter.empty, (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(parameter.default is empty and parameter.kind not in star for parameter in parameters)


def _concurrency(thing: Any, given: str | None) -> str:
    chosen = getattr(thing, "concurrency", None) or given or "one_at_a_time"
    if chosen not in CONCURRENCIES:
        raise UsageError(f"model {qualified_name(thing)}: concurrency={chosen!r}. Give one of {CONCURRENCIES}.")
    return str(chosen)
