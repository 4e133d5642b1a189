"""What every sink promises, whatever it writes: a kill loses nothing committed, and leaves no trace in the bytes."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock._contracts import Item, Sink
from penstock._sinks import spool
from penstock._sinks.opening import open_sink
from penstock.errors import LedgerError, SinkError

NAMES = ["out", "out.jsonl", "out.sqlite", "out.parquet"]
SEQUENTIAL = NAMES[1:]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a part of Parquet be full after a few rows."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(spool, "PART_ROWS", 5)
    monkeypatch.setattr(spool, "PART_WEIGHT", 250)


class Place:
    """A folder with an output and its job's folder; `killed` is what a kill at this moment would leave."""

    def __init__(self, folder: Path, name: str) -> None:
        self.out = folder / name
        self.job = self.out.with_name(name + ".penstock") if self.out.suffix else self.out / ".penstock"
        self.job.mkdir(parents=True, exist_ok=True)
        self.sink = open_sink(self.out, self.job)

    def killed(self, folder: Path) -> Place:
        shutil.copytree(self.out.parent, folder, dirs_exist_ok=True)
        self.sink.close()
        return Place(folder, self.out.name)

    def contents(self) -> dict[str, bytes]:
        """Return the bytes of every file of the output, its own folder left out."""
        paths = [self.out] if self.out.is_file() else sorted(self.out.rglob("*"))
        return {
            path.relative_to(self.out.parent).as_posix(): path.read_bytes()
            for path in paths
            if path.is_file() and ".penstock" not in path.as_posix().split(self.out.name, 1)[1]
        }

    def write(self, rows: list[tuple[Any, Any]]) -> None:
        self.sink.append([self.sink.encode(item, output) for item, output in rows])


@pytest.fixture
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    opened: list[Place] = []

    def make(name: str) -> Place:
        opened.append(Place(tmp_path_factory.mktemp("job"), name))
        return opened[-1]

    yield make
    for place in opened:
        place.sink.close()


def some_rows(n: int, seed: int = 0) -> list[tuple[Item, Any]]:
    """Return rows of many forms, the same ones for a seed."""
    rng = random.Random(seed)
    rows: list[tuple[Item, Any]] = []
    for i in range(n):
        boxes = np.arange(4 * rng.randrange(3), dtype=np.float32).reshape(-1, 4) / 7
        top = [{"index": k, "label": f"l{k}é", "score": rng.random()} for k in range(rng.randrange(3))]
        vector = np.array([i, 0.1, np.nan], np.float32)
        output = {"top": top, "boxes": boxes, "vector": vector, "n": rng.choice([None, i, i / 3])}
        output |= {"pair": [i, 0.5], "shape": (i, i)}
        rows.append((Item(f"d{i % 3}/{i}.jpg"), output))
    return rows


def uninterrupted(place: Place, rows: list[tuple[Any, Any]]) -> dict[str, bytes]:
    place.sink.open(None)
    place.write(rows)
    place.sink.commit()
    place.sink.finish()
    return place.contents()


def spoil(place: Place, rng: random.Random) -> None:
    """Leave what a kill in the middle of a write leaves: bytes behind the last whole row, half a temporary file."""
    for path in (place.out, *place.job.glob("spool-*")):
        if path.is_file() and path.suffix != ".sqlite":
            with path.open("ab") as file:
                file.write(rng.randbytes(rng.randrange(1, 200)))
    (place.job / "writing-1-2").write_bytes(b"half")


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_any_kills_give_the_bytes_of_an_uninterrupted_run(
    name: str, seed: int, places: Callable[[str], Place], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    rows = some_rows(rng.randrange(1, 30), seed)
    expected = uninterrupted(places(name), rows)
    place, state, at, committed = places(name), None, 0, 0
    place.sink.open(None)
    while at < len(rows):
        n = rng.randrange(1, 5)
        place.write(rows[at : at + n])
        at += n
        if rng.random() < 0.5:
            state, committed = place.sink.commit(), min(at, len(rows))
        if rng.random() < 0.4:
            if rng.random() < 0.5:
                place.sink.commit()  # killed before the ledger hears of it
            place = place.killed(tmp_path_factory.mktemp("killed"))
            spoil(place, rng)
            place.sink.open(state)
            at = committed
    state = place.sink.commit()
    if rng.random() < 0.5:  # between the end of finish and the ledger's knowing it
        place.sink.finish()
        place = place.killed(tmp_path_factory.mktemp("killed"))
        place.sink.open(state)
    place.sink.finish()
    place.sink.close()
    assert place.contents() == expected


@pytest.mark.parametrize("name", SEQUENTIAL)
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_rewrite_gives_exactly_the_rows_asked_for_whenever_it_is_killed(
    name: str, seed: int, places: Callable[[str], Place], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = random.Random(seed)
    rows = some_rows(rng.randrange(1, 30), seed)
    expected = uninterrupted(places(name), rows)
    place = places(name)
    # Written in another order, with stale rows among them, as a run that kept no order leaves it.
    order = [*range(len(rows)), *(rng.randrange(len(rows)) for _ in range(3))]
    rng.shuffle(order)
    place.sink.open(None)
    for begin in range(0, len(order), 4):
        place.write([rows[i] for i in order[begin : begin + 4]])
    state = place.sink.commit()
    if rng.random() < 0.3:
        state = place.sink.finish()
    wanted = [order.index(i) for i in range(len(rows))]
    before = place.contents()
    prepared = place.sink.rewrite(iter(wanted))
    assert prepared["rows"] == len(rows)
    assert place.contents() == before  # nothing visible changes
    killed = rng.choice(["never", "before the ledger", "before the rename", "after the rename"])
    if killed == "after the rename":
        place.sink.publish()
    if killed != "never":
        place = place.killed(tmp_path_factory.mktemp("killed"))
        place.sink.open(state if killed == "before the ledger" else prepared)
    if killed == "before the ledger":
        assert list(place.job.glob("rewrite*")) == []  # no state knows of it
        place.sink.rewrite(iter(wanted))
    place.sink.publish()
    place.sink.commit()
    place.sink.finish()
    place.sink.close()
    assert place.contents() == expected
    assert [path.name for path in place.job.iterdir() if path.name.startswith("rewrite")] == []


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_rows_can_follow_a_rewrite_and_a_finish(name: str, places: Callable[[str], Place]) -> None:
    rows = some_rows(23)
    expected = uninterrupted(places(name), rows)
    place = places(name)
    place.sink.open(None)
    place.write(rows[7:13] + rows[:7])
    place.sink.commit()
    state = place.sink.rewrite([*range(6, 13), *range(6)])
    place.sink.publish()
    place.write(rows[13:17])
    place.sink.commit()
    state = place.sink.finish()
    assert state["rows"] == 17
    place.sink.close()
    place = Place(place.out.parent, name)
    place.sink.open(state)
    place.write(rows[17:])
    place.sink.commit()
    place.sink.finish()
    place.sink.close()
    assert place.contents() == expected


@pytest.mark.parametrize("name", NAMES)
def test_finishing_what_is_finished_writes_nothing(name: str, places: Callable[[str], Place]) -> None:
    place = places(name)
    uninterrupted(place, some_rows(12))
    state = place.sink.finish()
    place.sink.close()
    files = [path for path in (place.out, *place.out.rglob("*")) if path.is_file() and ".penstock" not in path.parts]
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}
    place = Place(place.out.parent, name)
    place.sink.open(state)
    assert place.sink.finish() == state
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files} == before
    place.sink.close()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_an_output_too(name: str, places: Callable[[str], Place]) -> None:
    first, second = places(name), places(name)
    expected = uninterrupted(first, [])
    assert uninterrupted(second, []) == expected
    state = second.sink.finish()
    second.sink.open(state)
    second.write(some_rows(6))
    second.sink.commit()
    second.sink.finish()
    assert second.contents() == uninterrupted(places(name), some_rows(6))


@pytest.mark.parametrize("name", NAMES)
def test_beginning_anew_forgets_what_was_there(name: str, places: Callable[[str], Place]) -> None:
    rows = some_rows(9)
    expected = uninterrupted(places(name), rows)
    place = places(name)
    place.sink.open(None)
    place.write([(item, {"other": "columns"}) for item, _ in rows])
    if name != "out":
        place.sink.rewrite([0])
    assert uninterrupted(place, rows) == expected


@contextmanager
def full_disk(after: int) -> Iterator[list[int]]:
    """Let `os.write` take half of what it gets and then fail, from its call number `after` on."""
    write, calls = os.write, [0]

    def failing(fd: int, data: bytes) -> int:
        calls[0] += 1
        if calls[0] <= after:
            return write(fd, data)
        if calls[0] == after + 1 and len(data) > 1:
            return write(fd, bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", failing)
        yield calls


def write_until_full(place: Place, rows: list[tuple[Any, Any]]) -> tuple[Any, int, SinkError | None]:
    """Return (last committed state, rows committed, what stopped it)."""
    state, at = None, 0
    place.sink.open(None)
    try:
        while at < len(rows):
            place.write(rows[at : at + 3])
            state, at = place.sink.commit(), min(at + 3, len(rows))
        place.sink.finish()
    except SinkError as error:
        return state, at, error
    return state, at, None


@pytest.mark.parametrize("name", [name for name in NAMES if name != "out.sqlite"])
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6))
def test_a_full_disk_is_named_and_loses_nothing(name: str, seed: int, places: Callable[[str], Place]) -> None:
    rows = some_rows(24, seed)
    expected = uninterrupted(places(name), rows)
    place = places(name)
    with full_disk(random.Random(seed).randrange(8)):
        state, at, error = write_until_full(place, rows)
        assert error is not None
        assert "No space left on device (ENOSPC)" in str(error)
        assert str(place.out.parent) in str(error)
    if name != "out" and at < len(rows):
        with pytest.raises(SinkError, match="earlier write failed"):  # a torn row must never be committed
            place.sink.commit()
    place.sink.close()
    place = Place(place.out.parent, name)
    place.sink.open(state)
    place.write(rows[at:])
    place.sink.commit()
    place.sink.finish()
    place.sink.close()
    assert place.contents() == expected


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_an_output_that_lost_rows_is_refused(name: str, places: Callable[[str], Place]) -> None:
    place = places(name)
    place.sink.open(None)
    place.write(some_rows(12))
    state = place.sink.commit()
    place.sink.close()
    shutil.rmtree(place.out) if place.out.is_dir() else place.out.unlink()
    with pytest.raises(LedgerError, match=r"12 rows.*does not exist.*--fresh"):
        place.sink.open(state)


@pytest.mark.parametrize("name", NAMES)
def test_closing_twice_and_showing(name: str, places: Callable[[str], Place]) -> None:
    place = places(name)
    place.sink.open(None)
    place.write(some_rows(3))
    assert "3 rows" in repr(place.sink)
    place.sink.close()
    place.sink.close()
    place.sink.publish()


@pytest.mark.parametrize("name", NAMES)
def test_descriptors_are_given_back(name: str, places: Callable[[str], Place]) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    place = places(name)
    uninterrupted(place, some_rows(12))
    place.sink.rewrite(range(12))
    place.sink.publish()
    place.sink.close()
    assert (len(os.listdir("/proc/self/fd")) if before else 0) == before


def test_every_sink_keeps_the_contract(places: Callable[[str], Place]) -> None:
    sinks: list[Sink] = [places(name).sink for name in NAMES]
    assert [sink.sequential for sink in sinks] == [False, True, True, True]
