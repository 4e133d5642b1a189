"""Whole runs whose worker processes die, hang, or lose their parent: one item lost by name, nothing left behind."""

from __future__ import annotations

import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import threading
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
    return records(out.parent / f"{out.name}.penstock" / "failures.jsonl")


def workers_of(stage: str) -> list[int]:
    """Return the children of this process."""
    found = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return sorted(int(pid) for pids in found for pid in pids)


def test_a_decoder_that_segfaults_costs_its_photos(shared_data: Path, tasks: Any, tmp_path: Path) -> None:
    photos = sorted(shared_data.rglob("*.jpg"))[:40]
    poison = tuple(path.name for path in photos[5::13])
    assert len(poison) == 3
    out = tmp_path / "out.jsonl"
    decode = Workers(partial(tasks.decode_or_crash, poison), 2, kind="process")
    report = penstock.run([str(path) for path in photos], shapes, stages=[decode], out=out)
    assert (report.done, report.failed) == (37, 3)
    assert {Path(failure["id"]).name for failure in failures(out)} == set(poison)
    assert all(failure["type"] == "WorkerDied" and "SIGSEGV" in failure["message"] for failure in failures(out))
    expected = [list(penstock.decode(str(path)).shape) for path in photos if path.name not in poison]
    assert [record["output"] for record in records(out)] == expected


def shapes(batch: list[Any]) -> list[Any]:
    return [list(picture.shape) for picture in batch]


def test_kill_9_of_workers_loses_nothing(tasks: Any, tmp_path: Path) -> None:
    """Every fiftieth item that comes out kills a worker at random, 20 in all."""
    chance, out, killed = random.Random(0), tmp_path / "out.jsonl", []

    def kill_some(item: Any, output: Any) -> Any:
        if item.id % 50 == 49:
            pids = workers_of("nap")
            if pids:
                killed.append(chance.choice(pids))
                os.kill(killed[-1], signal.SIGKILL)
        return output

    nap = Workers(tasks.nap, 2, kind="process")
    report = penstock.run(range(1000), answers, stages=[nap], post=Workers(kill_some, 1), out=out)
    assert len(killed) >= 15
    assert (report.done, report.failed) == (1000, 0)
    assert [record["output"]["value"] for record in records(out)] == list(range(1000))


@pytest.mark.parametrize(
    "order", [("exit", 3), ("hang",), ("kill", signal.SIGSTOP), ("raise", OSError, "no such file")]
)
def test_one_item_that_ends_or_stops_its_process_is_one_failure(
    tasks: Any, tmp_path: Path, order: tuple[Any, ...]
) -> None:
    orders = [("value", i) if i != 17 else order for i in range(40)]
    out = tmp_path / "out.jsonl"
    stage = Workers(tasks.do, 2, kind="process")
    report = penstock.run(orders, answers, stages=[stage], out=out, limits=Limits(item_timeout_s=0.5))
    assert (report.done, report.failed) == (39, 1)
    (failure,) = failures(out)
    kinds = {"exit": "WorkerDied", "hang": "Stalled", "kill": "Stalled", "raise": "OSError"}
    assert (failure["id"], failure["stage"], failure["type"]) == (17, "do", kinds[order[0]])


def test_ten_gigabytes_under_a_limit_cost_their_item(tasks: Any, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    out = tmp_path / "out.jsonl"
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (8 << 30)
    orders = [
        ("value", 1),
        ("gigabytes", max(10, (limit >> 30) + 1)),
        ("value", 2),
    ]  # the processes have the same limit
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        report = penstock.run(orders, answers, stages=[Workers(tasks.do, 1, kind="process")], out=out)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert (report.done, report.failed) == (2, 1)
    assert "MemoryError" in failures(out)[0]["type"]


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


def program(how: str, **options: Any) -> tuple[subprocess.Popen[str], list[int]]:
    """Start the program that has two worker processes; return it and their pids, once they are at work."""
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    command = [sys.executable, str(TASKS), how]
    found = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, **options)
    assert found.stdout is not None
    return found, [int(found.stdout.readline().split()[1]) for _ in range(2)]


def gone(pid: int, timeout_s: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("how", ["idle", "hang", "lock"])
def test_a_killed_parent_leaves_no_process(how: str) -> None:
    """Whether they wait for work, are at work, or hold the interpreter lock in native code."""
    parent, pids = program(how)
    with parent:
        parent.kill()
        parent.wait(10)
        assert all(gone(pid, 5.0) for pid in pids)


def test_ctrl_c_prints_nothing_from_the_workers() -> None:
    """It goes to all of the terminal's process group, and one sends it to the workers too."""
    parent, pids = program("hang", start_new_session=True, stderr=subprocess.PIPE)
    with parent:
        for pid in pids:
            os.kill(pid, signal.SIGINT)
            assert os.getpgid(pid) == pid
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=30)
        assert said.count("Traceback") == 1  # the main program's own
        assert "child.py" not in said
        assert all(gone(pid, 5.0) for pid in pids)
