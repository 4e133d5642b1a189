from __future__ import annotations

from pathlib import Path

import penstock
from penstock._telemetry.running import RunSeen, runs


def test_a_run_is_seen_while_it_runs_and_not_afterwards(tmp_path: Path) -> None:
    seen: list[list[RunSeen]] = []

    def look(batch: list[int]) -> list[int]:
        seen.append(runs())
        return batch

    out = tmp_path / "out.jsonl"
    penstock.run(list(range(5)), look, batch=1, out=out)
    assert len(seen) == 5
    assert [(run.out, run.todo) for run in seen[-1]] == [(str(out), 5)]
    assert [stage.name for stage in seen[-1][0].pipeline.stages][:1] == ["model"]
    assert runs() == []


def test_a_run_that_fails_is_not_seen_any_more(tmp_path: Path) -> None:
    def fail(batch: list[int]) -> list[int]:
        raise ValueError("no")

    report = penstock.run([1, 2], fail, out=tmp_path / "out.jsonl")
    assert report.failed == 2
    assert runs() == []
