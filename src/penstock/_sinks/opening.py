"""The name of `out` -> the sink."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from penstock._contracts import Sink
from penstock.errors import UsageError


def open_sink(out: Path, job: Path) -> Sink:
    """Return the sink that the name of `out` asks for; nothing is touched before its `open`.

    `.jsonl`, `.parquet`, `.sqlite`, or a folder where there is no suffix. `job`: the job's own folder, which exists,
    on the same file system, for temporary files.

    Raises:
        UsageError: `out` has another suffix.
    """
    make = _SINKS.get(out.suffix.lower())
    if make is None:
        raise UsageError(
            f"out={str(out)!r}: the suffix {out.suffix!r} is none that can be written. Give a folder (without a "
            "suffix), or a name that ends in .jsonl, .parquet or .sqlite."
        )
    return make(out, job)


def _folder(out: Path, job: Path) -> Sink:
    from penstock._sinks.folder import JsonFolder

    return JsonFolder(out, job)


def _jsonl(out: Path, job: Path) -> Sink:
    from penstock._sinks.jsonl import JsonLines

    return JsonLines(out, job)


def _parquet(out: Path, job: Path) -> Sink:
    from penstock._sinks.parquet import ParquetParts

    return ParquetParts(out, job)


def _sqlite(out: Path, job: Path) -> Sink:
    from penstock._sinks.sqlite import SqliteTable

    return SqliteTable(out, job)


_SINKS: dict[str, Callable[[Path, Path], Sink]] = {
    "": _folder,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
    ".sqlite": _sqlite,
}
