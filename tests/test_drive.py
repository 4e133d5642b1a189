"""The run loop: room in the window is given back for what is committed, never earlier; what is shown is complete."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

import penstock
from penstock._engine.flow import Flow
from penstock._job import Job


def test_a_kill_costs_at_most_one_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that are computed but not committed count as in flight; so no more than a window can be lost."""
    committed, released = [0], [0]
    commit, release = Job.commit, Flow.release

    def counting_commit(self: Job, attempts: Mapping[tuple[int, str | None], int] | None = None) -> int:
        committed.append(commit(self, attempts))
        return committed[-1]

    def checking_release(self: Flow, n: int) -> None:
        released.append(n)
        assert sum(released) <= sum(committed)
        release(self, n)

    monkeypatch.setattr(Job, "commit", counting_commit)
    monkeypatch.setattr(Flow, "release", checking_release)
    report = penstock.run(range(5000), lambda batch: batch, out=tmp_path / "o.jsonl", batch=2)
    assert sum(released) == sum(committed) == report.done == 5000
    assert report.plan["window"] < 5000 or len(committed) > 1


def test_the_last_word_of_progress_has_what_was_committed_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second and the third item come right after the first one's commit, and wait for that at the end."""
    commit, committed = Job.commit, threading.Event()

    def noted_commit(self: Job, attempts: Mapping[tuple[int, str | None], int] | None = None) -> int:
        n = commit(self, attempts)
        if n:
            committed.set()
        return n

    def model(batch: list[int]) -> list[int]:
        assert batch == [0] or committed.wait(10)
        return batch

    monkeypatch.setattr(Job, "commit", noted_commit)
    penstock.run(range(3), model, out=tmp_path / "o.jsonl", progress="json", batch=1, threads=1)
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (last["done"], last["ended"], last["in_flight"]) == (3, True, 0)
    assert [step["name"] for step in last["steps"]] == ["model", "write"]
    assert all(step["cost_s"] > 0 for step in last["steps"])


def test_a_run_that_is_to_stop_says_so_and_what_it_waits_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def predict(batch: list[int]) -> list[int]:
        if 40 in batch:
            signal.raise_signal(signal.SIGINT)
            told.wait(0.7)  # longer than a finished item waits for its commit
        return batch

    told = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        penstock.run(range(100_000), predict, out=tmp_path / "o.jsonl", batch=1, progress="plain")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Stopping: the ")]
    assert len(said) == 1
    assert said[0].endswith("items in flight are finished first. Once more (Ctrl-C) stops at once.")
