"""Threads that never come back, results that are lost, a process that was halted, a long run that stays as it is."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock._engine.flow import Flow
from penstock.errors import AuditError, Stalled

WAIT_S = 30.0
LIMIT_S = 0.3


class Sleeper:
    """A model that sleeps for ever at one item."""

    version = "1"
    concurrency = "concurrent"

    def __init__(self, at: int) -> None:
        self.at = at
        self.event = threading.Event()
        self.begun_s = 0.0

    def predict(self, batch: list[int]) -> list[int]:
        if self.at in batch:
            self.begun_s = self.begun_s or time.monotonic()
            assert self.event.wait(WAIT_S)
        return batch


def test_an_item_that_sleeps_for_ever_in_a_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, times: Any, record: Any, outcome: Any
) -> None:
    n, rng, lost, worst_s = times(2, 30), random.Random(4), 0, 0.0
    before = threading.active_count()
    for i in range(n):
        model = Sleeper(rng.randrange(1000))
        limits = penstock.Limits(item_timeout_s=LIMIT_S)
        caplog.clear()
        report = penstock.run(range(1000), model, out=tmp_path / f"{i}.jsonl", batch=8, threads=2, limits=limits)
        said_s = time.monotonic() - (time.time() - caplog.records[0].created)
        worst_s = max(worst_s, said_s - model.begun_s)
        assert [f["id"] for f in report.failures] == [model.at]
        lost += 1000 - report.done - report.failed
        model.event.set()
    left = leaving(before)
    ended = f"that item failed as Stalled, exit 1, the others done; item timeout {LIMIT_S} s"
    record(
        outcome("an item sleeps for ever in a thread", n, ended, lost=lost, left_over=left, report_s=round(worst_s, 2))
    )
    assert worst_s < 2 * LIMIT_S + 1.0


class Alone(Sleeper):
    concurrency = "one_at_a_time"


def test_an_item_that_sleeps_for_ever_where_one_thread_only_may_call(
    tmp_path: Path, times: Any, record: Any, outcome: Any
) -> None:
    n, rng, lost, worst_s = times(1, 10), random.Random(7), 0, 0.0
    before = threading.active_count()
    for i in range(n):
        model, out = Alone(rng.randrange(1000)), tmp_path / f"{i}.jsonl"
        limits = penstock.Limits(item_timeout_s=LIMIT_S)
        with pytest.raises(Stalled):
            penstock.run(range(1000), model, out=out, batch=8, limits=limits)
        worst_s = max(worst_s, time.monotonic() - model.begun_s)
        model.event.set()
        report = penstock.run(range(1000), Alone(-1), out=out, batch=8, limits=limits)
        assert report.failed == 8
        lost += 1000 - report.done - report.failed
    ended = "exit 4; its batch is failed, and the next run goes on behind it"
    left, said_s = leaving(before), round(worst_s, 2)
    fault = "an item sleeps for ever in a model that one thread only may call"
    record(outcome(fault, n, ended, lost=lost, left_over=left, report_s=said_s))


STOPPED = """
import os, signal, sys, threading
import penstock
from penstock import _stopping
_stopping.STOP_GRACE_S = 1.0
class Model:
    version, concurrency = "1", "concurrent"
    def predict(self, batch):
        if 200 in batch and sys.argv[2] != "0":
            os.kill(os.getpid(), int(sys.argv[2]))
            threading.Event().wait(60)
        return batch
report = penstock.run(range(400), Model(), out=sys.argv[1], threads=2)
print(report.done)
"""


def test_a_signal_while_an_item_is_stuck(tmp_path: Path, times: Any, record: Any, outcome: Any) -> None:
    """Without an item timeout; with a grace of 1 s instead of 8."""
    n, lost, worst_s = times(1, 10), 0, 0.0
    for i in range(n):
        command = [sys.executable, "-c", STOPPED, str(tmp_path / f"{i}.jsonl")]
        for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)):
            begun_s = time.monotonic()
            stopped = subprocess.run([*command, str(int(number))], capture_output=True, timeout=WAIT_S, check=False)
            worst_s = max(worst_s, time.monotonic() - begun_s)
            assert stopped.returncode == code, stopped.stderr
            assert b"left for the next run" in stopped.stderr
        again = subprocess.run([*command, "0"], capture_output=True, timeout=WAIT_S, check=True)
        lost += 400 - int(again.stdout)
    ended = (
        "exit 143, or as of a SIGINT; said, and done by the next run (grace 1 s; the seconds are of the whole process)"
    )
    record(outcome("SIGTERM, then SIGINT, while an item is stuck", 2 * n, ended, lost=lost, report_s=round(worst_s, 1)))


TWICE = """
import os, signal, sys, threading
import penstock
class Model:
    version, concurrency = "1", "concurrent"
    def predict(self, batch):
        if 200 in batch:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(60)
        return batch
penstock.run(range(400), Model(), out=sys.argv[1], threads=2)
"""


def test_a_second_signal_ends_it_at_once(tmp_path: Path, times: Any, record: Any, outcome: Any) -> None:
    n, worst_s = times(1, 10), 0.0
    for i in range(n):
        begun_s = time.monotonic()
        command = [sys.executable, "-c", TWICE, str(tmp_path / f"{i}.jsonl")]
        stopped = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
        worst_s = max(worst_s, time.monotonic() - begun_s)
        assert stopped.returncode == -signal.SIGINT, stopped.stderr
    assert worst_s < 8.0  # that is how long the first one would wait
    record(outcome("SIGINT twice while an item is stuck", n, "at once (whole process)", report_s=round(worst_s, 1)))


HELD = """
import ctypes, sys
import penstock
from penstock._telemetry import lifesign
lifesign.SILENT_S = 0.5
lifesign.arm()
def hold_the_lock(batch):
    ctypes.PyDLL(None).usleep(1_500_000)
    return batch
report = penstock.run(range(4), hold_the_lock, out=sys.argv[1], batch=4)
print(report.done)
"""


def test_native_code_that_holds_the_interpreter_lock(tmp_path: Path, times: Any, record: Any, outcome: Any) -> None:
    """No Python code runs meanwhile, that of the watch neither."""
    n = times(1, 5)
    for i in range(n):
        command = [sys.executable, "-c", HELD, str(tmp_path / f"{i}.jsonl")]
        held = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True)
        assert held.stdout == "4\n"
        assert "Timeout (0:00:00.500000)!" in held.stderr
        assert "in hold_the_lock" in held.stderr
    record(outcome("native code holds the interpreter lock", n, "the stacks are written to stderr (here after 0.5 s)"))


def leaving(before: int) -> int:
    """Return how many threads more than before are there, when those that end have ended."""
    for thread in threading.enumerate():
        if thread.name.startswith("penstock-"):
            thread.join(WAIT_S)
    return threading.active_count() - before


def test_results_dropped_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: Any, record: Any, outcome: Any
) -> None:
    arrive, n, rng, lost, worst_s = Flow.arrive, times(1, 20), random.Random(5), 0, 0.0
    for i in range(n):
        at, out = rng.randrange(200), tmp_path / f"{i}.jsonl"
        begun_s = time.monotonic()
        with monkeypatch.context() as patch:
            patch.setattr(Flow, "arrive", lambda flow, parcel, at=at: at in parcel.positions or arrive(flow, parcel))
            with pytest.raises(AuditError):
                penstock.run(range(200), same, out=out)
        worst_s = max(worst_s, time.monotonic() - begun_s)
        lost += 200 - penstock.run(range(200), same, out=out).done
    ended = "the run fails its own audit, exit 5; the next one does what was lost"
    record(outcome("a result dropped inside the pipeline", n, ended, lost=lost, report_s=round(worst_s, 2)))


def same(batch: list[int]) -> list[int]:
    return batch


HALTED = """
import sys, threading
import penstock
pause = threading.Event()
class Model:
    version, concurrency = "1", "concurrent"
    def predict(self, batch):
        pause.wait(0.002 * len(batch))
        if 20 in batch:
            print("begun", flush=True)
        return batch
report = penstock.run(range(400), Model(), out=sys.argv[1], threads=2, limits=penstock.Limits(item_timeout_s=0.4))
print(report.done, report.failed)
"""


def test_a_process_that_was_halted_for_longer_than_an_item_may_take(
    tmp_path: Path, times: Any, record: Any, outcome: Any
) -> None:
    """The clocks jump for it, as on a laptop that slept; no item is to blame."""
    n, failed = times(1, 10), 0
    for i in range(n):
        command = [sys.executable, "-c", HALTED, str(tmp_path / f"{i}.jsonl")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            os.kill(process.pid, signal.SIGSTOP)
            threading.Event().wait(1.0)
            os.kill(process.pid, signal.SIGCONT)
            said, _ = process.communicate(timeout=WAIT_S)
        failed += int(said.split()[1])
        assert said.split()[0] == "400"
    record(
        outcome("the process halted (SIGSTOP) for more than the item timeout", n, "all done, none blamed", lost=failed)
    )


def test_a_clock_that_is_set_while_the_run_is_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: Any, record: Any, outcome: Any
) -> None:
    """The time of day jumps by years, forth and back, all the time: nothing here goes by it."""
    n, rng, lost = times(1, 10), random.Random(6), 0
    monkeypatch.setattr(time, "time", lambda: rng.uniform(0, 4e9))
    for i in range(n):
        limits = penstock.Limits(item_timeout_s=LIMIT_S)
        lost += 2000 - penstock.run(range(2000), same, out=tmp_path / f"{i}.jsonl", limits=limits).done
    record(outcome("the time of day jumps by years", n, "all done", lost=lost))


SOAK = """
import gc, json, os, sys, threading
import penstock

items = int(sys.argv[2])
looks = [*range(items // 4, items // 4 + 200, 40), *range(items - 200, items, 40)]

def resources():
    gc.collect()
    pages = int(open("/proc/self/statm").read().split()[1])
    return threading.active_count(), len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")

def source():
    for i in range(items):
        if i in looks:
            seen.append(resources())
        yield i

def blob(x):
    return bytearray(100_000)

def lengths(batch):
    return [len(x) for x in batch]

seen, limits = [], penstock.Limits(max_bytes=20_000_000)  # else what is in flight grows with the rate
report = penstock.run(source(), lengths, stages=[blob], out=sys.argv[1], threads=2, batch=8, limits=limits)
# The least of five looks each: the run's record is written anew now and then, and is an open file meanwhile.
print(json.dumps([report.done, *(list(map(min, zip(*part))) for part in (seen[:5], seen[5:]))]))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux shows them")
def test_soak(tmp_path: Path, times: Any, record: Any, outcome: Any) -> None:
    """Items of 100 kB, each of which could be kept by mistake: 1 GB in the long form.

    In a process of its own: in one that has run other tests, memory grows where they have left no room for it.
    """
    items = times(2000, 10_000)
    command = [sys.executable, "-c", SOAK, str(tmp_path / "o.jsonl"), str(items)]
    ran = subprocess.run(command, capture_output=True, timeout=2 * WAIT_S, check=True)
    done, (threads, files, rss), (threads_end, files_end, rss_end) = json.loads(ran.stdout)
    grown = max(0, rss_end - rss)
    ended = f"threads {threads} and {threads_end}, open files {files} and {files_end}, RSS +{grown / 1e6:.1f} MB"
    left = abs(threads_end - threads) + abs(files_end - files)
    fault = "soak: items of 100 kB, after a quarter and at the end"
    record(outcome(fault, items, ended, lost=items - done, left_over=left))
    assert grown < 40e6  # twice what may be in flight; every item kept would be 150 MB


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux shows them")
def test_run_after_run(tmp_path: Path, times: Any, record: Any, outcome: Any) -> None:
    n, seen = times(8, 100), []
    for i in range(n):
        penstock.run(range(100), same, out=tmp_path / f"{i}.jsonl")
        if i in (n // 2, n - 1):
            seen.append((threading.active_count(), len(os.listdir("/proc/self/fd"))))
    (threads, files), (threads_end, files_end) = seen
    left = abs(threads_end - threads) + abs(files_end - files)
    record(outcome("run after run in one process", n, f"threads {threads_end}, open files {files_end}", left_over=left))
