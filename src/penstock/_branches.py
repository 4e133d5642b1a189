"""Several models on one item: each works on its own part of the value; what one cannot do costs its part alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from penstock._contracts import Failure, Item, Partial
from penstock._engine.step import Rows, Step, failure_of, run_step
from penstock.errors import ItemError

_SETTLING = threading.Lock()
"""Held for the time of an assignment."""
Earlier = Mapping[int | str, Mapping[str, Any]]
"""What models answered on an earlier run, by the id of the item: they are not asked again."""


class Branches(dict[str, Any]):
    """One item on its way: what each model has of it so far, or the `Failure` it ended in.

    Stages of different branches change it at the same time, each its own key; no key is added or removed.
    """

    __slots__ = ("settled",)

    def __init__(self, value: Any, names: Sequence[str], settled: Mapping[str, Any]) -> None:
        """Give every model the value to begin with, but for those whose answer is there already."""
        super().__init__({name: settled.get(name, value) for name in names})
        self.settled = frozenset(settled)

    def copy(self) -> Branches:
        """Return another one, which may be worked on while this one stays as it is."""
        twin = Branches(None, (), {})
        twin.update(self)
        twin.settled = self.settled
        return twin

    def live(self, name: str) -> bool:
        """Tell whether model `name` still has work to do."""
        return name not in self.settled and type(self[name]) is not Failure

    def settle(self, name: str, given: Any, answer: Any) -> None:
        """Put `answer` in the place of what the model was given; not where that was done since.

        A thread that was stuck and given up may come back at any time, when the item has gone on without it.
        """
        with _SETTLING:
            if self.live(name) and self[name] is given:
                self[name] = answer


def forked(names: Sequence[str], earlier: Earlier) -> Step:
    """Return the step that hands a value to each of the models `names`."""

    def fork(item: Item | int, value: Any) -> Branches:
        return Branches(value, names, earlier.get(item if isinstance(item, int) else item.id, {}))

    return Step.of("fork", fork, takes_item=True)


def within(name: str, step: Step) -> Step:
    """Return `step` working on the part of model `name`: a failure stays in that part, and names the model."""
    inner = replace(step, model=name)

    def mark(branches: Branches, failure: Failure) -> Branches:
        branches.settle(name, branches[name], replace(failure, model=name))
        return branches

    @contextmanager
    def bind() -> Iterator[Callable[..., Any]]:
        with step.bind() as fn:
            yield _batched(name, inner, fn) if step.block else _single(name, inner, fn)

    return replace(inner, name=f"{name}: {step.name}", bind=bind, mark=mark)


def _single(name: str, step: Step, fn: Callable[..., Any]) -> Callable[..., Any]:
    def one(*arguments: Any) -> Branches:
        *item, branches = arguments
        if branches.live(name):
            given = branches[name]
            try:
                answer = fn(*item, given)
            except Exception as error:  # noqa: BLE001 - an item's failure is data, whatever it is
                answer = failure_of(step, error)
            branches.settle(name, given, answer)
        found: Branches = branches
        return found

    return one


def _batched(name: str, step: Step, fn: Callable[..., Any]) -> Callable[..., Any]:
    def batch(values: list[Branches]) -> list[Branches]:
        live = [branches for branches in values if branches.live(name)]
        answers: list[Any] = []
        given = [branches[name] for branches in live]
        run_step(step, fn, Rows(range(len(live)), live, list(given), 0), answers)
        for branches, former, answer in zip(live, given, answers, strict=True):
            branches.settle(name, former, answer)
        return values

    return batch


def joined(branches: Branches) -> Any:
    """Return the output of the item by model; a `Partial` where some failed."""
    failures = tuple(value for value in branches.values() if type(value) is Failure)
    if not failures:
        return dict(branches)
    answers = {name: value for name, value in branches.items() if type(value) is not Failure}
    output = {name: answers.get(name) for name in branches}
    return Partial(output, failures, answers)


def required(branches: Branches) -> dict[str, Any]:
    """Return the output of the item by model. Raises ItemError where one failed."""
    for value in branches.values():
        if type(value) is Failure:
            raise ItemError(f"model {value.model!r} failed in stage {value.stage!r}: {value.type}: {value.message}")
    return dict(branches)


@dataclass(frozen=True, slots=True)
class WholeOnly:
    """A function for outputs of which no model failed; a `Partial` passes. It pickles."""

    fn: Callable[[Item | int, Any], Any]

    def __call__(self, item: Item | int, output: Any) -> Any:
        """Call it, unless some model failed."""
        return output if type(output) is Partial else self.fn(item, output)


def encoding(encode: Callable[[Item | int, Any], Any]) -> Callable[[Item | int, Any], Any]:
    """Return a sink's `encode` that takes a `Partial` too: encoded inside, unless there is no answer to write."""

    def encoded(item: Item | int, output: Any) -> Any:
        if type(output) is not Partial:
            return encode(item, output)
        return replace(output, output=encode(item, output.output)) if output.answers else output

    return encoded
