"""A ledger that cannot be read, or is none of ours: how that is seen, and what is said."""

from __future__ import annotations

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


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what SQLite says inside of a damaged file into a LedgerError, of a full disk into a SinkError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise unwritable(path, error) from error
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from error
