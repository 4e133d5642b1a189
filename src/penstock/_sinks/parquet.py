"""Parquet: a folder of parts, each put there whole; rows wait in a spool until there are enough for one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from penstock._contracts import Item
from penstock._sinks.arrow import from_parquet, kind_in, to_parquet
from penstock._sinks.disk import put_in_place, sync, sync_file, sync_folder, write_all, write_file, writing
from penstock._sinks.frames import frames_in, pack, unpack
from penstock._sinks.kinds import Kind, kind_of, widen
from penstock._sinks.records import Nulls
from penstock.errors import LedgerError, MissingDependency, SinkError

_PART_ROWS = 16_384
_PART_BYTES = 16 << 20
"""A part is closed by whichever it reaches first; both depend on the rows alone, so that parts are the same again."""


class Spool:
    """Rows behind the last whole part: an append-only file of frames in the job's folder, and in memory."""

    def __init__(self, path: Path) -> None:
        """Create the file, or open the one that is there."""
        self.path = path
        self.frames: list[bytes] = []
        self.nbytes = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def cut_off(self, nbytes: int) -> bool:
        """Go back to the first `nbytes`; False where there are fewer."""
        if os.fstat(self._fd).st_size < nbytes:
            return False
        os.ftruncate(self._fd, nbytes)
        with self.path.open("rb") as file:
            self.frames = list(frames_in(file.read()))
        os.lseek(self._fd, nbytes, os.SEEK_SET)
        self.nbytes = nbytes
        return True

    def append(self, frames: Sequence[bytes]) -> None:
        """Write frames behind the last one, not yet durable."""
        write_all(self._fd, b"".join(frames))
        self.frames.extend(frames)
        self.nbytes += sum(map(len, frames))

    @property
    def room(self) -> int:
        """How many more rows a part takes, by their number."""
        return _PART_ROWS - len(self.frames)

    @property
    def full(self) -> bool:
        """Whether these rows are a part."""
        return self.room <= 0 or self.nbytes >= _PART_BYTES

    def sync(self) -> None:
        """Make the frames durable."""
        sync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
