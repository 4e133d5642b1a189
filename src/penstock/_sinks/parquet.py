"""Parquet: a folder of parts, each put there whole; rows wait in a spool until there are enough for one."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, reduce
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from penstock._contracts import Item
from penstock._sinks.arrow import Rows, from_parquet, kind_in, rows_in, to_parquet
from penstock._sinks.disk import put_in_place, sync_file, sync_folder, write_file, writing
from penstock._sinks.frames import frames_in, pack, unpack
from penstock._sinks.kinds import Kind, kind_of, widen
from penstock._sinks.records import Nulls, Row
from penstock._sinks.spool import Spool
from penstock.errors import LedgerError, MissingDependency, SinkError

_PART = re.compile(r"part-(\d{6,})\.parquet")
_BEGIN: dict[str, Any] = {"rows": 0, "generation": 0, "parts": 0, "bytes": 0, "kind": None, "finished": False}
_PARTS_READ = 4
"""Parts in memory at a time while rows are put in another order."""


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.parquet"


def _kind_of_rows(rows: Rows, so_far: Kind) -> Kind:
    """Return the kind of all rows; `so_far` None: there are no others."""
    kinds: list[Kind] = [] if so_far is None else [so_far]
    return reduce(widen, chain(kinds, (kind_of({"id": id_, "output": output}) for id_, output in rows)))


def read_parquet(out: Path, job: Path, state: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the committed rows of the parts, and of the spool where that is no part yet, as (place, id, output)."""
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingDependency.of("pyarrow", "parquet", f"Reading {out}")
    whole, spooled = int(state["parts"]), int(state["bytes"])
    written = whole + bool(state["finished"] and spooled)
    frames = b"" if written > whole else (job / f"spool-{state['generation']}-{whole}").read_bytes()[:spooled]
    parts = (from_parquet(_part(out, number)) for number in range(written))
    rows = chain(chain.from_iterable(parts), map(unpack, frames_in(frames)))
    for place, (id_, output) in enumerate(rows):
        yield place, id_, output


class _Parts:
    """Whole parts in a folder and the rows behind them in a spool."""

    def __init__(self, folder: Path, spools: Path, state: Mapping[str, Any]) -> None:
        self.folder = folder
        self.kind: Kind = state["kind"]
        self.parts = int(state["parts"])
        self.retired: list[Path] = []
        self._spools = spools
        self._generation = int(state["generation"])
        self.nulls = Nulls()
        self.spool = self._next_spool()

    def _next_spool(self) -> Spool:
        return Spool(self._spools / f"spool-{self._generation}-{self.parts}")

    def append(self, frames: Iterable[bytes]) -> int:
        n = 0
        for frame in frames:
            n += 1
            self.spool.add(frame)
            if self.spool.full:
                self._roll()
        self.spool.flush()
        return n

    def _roll(self) -> None:
        rows = self.rows()
        self.kind = _kind_of_rows(rows, self.kind)
        self.write(self.parts, rows, self.kind, self.nulls)
        self.parts += 1
        self.spool.close()
        self.retired.append(self.spool.path)
        self.spool = self._next_spool()

    def rows(self) -> Rows:
        return [unpack(frame) for frame in self.spool.frames]

    def write(self, number: int, rows: Rows, kind: Kind, nulls: Nulls) -> None:
        """Put a part in place, whole and durable."""
        assert isinstance(kind, dict)
        partial = self._spools / "writing.parquet"
        try:
            data = to_parquet(rows, kind, nulls)
        except (ValueError, TypeError, OverflowError) as error:
            raise SinkError(f"{self.folder}: items {rows[0][0]!r} to {rows[-1][0]!r} make no table: {error}") from error
        write_file(partial, data)
        sync_file(partial)
        put_in_place(partial, _part(self.folder, number))

    def total_kind(self) -> Kind:
        """Return the kind of all rows, of those in the spool too."""
        rows = self.rows()
        if rows:
            return _kind_of_rows(rows, self.kind)
        return {"id": None, "output": None} if self.kind is None else self.kind

    def sync(self) -> None:
        self.spool.sync()
        sync_folder(self._spools)  # the name of a new spool

    def state(self, rows: int, *, finished: bool) -> dict[str, Any]:
        return {
            "rows": rows,
            "generation": self._generation,
            "parts": self.parts,
            "bytes": self.spool.nbytes,
            "kind": self.kind,
            "finished": finished,
        }

    def close(self) -> None:
        self.spool.close()


class ParquetParts:
    """The sink for `.parquet`: a folder `part-000000.parquet`, ... that readers take as one table.

    Columns: `id`, and one for each key of the outputs, or `output`. Arrays are lists of fixed length in every
    dimension in which all rows agree (and which has no nulls); all values are exact. Where rows disagree, a column is
    as wide as it takes, at last a text of JSON: parts that were written narrower are written anew by `finish`.

    Rows behind the last whole part lie in a spool in the job's folder, so that a commit may be small; `finish` writes
    them as the last part and keeps the spool, so that more rows may follow. A rewrite goes to `rewrite-N` there, N
    being the generation that its state names, and is moved part by part.
    """

    sequential = True

    def __init__(self, out: Path, job: Path) -> None:
        """Prepare; nothing is touched before `open`. Raises MissingDependency without pyarrow."""
        if importlib.util.find_spec("pyarrow") is None:
            raise MissingDependency.of("pyarrow", "parquet", f"Writing {out}")
        self._out = out
        self._job = job
        self._nulls = Nulls()
        self._parts: _Parts | None = None
        self._rows = 0
        self._finished = self._torn = False
        self._prepared: dict[str, Any] | None = None
        self._retired: list[Path] = []

    @property
    def nulls(self) -> int:
        """How many numbers were written as null, in texts of JSON; elsewhere NaN stays NaN."""
        return self._nulls.value

    def open(self, state: Mapping[str, Any] | None) -> None:
        """Begin, or drop the parts and rows beyond what `state` says was committed.

        Raises:
            LedgerError: there are fewer: somebody else changed the output.
            SinkError: something cannot be opened or written.
        """
        self.close()
        state = state or _BEGIN
        self._rows, self._finished = int(state["rows"]), bool(state["finished"])
        self._torn, self._prepared, self._retired = False, None, []
        with writing(self._out):
            self._out.mkdir(parents=True, exist_ok=True)
            self._complete_rewrite(int(state["generation"]))
            self._drop_beyond(state)
            self._parts = _Parts(self._out, self._job, state)
            self._parts.nulls = self._nulls
            if not self._parts.spool.cut_off(int(state["bytes"])):
                raise self._changed(f"{self._parts.spool.path} is too short")

    def _complete_rewrite(self, generation: int) -> None:
        """Move the rewrite that the state counts on to its place, and drop those that it knows nothing of."""
        wanted = self._rewritten(generation)
        if generation and wanted.exists():
            for path in wanted.iterdir():
                path.replace(self._out / path.name)
            sync_folder(self._out)
        for folder in self._job.glob("rewrite-*"):
            shutil.rmtree(folder)

    def _drop_beyond(self, state: Mapping[str, Any]) -> None:
        keep = int(state["parts"])
        numbers = {int(found[1]) for path in self._out.iterdir() if (found := _PART.fullmatch(path.name))}
        missing = set(range(keep)) - numbers
        if missing:
            raise self._changed(f"{_part(self._out, min(missing))} does not exist")
        for number in numbers:
            if number > keep or (number == keep and not self._finished):
                _part(self._out, number).unlink()
        for spool in self._job.glob("spool-*"):
            if spool.name != f"spool-{state['generation']}-{keep}":
                spool.unlink()

    def _changed(self, how: str) -> LedgerError:
        return LedgerError(
            f"{self._out} was changed by somebody else: the ledger knows {self._rows:,} rows, but {how}. "
            "Bring it back, or start over with --fresh."
        )

    def _rewritten(self, generation: int) -> Path:
        return self._job / f"rewrite-{generation}"

    def encode(self, item: Item | int, output: Any) -> bytes:
        """Return one result as a frame. Raises ItemError where a table has no form for it."""
        return pack(item if isinstance(item, int) else item.id, output)

    def append(self, encoded: Sequence[bytes]) -> None:
        """Add rows to the spool; as often as it is full, write a part."""
        parts = self._whole()
        self._torn = True  # until all are in
        with writing(self._out):
            parts.append(encoded)
        self._torn = False
        self._rows += len(encoded)
        self._finished = self._finished and not encoded

    def _whole(self) -> _Parts:
        if self._torn or self._parts is None:
            raise SinkError(f"{self._out}: an earlier write failed, so nothing more is written. Open the job again.")
        return self._parts

    def commit(self) -> dict[str, Any]:
        """Make the rows durable."""
        parts = self._whole()
        with writing(self._out):
            parts.sync()
            # The ledger has had the state before this one since, and that one knows nothing of these spools.
            for path in self._retired:
                path.unlink()
        self._retired, parts.retired = parts.retired, []
        return parts.state(self._rows, finished=self._finished)

    def rewrite(self, places: Iterable[int]) -> dict[str, Any]:
        """Write the rows at `places` to parts of their own; a few parts are in memory at a time."""
        parts = self._whole()
        generation = parts.state(0, finished=False)["generation"] + 1
        partial = self._job / "rewrite-partial"
        with writing(partial):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            new = _Parts(partial, self._job, {"kind": parts.total_kind(), "parts": 0, "generation": generation})
            try:
                rows = new.append(pack(id_, output) for id_, output in self._rows_at(places, parts))
                new.sync()
                state = new.state(rows, finished=False)
            finally:
                new.close()
            for path in new.retired:
                path.unlink()
            put_in_place(partial, self._rewritten(generation))
        self._prepared = state
        return dict(state)

    def _rows_at(self, places: Iterable[int], parts: _Parts) -> Iterator[tuple[int | str, Any]]:
        read = lru_cache(maxsize=_PARTS_READ)(lambda number: from_parquet(_part(self._out, number)))
        starts = np.cumsum([0, *(rows_in(_part(self._out, number)) for number in range(parts.parts))])
        behind = parts.rows()
        for place in places:
            number = int(np.searchsorted(starts, place, "right")) - 1
            rows = behind if number == parts.parts else read(number)
            yield rows[place - int(starts[number])]

    def publish(self) -> None:
        """Put a prepared rewrite in the place of the parts. Without one there is nothing to do: `open` completes it."""
        if self._prepared is not None:
            self.open(self._prepared)

    def finish(self) -> dict[str, Any]:
        """Commit, write the rows of the spool as the last part, and give all parts the same columns."""
        self.commit()
        parts = self._whole()
        if not self._finished:
            kind = parts.total_kind()
            with writing(self._out):
                self._make_alike(parts, kind)
                if parts.spool.frames or parts.parts == 0:
                    parts.write(parts.parts, parts.rows(), kind, self._nulls)
            self._finished = True
        return parts.state(self._rows, finished=True)

    def _make_alike(self, parts: _Parts, kind: Kind) -> None:
        for number in range(parts.parts):
            path = _part(self._out, number)
            if json.dumps(kind_in(path)) != json.dumps(kind):  # texts: the order of the columns counts
                parts.write(number, from_parquet(path), kind, Nulls())

    def stored(self) -> int:
        """Return how many rows the parts have, with those of the spool that are in no part yet."""
        parts = self._whole()
        numbers = range(parts.parts + bool(self._finished and parts.spool.frames))
        behind = 0 if self._finished else len(parts.spool.frames)
        return behind + sum(rows_in(_part(self._out, number)) for number in numbers)

    def close(self) -> None:
        """Close the spool; idempotent."""
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.close()

    def __repr__(self) -> str:
        n = 0 if self._parts is None else self._parts.parts
        return f"ParquetParts({str(self._out)!r}, {self._rows:,} rows, {n:,} whole parts)"
