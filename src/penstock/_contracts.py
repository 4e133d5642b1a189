"""What travels between the parts, and what each part promises: values and Protocols, no behaviour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

Id = int | str
Predict = Callable[[Sequence[Any]], Sequence[Any]]
"""Takes N prepared inputs (all of one shape and dtype where they are arrays), gives N rows in the same order."""


@dataclass(slots=True)
class Item:
    """One thing to predict. `id` is stable over runs: a relative path with `/`, or the position in an iterable."""

    id: Id
    path: str | None = None
    """Where to read it, as the operating system wants it (surrogateescape); None for items of an iterable."""
    row: Mapping[str, Any] | None = None
    """The other columns of the table the item came from."""
    stamp: tuple[int, int] | None = None
    """(size in bytes, mtime in ns) when it was listed; a changed stamp means the item is done again on resume."""
    size: tuple[int, int] | None = None
    """(height, width) of the original picture, known after decoding."""
    note: str | None = None
    """What was unusual about it (a fallback decoder, a truncated tail), recorded in the report."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one item has no result: which stage, which model, the exception's type and message."""

    stage: str
    type: str
    message: str
    model: str | None = None
    attempts: int = 1

    @classmethod
    def of(cls, stage: str, error: BaseException, model: str | None = None) -> Failure:
        """Return the failure that `error` means for an item in `stage`."""
        return cls(stage, type(error).__name__, str(error) or repr(error), model)


@dataclass(frozen=True, slots=True)
class Partial:
    """The result of an item of which some models failed: the output with None for those, and why.

    `answers`: what the others gave, by model, so that a retry need not run them again.
    """

    output: Any
    failures: tuple[Failure, ...]
    answers: Mapping[str, Any]


class Source(Protocol):
    """Where items come from; iterated from the start on every run, always in the same order."""

    positional: bool
    """True: entries are plain values whose id is their position. False: entries are `Item`s."""
    ignored: int
    """How many entries were left out because they are no images by suffix; final after an iteration."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the entries, holding no more than one directory (or one table chunk) in memory."""
        ...

    def count(self) -> int | None:
        """Return how many entries there are where that is cheap to know, else None."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the source options that belong into a job's fingerprint (JSON values; no absolute paths)."""
        ...


class Model(Protocol):
    """A loaded model. `worker` is entered once by each thread that will run it."""

    name: str

    @property
    def concurrency(self) -> str:
        """`concurrent` | `one_at_a_time` | `one_thread` | `process`: what its `predict` may bear."""
        ...

    def worker(self) -> AbstractContextManager[Predict]:
        """Enter what a worker thread needs (request, stream, mode) and give its `predict`."""
        ...

    def close(self) -> None:
        """Free what the model holds; idempotent."""
        ...


class Sink(Protocol):
    """Where results go. `encode` runs in any worker thread; everything else in the one writer thread.

    The ledger and a sink commit in this order: `append` ... `commit` (durable) -> ledger transaction with its
    answer. After a kill, `open(state)` drops whatever lies beyond the last committed state.
    """

    sequential: bool
    """True: rows lie one after another (and `finish` may have to bring them in input order)."""

    def open(self, state: Mapping[str, Any] | None) -> None:
        """Begin a new output (None), or go back to exactly what `state` says was committed."""
        ...

    def encode(self, item: Item | int, output: Any) -> Any:
        """Turn one output into what `append` takes; a sink of one file per item writes that file here, atomically."""
        ...

    def append(self, encoded: Sequence[Any]) -> None:
        """Add encoded rows, in the order given; not yet durable."""
        ...

    def commit(self) -> dict[str, Any]:
        """Make everything appended durable; return the state (JSON values) that the ledger keeps."""
        ...

    def rewrite(self, places: Iterable[int]) -> dict[str, Any]:
        """Prepare the output anew with exactly the rows at `places` (ordinals of append), in that order.

        Nothing visible changes until `publish`; returns the state to commit before it.
        """
        ...

    def publish(self) -> None:
        """Put a prepared rewrite in the place of the output by rename; after a kill, `open` with its state does so."""
        ...

    def finish(self) -> dict[str, Any]:
        """Complete the output after the last commit (close a container, compact); return the final state."""
        ...

    def stored(self) -> int:
        """Return how many results lie in the output, counted there; after `finish`, or after `open`."""
        ...

    def close(self) -> None:
        """Release files; idempotent; never loses what was committed."""
        ...
