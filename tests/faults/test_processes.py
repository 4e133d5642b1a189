"""Whole runs whose worker processes die, hang, or lose their parent: one item lost by name, nothing left behind."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock import Batching, Limits, Workers
from penstock.errors import ItemError, ModelError, UsageError

pytestmark = pytest.mark.usefixtures("no_child_left")
TASKS = Path(__file__).resolve().parents[1] / "process_tasks.py"
SRC = Path(penstock.__file__).resolve().parents[1]


def answers(batch: list[Any]) -> list[Any]:
    return [{"value": value} for value in batch]


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def failures(out: Path) -> list[dict[str, Any]]:
    path = out.parent / f"{out.name}.penstock" / "failures.jsonl"
    return records(path) if path.exists() else []


def workers() -> list[int]:
    """Return the children of this process."""
    found = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return sorted(int(pid) for pids in found for pid in pids)


def lost_and_doubled(out: Path, n: int) -> dict[str, int]:
    """Return how many of `n` items are neither done nor failed by name, and how many are there twice."""
    ids = [record["id"] for record in records(out)] + [failure["id"] for failure in failures(out)]
    return {"lost": n - len(set(ids)), "doubled": len(ids) - len(set(ids))}


def test_a_decoder_that_segfaults_costs_its_photos(
    shared_data: Path, tasks: Any, tmp_path: Path, times: Any, record: Any, outcome: Any
) -> None:
    n = times(40, 500)
    photos = [str(path) for path in sorted(shared_data.rglob("*.jpg"))[:n]]
    poison = tuple(os.path.basename(path) for path in photos[5 :: n // 3][:3])
    out = tmp_path / "out.jsonl"
    decode = Workers(partial(tasks.decode_or_crash, poison), 2, kind="process")
    report = penstock.run(photos, shapes, stages=[decode], out=out)
    assert (report.done, report.failed) == (len(photos) - 3, 3)
    assert {Path(failure["id"]).name for failure in failures(out)} == set(poison)
    assert all(failure["type"] == "WorkerDied" and "SIGSEGV" in failure["message"] for failure in failures(out))
    expected = [list(penstock.decode(path).shape) for path in photos if os.path.basename(path) not in poison]
    assert [record["output"] for record in records(out)] == expected
    ended = f"3 of {len(photos)} photos failed as WorkerDied, which names signal and line; the others done"
    record(outcome("a decoder that segfaults on a photo", 3, ended, **lost_and_doubled(out, len(photos))))


def shapes(batch: list[Any]) -> list[Any]:
    return [list(picture.shape) for picture in batch]


def test_kill_9_of_workers_loses_nothing(tasks: Any, tmp_path: Path, times: Any, record: Any, outcome: Any) -> None:
    """Every fiftieth item that comes out kills a worker at random."""
    chance, out, killed, n = random.Random(0), tmp_path / "out.jsonl", [], times(1000, 10_000)

    def kill_some(item: Any, output: Any) -> Any:
        if item.id % 50 == 49 and (pids := workers()):
            killed.append(chance.choice(pids))
            os.kill(killed[-1], signal.SIGKILL)
        return output

    nap = Workers(tasks.nap, 2, kind="process")
    report = penstock.run(range(n), answers, stages=[nap], post=Workers(kill_some, 1), out=out)
    assert len(killed) >= 0.7 * n / 50  # else they were all dead at the moment
    (note,) = [what for what in report.notes if what.startswith("deaths of processes of stage 'nap' (SIGKILL")]
    assert 0.5 * len(killed) <= report.notes[note] <= len(killed)  # less those that were not ready yet
    assert (report.done, report.failed) == (n, 0)
    assert [record["output"]["value"] for record in records(out)] == list(range(n))
    ended = f"all {n:,} items of 2 ms done; each death costs a new process"
    record(outcome("kill -9 of a random worker process", len(killed), ended, **lost_and_doubled(out, n)))


ENDS = {
    "os._exit in a worker process": (("exit", 3), "WorkerDied"),
    "an item sleeps for ever in a process": (("hang",), "Stalled"),
    "a worker process halted (SIGSTOP) with an item in hand": (("kill", signal.SIGSTOP), "Stalled"),
    "1 TB under a memory limit, in a process": (("gigabytes", 1024), "MemoryError"),
}


@pytest.mark.parametrize("fault", ENDS)
def test_one_item_that_ends_or_stops_its_process_is_one_failure(
    tasks: Any, tmp_path: Path, fault: str, times: Any, record: Any, outcome: Any
) -> None:
    (order, kind), n, found = ENDS[fault], times(1, 10), {"lost": 0, "doubled": 0}
    for i in range(n):
        orders = [("value", k) if k != 17 else order for k in range(40)]
        out = tmp_path / f"{i}.jsonl"
        with address_space(8 << 30):
            stage = Workers(tasks.do, 2, kind="process")
            report = penstock.run(orders, answers, stages=[stage], out=out, limits=Limits(item_timeout_s=0.5))
        assert (report.done, report.failed) == (39, 1)
        (failure,) = failures(out)
        assert (failure["id"], failure["stage"]) == (17, "do")
        assert kind in failure["type"]  # numpy has a MemoryError of its own
        found = {key: found[key] + more for key, more in lost_and_doubled(out, 40).items()}
    record(outcome(fault, n, f"that item failed as {kind}, the others done", **found))


@contextmanager
def address_space(more: int) -> Iterator[None]:
    """Let this process and its children have `more` bytes of address space than this one has now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_a_function_that_cannot_be_sent_is_refused_before_any_work(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    for where in (
        {"stages": [Workers(lambda value: value, 2, kind="process")]},
        {"post": Workers(lambda a, b: b, 1, "process")},
    ):
        with pytest.raises(UsageError, match=r"<lambda>.* cannot be sent to one"):
            penstock.run(range(3), answers, out=out, **where)
    assert list(tmp_path.iterdir()) == []


def test_post_and_common_workers_may_be_processes(tasks: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    stages = [Workers(tasks.double, kind="process")]
    post = Workers(tasks.total, 1, kind="process")
    assert penstock.run(range(50), lambda batch: batch, stages=stages, post=post, out=out).done == 50
    assert [record["output"] for record in records(out)] == [[i, 2.0 * i] for i in range(50)]


# ---- models


def test_a_model_that_says_so_lives_in_a_process(tasks: Any) -> None:
    with penstock.Session(tasks.Negative, batch=Batching(max_size=4)) as session:
        rows = list(session.map(range(30)))
        assert [value for _, value in rows] == [-i for i in range(30)]
        assert len({pid for pid, _ in rows}) == 1
        assert rows[0][0] != os.getpid()


def test_what_its_batch_dies_of_is_found_and_the_rest_is_kept(tasks: Any, tmp_path: Path) -> None:
    items: list[Any] = list(range(12))
    items[5], items[9] = "crash", "raise"
    out = tmp_path / "out.jsonl"
    report = penstock.run(items, tasks.Negative(), out=out, batch=4, post=value_only)
    assert (report.done, report.failed) == (10, 2)
    assert [(failure["id"], failure["type"]) for failure in failures(out)] == [(5, "WorkerDied"), (9, "KeyError")]
    assert (
        sum(n for what, n in report.notes.items() if what.startswith("deaths of processes of stage 'model' (SIG")) >= 3
    )
    assert [record["output"] for record in records(out)] == [-i for i in range(12) if i not in (5, 9)]


def value_only(item: Any, output: Any) -> Any:
    return output[1]


def test_several_models_of_which_one_lives_in_a_process(tasks: Any) -> None:
    with penstock.Session({"there": tasks.Negative, "here": answers}, batch=3) as session:
        found = list(session.map(range(20)))
    assert [(found["there"][1], found["here"]["value"]) for found in found] == [(-i, i) for i in range(20)]


def test_a_model_that_cannot_be_loaded_there_says_why(tasks: Any) -> None:
    with penstock.Session(tasks.Unloadable) as session, pytest.raises(ModelError, match="OSError: no weights"):
        list(session.map(range(3)))


def test_closing_does_not_wait_for_what_hangs(tasks: Any) -> None:
    session = penstock.Session(answers, stages=[Workers(tasks.do, 2, kind="process")])
    started = session.submit(("value", 1))
    assert started.result(30) == {"value": 1}
    hanging = [session.submit(("hang",)) for _ in range(2)]
    session.close()
    for future in hanging:
        with pytest.raises((ItemError, penstock.errors.Cancelled)):
            future.result(0)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("penstock-do")]


# ---- parents


@contextmanager
def program(how: str, **options: Any) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Start the program that has two worker processes; give it and their pids, once they are at work."""
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    command = [sys.executable, str(TASKS), how]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options) as found:
        try:
            assert found.stdout is not None
            yield found, [int(found.stdout.readline().split()[1]) for _ in range(2)]
        finally:
            found.kill()


def test_a_killed_parent_leaves_no_process(gone: Any, times: Any, record: Any, outcome: Any) -> None:
    """Whether they wait for work, are at work, or hold the interpreter lock in native code."""
    n, left, worst_s = times(1, 10), 0, 0.0
    shared = set(os.listdir("/dev/shm"))
    for how in ("idle", "hang", "lock") * n:
        with program(how) as (parent, pids):
            parent.kill()
            parent.wait(10)
            begun = time.monotonic()
            left += sum(not gone(pid, 5.0) for pid in pids)
            worst_s = max(worst_s, time.monotonic() - begun)
    left += len(set(os.listdir("/dev/shm")) - shared)
    ended = "its two worker processes, idle, at work or in native code, are gone, and their memory"
    fault = "kill -9 of a parent with worker processes"
    record(outcome(fault, 3 * n, ended, left_over=left, report_s=round(worst_s, 2)))


def test_ctrl_c_prints_nothing_from_the_workers(gone: Any) -> None:
    """It goes to all of the terminal's process group, and one sends it to the workers too."""
    with program("hang", start_new_session=True, stderr=subprocess.PIPE) as (parent, pids):
        for pid in pids:
            os.kill(pid, signal.SIGINT)
            assert os.getpgid(pid) == pid
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=30)
        assert said.count("Traceback") == 1  # the main program's own
        assert "child.py" not in said
        assert all(gone(pid, 5.0) for pid in pids)
