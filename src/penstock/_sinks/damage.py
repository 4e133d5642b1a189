"""A ledger that cannot be read, or is none of ours: how that is seen, and what is said."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from penstock.errors import LedgerError, SinkError


def schema_of(db: sqlite3.Connection) -> set[tuple[str, str, str]]:
    """Return (type, name, SQL) of everything in a database, blanks in the SQL made alike."""
    rows = db.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite_stat%'")
    return {(kind, name, " ".join(str(sql).split())) for kind, name, sql in rows}


def damaged(path: Path, error: Exception) -> LedgerError:
    """Return the error for a ledger that cannot be read."""
    return LedgerError(
        f"{path} is damaged, or no ledger of penstock ({ascii(str(error))[1:-1]}). Bring back a copy of the whole "
        "folder it lies in, use another out, or start over with --fresh (fresh=True)."
    )


def unwritable(path: Path, error: Exception) -> SinkError:
    """Return the error for a ledger that the system refuses to write, or somebody else holds."""
    return SinkError(f"{path} cannot be written: {error}. What was committed is safe; make room and go on.")


def refuse_truncated(path: Path) -> None:
    """Raise LedgerError where a database has fewer pages than its header says, which SQLite sees when it needs one.

    Source: the SQLite file format, section 1.3. Behind a kill the log (-wal) may have those pages.
    """
    log = path.with_name(path.name + "-wal")
    if not path.exists() or (log.exists() and log.stat().st_size):
        return
    with path.open("rb") as file:
        header, size = file.read(100), os.fstat(file.fileno()).st_size
    page, pages = int.from_bytes(header[16:18]), int.from_bytes(header[28:32])
    if header[24:28] == header[92:96] and size < pages * (65_536 if page == 1 else page):
        raise damaged(path, ValueError(f"it has {size:,} bytes and should have {pages * page:,}"))


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what SQLite says of a damaged ledger inside into a LedgerError, of a full disk into a SinkError."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if not _is_ours(error):
            raise
        raise (unwritable if isinstance(error, sqlite3.OperationalError) else damaged)(path, error) from error


def _is_ours(error: Exception) -> bool:
    """Tell whether `error` was raised for the ledger, and not in a source of the user's that reads a database, too."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_globals.get("__name__") == "penstock._sinks.ledger"
