"""A plan: the numbers chosen for a run and the measurement behind each, as values and as a table (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from penstock._printable import printable
from penstock._telemetry.state import duration

SHOWN, LEAST_SHOWN = 12, 4
"""Ways to run the models that the table shows, in all and of each of several; all are in `measurements`."""
SMALL = 0.002
"""The share of an item's time below which a step's term is left out."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `penstock plan` measured and chose.

    `items`: how many there are, None where nobody knows. `looked_at`: real ones that it was measured on. `cpus`: the
    CPU budget. `ceilings`: items a second that each step does alone on all of it. `limit_per_s`: what all of them
    could do at best, None where a step was not measured. `expected_per_s`: what a run of them did for a moment; None
    where it calls functions of yours, which see each item once. `shapes`: what such runs did with decoder and model in
    the same threads ("fused"), and in threads of their own ("separate"). `stages`: workers by stage. `choices`,
    `measurements`: of the models. `memory`: what their copies take, in words. `unmeasured`: steps that were not run
    alone. `timed`: models whose ceilings are from the time when they were chosen. `kept`: the run takes these choices.
    `seconds`: what it took.
    """

    items: int | None
    looked_at: int
    cpus: int
    ceilings: Mapping[str, float]
    limit_per_s: float | None
    expected_per_s: float | None
    stages: Mapping[str, int]
    choices: Mapping[str, Any]
    measurements: Sequence[Mapping[str, Any]]
    memory: Sequence[str] = ()
    agreement: str | None = None
    unmeasured: Sequence[str] = field(default_factory=tuple)
    timed: Sequence[str] = field(default_factory=tuple)
    kept: bool = False
    shapes: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_separate(self) -> bool:
        """Whether the model has threads of its own, as that was faster."""
        return self.choices.get("shape") == "separate"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dict(json.loads(json.dumps(asdict(self), default=str)))

    def __str__(self) -> str:
        """Return it as tables, with the measurement behind each number."""
        lines = [*_aligned([("", "items/s", "measured"), *self._stages(), *self._sums()]), *self._words()]
        if self.measurements:
            lines += ["ways to run the model, in short turns on real items:", *_aligned(list(self._ways()))]
        return "\n".join(printable(line) for line in [*lines, f"measured in {self.seconds:.1f} s{self._next()}"])

    def _stages(self) -> Iterator[tuple[str, str, str]]:
        for name, rate in self.ceilings.items():
            again = f"alone, on {self.looked_at} items, in {self.cpus} threads"
            yield name, _rate(rate), "alone, as it is going to be called" if name in self.timed else again
        for name in self.unmeasured:
            yield name, "", "not alone: yours, or few threads may call it; the run tells"

    def _sums(self) -> Iterator[tuple[str, str, str]]:
        if self.limit_per_s is not None:
            yield "limit", _rate(self.limit_per_s), f"1 / ({self._terms(self.limit_per_s)})"
        if self.expected_per_s is not None:
            share = "" if self.limit_per_s is None else f"{self.expected_per_s / self.limit_per_s:.0%} of the limit: "
            yield "expected", _rate(self.expected_per_s), f"{share}a short run"
        if len(self.shapes) > 1:
            chosen = "chosen" if self.is_separate else "not surely better"
            yield "model in its own threads", _rate(self.shapes["separate"]), chosen

    def _ways(self) -> Iterator[tuple[str, str, str]]:
        names = dict.fromkeys(tried.get("model") for tried in self.measurements)
        for name in names:
            ranked = sorted((tried for tried in self.measurements if tried.get("model") == name), key=_rank)
            most = max(LEAST_SHOWN, SHOWN // len(names))
            for tried in ranked[:most]:
                rate = tried.get("items_per_s")
                yield f"  {_way(tried)}", "" if rate is None else _rate(rate), str(tried.get("verdict", ""))
            if len(ranked) > most:
                yield f"  and {len(ranked) - most} more", "", "in --json"

    def _terms(self, limit_per_s: float) -> str:
        """Return the sum that the limit is made of; steps that take next to nothing of it by their number."""
        large = [rate for rate in self.ceilings.values() if limit_per_s >= SMALL * rate]
        terms = [f"1/{_rate(rate)}" for rate in large]
        small = len(self.ceilings) - len(large)
        return " + ".join([*terms, f"{small} that take next to nothing"] if small else terms)

    def _words(self) -> Iterator[str]:
        if self.expected_per_s is not None:
            yield f"workers: {', '.join(f'{name} x {n}' for name, n in self.stages.items())}"
        if self.agreement is not None:
            yield f"answers beside the plain reference's: {self.agreement}"
        yield from self.memory
        if self.items is not None and self.expected_per_s:
            yield f"{self.items:,} items: about {duration(self.items / self.expected_per_s)}"

    def _next(self) -> str:
        """Return what the next run does with what was chosen."""
        if self.kept:
            return "; a run of this model on this machine begins with what was chosen here"
        return "; a run measures and chooses anew" if self.agreement else ""


def _aligned(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return rows of (what, items a second, words) as lines, the numbers under each other."""
    left, right = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"{row[0]:<{left}}  {row[1]:>{right}}  {row[2]}".rstrip() for row in rows]


def _rank(tried: Mapping[str, Any]) -> tuple[bool, float]:
    """Return by what the ways to run a model are sorted: the chosen one first, then by rate."""
    return tried.get("verdict") != "chosen", -(tried.get("items_per_s") or 0.0)


def _way(tried: Mapping[str, Any]) -> str:
    """Return a way to run a model in words; of settings that are on or off, those that are on."""
    model = f"{tried['model']}: " if "model" in tried else ""
    settings = [(name, value) for name, value in (tried.get("settings") or {}).items() if value is not False]
    on = [name if value is True else f"{name} {value}" for name, value in settings]
    kind = f"{tried['runtime']} {tried.get('precision', '')}".strip()
    return model + ", ".join([kind, f"batch {tried['batch']}", *on])


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
