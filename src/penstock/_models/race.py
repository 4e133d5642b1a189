"""Timing loaded models against each other on real items: interleaved, short, the slow ones out early."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock._models.candidates import Candidate, RuntimeModel
from penstock._models.drill import items_per_s, same_shape

BATCHES = (1, 2, 4, 8)
LONGEST_CALL_S = 0.25
"""Batches whose call would take longer are not tried: such models gain nothing from them on a CPU."""
CLOSE = 0.98
"""Rates from this share of the best on count as equal; then the smaller batch wins, then the earlier candidate."""


@dataclass(frozen=True, slots=True)
class Heat:
    """How long one measurement lasts, how many there are, and who goes on: `keep` within `share` of the best."""

    slot_s: float
    rounds: int
    share: float
    keep: int


FIRST, WITH_BATCHES, FINAL = Heat(0.06, 2, 0.85, 2), Heat(0.06, 2, 0.0, 2), Heat(0.1, 4, 0.0, 3)
HOPELESS = 0.5
"""What has less than this share of the best rate after a round is out at once."""
HEAT_S = 1.0
"""No further round is begun in a heat that took this long: slow models are told apart by fewer rounds."""


@dataclass(frozen=True, slots=True, eq=False)
class Lap:
    """One candidate, loaded, at one batch size, with the items a second it made so far."""

    candidate: Candidate
    model: RuntimeModel
    batch: int
    rates: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The mean of the better half of its rates: what disturbs a measurement only ever makes it slower."""
        better = sorted(self.rates, reverse=True)[: (len(self.rates) + 1) // 2]
        return sum(better) / len(better)


def race(laps: list[Lap], items: Sequence[Any], threads: int, *, try_batches: bool) -> list[Lap]:
    """Return all laps run, the one to take first, then by rate; with `try_batches` at larger batches too.

    Items of different shapes are not batched together, so larger batches are not tried on such.
    """
    run = list(laps)
    leaders = _heat(laps, items, threads, FIRST)
    if try_batches and same_shape(items):
        larger = [
            Lap(lap.candidate, lap.model, batch)
            for lap in leaders
            for batch in BATCHES[1:]
            if lap.model.batch_size is None and batch * threads / lap.rate <= LONGEST_CALL_S
        ]
        run += larger
        _heat(larger, items, threads, WITH_BATCHES)
        leaders = [leaders[0], *_kept([*leaders[1:], *larger], WITH_BATCHES)]
    if len(leaders) > 1:
        _heat(leaders, items, threads, FINAL)
    return _ranked(run, leaders)


def _heat(laps: list[Lap], items: Sequence[Any], threads: int, heat: Heat) -> list[Lap]:
    # Interleaved: what slows the machine down for a moment slows all of them.
    racing = list(laps)
    begun = time.perf_counter()
    for done in range(heat.rounds):
        if done and time.perf_counter() - begun > HEAT_S:
            break
        for lap in racing:
            lap.rates.append(items_per_s(lap.model, items, threads, lap.batch, heat.slot_s))
        best = max((lap.rate for lap in racing), default=0.0)
        racing = [lap for lap in racing if lap.rate >= HOPELESS * best]
    return _kept(racing, heat)


def _kept(laps: list[Lap], heat: Heat) -> list[Lap]:
    ranked = sorted(laps, key=lambda lap: lap.rate, reverse=True)
    return [lap for lap in ranked[: heat.keep] if lap.rate >= heat.share * ranked[0].rate]


def _ranked(run: list[Lap], finalists: list[Lap]) -> list[Lap]:
    best = max(lap.rate for lap in finalists)
    close = [lap for lap in run if lap in finalists and lap.rate >= CLOSE * best]
    winner = min(close, key=lambda lap: lap.batch)  # `run` keeps the candidates' order: min takes the first of equals
    others = sorted((lap for lap in run if lap is not winner), key=lambda lap: lap.rate, reverse=True)
    return [winner, *others]
