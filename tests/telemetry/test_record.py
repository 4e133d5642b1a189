"""The record of a run: whole at any time, right for every way a run ends, and never the reason why one fails."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock._engine.statistics import PipelineStatistics
from penstock._job import Job, job_folder
from penstock._telemetry.record import NAME, PERIOD_S, SHARE, Record, finite
from penstock._telemetry.timeline import MOST_READINGS
from penstock.errors import SinkError, StageError


def double(batch: list[int]) -> list[int]:
    return [2 * x for x in batch]


def read(out: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((job_folder(out) / NAME).read_text("ascii"))
    return values


@pytest.mark.parametrize("name", ["o.jsonl", "o"])
def test_a_complete_run(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    report = penstock.run(range(100), double, out=out, batch=4)
    record = read(out)
    assert record["ended"] == "complete"
    assert record["error"] is None
    assert {key: record[key] for key in report.to_dict()} == json.loads(json.dumps(report.to_dict()))
    assert record["timeline"][-1]["done"] == 100
    assert set(record["timeline"][-1]["busy"]) == {step.name for step in report.stages}
    assert record["timeline"][-1]["rss_bytes"] > 1e6
    by_name = {step["name"]: step for step in record["latencies"]}
    assert by_name["model"]["items_a_call"] == 4
    assert sum(count for _, _, count in by_name["model"]["histogram"]) > 0
    assert 0 < by_name["model"]["p50_s"] <= by_name["model"]["p99_s"] <= by_name["model"]["p100_s"]
    assert record["folder"] == os.getcwd()


def test_a_run_that_spends_its_failure_budget(tmp_path: Path) -> None:
    def bad(batch: list[int]) -> list[int]:
        raise ValueError("no")

    with pytest.raises(StageError):
        penstock.run(range(300), bad, out=tmp_path / "o.jsonl", batch=1, max_failures=5)
    record = read(tmp_path / "o.jsonl")
    assert (record["ended"], record["error"]["type"]) == ("stopped", "StageError")
    assert record["failed"] > 5
    assert record["planned"] == 300 == record["done"] + record["failed"] + record["skipped"]
    assert record["failures"][0]["message"] == "no"


def test_a_run_whose_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Job, attempts: Mapping[tuple[int, str | None], int] | None = None) -> int:
        raise SinkError("disk full")

    monkeypatch.setattr(Job, "commit", full)
    with pytest.raises(SinkError):
        penstock.run(range(100), double, out=tmp_path / "o.jsonl")
    assert read(tmp_path / "o.jsonl")["error"] == {"type": "SinkError", "message": "disk full"}


PROGRAM = """
import json, os, signal, sys
import penstock
from pathlib import Path

record = Path(sys.argv[1] + ".penstock/report.json")

def known():
    return record.exists() and json.loads(record.read_text())["attempted"]

def predict(batch):
    if batch[0] >= 8:
        while not known():  # the run goes on: the loop writes what is known beside this
            done.wait(0.05)
        with once:
            if sys.argv[2] == "0":
                print(record.read_text())
                sys.argv[2] = ""
                return batch
        if sys.argv[2] and (sys.argv[3] or batch[0] == 8):
            os.kill(os.getpid(), int(sys.argv[2]))
    return batch

import threading
done, once = threading.Event(), threading.Lock()
print(penstock.run(range(400), predict, out=sys.argv[1], batch=1, threads=2))
"""


def run_program(out: Path, number: int, again: str = "") -> tuple[int, str]:
    """Run the job in a process of its own, whose model sends it signal `number`; 0: shows the record instead."""
    command = [sys.executable, "-c", PROGRAM, str(out), str(number), again]
    process = subprocess.run(command, timeout=50, check=False, capture_output=True, text=True)
    return process.returncode, process.stdout


def test_a_killed_run_leaves_what_was_known(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    assert run_program(out, signal.SIGKILL)[0] == -signal.SIGKILL
    record = read(out)
    assert record["ended"] is None
    assert 0 < record["done"] < record["planned"] == 400


@pytest.mark.parametrize("again", ["", "again"])
def test_an_interrupted_run(tmp_path: Path, again: str) -> None:
    out = tmp_path / "o.jsonl"
    run_program(out, signal.SIGINT, again)
    record = read(out)
    assert record["ended"] == "interrupted"
    assert 0 < record["done"] == 400 - record["skipped"]
    if not again:  # else it ends at once, wherever it is
        assert record["done"] == record["timeline"][-1]["done"]
        assert record["plan"]["stages"] == {"model+write": 2}


def test_it_is_there_while_the_run_goes_on(tmp_path: Path) -> None:
    code, said = run_program(tmp_path / "o.jsonl", 0)
    assert code == 0
    record = json.loads(said.splitlines()[0])
    assert (record["ended"], record["planned"]) == (None, 400)
    assert record["plan"]["batch"] == 1
    assert record["timeline"]


def test_a_run_with_nothing_to_do_leaves_the_record(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    penstock.run(range(100), double, out=out)
    before = (job_folder(out) / NAME).read_bytes()
    assert penstock.run(range(100), double, out=out).attempted == 0
    assert (job_folder(out) / NAME).read_bytes() == before


def test_a_run_that_has_begun_its_record_ends_it_whatever_it_did(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.write({"attempted": 0}, None)
    record.write({"attempted": 0}, "interrupted")
    assert json.loads((tmp_path / NAME).read_text())["ended"] == "interrupted"


def test_a_record_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "o.jsonl.penstock" / NAME).mkdir(parents=True)
    with caplog.at_level(logging.WARNING, "penstock"):
        assert penstock.run(range(100), double, out=tmp_path / "o.jsonl").done == 100
    assert "report.json cannot be written" in caplog.text


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_written_once_a_second_and_less_often_where_that_takes_long(tmp_path: Path) -> None:
    clock = Clock()
    record = Record(tmp_path, clock)
    assert not record.is_due
    clock.now += PERIOD_S
    assert record.is_due
    record.write({"attempted": 1}, None)
    assert not record.is_due
    record._cost_s = 0.1
    clock.now += 0.1 / SHARE - 0.1
    assert not record.is_due
    clock.now += 0.2
    assert record.is_due


def test_a_long_run_keeps_few_samples(tmp_path: Path) -> None:
    clock = Clock()
    record = Record(tmp_path, clock)
    record.begin()
    for second in range(5000):
        clock.now = 100.0 + second
        record.look(PipelineStatistics(), (second, 0))
    record.close(PipelineStatistics(), (5000, 0), [])
    record.write({"attempted": 5000}, "complete")
    timeline = json.loads((tmp_path / NAME).read_text())["timeline"]
    assert MOST_READINGS / 3 < len(timeline) < MOST_READINGS
    assert timeline[-1]["done"] == 5000


def test_what_json_has_no_form_for() -> None:
    values = {"a": math.nan, "b": [np.float64(1.5), math.inf, (1, True)], 3: Path("x"), "n": None}
    assert json.loads(json.dumps(finite(values), allow_nan=False)) == {
        "a": None,
        "b": [1.5, None, [1, True]],
        "3": "x",
        "n": None,
    }
