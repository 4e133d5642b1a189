"""What the user typed as a source -> the source."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, cast

from penstock._contracts import Source
from penstock._sources.files import FolderSource, GlobSource, is_image
from penstock._sources.iterables import IterableSource, Limited, is_path
from penstock._sources.paths import AnyPath, PathsSource, read_paths
from penstock._sources.tables import TABLE_SUFFIXES, TableSource
from penstock.errors import UsageError

_ACCEPTED = (
    "Give a folder, a glob pattern, one image, a table (.csv, .jsonl, .parquet) with a column of paths, "
    "- for paths on stdin, a list of paths, or any iterable."
)


def open_source(source: Any, *, exclude: Sequence[AnyPath] = (), limit: int | None = None) -> Source:
    """Return the source that `source` means; nothing is listed or read yet, but for paths on stdin.

    A folder, a glob pattern (a text with `*`, `?` or `[` that is no file), "-" (paths on stdin), a table by its suffix,
    one image; a list or tuple of paths; any other iterable, whose values pass unchanged under their positions. What
    is a Source already is taken as it is. `exclude`: folders left out of a walk. `limit`: no more than so many items.

    Raises:
        UsageError: there is no such file, or it is none of these.
    """
    opened = _open(source, exclude)
    return opened if limit is None else Limited(opened, limit)


def _open(source: Any, exclude: Sequence[AnyPath]) -> Source:
    if is_path(source):
        return _open_path(source, exclude)
    if all(hasattr(source, name) for name in ("positional", "ignored", "count", "describe")):
        return cast("Source", source)
    if isinstance(source, (list, tuple)) and all(map(is_path, source)):
        return PathsSource(source)
    _refuse_unordered(source)
    return IterableSource(source)


def _open_path(source: AnyPath, exclude: Sequence[AnyPath]) -> Source:
    path = os.fspath(source)
    if source == "-":
        if sys.stdin is None:
            raise UsageError("There is no standard input to read paths from: it is closed.")
        return PathsSource(read_paths(sys.stdin.buffer))
    suffix = PurePath(path).suffix.lower()
    if suffix in TABLE_SUFFIXES and os.path.exists(path):
        return TableSource(path)
    if os.path.isdir(path):
        return FolderSource(path, exclude=exclude)
    if os.path.exists(path):
        return _one_file(path)
    if any(sign in path for sign in "*?["):
        return GlobSource(path)
    raise UsageError(f"{path!r} does not exist. {_ACCEPTED}")


def _one_file(path: str) -> Source:
    if not is_image(os.fsencode(path)):
        raise UsageError(f"{path!r} is neither an image nor a table, by its suffix. {_ACCEPTED}")
    return PathsSource([path], root=os.path.dirname(path) or os.curdir)


def _refuse_unordered(source: Any) -> None:
    name = type(source).__name__
    if isinstance(source, (set, frozenset)):
        raise UsageError(f"A {name} has another order on every run, so that no run could be resumed. Give sorted(...).")
    if isinstance(source, (bytes, bytearray, Mapping)) or not isinstance(source, Iterable):
        raise UsageError(f"A source cannot be a {name}. {_ACCEPTED}")
