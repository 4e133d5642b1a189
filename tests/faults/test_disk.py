"""A disk that is full, at any write and again after the resume; files that cannot be read; photos that are broken."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock._decode import reading
from penstock._job import job_folder
from penstock._sinks import disk
from penstock._sinks import sqlite as sqlite_sink
from penstock._sinks.ledger import Ledger
from penstock.errors import SinkError

N = 60
NAMES = ["out", "out.jsonl", "out.sqlite", "out.parquet"]


class Model:
    version = "1"
    concurrency = "concurrent"

    def predict(self, batch: list[int]) -> list[dict[str, Any]]:
        return [{"square": x * x, "vector": np.arange(3) + x} for x in batch]


def run(out: Path, n: int = N) -> penstock.Report:
    return penstock.run(range(n), Model(), out=out, batch=4, threads=2)


def content(out: Path) -> dict[str, bytes]:
    files = [out] if out.is_file() else [p for p in out.rglob("*") if p.is_file() and ".penstock" not in p.parts]
    return {path.relative_to(out.parent).as_posix(): path.read_bytes() for path in files}


def left_over(out: Path, whole: Path) -> int:
    """Return how many files a job has in its own folder that an uninterrupted one has not."""
    names = [
        {p.name for p in job_folder(o).iterdir() if "-wal" not in p.name and "-shm" not in p.name} for o in (out, whole)
    ]
    return len(names[0] - names[1])


@contextmanager
def full_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Let the disk be full after so many writes: the last one is taken in part. Gives what counts them."""
    counted = [0]
    write = os.write

    def limited(fd: int, data: Any) -> int:
        counted[0] += 1
        if counted[0] <= writes:
            return write(fd, data)
        if counted[0] == writes + 1 and len(data) > 1:
            return write(fd, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class FullOs:
        def __getattr__(self, name: str) -> Any:
            return limited if name == "write" else getattr(os, name)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "os", FullOs())
        yield counted


@contextmanager
def full_database(pages: int, where: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let SQLite find the disk full after so many pages more, in what `where.name(path)` opens."""
    opening = getattr(where, name)

    def limited(*arguments: Any) -> Any:
        opened = opening(*arguments)
        db = opened if opened is not None else arguments[0]._db
        now = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {now + pages}")
        return opened

    with monkeypatch.context() as patch:
        patch.setattr(where, name, limited)
        yield


def ends_full(out: Path, n: int = N) -> bool:
    """Run; return whether the disk was full. Whatever it is, it is said as such."""
    said = None
    try:
        run(out, n)
    except SinkError as error:
        said = (error.exit_code, "What was committed is safe" in str(error))
    assert said in (None, (3, True))
    return said is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_is_full_at_any_write_and_again(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: Any, record: Any, outcome: Any
) -> None:
    if name == "out.parquet":
        pytest.importorskip("pyarrow")
    whole = tmp_path / "whole" / name
    whole.parent.mkdir()
    with full_after(10**9, monkeypatch) as counted:
        run(whole)
    expected, rng, n, hits, left = content(whole), random.Random(name), times(4, 60), 0, 0
    for round_ in range(n):
        out = tmp_path / str(round_) / name
        out.parent.mkdir()
        for _ in range(2):
            with full_after(rng.randrange(max(1, counted[0])), monkeypatch):
                hits += ends_full(out)
        run(out)
        assert content(out) == expected
        left += left_over(out, whole)
    assert hits or not counted[0]  # SQLite writes by itself
    if hits:
        record(
            outcome(f"disk full at a random write, and again after the resume ({name})", hits, ENDED, left_over=left)
        )


ENDED = "exit 3; in the end the output is byte-equal to an uninterrupted run's"
MANY = 5000


@pytest.mark.parametrize(
    ("where", "name", "out_name"), [(Ledger, "__init__", "out.jsonl"), (sqlite_sink, "_connect", "out.sqlite")]
)
def test_a_database_on_a_full_disk(  # noqa: PLR0917 - fixtures
    where: Any,
    name: str,
    out_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    times: Any,
    record: Any,
    outcome: Any,
) -> None:
    whole = tmp_path / out_name
    run(whole, MANY)
    n, hits, left, rng = times(2, 30), 0, 0, random.Random(1)
    for round_ in range(n):
        out = tmp_path / str(round_) / out_name
        out.parent.mkdir()
        for _ in range(2):
            with full_database(rng.randrange(1, 16), where, name, monkeypatch):
                hits += ends_full(out, MANY)
        run(out, MANY)
        assert out.read_bytes() == whole.read_bytes()
        left += left_over(out, whole)
    assert hits
    what = "the ledger" if where is Ledger else "an output in SQLite"
    record(outcome(f"disk full in {what}, and again after the resume", hits, ENDED, left_over=left))


def test_files_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: Any, record: Any, outcome: Any
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    photos = tmp_path / "photos"
    photos.mkdir()
    n, rng = times(40, 1000), random.Random(2)
    for i in range(n):
        pillow.fromarray(np.full((8, 8, 3), i % 256, np.uint8)).save(photos / f"{i:04}.png")
    bad = {f"{i:04}.png" for i in rng.sample(range(n), n // 10)}
    opened = reading._open_at_once

    def failing(path: str, flags: int) -> int:
        if os.path.basename(path) in bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, flags)

    out = tmp_path / "o.jsonl"
    call: Callable[..., penstock.Report] = lambda **o: penstock.run(photos, mean, out=out, **o)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "_open_at_once", failing)
        report = call()
    assert {f["id"] for f in report.failures} == set(sorted(bad)[:100])
    assert all("errno 5" in f["message"] for f in report.failures)
    assert (report.done, report.failed) == (n - len(bad), len(bad))
    again = call(retry=True)
    rows = [json.loads(line)["output"] for line in out.read_text().splitlines()]
    assert rows == [float(i % 256) for i in range(n)]
    record(outcome("EIO on read", len(bad), "each failed by name, all done on retry", lost=n - again.done))


def mean(batch: list[Any]) -> list[float]:
    return [float(image.mean()) for image in batch]


CORRUPTED = """
import sys
import penstock
def mean(batch):
    return [float(image.mean()) for image in batch]
report = penstock.run(sys.argv[1], mean, out=sys.argv[2], threads=2, max_failures="100%")
print(report.planned, report.done, report.failed, report.skipped)
"""


def corrupted(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes of a file with some of them changed, or cut off, or both."""
    spoiled = bytearray(data)
    for _ in range(rng.choice([0, 1, 3, 30, 1000])):
        spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
    return bytes(spoiled[: rng.randrange(len(spoiled))] if rng.random() < 0.5 else spoiled)


def test_corrupted_photos(tmp_path: Path, shared_data: Path, times: Any, record: Any, outcome: Any) -> None:
    """In a process of its own: a crash of a decoder would be seen."""
    sources = sorted((shared_data / "photos").rglob("*.jpg"))
    photos, out, rng, n = tmp_path / "photos", tmp_path / "o.jsonl", random.Random(3), times(60, 1000)
    photos.mkdir()
    for i in range(n):
        (photos / f"{i:04}.jpg").write_bytes(corrupted(rng.choice(sources).read_bytes(), rng))
    command = [sys.executable, "-c", CORRUPTED, str(photos), str(out)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert process.returncode == 0, process.stderr
    planned, done, failed, skipped = map(int, process.stdout.split())
    rows = [json.loads(line)["id"] for line in out.read_text().splitlines()]
    assert (planned, skipped, len(rows)) == (n, 0, done)
    assert failed
    ended = f"{done} decoded, {failed} failed by name, no crash"
    record(
        outcome("photos with bytes changed or cut off", n, ended, lost=n - done - failed, doubled=done - len(set(rows)))
    )
