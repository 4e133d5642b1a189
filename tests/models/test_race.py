"""The race's decisions, with paces that are planted: nothing here is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from penstock._models import race as race_module
from penstock._models.candidates import Candidate
from penstock._models.contender import FIXED_BATCH
from penstock._models.drill import Pace
from penstock._models.race import Lap, Result, clock_of, race, verdict
from penstock.errors import ItemError, ModelError


class Planted:
    """A model whose rate at each batch size is known, by CPU time; the clock shows the share `busy` of it."""

    concurrency = "concurrent"

    def __init__(
        self,
        rates: dict[int, float],
        batch_size: int | None = None,
        busy: float = 1.0,
        fails: tuple[int, ...] = (),
    ) -> None:
        self.rates = rates
        self.batch_size = batch_size
        self.busy = busy
        self.fails = fails
        self.measured: list[int] = []


@pytest.fixture(autouse=True)
def planted_paces(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(model: Any, items: Any, threads: int, batch: int, slot_s: float, ceiling: Any) -> Pace:
        model.measured.append(batch)
        if batch in model.fails:
            raise ItemError(f"no memory for {batch}")
        rate = float(model.rates.get(batch, 1.0))
        return Pace(rate * model.busy, rate)

    monkeypatch.setattr(race_module, "pace", measure)


def laps(*models: Planted) -> list[Lap]:
    return [Lap(Candidate(f"r{i}"), model, 1) for i, model in enumerate(models)]  # type: ignore[arg-type]


def winner(result: Result) -> object:
    return result.laps[0].model


ITEMS = [np.zeros(3)] * 4


def test_the_fastest_wins_and_all_are_reported() -> None:
    slow, fast = Planted({1: 80}), Planted({1: 100})
    result = race(laps(slow, fast), ITEMS, 2, try_batches=False)
    assert [lap.rate("wall") for lap in result.laps] == [100, 80]
    assert winner(result) is fast


def test_a_larger_batch_must_be_worth_it() -> None:
    assert race(laps(Planted({1: 100, 2: 101, 4: 101, 8: 101})), ITEMS, 2, try_batches=True).laps[0].batch == 1
    assert race(laps(Planted({1: 100, 2: 110, 4: 130, 8: 131})), ITEMS, 2, try_batches=True).laps[0].batch == 4


def test_a_hopeless_one_is_out_after_a_round() -> None:
    hopeless, fast = Planted({1: 10}), Planted({1: 100})
    race(laps(hopeless, fast), ITEMS, 2, try_batches=True)
    assert hopeless.measured == [1]
    assert {2, 4, 8} <= set(fast.measured)


def test_batches_that_take_long_are_not_tried() -> None:
    heavy = Planted({1: 4.0})
    race(laps(heavy), ITEMS, 1, try_batches=True)
    assert set(heavy.measured) == {1}


def test_a_fixed_batch_is_not_tried_in_batches() -> None:
    fixed = Planted({1: 100}, batch_size=1)
    race(laps(fixed), ITEMS, 2, try_batches=True)
    assert set(fixed.measured) == {1}


def family(fixed: Planted, free: Planted, *others: Planted) -> list[Lap]:
    """Return laps of a model compiled for a batch, of the same with its batch left open, and of others."""
    compiled = Lap(Candidate("r0", settings={FIXED_BATCH: 1}), fixed, 1)  # type: ignore[arg-type]
    return [compiled, *laps(free, *others)]


def test_compiled_for_a_batch_it_wins_where_it_is_faster() -> None:
    fixed, free, other = Planted({1: 110}, batch_size=1), Planted({1: 100}), Planted({1: 95})
    result = race(family(fixed, free, other), ITEMS, 2, try_batches=True)
    assert winner(result) is fixed
    assert set(fixed.measured) == {1}
    alone = race(family(fixed, free, other), ITEMS, 2, try_batches=False)
    assert winner(alone) is fixed


def test_compiled_for_a_batch_it_keeps_nobody_from_larger_ones() -> None:
    fixed, free, other = Planted({1: 130}, batch_size=1), Planted({1: 100, 8: 200}), Planted({1: 99, 8: 150})
    result = race(family(fixed, free, other), ITEMS, 2, try_batches=True)
    assert (winner(result), result.laps[0].batch) == (free, 8)
    assert 8 in other.measured


def test_compiled_for_a_batch_it_is_not_timed_where_the_same_is_far_behind() -> None:
    fixed, free, best = Planted({1: 90}, batch_size=1), Planted({1: 50}), Planted({1: 100})
    result = race(family(fixed, free, best), ITEMS, 2, try_batches=True)
    assert winner(result) is best
    assert fixed.measured == []
    assert all(lap.paces for lap in result.laps)


def test_compiled_for_a_batch_it_runs_alone_where_the_same_was_refused() -> None:
    fixed = Planted({1: 90}, batch_size=1)
    assert winner(race(family(fixed, Planted({1: 1}))[:1], ITEMS, 2, try_batches=True)) is fixed


def test_items_of_several_shapes_are_tried_in_larger_batches_for_each_gets_a_part() -> None:
    free = Planted({1: 1000, 32: 2000})
    assert race(laps(free), [np.zeros(2), np.zeros(3)], 2, try_batches=True).laps[0].batch == 32
    assert set(free.measured) == {1, 4, 16, 32}


def test_equals_go_to_the_earlier_candidate() -> None:
    first, second = Planted({1: 99}), Planted({1: 100})
    assert winner(race(laps(first, second), ITEMS, 2, try_batches=False)) is first


def test_a_disturbed_measurement_does_not_decide() -> None:
    lap = laps(Planted({}))[0]
    lap.paces.extend(Pace(wall, 120) for wall in (100, 20, 99, 101))
    assert lap.rate("wall") == pytest.approx(100.5)


def test_on_a_quiet_machine_the_clock_decides() -> None:
    idling, busy = Planted({1: 150}, busy=0.6), Planted({1: 100})
    result = race(laps(idling, busy, Planted({1: 90})), ITEMS, 2, try_batches=False)
    assert result.clock == "wall"
    assert winner(result) is busy


def test_on_a_machine_that_others_use_cpu_time_decides() -> None:
    """What has more threads gets more of a busy machine, whatever it costs."""
    grabbing, cheap = Planted({1: 90}, busy=0.6), Planted({1: 100}, busy=0.3)
    result = race(laps(grabbing, cheap), ITEMS, 2, try_batches=False)
    assert result.clock == "cpu"
    assert winner(result) is cheap
    assert clock_of([]) == "wall"


class Alone(Planted):
    """A model that one thread calls."""

    concurrency = "one_at_a_time"


class OnGpu(Alone):
    """The same, on a device of its own."""

    device = "cuda:0"


def test_one_thread_with_the_runtimes_own_behind_it_must_be_worth_a_stage_of_its_own() -> None:
    assert winner(race(laps(shared := Planted({1: 100}), Alone({1: 109})), ITEMS, 2, try_batches=False)) is shared
    assert winner(race(laps(Planted({1: 100}), alone := Alone({1: 115})), ITEMS, 2, try_batches=False)) is alone


@pytest.mark.parametrize("settings", [{"intra_threads": 2}, {"streams": 1, "threads": 2}])
def test_a_call_that_takes_all_cpus_must_be_worth_what_it_costs_the_other_steps(settings: dict[str, int]) -> None:
    def won(rate: int) -> bool:
        apart, together = Planted({1: 100}), Planted({1: rate})
        run = [Lap(Candidate("a", settings={"streams": 2, "threads": 2}), apart, 1)]  # type: ignore[arg-type]
        run.append(Lap(Candidate("b", settings=settings), together, 1))  # type: ignore[arg-type]
        return winner(race(run, ITEMS, 2, try_batches=False)) is together

    assert (won(109), won(115)) == (False, True)


def test_who_waits_for_one_thread_or_a_gpu_says_nothing_about_the_machine() -> None:
    assert race(laps(Alone({1: 100}, busy=0.4)), ITEMS, 2, try_batches=False).clock == "wall"
    assert race(laps(Planted({1: 100}), Alone({1: 150}, busy=0.4)), ITEMS, 2, try_batches=False).clock == "wall"


def test_a_gpu_gets_larger_batches() -> None:
    gpu = OnGpu({1: 1000, 4: 2000, 16: 4000, 64: 5000})
    assert race(laps(gpu), ITEMS, 2, try_batches=True).laps[0].batch == 64
    assert set(gpu.measured) == {1, 4, 16, 64}


def test_a_batch_that_fails_is_out_and_reported() -> None:
    heavy = Planted({1: 100, 2: 150, 4: 200, 8: 900}, fails=(4, 8))
    result = race(laps(heavy), ITEMS, 2, try_batches=True)
    assert result.laps[0].batch == 2
    assert sorted(lap.batch for lap in result.failed) == [4, 8]
    assert heavy.measured.count(8) == 1


def test_a_candidate_that_fails_leaves_the_race_to_the_others() -> None:
    broken, sound = Planted({1: 900}, fails=(1,)), Planted({1: 100})
    assert winner(race(laps(broken, sound), ITEMS, 2, try_batches=False)) is sound
    with pytest.raises(ModelError, match=r"failed in batches of 1: no memory for 1 Ask for smaller ones"):
        race(laps(broken), ITEMS, 2, try_batches=True)


@pytest.mark.parametrize(
    ("rates", "settings", "said"),
    [
        ([90.0] * 4, {}, "0.90 of the chosen"),
        ([101.0] * 4, {}, "1.01 of the chosen, too close to prefer it"),
        ([105.0] * 4, {"intra_threads": 2}, "1.05 of the chosen, but it leaves no CPU to other steps"),
        ([131.0] * 2, {}, "1.31 of the chosen, but in 2 turns only: it was behind, and not in the final"),
    ],
)
def test_each_lap_is_told_why_it_was_not_taken(rates: list[float], settings: dict[str, int], said: str) -> None:
    chosen = laps(Planted({}))[0]
    other = Lap(Candidate("r1", settings=settings), Planted({}), 1)  # type: ignore[arg-type]
    chosen.paces.extend(Pace(100.0, 100.0) for _ in range(4))
    other.paces.extend(Pace(rate, rate) for rate in rates)
    assert verdict(other, chosen, "wall") == said
    assert verdict(chosen, chosen, "wall") == "chosen"
