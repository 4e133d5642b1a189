"""The verdict: the arithmetic of the limit, what is named and what is not, and that nothing it is given breaks it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._engine.idle import Waits
from penstock._engine.statistics import StageStatistics, StepStatistics
from penstock._telemetry.seen import Seen
from penstock._telemetry.verdict import Verdict, verdict

KINDS = {"source", "output", "order", "window", "replicas", "interpreter"}


def step(name: str, busy_s: float, items: int = 1000, computing: float = 1.0) -> StepStatistics:
    return StepStatistics(name, busy_s, items, 0, busy_s * computing)


def stage(workers: int, *steps: StepStatistics) -> StageStatistics:
    return StageStatistics("+".join(s.name for s in steps), workers, 0, (), steps)


def seen(*stages: StageStatistics, **changes: Any) -> Seen:
    """Return a run of 1,000 items in 10 s on 2 CPUs that used them for as long as its steps say."""
    cpu_s = sum(step.cpu_s for stage in stages for step in stage.steps)
    given = frozenset({"fetch", "f", "model", "a: model"})
    return replace(Seen(1000, 10.0, stages, cpus=2, cpu_s=cpu_s, given=given), **changes)


FUSED = stage(2, step("decode", 5.0), step("model", 14.2), step("write", 0.5))


def test_the_sentence() -> None:
    found = verdict(seen(FUSED, ceilings={"decode": 450.0, "model": 140.0}))
    assert found.sentence == (
        "100/s = 96% of this machine's limit (104/s); slowest stage: model 71% busy; more threads would give nothing; "
        "a GPU or a smaller model would"
    )
    assert found.bottleneck == "model"
    assert found.limit_per_s == pytest.approx(1 / (1 / 450 + 1 / 140 + 0.0005 / 2))
    assert "limit: 2 CPUs / (decode 4.44 ms + model 14.3 ms + write 0.5 ms) = 104/s" in found.arithmetic
    model = "model: 14.20 s of 2 workers x 10.00 s = 71% busy; 14.2 ms an item, 100% of it computing; alone 140/s"
    assert model in found.arithmetic


def test_without_measured_ceilings_the_run_itself_tells() -> None:
    assert verdict(seen(FUSED)).limit_per_s == pytest.approx(1000 * 2 / 19.7)


def test_of_a_step_that_waits_nobody_knows_what_it_could_do() -> None:
    waits = stage(2, step("fetch", 19.0, computing=0.1))
    assert verdict(seen(waits)).limit_per_s is None
    assert verdict(seen(waits, ceilings={"fetch": 500.0})).limit_per_s == pytest.approx(500.0)


def test_devices_work_beside_each_other() -> None:
    on_gpu = {"ceilings": {"decode": 400.0, "model": 300.0}, "apart": frozenset({"model"})}
    stages = (stage(2, step("decode", 10.0)), stage(1, step("model", 9.0, computing=0.1)))
    assert verdict(seen(*stages, **on_gpu)).limit_per_s == pytest.approx(300.0)
    slow = {**on_gpu, "ceilings": {"decode": 200.0, "model": 300.0}}
    found = verdict(seen(*stages, **slow))
    assert found.limit_per_s == pytest.approx(200.0)
    assert "limit: the least of 2 CPUs / (decode 10 ms), model alone 300/s = 200/s" in found.arithmetic
    assert verdict(seen(*stages, apart=frozenset({"model"}))).limit_per_s is None


@pytest.mark.parametrize(
    ("given_", "name", "said"),
    [
        (seen(stage(2, step("decode", 19.5)), stage(1, step("model", 0.5))), "decode", "a cheaper decode would"),
        (seen(stage(1, step("model", 9.9, computing=0.02))), "replicas", "replicas=8 would give up to 8.0 times"),
        (seen(stage(1, step("a: model", 9.9, computing=0.02))), "replicas", "replicas=8"),
        (seen(stage(1, step("model", 9.9))), "replicas", "replicas=2 would give up to 2.0 times"),  # a CPU is idle
        (seen(stage(2, step("fetch", 19.9, computing=0.02))), "fetch", "Workers(fetch, 16)"),
        (seen(stage(2, step("f", 19.9, computing=0.5)), late_s=0.009), "interpreter", "Workers(f, kind='process')"),
        (seen(stage(2, step("model", 19.9, computing=0.5)), late_s=0.009), "interpreter", "concurrency = 'process' in"),
        (seen(stage(2, step("write", 19.9, computing=0.5)), late_s=0.009), "interpreter", "nothing, less of it would"),
        (seen(stage(2, step("decode", 19.9, computing=0.02))), "decode", "threads=16 would give up to 8.0 times"),
        (seen(stage(1, step("f", 0.1), step("model", 9.8))), "replicas", "threads=2 would give up to 2.0 times"),
        (seen(stage(2, step("f", 0.1)), waits=Waits(source=19.0), source_s=9.9), "source", "which gives 101/s"),
        (seen(stage(2, step("f", 0.1)), waits=Waits(order=9.0, source=1.0)), "order", "waited 45% of the time"),
        (seen(stage(2, step("f", 0.1)), waits=Waits(window=9.0), window=3), "window", "only 3 items fit"),
        (seen(stage(2, step("f", 0.1)), output_s=9.0), "output", "written for 90% of the time"),
        (seen(stage(2, step("f", 0.1)), output_s=6.0, waits=Waits(output=9.0)), "output", "written for 60%"),
    ],
)
def test_what_held_it_back(given_: Seen, name: str, said: str) -> None:
    found = verdict(given_)
    assert found.bottleneck == name
    assert said in found.sentence


def test_a_runtime_whose_threads_others_keep_from_the_cpus_does_not_wait() -> None:
    """Its caller hardly computes; and where other programs have the CPUs, neither do its threads."""
    mine = stage(2, step("model", 19.0, computing=0.02))
    assert "replicas=16" in verdict(seen(mine)).sentence
    found = verdict(seen(mine, given=frozenset()))
    assert (found.bottleneck, "replicas=" in found.sentence) == ("model", False)
    assert found.sentence.endswith("model 95% busy; a GPU or a smaller model would help")


def test_more_workers_than_the_others_can_keep_up_with_are_not_called_for() -> None:
    decode = stage(2, step("decode", 5.0, computing=1.0))
    found = verdict(seen(decode, stage(1, step("model", 9.9, computing=0.02))))
    assert "replicas=4 would give up to 4.0 times the rate" in found.sentence
    decode = stage(2, step("decode", 16.0, computing=0.5))
    assert (
        "replicas=2 would give up to 1.2 times"
        in verdict(seen(decode, stage(1, step("model", 9.9, computing=0.02)))).sentence
    )


@pytest.mark.parametrize(
    "given_",
    [
        seen(stage(2, step("a", 9.8), step("b", 9.9))),
        seen(stage(2, step("a", 4.0)), waits=Waits(source=3.0, stages=9.0)),
        seen(FUSED, items=10),
        seen(FUSED, seconds=0.1),
        seen(),
        seen(stage(2, step("a", 0.0))),
    ],
)
def test_nothing_is_claimed_without_reason(given_: Seen) -> None:
    assert verdict(given_).bottleneck is None


def test_a_runtime_with_threads_of_its_own_does_not_wait() -> None:
    """The thread that calls it has no CPU meanwhile, as its own ones have them all."""
    found = verdict(seen(stage(1, step("model", 9.9, computing=0.05)), cpu_s=19.0))
    assert found.bottleneck == "model"
    assert "more threads would give nothing" in found.sentence


def test_a_late_thread_alone_is_no_sign_of_a_shared_interpreter() -> None:
    assert verdict(seen(stage(2, step("decode", 19.5)), late_s=0.02)).bottleneck == "decode"  # they got two CPUs
    assert verdict(seen(stage(2, step("f", 19.9, computing=0.5)), late_s=0.0005)).bottleneck == "f"
    waits = seen(stage(2, step("f", 19.9, computing=0.05)), late_s=0.009)  # as on a machine with much else to do
    assert verdict(waits).bottleneck == "f"
    others = seen(stage(2, step("decode", 19.5, computing=0.4)), late_s=0.009, delayed_s=11.7)
    assert verdict(others).bottleneck == "decode"  # all of what they lack, other programs had
    one_cpu = seen(stage(2, step("f", 19.9, computing=0.5)), late_s=0.009, cpus=1)
    assert verdict(one_cpu).bottleneck == "f"


def test_a_thread_that_waits_is_late_when_it_wakes_up() -> None:
    """On a machine with much else to do; that does not make it one that computes."""
    found = verdict(seen(stage(2, step("fetch", 19.5, computing=0.02)), delayed_s=15.0))
    assert (found.bottleneck, found.limit_per_s) == ("fetch", None)
    assert "computing for only 2% of that" in found.sentence


def test_other_programs_are_named_where_they_took_much() -> None:
    half = seen(stage(2, step("decode", 19.5, computing=0.6)), delayed_s=7.8)
    found = verdict(half)
    assert found.bottleneck == "decode"
    assert "other programs had the CPUs for 40% of the time" in found.sentence
    assert "other programs" not in verdict(seen(stage(2, step("decode", 19.5)))).sentence


def test_as_json() -> None:
    found = verdict(seen(FUSED))
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert set(found.to_dict()) == {"sentence", "bottleneck", "limit_per_s", "arithmetic"}


seconds = st.floats(0.0, 1e6, allow_nan=False)
steps = st.builds(
    StepStatistics, st.sampled_from(["decode", "model", "f"]), seconds, st.integers(0, 10**6), st.just(0), seconds
)
stages = st.builds(lambda n, steps: stage(n, *steps), st.integers(1, 64), st.lists(steps, min_size=1, max_size=4))
runs = st.builds(
    Seen,
    items=st.integers(0, 10**6),
    seconds=seconds,
    stages=st.lists(stages, max_size=4).map(tuple),
    cpus=st.integers(1, 128),
    cpu_s=seconds,
    delayed_s=seconds,
    source_s=seconds,
    output_s=seconds,
    late_s=seconds,
    waits=st.builds(Waits, *[seconds] * 6),
    ceilings=st.dictionaries(st.sampled_from(["decode", "model"]), st.floats(1e-3, 1e6)),
    apart=st.sampled_from([frozenset(), frozenset({"model"})]),
    window=st.integers(0, 100),
)


@given(runs)
def test_nothing_breaks_it(run: Seen) -> None:
    found = verdict(run)
    names = {step.name for step in run.steps}
    assert found.bottleneck in KINDS | names | {None}
    assert found.limit_per_s is None or found.limit_per_s > 0
    assert found.sentence
    json.dumps(found.to_dict(), allow_nan=False)


@given(runs, st.floats(1e-3, 1e6))
def test_a_slower_step_never_raises_the_limit(run: Seen, rate: float) -> None:
    """Nor does one more step on the CPUs."""
    ceilings = {"decode": rate, "model": rate, "f": rate}
    fast: Verdict = verdict(replace(run, ceilings=ceilings, apart=frozenset()))
    slow: Verdict = verdict(replace(run, ceilings={**ceilings, "f": rate / 2}, apart=frozenset()))
    if fast.limit_per_s is not None:
        assert slow.limit_per_s is not None
        assert slow.limit_per_s <= fast.limit_per_s
