"""A plan as a table: each number with what it rests on."""

from __future__ import annotations

import json
from dataclasses import replace

from penstock._telemetry.plan import SHOWN, Plan

TRIED = {"runtime": "onnxruntime", "precision": "f32", "settings": {"intra_threads": 1, "qdq": False}, "batch": 4}
CHOSEN = {**TRIED, "items_per_s": 250.0, "verdict": "chosen"}
REFUSED = {**TRIED, "batch": 8, "items_per_s": None, "verdict": "refused: wrong answers"}
PLAN = Plan(
    items=10_000,
    looked_at=16,
    cpus=2,
    ceilings={"decode": 2000.0, "model": 250.0},
    limit_per_s=222.2,
    expected_per_s=211.1,
    stages={"decode+model": 2},
    choices={"runtime": "onnxruntime"},
    measurements=[REFUSED, CHOSEN],
    memory=["memory: 4 MB"],
    agreement="argmax equal on 100.0%",
    kept=True,
    seconds=9.04,
)


def test_the_table() -> None:
    assert str(PLAN).splitlines() == [
        "          items/s  measured",
        "decode      2,000  alone, on 16 items, in 2 threads",
        "model         250  alone, on 16 items, in 2 threads",
        "limit         222  1 / (1/2,000 + 1/250)",
        "expected      211  95% of the limit: a short run",
        "workers: decode+model x 2",
        "answers beside the plain reference's: argmax equal on 100.0%",
        "memory: 4 MB",
        "10,000 items: about 0:47",
        "ways to run the model, in short turns on real items:",
        "  onnxruntime f32, batch 4, intra_threads 1  250  chosen",
        "  onnxruntime f32, batch 8, intra_threads 1       refused: wrong answers",
        "measured in 9.0 s; a run of this model on this machine begins with what was chosen here",
    ]


def test_what_was_not_measured_is_said() -> None:
    plan = replace(
        PLAN, limit_per_s=None, expected_per_s=None, unmeasured=["fetch"], measurements=[], agreement=None, kept=False
    )
    text = str(plan)
    assert "fetch" in text
    assert "not alone: yours" in text
    assert not any(word in text for word in ("limit", "expected", "about", "begins with", "ways to run"))


def test_the_sum_has_what_counts() -> None:
    text = str(replace(PLAN, ceilings={**PLAN.ceilings, "fork": 1e6, "join": 1e6}))
    assert "1 / (1/2,000 + 1/250 + 2 that take next to nothing)" in text


def test_a_choice_that_is_not_kept() -> None:
    assert str(replace(PLAN, kept=False)).endswith("measured in 9.0 s; a run measures and chooses anew")


def test_a_model_that_was_not_run_again() -> None:
    text = str(replace(PLAN, timed=["model"])).splitlines()
    assert text[1].endswith("alone, on 16 items, in 2 threads")
    assert text[2].endswith("250  alone, as it is going to be called")


def test_only_the_better_ways_are_shown() -> None:
    many = [{**TRIED, "batch": n, "items_per_s": float(n), "verdict": "slower"} for n in range(1, SHOWN + 4)]
    lines = str(replace(PLAN, measurements=many)).splitlines()
    assert sum("batch" in line for line in lines) == SHOWN
    assert any("and 3 more" in line for line in lines)
    assert f"batch {SHOWN + 3}," in next(line for line in lines if "batch" in line)


def test_each_of_several_models_has_its_ways() -> None:
    """A slow one is not crowded out by the ways to run a fast one."""
    fast = [{**TRIED, "model": "fast", "items_per_s": 900.0 + n, "verdict": "slower"} for n in range(9)]
    slow = [{**TRIED, "model": "slow", "items_per_s": 9.0 + n, "verdict": "slower"} for n in range(9)]
    slow[0] = {**CHOSEN, "model": "slow", "items_per_s": 9.0}  # close to the fastest, and simpler
    lines = str(replace(PLAN, measurements=[*fast, *slow])).splitlines()
    ways = [line.split(":")[0].strip() for line in lines if "batch" in line]
    assert ways == ["fast"] * (SHOWN // 2) + ["slow"] * (SHOWN // 2)
    assert next(line for line in lines if "slow: " in line).endswith("9  chosen")
    assert sum("and 3 more" in line for line in lines) == 2


def test_names_cannot_break_the_terminal() -> None:
    assert "\x1b" not in str(replace(PLAN, ceilings={"\x1b[2J": 1.0}))


def test_as_json() -> None:
    values = json.loads(json.dumps(PLAN.to_dict()))
    assert values == PLAN.to_dict()
    assert values["measurements"][1]["verdict"] == "chosen"
