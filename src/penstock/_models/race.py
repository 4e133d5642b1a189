"""Timing loaded models against each other on real items: interleaved, short, the slow ones out early."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock._interrupt import checkpoint
from penstock._models.ceiling import Ceiling
from penstock._models.contender import FIXED_BATCH, Contender, Runnable
from penstock._models.drill import Pace, pace, same_shape
from penstock.errors import ModelError, PenstockError

Clock = Literal["wall", "cpu"]
BATCHES = (1, 2, 4, 8)
BATCHES_GPU = (1, 4, 16, 64)
BATCHES_MIXED = (1, 4, 16, 32)
"""For items of several shapes, of which each gets a part of the batch."""
LONGEST_CALL_S = 0.25
"""Batches whose call would take longer are not tried: such models gain nothing from them on a CPU."""
ALONE = 0.9
"""What a model is worth of which one call at a time has all CPUs: the other steps wait for it, or disturb it.

A stage of its own costs the pipeline 5 to 12 %. One OpenVINO stream with two threads, as fast alone as two streams with
one, did 25 % less in a pipeline that decodes beside it.
"""
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
QUIET = 0.85
"""Share of its CPUs that a usual candidate gets on a machine that nobody else is using."""
HOPELESS = 0.5
"""What has less than this share of the best rate after a round is out at once."""
HEAT_S = 1.0
"""No further round is begun in a heat that took this long: slow models are told apart by fewer rounds."""


@dataclass(frozen=True, slots=True, eq=False)
class Lap:
    """One candidate, loaded, at one batch size, with the paces it made so far; `faults`: what took it out.

    `ceiling`: None, and a batch for which there is no memory is such a fault; else it is made smaller.
    """

    candidate: Contender
    model: Runnable
    batch: int
    ceiling: Ceiling | None = None
    paces: list[Pace] = field(default_factory=list)
    faults: list[PenstockError] = field(default_factory=list)

    @property
    def busy(self) -> float:
        """The share of its CPUs that it got, in the median."""
        return statistics.median(pace.wall / pace.cpu for pace in self.paces)

    @property
    def fills_cpus(self) -> bool:
        """Whether it has a thread for every CPU and nothing but CPUs to work on."""
        return self.model.concurrency == "concurrent" and self._on_cpu

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes worth a try."""
        return BATCHES if self._on_cpu else BATCHES_GPU

    @property
    def _on_cpu(self) -> bool:
        return bool(getattr(self.model, "device", "cpu") == "cpu")

    @property
    def fixed(self) -> bool:
        """Whether it is compiled for a batch that the file leaves open."""
        return bool(self.candidate.settings.get(FIXED_BATCH))

    def is_of(self, other: Lap) -> bool:
        """Tell whether it is `other`, compiled for a batch."""
        settings = {name: value for name, value in self.candidate.settings.items() if name != FIXED_BATCH}
        return self.candidate.runtime == other.candidate.runtime and settings == other.candidate.settings

    def worth(self, clock: Clock) -> float:
        """Return its rate, less what it costs the other steps where one call at a time has all CPUs."""
        return self.rate(clock) * (ALONE if self._on_cpu and self._takes_turns else 1.0)

    @property
    def _takes_turns(self) -> bool:
        settings = self.candidate.settings  # of ONNX Runtime and torch; of OpenVINO, whose streams share its threads
        per_call = settings.get("intra_threads", settings.get("threads", 1) / settings.get("streams", 1))
        return self.model.concurrency != "concurrent" or per_call > 1

    def rate(self, clock: Clock) -> float:
        """Return its items a second, by the clock or by CPU time.

        By the clock the mean of the better half: what disturbs a measurement only ever makes it slower.
        """
        if clock == "cpu":
            return statistics.median(pace.cpu for pace in self.paces)
        walls = sorted((pace.wall for pace in self.paces), reverse=True)
        return statistics.mean(walls[: (len(walls) + 1) // 2])


@dataclass(frozen=True, slots=True)
class Result:
    """All laps run, the one to take first, then by rate; which clock they are ranked by; and those that failed."""

    laps: list[Lap]
    clock: Clock
    failed: list[Lap] = field(default_factory=list)


def race(laps: list[Lap], items: Sequence[Any], threads: int, *, try_batches: bool) -> Result:
    """Time `laps` against each other; with `try_batches` the better ones at larger batches too.

    Items of different shapes are no batch: it is cut by shape, and what that costs is in the measurement. What is
    compiled for a batch joins in beside the same with its batch left open, where that is among the better ones: so it
    takes nobody's place. A lap that fails (a batch for which there is no memory) is out. Raises ModelError where all
    fail.
    """
    run = [lap for lap in laps if not lap.fixed] or list(laps)
    leaders = _sound(_heat(run, items, threads, FIRST), run)
    more = [lap for lap in laps if lap not in run and any(lap.is_of(leader) for leader in leaders)]
    if try_batches:
        sizes = None if same_shape(items) else BATCHES_MIXED
        more += [lap for leader in leaders for lap in _larger(leader, threads, clock_of(run), sizes)]
    if more:
        run = [*(lap for lap in more if lap.fixed), *run, *(lap for lap in more if not lap.fixed)]
        leaders = [leaders[0], *_kept([*leaders[1:], *_heat(more, items, threads, WITH_BATCHES)], WITH_BATCHES)]
    if len(leaders) > 1:
        _heat(leaders, items, threads, FINAL)
        leaders = _sound(leaders, leaders)
    failed = [lap for lap in run if lap.faults]
    run = _sound(run, run)
    clock = clock_of(run)
    return Result(_ranked(run, leaders, clock), clock, failed)


def clock_of(laps: Sequence[Lap]) -> Clock:
    """Return "wall" where most candidates could keep their CPUs busy, "cpu" where others were using the machine.

    A busy machine gives most to what has most threads, which says nothing about what it costs.
    """
    shares = [lap.busy for lap in laps if lap.fills_cpus and not lap.faults]
    return "wall" if not shares or statistics.median(shares) >= QUIET else "cpu"


def _sound(laps: Sequence[Lap], raced: Sequence[Lap]) -> list[Lap]:
    """Return the laps that did not fail. Raises ModelError where there is none."""
    sound = [lap for lap in laps if not lap.faults]
    if not sound:
        first = raced[0]
        raise ModelError(f"the model failed in batches of {first.batch}: {first.faults[0]} Ask for smaller ones.")
    return sound


def _larger(lap: Lap, threads: int, clock: Clock, sizes: tuple[int, ...] | None) -> list[Lap]:
    if lap.model.batch_size is not None:
        return []
    worth = [batch for batch in (sizes or lap.batches)[1:] if batch * threads / lap.rate(clock) <= LONGEST_CALL_S]
    return [Lap(lap.candidate, lap.model, batch) for batch in worth]


def _heat(laps: list[Lap], items: Sequence[Any], threads: int, heat: Heat) -> list[Lap]:
    # Interleaved: what slows the machine down for a moment slows all of them.
    racing = list(laps)
    begun = time.perf_counter()
    for done in range(heat.rounds):
        if done and time.perf_counter() - begun > HEAT_S:
            break
        for lap in racing:
            checkpoint()
            try:
                lap.paces.append(pace(lap.model, items, threads, lap.batch, heat.slot_s, lap.ceiling))
            except PenstockError as error:
                lap.faults.append(error)
        racing = [lap for lap in racing if not lap.faults]
        clock = clock_of(racing)
        best = max((lap.worth(clock) for lap in racing), default=0.0)
        racing = [lap for lap in racing if lap.worth(clock) >= HOPELESS * best]
    return _kept(racing, heat)


def _kept(laps: list[Lap], heat: Heat) -> list[Lap]:
    clock = clock_of(laps)
    ranked = sorted(laps, key=lambda lap: lap.worth(clock), reverse=True)
    return [lap for lap in ranked[: heat.keep] if lap.worth(clock) >= heat.share * ranked[0].worth(clock)]


def _ranked(run: list[Lap], finalists: list[Lap], clock: Clock) -> list[Lap]:
    best = max(lap.worth(clock) for lap in finalists)
    close = [lap for lap in run if lap in finalists and lap.worth(clock) >= CLOSE * best]
    winner = min(close, key=lambda lap: lap.batch)  # `run` keeps the candidates' order: min takes the first of equals
    others = sorted((lap for lap in run if lap is not winner), key=lambda lap: lap.worth(clock), reverse=True)
    return [winner, *others]


def verdict(lap: Lap, winner: Lap, clock: Clock) -> str:
    """Return what became of a lap in words; of one that looks as fast as the winner, why that was taken instead."""
    if lap is winner:
        return "chosen"
    share = lap.rate(clock) / winner.rate(clock)
    said = f"{share:.2f} of the chosen"
    if share < 1:
        return said
    if lap.worth(clock) < winner.worth(clock):
        return f"{said}, but it leaves no CPU to other steps"
    if len(lap.paces) < len(winner.paces):
        return f"{said}, but in {len(lap.paces)} turns only: it was behind, and not in the final"
    return f"{said}, too close to prefer it"
