"""One JSON file an item, in folders that mirror the source; arrays in an .npz beside it."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from penstock._contracts import Item
from penstock._sinks.disk import cannot_write, sync_all, write_file, writing
from penstock._sinks.names import SUFFIXES, stem_of
from penstock._sinks.npz import npz_bytes
from penstock._sinks.records import Nulls, record, split_arrays, to_json
from penstock.errors import ItemError

_JSON, _NPZ = SUFFIXES
_NOT_THIS_NAME = (errno.ENAMETOOLONG, errno.EILSEQ)
"""What the system says where it would write, but not under this name."""


def read_one(out: Path, id_: int | str) -> Any:
    """Return the output of one result; arrays stay references."""
    return json.loads((out / (stem_of(id_) + _JSON)).read_bytes())["output"]


class JsonFolder:
    """The sink for a folder: `a.jpg.json` for the item `a.jpg`, `0.json` for position 0.

    Every numpy array of an output goes to `a.jpg.npz` under its key, exactly; the JSON says in its place
    `{"array": KEY, "dtype": ..., "shape": ...}`. Files are written to a temporary name in the job's folder by the
    worker that made the result and renamed, the npz before the JSON: a JSON file that is there is whole and has its
    arrays. `commit` makes them durable.
    """

    sequential = False

    def __init__(self, out: Path, job: Path) -> None:
        """Prepare; nothing is touched before `open`."""
        self._out = str(out)
        self._job = job
        self._nulls = Nulls()
        self._made: set[str] = set()
        self._written: list[str] = []
        self._rows = 0
        self._again = False
        self._folding: threading.Lock | None = None

    @property
    def nulls(self) -> int:
        """How many numbers were written as null."""
        return self._nulls.value

    def open(self, state: Mapping[str, Any] | None) -> None:
        """Begin, or go on; half-written temporary files of a killed run are removed. Raises SinkError."""
        self._rows = 0 if state is None else int(state["rows"])
        self._again = state is not None
        self._written.clear()
        self._made.clear()
        with writing(self._out):
            os.makedirs(self._out, exist_ok=True)
            for path in self._job.glob("writing-*"):
                path.unlink()
            self._folding = threading.Lock() if self._folds_names() else None

    def _folds_names(self) -> bool:
        """Tell whether the file system takes `A` and `a` for one name."""
        probe = self._job / "writing-probe"
        probe.touch()
        try:
            return (self._job / "WRITING-PROBE").exists()
        finally:
            probe.unlink()

    def stored(self) -> int:
        """Return how many results are there."""
        inside = os.walk(self._out)
        return sum(name.endswith(_JSON) for folder, _, names in inside if folder != str(self._job) for name in names)

    def encode(self, item: Item | int, output: Any) -> Sequence[str]:
        """Write the files of one result, atomically, and return their paths.

        Raises:
            ItemError: JSON has no form for the output, or the system will not have a file of that name.
            SinkError: the system refuses to write.
        """
        tree, arrays = split_arrays(output)
        row = record(item, tree)
        data = to_json(row, self._nulls) + b"\n"
        stem = os.path.join(self._out, stem_of(row["id"]))
        with self._writing(stem + _JSON, row["id"]), self._alone(stem + _JSON, row["id"]):
            self._make_folder(os.path.dirname(stem), row["id"])
            written = []
            if arrays:
                written.append(self._put(stem + _NPZ, npz_bytes(arrays)))
            written.append(self._put(stem + _JSON, data))
            if self._again and not arrays:  # done anew, the item may have had arrays before
                Path(stem + _NPZ).unlink(missing_ok=True)
        return written

    @contextmanager
    def _writing(self, path: str, id_: int | str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in _NOT_THIS_NAME:
                raise ItemError(f"{id_!r}: {path} can be no name of a file here: {error.strerror}.") from error
            raise cannot_write(path, error) from error

    @contextmanager
    def _alone(self, path: str, id_: int | str) -> Iterator[None]:
        """Where names are folded, refuse to overwrite the result of an item whose id differs in case only."""
        with self._folding or nullcontext():
            if self._folding is not None and os.path.exists(path):
                other = json.loads(Path(path).read_bytes())["id"]
                if other != id_:
                    raise ItemError(f"{id_!r} and {other!r} have one name on this file system: {path}.")
            yield

    def _make_folder(self, path: str, id_: int | str) -> None:
        if path not in self._made:
            if not self._is_inside(path):
                raise ItemError(
                    f"{id_!r}: the folder {path} in the output leads out of it, by a symbolic link. Nothing is written "
                    "there: remove the link, or use another out."
                )
            os.makedirs(path, exist_ok=True)
            self._made.add(path)

    def _is_inside(self, path: str) -> bool:
        """Tell whether a folder below the output, as far as it exists, is where its name says."""
        out = os.path.realpath(self._out)
        return os.path.realpath(path) == os.path.normpath(os.path.join(out, os.path.relpath(path, self._out)))

    def _put(self, path: str, data: bytes) -> str:
        temporary = f"{self._job}/writing-{os.getpid()}-{threading.get_ident()}"
        write_file(temporary, data)
        os.replace(temporary, path)
        return path

    def append(self, encoded: Sequence[Sequence[str]]) -> None:
        """Note what is to be made durable; the files are there already."""
        self._rows += len(encoded)
        for paths in encoded:
            self._written.extend(paths)

    def commit(self) -> dict[str, Any]:
        """Make the files written since the last commit durable, with the names of their folders."""
        with writing(self._out):
            sync_all(self._out, self._written)
        self._written.clear()
        return {"rows": self._rows}

    def rewrite(self, places: Iterable[int]) -> dict[str, Any]:  # noqa: ARG002 - the contract's
        """Return the state: files have no order."""
        return {"rows": self._rows}

    def publish(self) -> None:
        """Do nothing: a rewrite prepared nothing."""

    def discard(self, id_: int | str) -> None:
        """Remove the files of one result, if they are there."""
        try:
            stem = stem_of(id_)
        except ItemError:  # that cannot be a name, so there is none
            return
        for suffix in SUFFIXES:
            path = Path(self._out, stem + suffix)
            with writing(path):
                if self._is_inside(str(path.parent)):
                    path.unlink(missing_ok=True)

    def finish(self) -> dict[str, Any]:
        """Return the final state."""
        return self.commit()

    def close(self) -> None:
        """Do nothing: no file is held open."""

    def __repr__(self) -> str:
        return f"JsonFolder({self._out!r}, {self._rows:,} rows, {len(self._written):,} files not yet durable)"
