"""A model with its stages and threads, ready for items: the engine without files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import ExitStack
from itertools import chain, islice
from typing import Any, Self, cast

from penstock._adapt import Ready
from penstock._contracts import Failure
from penstock._engine.chunks import one_by_one
from penstock._engine.parcel import Parcel
from penstock._engine.pipeline import Pipeline
from penstock._engine.statistics import PipelineStatistics
from penstock._options import Auto, Batching
from penstock._plan import stages_of, window_of
from penstock._recipes import recipe_of
from penstock._request import Request
from penstock.errors import Closed, ItemError

PROBES = 16
"""Items looked at to choose and check a model file before its answers count."""


class Session:
    """A model inside an application: `map` runs it over any iterable, in order, bounded and lazily.

    An item is a path, bytes, an RGB uint8 array (H, W, 3), or whatever the first stage takes; a result is what a
    record's `output` holds. The model is loaded with the first items, on which its answers are checked. Workers live
    until `close`. Use it as a context manager.

    Args:
        model: an .onnx file; an `nn.Module`, a TorchScript or `torch.export` file, or `Torch(...)`; a function
            `predict(batch)`, or an object with such a method.
        spec: a TOML file, a `Spec`, or None (MODEL.toml beside the model); `preset` names a built-in one.
        preset: "imagenet" or "inception".
        stages: functions before the model, one value each; `Workers(fn, n)` gives one n threads of its own.
        post: function `fn(item, output)` behind the model.
        batch: items per call of the model: `Batching`, a number or "auto".
        threads: threads that share the work, or "auto" (the CPU budget). A callable that declares no `concurrency` is
            called by one thread at a time unless threads are given as a number.
        runtime: "auto", "onnxruntime" or "openvino".
        precision: "f32" unless asked otherwise.
        device: "auto" or "cpu"; for torch "cuda" or "cuda:N" too.

    Raises:
        UsageError: the request cannot be carried out as it stands.
        ModelError: no runtime gives the right answers (raised by the first `map`).
    """

    def __init__(  # noqa: PLR0913 - one of the three heads
        self,
        model: Any,
        *,
        spec: Any = None,
        preset: str | None = None,
        stages: Sequence[Any] = (),
        post: Any = None,
        batch: Batching | int | Auto = "auto",
        threads: int | Auto = "auto",
        runtime: str = "auto",
        precision: str = "f32",
        device: str = "auto",
    ) -> None:
        """Check the request; no worker is started before the first items come."""
        request = Request(
            model=model,
            spec=spec,
            preset=preset,
            stages=stages,
            post=post,
            batch=batch,
            threads=threads,
            runtime=runtime,
            precision=precision,
            device=device,
        )
        self._recipe = recipe_of(request, positional=True)
        self._linger_s = request.batching.max_wait_s
        self._stack = ExitStack()
        self._lock = threading.Lock()
        self._ready: Ready | None = None
        self._pipeline: Pipeline | None = None
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
        window = window_of([post.stage for post in pipeline.posts], _quarter_of_memory())
        linger = None if isinstance(items, Sized) else self._linger_s
        with pipeline.flow(one_by_one(chain(head, iterator)), window, linger_s=linger) as flow:
            for parcel in flow:
                yield _checked(parcel) if parcel.failed else parcel.values

    def close(self) -> None:
        """Stop the workers and free the model; idempotent. A `map` that is still being read raises `Cancelled`."""
        with self._lock:
            self._closed = True
        self._stack.close()

    def statistics(self) -> PipelineStatistics:
        """Return a snapshot of the stages: busy seconds, items, failures, queue levels, items of each worker."""
        return self._pipeline.statistics() if self._pipeline else PipelineStatistics(running=False)

    @property
    def plan(self) -> Mapping[str, Any]:
        """The numbers chosen, with the measurements behind them; empty before the first items came."""
        if self._ready is None or self._pipeline is None:
            return {}
        return {
            **self._ready.choices,
            "stages": {post.stage.name: post.stage.workers for post in self._pipeline.posts},
            "measurements": list(self._ready.measurements),
        }

    def _started(self, head: list[Any]) -> Pipeline:
        with self._lock:
            if self._closed:
                raise Closed("The session is closed: make a new one.")
            if self._pipeline is None:
                ready = self._recipe.ready(head, None)
                self._stack.callback(ready.close)
                stages = stages_of(ready.parts({}), self._recipe.threads)
                self._pipeline = self._stack.enter_context(Pipeline(stages))
                self._ready = ready
            return self._pipeline


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
            raise ItemError(f"item {item} failed in stage {value.stage!r}: {value.type}: {value.message}")
        yield value


def _quarter_of_memory() -> int:
    from penstock._devices import memory_budget

    return memory_budget() // 4
