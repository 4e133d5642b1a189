"""Whole runs that are killed, or that have little memory: nothing lost, nothing left, and both numbers named."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import penstock

SRC = Path(penstock.__file__).resolve().parents[1]
TESTS = Path(__file__).resolve().parents[1]
ITEMS = 1000
HEAD = """
import resource, sys
import penstock, process_tasks as tasks
from penstock import Workers

def answers(batch):
    return [{"value": value} for value in batch]

out = sys.argv[1]
"""
JOB = (
    HEAD
    + """
log = sys.argv[2]

class Model:
    version = "1"
    concurrency = "concurrent"

    def predict(self, batch):
        with open(log, "ab", buffering=0) as file:
            file.write(b"x" * len(batch))
        return answers(batch)

penstock.run(range(ITEMS), Model(), out=out, batch=4, threads=2, stages=[Workers(tasks.nap, 2, kind="process")])
""".replace("ITEMS", str(ITEMS))
)
BIG = (
    HEAD
    + """
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), resource.RLIM_INFINITY))
orders = [("value", 1), ("full", 400 << 20, 7), ("value", 3)]
print(penstock.run(orders, answers, out=out, stages=[Workers(tasks.do, 1, kind="process")]))
"""
)
PICTURES = (
    HEAD
    + """
orders = [("full", 3 << 20, k) for k in range(12)]
stage = Workers(tasks.do, 2, kind="process")
print(penstock.run(orders, lambda batch: [int(a[-1]) for a in batch], out=out, stages=[stage]))
"""
)


def program(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> list[str]:
    return [*prefix, sys.executable, "-c", code, *map(str, arguments)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SRC), str(TESTS)))}


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def children(pid: int) -> list[int]:
    try:
        return [
            int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


@pytest.mark.timeout(600)
def test_kill_9_of_the_parent_at_random_instants(
    gone: Any, tmp_path: Path, times: Any, record: Any, outcome: Any
) -> None:
    """Killed until it is done, over and over: each time the same command goes on, and its processes are gone."""
    chance, kills, wanted, jobs, left, calls = random.Random(0), 0, times(3, 100), 0, 0, 0
    found = {"lost": 0, "doubled": 0}
    whole = tmp_path / "whole.jsonl"
    subprocess.run(program(JOB, whole, tmp_path / "log"), env=ENVIRONMENT, timeout=60, check=True)
    while kills < wanted:
        out, log = tmp_path / f"{jobs}.jsonl", tmp_path / f"{jobs}.log"
        code: int | None = None
        while code is None:
            with subprocess.Popen(program(JOB, out, log), env=ENVIRONMENT) as run:
                try:
                    code = run.wait(chance.uniform(0.2, 1.6) if kills < wanted else 60)
                except subprocess.TimeoutExpired:
                    pids = children(run.pid)
                    run.kill()
                    run.wait(10)
                    kills += 1
                    left += sum(not gone(pid, 5.0) for pid in pids)
        assert code == 0
        ids = [line["id"] for line in records(out)]
        found["lost"] += ITEMS - len(set(ids))
        found["doubled"] += len(ids) - len(set(ids))
        assert out.read_bytes() == whole.read_bytes()
        jobs, calls = jobs + 1, calls + log.stat().st_size
    ended = (
        f"each resumed by the same command; {jobs} outputs byte-equal, {calls:,} model calls for {jobs * ITEMS:,} items"
    )
    record(outcome("kill -9 of the parent, 1,000 items of 2 ms", kills, ended, left_over=left, **found))


def test_a_memory_limit_below_one_item(tmp_path: Path, record: Any, outcome: Any) -> None:
    out = tmp_path / "out.jsonl"
    done = subprocess.run(program(BIG, out), env=ENVIRONMENT, timeout=60, check=True, capture_output=True, text=True)
    assert "2 done" in done.stdout or "3 items" in done.stdout
    assert [line["id"] for line in records(out)] == [0, 2]
    (failure,) = records(tmp_path / "out.jsonl.penstock" / "failures.jsonl")
    assert failure["id"] == 1
    assert "bytes" in failure["message"] or "allocate" in failure["message"]
    ended = f"that item failed as {failure['type']}, which names the numbers; the others done"
    record(outcome("a memory limit below one batch", 1, ended, lost=0))


def test_a_small_dev_shm_changes_nothing(tmp_path: Path, record: Any, outcome: Any) -> None:
    """Mounted at 1 MB in a name space of its own, with results of 24 MB."""
    unshare = shutil.which("unshare")
    prefix = (str(unshare), "-m", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh")
    if unshare is None or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    out = tmp_path / "out.jsonl"
    subprocess.run(program(PICTURES, out, prefix=prefix), env=ENVIRONMENT, timeout=60, check=True)
    ids = [line["output"] for line in records(out)]
    assert ids == list(range(12))
    record(outcome("/dev/shm of 1 MB", 1, "all done: nothing of it is used"))


def test_all_workers_halted_is_said(tmp_path: Path, record: Any, outcome: Any) -> None:
    """With every worker process stopped (SIGSTOP) and no item timeout, the run says that nothing moves any more."""
    code = HEAD + (
        "from penstock._engine import patience\n"
        "patience.ALARM_S = 1.0\n"
        "penstock.run(range(100_000), answers, out=out, stages=[Workers(tasks.nap, 2, kind='process')])\n"
    )
    command = program(code, tmp_path / "out.jsonl")
    with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as run:
        ending = threading.Timer(40, run.kill)
        ending.start()
        try:
            took_s = halted(run, tmp_path / "out.jsonl")
        finally:
            ending.cancel()
            run.kill()
    record(
        outcome(
            "SIGSTOP of all worker processes",
            1,
            "said on stderr, with what each worker is at",
            report_s=round(took_s, 1),
        )
    )


def halted(run: subprocess.Popen[str], out: Path) -> float:
    """Stop all workers of a run; return how long it took until it said so, with what each of them is at."""
    assert run.stderr is not None
    while len(children(run.pid)) < 2 or not out.exists() or not out.stat().st_size:
        assert run.poll() is None
        os.sched_yield()
    begun = time.monotonic()
    for pid in children(run.pid):
        os.kill(pid, signal.SIGSTOP)
    said = ""
    while "nothing has moved" not in said.lower():
        said += _line(run, said)
    took_s = time.monotonic() - begun
    while said.count("it does not tell: it is stopped") < 2:
        said += _line(run, said)
    return took_s


def _line(run: subprocess.Popen[str], said: str) -> str:
    line = run.stderr.readline() if run.stderr is not None else ""
    assert line, f"it ended without the word: {said}"
    return line
