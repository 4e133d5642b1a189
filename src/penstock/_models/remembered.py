"""Choices made earlier on this machine, in the user's cache folder: JSON files that people can read, and delete."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock._devices import cpu_name

if TYPE_CHECKING:
    from penstock._models.choose import Wanted

FORMAT = 2
"""Of the files; raised where what is tried, or how it is stored, changes."""
MOST_BYTES = 1 << 20
LEAST_ITEMS = 4
"""A choice that was made on fewer is made anew."""
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "openvino", "onnx", "numpy", "penstock")
"""Packages whose versions a choice holds for."""
_LOG = logging.getLogger("penstock")


@dataclass(frozen=True, slots=True)
class Kept:
    """A choice that was kept: what brings it back, what was measured to make it, and when."""

    choices: Mapping[str, Any]
    measurements: Sequence[Mapping[str, Any]]
    made: str


def folder() -> Path | None:
    """Return where choices lie: below XDG_CACHE_HOME, or the platform's place for caches; None where there is none."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):  # the XDG Base Directory Specification has relative ones ignored
        return Path(given, "penstock", "choices")
    try:
        home = Path.home()
    except RuntimeError:  # a user without a home
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "penstock" / "choices"


def key_of(
    model: Mapping[str, Any], spec: Any, wanted: Wanted, devices: Sequence[str], items: Sequence[Any]
) -> dict[str, Any]:
    """Return all that a choice depends on, as JSON values.

    model: its part of a job's fingerprint. spec: its input. items: as the model gets them, before any padding.
    """
    asked = {name: value for name, value in asdict(wanted).items() if name != "padding"}  # there is none
    key = {
        "format": FORMAT,
        "model": model,
        "input": None if spec is None else asdict(spec),
        "asked": {**asked, "devices": list(devices)},
        "items": kinds_of(items),
        "cpu": cpu_name(),
        "versions": {name: found for name in RUNTIMES if (found := _version(name)) is not None},
    }
    return dict(json.loads(json.dumps(key, default=str)))


def kinds_of(items: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the kinds of `items` by dtype and number of axes; a size in which those of a kind differ is None."""
    found: dict[tuple[str, int], set[tuple[int, ...]]] = {}
    for item in items:
        array = np.asarray(item)
        found.setdefault((str(array.dtype), array.ndim), set()).add(array.shape)
    return [
        {"dtype": dtype, "shape": [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes, strict=True)]}
        for (dtype, _), shapes in sorted(found.items())
    ]


def recall(key: Mapping[str, Any]) -> Kept | None:
    """Return the choice kept under `key`, or None. What is damaged is told of, and made anew."""
    path = _path(key)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError:  # mostly, there is none
        return None
    why = "it is too large" if len(text) > MOST_BYTES else None
    try:
        entry = {} if why else json.loads(text)
        why = why or _why_not(entry, key)
    except (ValueError, RecursionError) as error:
        entry, why = {}, str(error)
    if why is not None:
        _LOG.warning("The choice kept in %s is not used: %s. It is made anew.", path, why)
        return None
    return Kept(entry["choices"], entry["measurements"], entry["made"])


def keep(key: Mapping[str, Any], choices: Mapping[str, Any], measurements: Sequence[Mapping[str, Any]]) -> Path | None:
    """Keep a choice for the next time; return where, or None where nothing can be written: then it is made again."""
    path = _path(key)
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entry = {"key": dict(key), "made": made, "choices": dict(choices), "measurements": list(measurements)}
    if path is None:
        return None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, json.dumps({**entry, "sha256": _digest(entry)}, indent=1))
    except OSError as error:
        _LOG.info("The choice could not be kept in %s: %s", path, error)
        return None
    return path


def _write(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _path(key: Mapping[str, Any]) -> Path | None:
    where = folder()
    return None if where is None else where / f"{_digest(key)[:32]}.json"


def _why_not(entry: Any, key: Mapping[str, Any]) -> str | None:
    """Return what is wrong with an entry, or None. Its digest tells whether it is as it was written."""
    if not isinstance(entry, dict):
        return "it is no JSON object"
    rest = {name: value for name, value in entry.items() if name != "sha256"}
    if _digest(rest) != entry.get("sha256"):
        return "it was changed since it was written"
    return None if rest.get("key") == key else "it belongs to something else"


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
