"""The report: one line that adds up."""

from __future__ import annotations

import json

from penstock._engine.statistics import StepStatistics
from penstock._telemetry.report import Report
from penstock._telemetry.verdict import Verdict


def report(**changes: object) -> Report:
    values = {
        "out": "o",
        "planned": 10_000,
        "done": 9_997,
        "failed": 3,
        "skipped": 0,
        "attempted": 10_000,
        "seconds": 24.25,
    }
    steps = (StepStatistics("decode", 10.0, 10_000, 3), StepStatistics("model", 30.0, 9_997, 0))
    return Report(**{**values, "stages": steps, **changes})  # type: ignore[arg-type]


def test_line() -> None:
    said = "412/s = 96% of this machine's limit (430/s); slowest stage: model 71% busy"
    verdict = Verdict(said, "model", 430.0, ())
    assert str(report(verdict=verdict)) == f"10,000 items: 9,997 done, 3 failed; 10,000 in 24.2 s = {said}"
    assert str(report()) == "10,000 items: 9,997 done, 3 failed; 10,000 in 24.2 s = 412/s"


def test_rare_counts_are_shown_when_there_are_any() -> None:
    text = str(report(skipped=5, ignored=2, notes={"decoded by Pillow": 1}))
    assert "3 failed, 5 skipped, 2 ignored, 1 decoded by Pillow;" in text


def test_lowered_precision_is_said() -> None:
    text = str(report(plan={"precision": "bf16", "agreement": "over 12 rows: argmax equal on 99.0%"}))
    assert text.endswith("bf16 against f32 over 12 rows: argmax equal on 99.0%")


def test_exit_code_and_json() -> None:
    assert (report().exit_code, report(failed=0).exit_code) == (1, 0)
    values = json.loads(json.dumps(report().to_dict()))
    assert values["rate"] > 412
    assert values["stages"][1]["name"] == "model"


def test_nothing_done_has_no_rate() -> None:
    assert report(attempted=0, seconds=0.0).rate == 0.0


def test_memory_beyond_the_plan_is_told() -> None:
    plan = {"peak_memory_bytes": 900_000_000, "memory_exceeded_bytes": 300_000_000}
    told = "memory: 900 MB at most, 300 MB more than planned"
    assert told in str(Report(out="o", planned=1, done=1, failed=0, skipped=0, plan=plan))
    assert "memory" not in str(
        Report(out="o", planned=1, done=1, failed=0, skipped=0, plan={"memory_exceeded_bytes": 0})
    )
