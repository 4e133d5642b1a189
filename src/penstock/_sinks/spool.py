"""Rows that wait for their part: an append-only file of frames, and the frames in memory."""

from __future__ import annotations

import os
from pathlib import Path

from penstock._sinks.disk import sync, write_all
from penstock._sinks.frames import frames_in, weight

PART_ROWS = 16_384
PART_WEIGHT = 16 << 20
"""A part is complete when it reaches either; both depend on its rows alone, so that parts are always the same."""


class Spool:
    """The rows behind the last whole part."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it."""
        self.path = path
        self.frames: list[bytes] = []
        self._written = 0
        self._weight = 0
        self.nbytes = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def cut_off(self, nbytes: int) -> bool:
        """Go back to the first `nbytes`, and read them; False where there are fewer."""
        if os.fstat(self._fd).st_size < nbytes:
            return False
        os.ftruncate(self._fd, nbytes)
        os.lseek(self._fd, nbytes, os.SEEK_SET)
        self.frames = list(frames_in(self.path.read_bytes()))
        self._written, self.nbytes = len(self.frames), nbytes
        self._weight = sum(map(weight, self.frames))
        return True

    def add(self, frame: bytes) -> None:
        """Add a row, in memory."""
        self.frames.append(frame)
        self.nbytes += len(frame)
        self._weight += weight(frame)

    @property
    def full(self) -> bool:
        """Whether these rows are a part."""
        return len(self.frames) >= PART_ROWS or self._weight >= PART_WEIGHT

    def flush(self) -> None:
        """Write the rows that were added since the last time; not yet durable."""
        write_all(self._fd, b"".join(self.frames[self._written :]))
        self._written = len(self.frames)

    def sync(self) -> None:
        """Make the file durable."""
        sync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
