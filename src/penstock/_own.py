"""Functions of the user's as steps: done by threads, by processes, or wherever a run shows they are faster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from penstock._contracts import Item
from penstock._engine.step import Step
from penstock._options import Workers
from penstock._plan import Part
from penstock.errors import UsageError

ItemFn = Callable[[Item | int, Any], Any]


def post_part(post: Any, threads: int, wrapped: Callable[[ItemFn], ItemFn] = lambda fn: fn) -> Part:
    """Return the step that calls the user's `post(item, output)`."""
    stage = post if isinstance(post, Workers) else Workers(post)
    return worker_part(stage, wrapped(WithItem(stage.fn)), threads, takes_item=True)


def worker_part(stage: Workers, fn: Callable[..., Any], threads: int, *, takes_item: bool = False) -> Part:
    """Return the step that calls a function of the user's: `fn`, which does so with what the step is given.

    Raises UsageError where it is to be done by processes and cannot be.
    """
    name, own = str(getattr(stage.fn, "__name__", type(stage.fn).__name__)), None if stage.n == "auto" else stage.n
    if stage.kind == "thread":
        return Part(Step.of(name, fn, takes_item=takes_item), own, own="thread", pinned=own is not None)
    if stage.kind == "auto":
        sampled = Sampled(fn)
        step, elsewhere = Step.of(name, sampled, takes_item=takes_item), partial(_moved, name, sampled, takes_item)
        return Part(step, own, own="thread", pinned=own is not None, elsewhere=elsewhere)
    from penstock._engine.processes import stage_step

    return Part(stage_step(name, fn, workers=own or threads, takes_item=takes_item), own, own="process", pinned=True)


@dataclass(slots=True)
class Sampled:
    """A function, with the first call of it that gave something: to see whether the like can be sent to a process."""

    fn: Callable[..., Any]
    seen: tuple[Any, ...] | None = field(default=None, repr=False)

    def __call__(self, *given: Any) -> Any:
        """Call it."""
        answer = self.fn(*given)
        if self.seen is None:
            self.seen = (given, answer)
        return answer


def _moved(name: str, sampled: Sampled, takes_item: bool, workers: int) -> Step:
    """Return the step that has the function called in `workers` processes. Raises UsageError where it cannot be."""
    from penstock._engine import messages
    from penstock._engine.processes import stage_step

    try:
        messages.dumps(sampled.seen)
    except Exception as error:
        raise UsageError(f"what {name} takes, or returns, cannot be sent to a process: {error}") from error
    sampled.seen = ()
    return stage_step(name, sampled.fn, workers=workers, takes_item=takes_item, main=False)


@dataclass(frozen=True, slots=True)
class PathFirst:
    """A function taking an item: the first stage reads the file itself, so it is given the path. It pickles."""

    fn: Callable[[str], Any]

    def __call__(self, item: Item) -> Any:
        """Call it with the item's path."""
        return self.fn(item.path or "")


@dataclass(frozen=True, slots=True)
class WithItem:
    """A function taking an item also where items are plain values, known by their position. It pickles."""

    fn: Callable[[Item, Any], Any]

    def __call__(self, item: Item | int, output: Any) -> Any:
        """Call it with an item."""
        return self.fn(item if isinstance(item, Item) else Item(item), output)
