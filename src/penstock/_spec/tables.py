"""Tables of keys, as a TOML file or a dict has them -> a spec; unknown keys are refused by name."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock._spec.fields import InputSpec, OutputSpec, Spec
from penstock.errors import SpecError

_TABLES: dict[str, type[InputSpec | OutputSpec]] = {"input": InputSpec, "output": OutputSpec}


def read_toml(path: Path) -> Spec:
    """Return the spec in the TOML file at `path`. Raises SpecError naming the file and the key."""
    import tomllib

    try:
        tables = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise SpecError(f"the spec {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is no TOML: {error}.") from error
    return read_tables(tables, str(path), path.parent)


def read_tables(tables: Mapping[str, Any], where: str, folder: Path) -> Spec:
    """Return the spec that `tables` ("input", "output") say.

    Args:
        tables: the values by table and key.
        where: what errors call it.
        folder: what a path of labels is relative to.

    Raises:
        SpecError: an unknown key or a value that cannot be.
    """
    _check_names(tables, list(_TABLES), f"{where}: there is no table")
    found: dict[str, Any] = {}
    for name, kind in _TABLES.items():
        values = tables.get(name, {})
        if not isinstance(values, Mapping):
            raise SpecError(f"{where}: {name} is {values!r}, not a table. Write: [{name}]")
        _check_names(values, [key.name for key in dataclasses.fields(kind)], f"{where}: [{name}] has no key")
        try:
            values = {key: _read_labels(value, folder) if key == "labels" else value for key, value in values.items()}
            found[name] = kind(**values)
        except SpecError as error:
            raise SpecError(f"{where}: [{name}] {error}") from error
    return Spec(**found)


def read_labels(labels: Any) -> tuple[str, ...]:
    """Return labels given as a list, or as the path of a file with one a line. Raises SpecError."""
    return OutputSpec(task="classify", labels=_read_labels(labels, Path())).labels or ()


def _check_names(given: Mapping[str, Any], known: list[str], sentence: str) -> None:
    unknown = next((name for name in given if name not in known), None)
    if unknown is None:
        return
    nearest = difflib.get_close_matches(str(unknown), known, 1, 0.5)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    raise SpecError(f"{sentence} {unknown!r}.{hint} Known: {', '.join(known)}.")


def _read_labels(labels: Any, folder: Path) -> Any:
    """Return the lines of a file of labels as they are; anything but a path unchanged."""
    if not isinstance(labels, (str, os.PathLike)):
        return labels
    path = folder / labels
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"the labels {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"the labels {path} are not UTF-8: {error}.") from error
    lines = text.split("\n")
    if not lines[-1]:
        del lines[-1]  # the end of the last line, not a label
    return tuple(line.removesuffix("\r") for line in lines)  # a label may be a blank: nothing else is stripped
