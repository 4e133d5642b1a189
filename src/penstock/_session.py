"""A model with its stages and threads, ready for items: the engine without files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Self, cast

from penstock import _exceeding
from penstock._contracts import Failure
from penstock._dealing import dealt
from penstock._devices import cpu_budget, memory_budget
from penstock._engine.chunks import one_by_one
from penstock._engine.inlet import Inlet
from penstock._engine.parcel import Parcel
from penstock._engine.pipeline import Pipeline
from penstock._engine.sizing import Window
from penstock._engine.statistics import PipelineStatistics
from penstock._options import Auto, Batching
from penstock._plan import stages_of, window_of
from penstock._ready import Ready
from penstock._recipes import recipe_of
from penstock._request import Request
from penstock._submitted import SessionStatistics, Submitted, Tally, item_error
from penstock.errors import Closed, Overloaded, UsageError

if TYPE_CHECKING:
    from concurrent.futures import Future

PROBES = 16
"""Items looked at to choose and check a model file before its answers count."""


class Session:
    """A model inside an application: `submit` takes items from many callers, `map` runs it over any iterable, in order.

    An item is a path, bytes, an RGB uint8 array (H, W, 3), or whatever the first stage takes; a result is what a
    record's `output` holds. The model is loaded with the first items, on which its answers are checked: who must not
    wait for that later maps a few of them first. Workers live until `close`. Use it as a context manager.

    Args:
        model: an .onnx file; an `nn.Module`, a TorchScript or `torch.export` file, or `Torch(...)`; a Keras model
            or .keras file; a function `predict(batch)`, or an object with such a method.
        spec: a TOML file, a `Spec`, or None (MODEL.toml beside the model); `preset` names a built-in one.
        preset: "imagenet" or "inception".
        labels: names of the classes or characters: a list, or a file with one a line.
        top_k: how many classes a result holds.
        stages: functions before the model, one value each; `Workers(fn, n)` gives one n threads of its own, and
            `Workers(fn, n, kind="process")` n processes.
        post: function `fn(item, output)` behind the model.
        batch: items per call of the model: `Batching`, a number or "auto". Items of different callers share a batch.
        threads: threads that share the work, or "auto" as for `run`. A callable that declares no `concurrency` is
            called by one thread at a time unless threads are given as a number.
        runtime: "auto", "onnxruntime" or "openvino".
        precision: "f32" unless asked otherwise.
        device: "auto" or "cpu"; for torch "cuda" or "cuda:N" too, for a class what its `load(device)` knows. Several in
            a list: a copy of the model on each.
        replicas: how many workers call the model at once on each device, or "auto". They share one copy of the weights,
            unless the model bears one thread at a time: then each has a copy.

    Raises:
        UsageError: the request cannot be carried out as it stands.
        ModelError: no runtime gives the right answers (raised by the first `map` or `submit`).
    """

    def __init__(  # noqa: PLR0913 - one of the three heads
        self,
        model: Any,
        *,
        spec: Any = None,
        preset: str | None = None,
        labels: Any = None,
        top_k: int | None = None,
        stages: Sequence[Any] = (),
        post: Any = None,
        batch: Batching | int | Auto = "auto",
        threads: int | Auto = "auto",
        runtime: str = "auto",
        precision: str = "f32",
        device: str | Sequence[str] = "auto",
        replicas: int | Auto = "auto",
    ) -> None:
        """Check the request; no worker is started before the first items come."""
        request = Request(
            model=model,
            spec=spec,
            preset=preset,
            labels=labels,
            top_k=top_k,
            stages=stages,
            post=post,
            batch=batch,
            threads=threads,
            runtime=runtime,
            precision=precision,
            device=device,
            replicas=replicas,
        )
        self._recipe = recipe_of(request, positional=True)
        self._linger_s = request.batching.max_wait_s
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._ready: Ready | None = None
        self._threads_inside: dict[str, int] = {}
        self._pipeline: Pipeline | None = None
        self._inlet: Inlet | None = None
        self._tally = Tally()
        self._closed = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the session."""
        self.close()

    def __repr__(self) -> str:
        """Show state and stages."""
        state = "closed" if self._closed else repr(self._pipeline) if self._pipeline else "not started"
        return f"<Session {state}>"

    def map(self, items: Iterable[Any]) -> Results:
        """Return an iterator of the result of each item, in order, reading `items` no further ahead than the window.

        Raises ItemError at the place of an item that failed, naming it and why; and what `items` itself raises.
        """
        return Results.of(self._parcels(items))

    def _parcels(self, items: Iterable[Any]) -> Generator[Iterable[Any], None, None]:
        """Yield the results of each parcel; nothing happens before the first is asked for."""
        head = list(islice(iterator := iter(items), PROBES if isinstance(items, Sized) else 1))
        pipeline = self._started(head)
        linger = None if isinstance(items, Sized) else self._linger_s
        with pipeline.flow(one_by_one(chain(head, iterator)), _window(pipeline), linger_s=linger) as flow:
            for parcel in flow:
                yield _checked(parcel) if parcel.failed else parcel.values

    def submit(self, item: Any, timeout_s: float | None = None) -> Future[Any]:
        """Return a future of the result that `map` would give for `item`.

        Any thread may call. Items of all callers share batches: one waits at most `Batching.max_wait_s` for others. The
        queue holds about 0.25 s of work; while it is full, the call waits for room, at most `timeout_s` (None: as long
        as the session is open; 0: not at all, as in an event loop or in a callback of one of these futures).

        The future can be cancelled until a worker begins with its item. Callbacks run in the worker thread: they should
        be short. `future.result()` raises ItemError where the item failed, naming it by its number, and Cancelled where
        the session was closed before it was done.

        Raises:
            Overloaded: there was no room in time.
            Closed: the session was closed.
        """
        if timeout_s is not None and not timeout_s >= 0:
            raise UsageError(f"submit(timeout_s={timeout_s!r}): give seconds >= 0, or None.")
        inlet = self._opened(item) if self._inlet is None or self._closed else self._inlet
        request = Submitted(self._tally)
        try:
            inlet.put(item, request, timeout_s)
        except Overloaded:
            self._tally.add("overloaded")
            raise
        return request.future

    def close(self) -> None:
        """Stop the workers and free the model; idempotent.

        What was submitted has half a second to be done, twice what the queue is made to hold; futures of what is not
        done by then raise `Cancelled`, and so does a `map` that is still being read.
        """
        with self._lock:
            self._closed = True
        self._stack.close()

    def statistics(self) -> SessionStatistics:
        """Return a snapshot: of each stage busy seconds, items, failures, queue level and the items of each worker.

        `requests` counts what was submitted, and has its latency at the 50th, 95th and 99th percentile in seconds.
        """
        pipeline, inlet = self._pipeline, self._inlet
        requests = self._tally.statistics()
        if inlet is not None:  # read last, so that no request is seen done before it is seen at all
            requests = replace(requests, admitted=inlet.statistics().admitted)
        seen = pipeline.statistics() if pipeline else PipelineStatistics(running=False)
        return SessionStatistics(seen.stages, seen.flows, seen.running, seen.notes, requests)

    @property
    def plan(self) -> Mapping[str, Any]:
        """The numbers chosen, with the measurements behind them; empty before the first items came."""
        if self._ready is None or self._pipeline is None:
            return {}
        return {
            **self._ready.choices,
            "stages": {post.stage.name: post.stage.workers for post in self._pipeline.posts},
            "cpu_budget": cpu_budget().why,
            "threads_inside": self._threads_inside,
            "measurements": list(self._ready.measurements),
            "memory": [plan.to_dict() for plan in self._ready.memory],
        }

    def _started(self, head: list[Any]) -> Pipeline:
        with self._lock:
            if self._closed:
                raise Closed("The session is closed: make a new one.")
            if self._pipeline is None:
                ready = self._recipe.ready(head, None)
                self._stack.callback(ready.close)
                parts, threads = ready.parts({}), self._recipe.threads
                _exceeding.warn(parts, threads)
                told, self._threads_inside = self._stack.enter_context(dealt(parts, threads))
                self._pipeline = self._stack.enter_context(Pipeline(stages_of(told, threads)))
                self._ready = ready
            return self._pipeline

    def _opened(self, item: Any) -> Inlet:
        """Return where submitted items enter; the first one starts the session."""
        pipeline = self._started([item])
        with self._lock:
            if self._closed:
                raise Closed("The session is closed: make a new one.")
            if self._inlet is None:
                self._inlet = self._stack.enter_context(pipeline.inlet(_window(pipeline), self._linger_s))
            return self._inlet


class Results(chain[Any]):
    """What `Session.map` gives: an iterator. A `chain`, for a generator would cost more an item than the engine."""

    close: Callable[[], None]
    """Read no more items and drop what is in flight."""

    @classmethod
    def of(cls, lists: Generator[Iterable[Any], None, None]) -> Results:
        """Return an iterator over the values of all `lists`."""
        results = cast("Results", cls.from_iterable(lists))
        results.close = lists.close
        return results


def _checked(parcel: Parcel) -> Iterator[Any]:
    for item, value in zip(parcel.items, parcel.values, strict=True):
        if type(value) is Failure:
            raise item_error(item, value)
        yield value


def _window(pipeline: Pipeline) -> Window:
    """Return what may be in flight: decoded data may take a quarter of the memory."""
    return window_of([post.stage for post in pipeline.posts], memory_budget() // 4)
