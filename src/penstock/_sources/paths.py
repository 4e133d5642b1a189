"""Paths of files and the ids they give: lists of paths, and paths on stdin."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from penstock._contracts import Item
from penstock.errors import UsageError

AnyPath = str | os.PathLike[str]

_UNDECODABLE = re.compile("[\udc80-\udcff]")


def id_of(path: bytes) -> str:
    """Return the id that a path means: UTF-8 text in which every byte that is none is written `%XX`."""
    try:
        return path.decode("utf-8")
    except UnicodeDecodeError:
        text = path.decode("utf-8", "surrogateescape")
        return _UNDECODABLE.sub(lambda match: f"%{ord(match.group()) - 0xDC00:02X}", text)


def stamp_of(path: str | bytes) -> tuple[int, int] | None:
    """Return (size in bytes, mtime in ns) of what `path` leads to; None where that cannot be known.

    None is no error: the item is handed on, and fails for a reason that its reader can name.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return None
    return found.st_size, found.st_mtime_ns


def raw_path(path: AnyPath, position: int) -> bytes:
    """Return the path as the operating system has it. Raises UsageError where it can have no such path."""
    try:
        return os.fsencode(path)
    except UnicodeEncodeError as error:
        raise UsageError(f"Path {position} of the list, {path!r}, can be no file name: {error.reason}.") from error


class PathsSource:
    """The files at `paths`, in the order given; ids are the paths as they were given, or relative to `root`.

    A file that is missing is not refused here: it is an item, and fails as one.
    """

    positional = False
    ignored = 0

    def __init__(self, paths: Sequence[AnyPath], *, root: AnyPath | None = None) -> None:
        """Hold `paths`. `root`: the folder that relative ids are relative to; the paths themselves stay as they are."""
        self._paths = paths
        self._root = None if root is None else os.fsencode(root)

    def __iter__(self) -> Iterator[Item]:
        """Yield one item for each path."""
        for position, path in enumerate(self._paths):
            raw = raw_path(path, position)
            yield Item(self._id(raw), os.fsdecode(raw), None, stamp_of(raw))

    def ids(self) -> Iterator[str]:
        """Yield the ids alone, without a look at the files."""
        for position, path in enumerate(self._paths):
            yield self._id(raw_path(path, position))

    def _id(self, raw: bytes) -> str:
        return id_of(raw if self._root is None else os.path.relpath(raw, self._root))

    def count(self) -> int:
        """Return the number of paths."""
        return len(self._paths)

    def describe(self) -> dict[str, Any]:
        """Return what belongs into the fingerprint."""
        return {"kind": "paths"}

    def __repr__(self) -> str:
        return f"PathsSource({len(self._paths):,} paths)"


def read_paths(stream: BinaryIO) -> list[str]:
    """Return the paths in `stream`: one a line, or separated by NUL where there is a NUL (`find -print0`).

    The stream is read to its end before work begins, because ids must be unique and the separator must be known.
    """
    data = stream.read()
    separator = b"\0" if b"\0" in data else b"\n"
    lines = data.split(separator)
    if separator == b"\n" and all(line.endswith(b"\r") for line in lines if line):
        lines = [line.removesuffix(b"\r") for line in lines]  # a list written on Windows
    return [os.fsdecode(path) for path in lines if path]
