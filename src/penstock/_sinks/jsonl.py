"""JSON lines: one record a line, appended, in the order given."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock._contracts import Item
from penstock._sinks.disk import put_in_place, sync, sync_folder, write_all, writing
from penstock._sinks.records import Nulls, Row, record, to_json
from penstock.errors import LedgerError, SinkError

_CHUNK = 1 << 20


def read_jsonl(out: Path) -> Iterator[Row]:
    """Yield the rows of a file, as (place, id, output), one when it is asked for: the last may not be whole yet."""
    with out.open("rb") as file:
        for place, line in enumerate(file):
            found = json.loads(line)
            yield place, found["id"], found["output"]


class JsonLines:
    """The sink for `.jsonl`. State: bytes and rows committed, and how often the file was written anew.

    A rewrite goes to `rewrite-N.jsonl` in the job's folder, N being the generation that its state names. So whoever
    opens that state knows whether the rename is still to come, and a rewrite that no state names is dropped.
    """

    sequential = True

    def __init__(self, out: Path, job: Path) -> None:
        """Prepare; nothing is touched before `open`."""
        self._out = out
        self._job = job
        self._nulls = Nulls()
        self._fd = -1
        self._bytes = self._rows = self._generation = 0
        self._torn = False
        self._lines: list[bytes] = []
        self._prepared: dict[str, Any] | None = None

    @property
    def nulls(self) -> int:
        """How many numbers were written as null."""
        return self._nulls.value

    def open(self, state: Mapping[str, Any] | None) -> None:
        """Begin a new file, or cut the file off at what `state` says was committed.

        Raises:
            LedgerError: the file is shorter than that, or has no end of a line there: somebody else changed it.
            SinkError: it cannot be opened or written.
        """
        self.close()
        state = state or {"bytes": 0, "rows": 0, "generation": 0}
        self._bytes, self._rows, self._generation = (int(state[key]) for key in ("bytes", "rows", "generation"))
        self._torn, self._prepared, self._lines = False, None, []
        with writing(self._out):
            self._complete_rewrite()
            self._open_file()
            if self._committed_size() > self._bytes:
                os.ftruncate(self._fd, self._bytes)
            os.lseek(self._fd, self._bytes, os.SEEK_SET)
            sync_folder(self._out.parent)

    def _complete_rewrite(self) -> None:
        """Put the rewrite that the state counts on in its place, and drop those that it knows nothing of."""
        wanted = self._rewritten(self._generation)
        if self._generation and wanted.exists():
            put_in_place(wanted, self._out)
        for path in self._job.glob("rewrite*.jsonl"):
            path.unlink()

    def _open_file(self) -> None:
        create = 0 if self._bytes else os.O_CREAT
        try:
            self._fd = os.open(self._out, os.O_RDWR | create, 0o666)
        except FileNotFoundError as error:
            raise self._changed("does not exist") from error

    def _committed_size(self) -> int:
        """Return the size of the file, in which all that was committed must be."""
        size = os.fstat(self._fd).st_size
        if size < self._bytes:
            raise self._changed(f"has {size:,} bytes")
        if self._bytes and os.pread(self._fd, 1, self._bytes - 1) != b"\n":
            raise self._changed("has no end of a line there")
        return size

    def _changed(self, how: str) -> LedgerError:
        return LedgerError(
            f"{self._out} was changed by somebody else: the ledger knows {self._rows:,} rows in {self._bytes:,} bytes, "
            f"but the file {how}. Bring it back, or start over with --fresh."
        )

    def _rewritten(self, generation: int) -> Path:
        return self._job / f"rewrite-{generation}.jsonl"

    def encode(self, item: Item | int, output: Any) -> bytes:
        """Return the line of one result. Raises ItemError where JSON has no form for the output."""
        return to_json(record(item, output), self._nulls) + b"\n"

    def append(self, encoded: Sequence[bytes]) -> None:
        """Take lines behind the last one; `commit` writes them together, as a write costs as much as making a line."""
        self._check_whole()
        self._lines.extend(encoded)

    def _check_whole(self) -> None:
        if self._torn:
            raise SinkError(f"{self._out}: an earlier write failed, so nothing more is written. Open the job again.")

    def commit(self) -> dict[str, Any]:
        """Write the lines and make them durable."""
        self._check_whole()
        self._write()
        with writing(self._out):
            sync(self._fd)
        return self._state()

    def _write(self) -> None:
        data = b"".join(self._lines)
        self._torn = True  # until all of it is written
        with writing(self._out):
            write_all(self._fd, data)
        self._torn = False
        self._bytes += len(data)
        self._rows += len(self._lines)
        self._lines = []

    def _state(self) -> dict[str, Any]:
        return {"bytes": self._bytes, "rows": self._rows, "generation": self._generation}

    def rewrite(self, places: Iterable[int]) -> dict[str, Any]:
        """Write the lines at `places` to a file of their own. Memory: 8 bytes a row."""
        self._check_whole()
        self._write()
        starts = self._line_starts()
        if len(starts) != self._rows + 1:
            raise self._changed(f"has {len(starts) - 1:,} rows")
        partial = self._job / "rewrite.jsonl"
        with writing(partial):
            size, rows = _copy_lines(self._fd, partial, _runs(places, starts))
            put_in_place(partial, self._rewritten(self._generation + 1))
        self._prepared = {"bytes": size, "rows": rows, "generation": self._generation + 1}
        return dict(self._prepared)

    def _line_starts(self) -> npt.NDArray[np.int64]:
        """Return the offset of every line, and of the end."""
        found = [np.zeros(1, np.int64)]
        for offset in range(0, self._bytes, _CHUNK):
            chunk = os.pread(self._fd, min(_CHUNK, self._bytes - offset), offset)
            found.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + offset + 1)
        return np.concatenate(found)

    def publish(self) -> None:
        """Put a prepared rewrite in the place of the file. Without one there is nothing to do: `open` completes it."""
        if self._prepared is not None:
            self.open(self._prepared)

    def finish(self) -> dict[str, Any]:
        """Return the final state; lines need no closing."""
        return self.commit()

    def stored(self) -> int:
        """Return how many lines there are."""
        with writing(self._out):
            return len(self._line_starts()) - 1

    def close(self) -> None:
        """Close the file; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __repr__(self) -> str:
        return f"JsonLines({str(self._out)!r}, {self._rows + len(self._lines):,} rows, {self._bytes:,} bytes on disk)"


def _runs(places: Iterable[int], starts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, end, rows) of stretches of the file that hold consecutive places."""
    first = last = -1
    for place in places:
        if place != last + 1 or first < 0:
            if first >= 0:
                yield int(starts[first]), int(starts[last + 1]), last + 1 - first
            first = place
        last = place
    if first >= 0:
        yield int(starts[first]), int(starts[last + 1]), last + 1 - first


def _copy_lines(source: int, target: Path, runs: Iterable[tuple[int, int, int]]) -> tuple[int, int]:
    """Copy stretches of `source` to a new durable file; return (bytes, rows)."""
    size = rows = 0
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        for begin, end, n in runs:
            for offset in range(begin, end, _CHUNK):
                write_all(fd, os.pread(source, min(_CHUNK, end - offset), offset))
            size, rows = size + end - begin, rows + n
        sync(fd)
    finally:
        os.close(fd)
    return size, rows
