"""What a kill or a signal leaves behind: the same command goes on, and the output is byte-equal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ITEMS, BATCH = 120, 4
PROGRAM = """
import os, signal, sqlite3, sys, time
import penstock
from penstock._job import job_folder
from pathlib import Path

out, log, at, number, source = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]

def committed():
    with sqlite3.connect(job_folder(Path(out)) / "ledger.sqlite") as db:
        return db.execute("SELECT count(*) FROM items WHERE state = 1").fetchone()[0]

class Model:
    version = "1"
    concurrency = "concurrent"

    def predict(self, batch):
        with open(log, "ab", buffering=0) as file:
            file.write(b"x" * len(batch))
        if at in batch:
            deadline = time.monotonic() + 0.7  # longer than a finished item waits for its commit
            while committed() < at // BATCH * BATCH and time.monotonic() < deadline:
                pass  # what came out before this batch gets into the ledger first
            os.kill(os.getpid(), number)
        return [{"value": x * x, "text": f"item {x}"} for x in batch]

items = range(int(source)) if source.isdigit() else source
stages = [] if source.isdigit() else [lambda path: int(os.path.basename(path).split(".")[0])]
penstock.run(items, Model(), out=out, batch=BATCH, threads=2, stages=stages)
""".replace("BATCH", str(BATCH))


def run_program(out: Path, log: Path, at: int, number: int, source: Path | int = ITEMS) -> int:
    """Run the job in a process of its own; the model sends it signal `number` when it meets item `at`."""
    command = [sys.executable, "-c", PROGRAM, str(out), str(log), str(at), str(number), str(source)]
    return subprocess.run(command, timeout=50, check=False, stderr=subprocess.PIPE).returncode


def content(out: Path) -> dict[str, bytes]:
    """Return the bytes of every file of an output, the job's own folder left out."""
    files = [out] if out.is_file() else [p for p in out.rglob("*") if p.is_file() and ".penstock" not in p.parts]
    return {str(p.relative_to(out.parent)): p.read_bytes() for p in files}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(ITEMS):
        (folder / f"{i:04}.jpg").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("name", ["out.jsonl", "out", "out.parquet", "out.sqlite"])
def test_killed_twice_and_resumed_is_byte_equal(tmp_path: Path, photos: Path, name: str) -> None:
    whole = tmp_path / "whole" / name
    whole.parent.mkdir()
    assert run_program(whole, tmp_path / "l", -1, 0, photos) == 0
    out, log = tmp_path / name, tmp_path / "log"
    for at in (37, 90):
        assert run_program(out, log, at, signal.SIGKILL, photos) == -signal.SIGKILL
    assert run_program(out, log, -1, 0, photos) == 0
    assert content(out) == content(whole)


@pytest.mark.parametrize("at", [0, 1, 63, 64, 119])
def test_killed_range_is_byte_equal(tmp_path: Path, at: int) -> None:
    out, log = tmp_path / "out.jsonl", tmp_path / "log"
    assert run_program(out, log, at, signal.SIGKILL) == -signal.SIGKILL
    assert run_program(out, log, -1, 0) == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines == [f'{{"id": {x}, "output": {{"value": {x * x}, "text": "item {x}"}}}}' for x in range(ITEMS)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_interrupted_run_stops_cleanly_and_goes_on(tmp_path: Path, number: int, code: int) -> None:
    out, log, many = tmp_path / "out.jsonl", tmp_path / "log", 100_000
    assert run_program(out, log, 10, number, many) == code
    done = len(out.read_text(encoding="utf-8").splitlines())
    assert log.stat().st_size == done  # everything that was computed was committed
    assert 10 < done < many
    assert run_program(out, log, -1, 0, many) == 0
    assert log.stat().st_size == many
