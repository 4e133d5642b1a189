"""Where the truth about an item is: a table, the name of its folder, or a text file beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock._sinks.reading import Entry
from penstock._sources.paths import id_of
from penstock._sources.tables import PATH_COLUMNS, TABLE_SUFFIXES, read_rows
from penstock.errors import UsageError

FOLDER_NAMES, TEXT_FILES = "folder-names", "*.gt.txt"
ID_COLUMNS = (*PATH_COLUMNS, "id")
TRUTH_COLUMNS = ("label", "text")

Finder = Callable[[Entry], str | None]
"""Item -> its truth, None where there is none."""
Claim = Callable[[bytes, int | str], int | str]
"""(file, id of an item) -> the id of the first item that was given with this file."""
Rows = Iterator[tuple[str, str, str]]
"""(where, id, truth)"""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table have the ids and the truth."""

    id: str
    truth: str


def is_table(truth: str | Path) -> bool:
    """Return whether the truth is a table. Raises UsageError where it is nothing known, or not there."""
    if str(truth) in (FOLDER_NAMES, TEXT_FILES):
        return False
    path = Path(truth)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise UsageError(
            f"truth={str(truth)!r} is not known: give a table ({', '.join(TABLE_SUFFIXES)}), {FOLDER_NAMES}, or "
            f"'{TEXT_FILES}' (in quotes, or the shell puts the names of files in its place)."
        )
    if not path.exists():
        raise UsageError(f"The truth {path} does not exist (looked in {path.absolute().parent}).")
    return True


def check_truth(truth: str | Path) -> None:
    """Refuse what can be no truth, by a look at its first row. Raises UsageError."""
    if is_table(truth):
        next(truths_in(Path(truth)), None)


# ---- a table


def truths_in(path: Path) -> Rows:
    """Yield the rows of a table that have a truth. Raises UsageError, naming the row, for what cannot be one."""
    columns = None
    try:
        for where, row in read_rows(path):
            columns = columns or columns_of(path, row)
            truth = _truth_in(row, columns, f"{path}, {where}")
            if truth is not None:
                yield where, _id_in(row, columns, f"{path}, {where}"), truth
    except OSError as error:
        raise UsageError(f"The truth {path} cannot be read: {error.strerror or error}.") from error
    if columns is None:
        raise UsageError(f"The truth {path} has no rows. Give a table with columns path and label.")


def columns_of(path: Path, row: Mapping[str, Any]) -> Columns:
    """Return the columns to go by. Raises UsageError where there is none, or more than one that may have the truth."""
    ids = [name for name in ID_COLUMNS if name in row]
    truths = [name for name in TRUTH_COLUMNS if name in row]
    listed = ", ".join(map(repr, row)) or "none"
    if not ids:
        raise UsageError(
            f"{path} has no column of ids: its columns are {listed}. Call the one that has them "
            f"{' or '.join(ID_COLUMNS)}."
        )
    if len(truths) != 1:
        found = (
            "has both a column 'label' and a column 'text'" if truths else f"has no column of labels or texts: {listed}"
        )
        raise UsageError(f"{path} {found}. Call the one that has the truth label or text, and no other one so.")
    return Columns(ids[0], truths[0])


def is_text(path: Path) -> bool:
    """Return whether a table has texts, and not labels."""
    return next((columns_of(path, row).truth == "text" for _, row in read_rows(path)), False)


def _id_in(row: Mapping[str, Any], columns: Columns, where: str) -> str:
    value = row.get(columns.id)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{where}: the column {columns.id!r} has {value!r} where the id of an item should be.")
    try:
        return id_of(os.fsencode(value))
    except UnicodeEncodeError as error:
        raise UsageError(f"{where}: {value!r} can be no id of an item: {error.reason}.") from error


def _truth_in(row: Mapping[str, Any], columns: Columns, where: str) -> str | None:
    """Return the truth of a row, None where it says nothing. An empty text is a truth, an empty label is none."""
    value = row.get(columns.truth)
    if value is None or (value == "" and columns.truth == "label"):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UsageError(
            f"{where}: the column {columns.truth!r} has {value!r}; give texts, or whole numbers of classes."
        )
    return _whole(value, where)


def _whole(text: str, where: str) -> str:
    """Return `text`. Raises UsageError where it has bytes that are no UTF-8, which no label of a model has."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where}: {text!r} is not UTF-8. Save the table as UTF-8.") from error
    return text


# ---- names of folders, and text files


def folder_name(entry: Entry) -> str | None:
    """Return the name of the folder an item lies in, by its id; None where the id has no folder."""
    folder = str(entry.id).rpartition("/")[0].rpartition("/")[2]
    return folder or None


class TextFiles:
    """The texts beside the items: that of `line.png` in `line.gt.txt`, as in the data of OCRopus, Calamari and kraken.

    Of a name with several suffixes, `line.bin.png`, one after the other is taken away until there is such a file:
    `line.bin.gt.txt`, `line.gt.txt`. Two items may not have one file.
    """

    def __init__(self, folder: Path, claim: Claim) -> None:
        """Take the folder that relative paths of items begin in, and what notes whose text a file is."""
        self._folder = folder
        self._claim = claim

    def __call__(self, entry: Entry) -> str | None:
        """Return the text of an item, None where it has no file. Raises UsageError for a file that cannot be read."""
        if entry.path is None:
            raise UsageError(
                f"truth='{TEXT_FILES}': the items of this job are values and no files, such as {entry.id!r}, so that "
                "nothing lies beside them. Give a table with their ids and texts."
            )
        path = self._beside(self._folder / entry.path)
        if path is None:
            return None
        other = self._claim(os.fsencode(path), entry.id)
        if other != entry.id:
            raise UsageError(
                f"{entry.id!r} and {other!r} have one file with a text, {path}. Run over one of them only, as with the "
                "glob '**/*.bin.png', or give a table."
            )
        return _read(path)

    def _beside(self, path: Path) -> Path | None:
        stem = path.name
        while "." in stem.lstrip("."):
            stem = stem.rpartition(".")[0]
            found = path.with_name(f"{stem}.gt.txt")
            if found.is_file():
                return found
        return None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").strip()  # the end of the last line is no part of the text
    except OSError as error:
        raise UsageError(f"The truth {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"The truth {path} is not UTF-8: {error}.") from error
