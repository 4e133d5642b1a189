"""Plans: neighbours without workers of their own are fused, a step with one stands alone, windows hold two rounds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from penstock._engine.step import Stage, Step
from penstock._plan import Part, spare_of, stages_of, window_of


def part(name: str, workers: int | None = None, *, block: int | None = None) -> Part:
    return Part(Step.of(name, len, block=block), workers)


def shape(parts: list[Part], threads: int = 4) -> list[tuple[str, int]]:
    return [(stage.name, stage.workers) for stage in stages_of(parts, threads)]


def test_steps_without_workers_of_their_own_are_fused() -> None:
    assert shape([part("decode"), part("model"), part("post")]) == [("decode+model+post", 4)]


def test_own_workers_make_a_stage_of_their_own() -> None:
    assert shape([part("load", 8), part("decode"), part("model"), part("post", 2)]) == [
        ("load", 8),
        ("decode+model", 4),
        ("post", 2),
    ]
    assert shape([part("a", 2), part("b", 2)]) == [("a", 2), ("b", 2)]


def test_a_step_with_one_worker_stands_alone() -> None:
    parts = [part("decode"), replace(part("model", 1), serial=True), part("post")]
    assert shape(parts) == [("decode", 4), ("model", 1), ("post", 4)]
    assert [stage.serial for stage in stages_of(parts, 4)] == [False, True, False]


def test_a_model_with_threads_of_its_own_is_worth_one_more_that_calls_it() -> None:
    def of(name: str, spare: int, workers: int | None = None) -> Part:
        return Part(Step("model", Step.of(name, len).bind, model=name), workers, spare=spare)

    assert shape([part("decode"), of("m", 1), part("post")], 2) == [("decode+model+post", 3)]
    assert shape([part("decode"), of("m", 0), part("post")], 2) == [("decode+model+post", 2)]
    assert shape([of("m", 1), of("n", 1)], 2) == [("model+model", 3)]
    assert shape([of("m", 1), of("n", 0)], 2) == [("model+model", 2)]  # the threads that call n compute
    assert shape([part("decode"), of("m", 1, 2), part("post")], 2) == [("decode", 2), ("model", 2), ("post", 2)]
    assert [spare_of(crew) for crew in ([part("decode"), of("m", 1)], [of("m", 1, 2)], [part("decode")])] == [1, 0, 0]


def test_models_are_fused_where_all_can_be_and_side_by_side_where_not() -> None:
    def of(branch: str, workers: int | None = None) -> Part:
        return Part(Step.of(f"{branch} model", len), workers, branch)

    fused = [part("decode"), of("a"), of("b"), part("join")]
    assert [(s.name, s.workers, s.branch) for s in stages_of(fused, 4)] == [("decode+a model+b model+join", 4, None)]
    apart = [part("decode"), of("a"), of("b", 1), part("join")]
    assert [(s.name, s.workers, s.branch) for s in stages_of(apart, 4)] == [
        ("decode", 4, None),
        ("a model", 4, "a"),
        ("b model", 1, "b"),
        ("join", 4, None),
    ]


@given(st.lists(st.sampled_from([None, 1, 3]), min_size=1, max_size=8), st.integers(1, 9))
def test_every_step_is_in_one_stage_in_order(kinds: list[int | None], threads: int) -> None:
    parts = [part(f"{i}", workers) for i, workers in enumerate(kinds)]
    stages = stages_of(parts, threads)
    assert [step for stage in stages for step in stage.steps] == [p.step for p in parts]
    assert all(stage.workers >= 1 for stage in stages)
    assert all(len(stage.steps) == 1 or stage.workers == threads for stage in stages)


def test_the_window_holds_two_batches_for_every_worker() -> None:
    stage = Stage("model", (Step.of("m", len, block=16),), 4)
    assert window_of([stage], 100).min_items == 128
    assert window_of([Stage("s", (Step.of("s", len),), 2)], 100).min_items == 32
    assert window_of([stage], 12_345).max_bytes == 12_345


def test_the_window_holds_what_travels_together() -> None:
    """Batches of 6 and of 4 travel in parcels of 12: a smaller window would let one parcel at a time in."""
    stages = [Stage("a", (Step.of("a", len, block=6),), 4), Stage("b", (Step.of("b", len, block=4),), 1)]
    assert window_of(stages, 100).min_items == 2 * 5 * 12


def test_a_window_is_never_wider_than_its_upper_bound() -> None:
    window = window_of([Stage("s", (Step.of("s", len, block=4096),), 16)], 100)
    assert window.min_items <= window.max_items
