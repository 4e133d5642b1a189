"""An output to be evaluated: its items, the models that answered, and the names of their classes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock._job import COMMAND, FINGERPRINT, SINK_STATE, WORKING_FOLDER, job_folder
from penstock._sinks.damage import damaged, readable
from penstock._sinks.ledger import Ledger
from penstock._sinks.reading import Entry, entries
from penstock._spec import find_spec
from penstock.errors import SpecError, UsageError

SINGLE = "model"
"""What a model is called that has no file."""


@dataclass(frozen=True, slots=True)
class Output:
    """The output of a job and what its ledger says about the models."""

    path: Path
    models: tuple[str, ...]
    several: bool
    """Whether a record holds an output for each model, by its name."""
    classes: Mapping[str, Mapping[str, str]]
    """Model -> number of a class -> its name; without those models of which that is not known."""
    working_folder: Path
    """Where relative paths of items begin."""

    @property
    def job(self) -> Path:
        """The job's own folder."""
        return job_folder(self.path)

    def entries(self) -> Iterator[Entry]:
        """Yield the items as they are at this moment. Raises LedgerError where the output was changed."""
        ledger = self.job / "ledger.sqlite"
        with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
            try:
                db.execute("BEGIN")  # all that follows is of one moment, whoever writes meanwhile
                row = db.execute("SELECT value FROM meta WHERE key = ?", (SINK_STATE,)).fetchone()
                yield from entries(db, self.path, self.job, None if row is None else json.loads(row[0]))
            except sqlite3.DatabaseError as error:
                raise damaged(ledger, error) from error

    def answers(self, entry: Entry) -> Iterator[tuple[str, Any]]:
        """Yield (model, its output) of an item, for those models that have one."""
        if not entry.there:
            return
        if not self.several:
            yield self.models[0], entry.output
        elif isinstance(entry.output, Mapping) and entry.output.keys() == set(self.models):
            yield from ((name, output) for name, output in entry.output.items() if output is not None)
        else:
            raise UsageError(
                f"{self.path}: the output for {entry.id!r} is not one for each of the models {', '.join(self.models)}: "
                "the function post= has made something else of them. Evaluate a job whose post= keeps them by model."
            )


def open_output(path: Path) -> Output:
    """Return the output at `path`. Raises UsageError where nothing was run into it (LedgerError: it is damaged)."""
    ledger_path = job_folder(path) / "ledger.sqlite"
    if not ledger_path.is_file():
        raise UsageError(f"{path} has no ledger ({ledger_path} does not exist): nothing was run into it.")
    with readable(ledger_path), Ledger(ledger_path) as ledger:
        fingerprint, command, folder = (ledger.get(key) for key in (FINGERPRINT, COMMAND, WORKING_FOLDER))
    fingerprint = fingerprint or {"model": {"kind": "callable"}}
    names = model_names(fingerprint)
    several = names is not None
    models = names or (single_name(fingerprint),)
    classes = {name: _classes(fingerprint, command, name if several else None) for name in models}
    return Output(
        path=path,
        models=models,
        several=several,
        classes={name: found for name, found in classes.items() if found},
        working_folder=Path(folder or ""),
    )


def model_names(fingerprint: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of several models whose outputs lie side by side, None where an output is one answer (pure)."""
    described = fingerprint["model"]
    if isinstance(described.get("kind"), str) or "combine" in fingerprint:
        return None
    return tuple(described)


def single_name(fingerprint: Mapping[str, Any]) -> str:
    """Return the name of the one model: of its file without suffix, or "model" (pure)."""
    described = fingerprint["model"]
    is_file = isinstance(described.get("kind"), str) and "sha256" in described
    return Path(described["name"]).stem if is_file else SINGLE


def _classes(fingerprint: Mapping[str, Any], command: Mapping[str, Any] | None, model: str | None) -> dict[str, str]:
    """Return number -> name of a model's classes: those of its spec, where it is still as it was when the job began."""
    said = fingerprint.get("spec") if model is None else (fingerprint.get("spec") or {}).get(model)
    if command is None or not said or said["output"]["task"] != "classify" or said["output"]["labels"] is None:
        return {}
    keys = ("model", "spec", "preset", "labels")
    path, spec, preset, labels = (_own(command[key], model) for key in keys)
    file = path if isinstance(path, str) else path["torch"]["source"]
    try:
        found = find_spec(file, spec, preset, labels)
    except SpecError:
        return {}  # it is gone, or was changed: what the results name is known all the same
    if found.to_dict()["output"]["labels"] != said["output"]["labels"]:
        return {}
    offset = found.output.index_offset or 0
    return {str(place + offset): name for place, name in enumerate(found.output.labels or ())}


def _own(value: Any, model: str | None) -> Any:
    """Return what a command says for one of several models: by name, or for all."""
    return value.get(model) if model is not None and isinstance(value, Mapping) else value
