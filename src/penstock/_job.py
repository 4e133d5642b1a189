"""A job: one `out` with its ledger, its lock and its sink. What is committed here survives `kill -9`."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TextIO

from penstock._contracts import Failure, Item, Partial, Sink
from penstock._sinks.damage import readable
from penstock._sinks.ledger import Counts, Ledger, Outcome, write_failures
from penstock.errors import AuditError, LedgerError, SinkError, UsageError

SINK_STATE, FINGERPRINT, CHOICES, COMMAND, DISORDER = "sink", "fingerprint", "choices", "command", "disorder"
CEILINGS = "ceilings"
"""What its steps could do alone, and on which machine that was measured."""
SUSPECT = "suspect"
"""An audit found the output wrong."""
EVALUATION_FILES = ("evaluation.json", "evaluation.jsonl", "evaluation-left-out.jsonl")
"""What `penstock evaluate` leaves in a job's folder."""
WORKING_FOLDER = "working_folder"
"""Where relative paths of items begin."""


def job_folder(out: Path) -> Path:
    """Return where the ledger of `out` lives: OUT/.penstock for a folder, OUT.penstock for a file."""
    return out.with_name(out.name + ".penstock") if out.suffix else out / ".penstock"


class Job:
    """The owner of an output; a context manager that holds the lock while it is open.

    Raises:
        LedgerError: another process holds it, it belongs to another job, or `out` is not penstock's.
    """

    def __init__(self, out: Path, open_sink: Callable[[Path, Path], Sink], *, fresh: bool = False) -> None:
        """Prepare; nothing is touched before the context is entered."""
        self.out = out
        self.folder = job_folder(out)
        self._open_sink = open_sink
        self._fresh = fresh
        self._stack = ExitStack()
        self._outcomes: list[Outcome] = []
        self._rows = 0
        self._failed_now = False
        self._changed = False
        self._highest = -1
        self._disorder = False

    def __enter__(self) -> Self:
        """Take the lock, open the ledger and bring the sink to the last committed state."""
        with ExitStack() as stack:
            if not self._fresh and not self._ledger_path.exists():
                self._refuse_foreign()
            self._make_folder()
            stack.callback(_lock(self.folder / "lock").close)
            if self._fresh:
                self._wipe()
            self.ledger = stack.enter_context(Ledger(self._ledger_path))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Release everything; what was not committed is left to the next run."""
        self._stack.close()

    def _refuse_foreign(self) -> None:
        """Refuse a file that is not penstock's, or a folder with files over which a result might be written."""
        found = None
        if not self.out.suffix:
            others = (path for path in self.out.rglob("*.json") if self.folder not in path.parents)
            if (other := next(others, None)) is not None:
                found = f"{self.out} holds files over which a result might be written, {other} for one"
        elif self.out.exists():
            found = f"{self.out} exists and is not an output of penstock"
        if found is not None and not self._ledger_path.exists():  # looked at last: another process may just have begun
            raise LedgerError(f"{found} (no ledger in {self.folder}). Use another out, or --fresh to overwrite it.")

    @property
    def _ledger_path(self) -> Path:
        return self.folder / "ledger.sqlite"

    def _make_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"The job folder {self.folder} cannot be made: {error.strerror}. Use another out."
            ) from error
        linked = next((path for path in (self.folder, *self.folder.iterdir()) if path.is_symlink()), None)
        if linked is not None:
            raise LedgerError(
                f"{linked} is a symbolic link: what penstock writes and deletes there would be somebody else's. Remove "
                "it, or use another out."
            )

    def _wipe(self) -> None:
        """Remove the results that the ledger knows and the ledger itself; other files in a folder stay."""
        if self.out.suffix:
            shutil.rmtree(self.out) if self.out.is_dir() else self.out.unlink(missing_ok=True)
        elif self._ledger_path.exists():
            self._wipe_folder()
        for path in self.folder.iterdir():
            if path.name != "lock":
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _wipe_folder(self) -> None:
        sink = self._open_sink(self.out, self.folder)
        discard = getattr(sink, "discard", None)
        try:
            with Ledger(self._ledger_path) as ledger:
                for id_ in ledger.done_ids():
                    if discard is not None and isinstance(id_, int | str):
                        discard(id_)
        except (LedgerError, sqlite3.DatabaseError):
            return  # a ledger that cannot be read is what --fresh is for; its results are overwritten one by one

    # ---- is it the same job?

    def agree(self, fingerprint: Mapping[str, Any]) -> None:
        """Store the fingerprint of a new job; refuse a job that was begun with another one, naming what differs."""
        stored = self.ledger.get(FINGERPRINT)
        now = json.loads(json.dumps(fingerprint, default=str))
        if stored is None or not self.ledger.begun():  # a job that has done nothing binds nobody
            with self.ledger.transaction():
                self.ledger.forget()
                self.ledger.put(CHOICES, None)
                self.ledger.put(CEILINGS, None)
                self.ledger.put(FINGERPRINT, now)
            return
        differences = differing(stored, now)
        if differences:
            raise LedgerError(
                f"{self.out} was begun by another job:\n  " + "\n  ".join(differences) + "\n"
                "Use another out, undo the change, or start over with --fresh (fresh=True)."
            )

    def remember(self, key: str, value: Any) -> None:
        """Store a small JSON value with the job."""
        with self.ledger.transaction():
            self.ledger.put(key, value)

    # ---- results

    def open_sink(self) -> Sink:
        """Open the sink at the last committed state, which completes a rewrite that was interrupted."""
        self.sink = self._open_sink(self.out, self.folder)
        self._stack.callback(self.sink.close)
        state = self.ledger.get(SINK_STATE)
        self.sink.open(state)
        self._refuse_missing()
        self._rows = int(state["rows"]) if state and self.sink.sequential else 0
        self._highest = self.ledger.last_done()
        self._disorder = bool(self.ledger.get(DISORDER))
        write_failures(self.ledger, self.folder / "failures.jsonl")
        return self.sink

    def _refuse_missing(self) -> None:
        """Refuse an output of one file an item from which files were removed."""
        if self.sink.sequential or not self.ledger.begun():
            return
        expected, found = sum(1 for _ in self.ledger.done_ids()), self.sink.stored()
        if found < expected:
            raise LedgerError(
                f"{self.out} was changed by somebody else: the ledger knows {expected:,} results, {found:,} are there. "
                "Bring them back, or start over with --fresh."
            )

    def absorb(self, positions: Sequence[int], items: Sequence[Any], values: Sequence[Any]) -> tuple[int, int]:
        """Give encoded results and failures to the sink; return (done, failed). Nothing counts before `commit`."""
        encoded, failed = [], 0
        for position, item, value in zip(positions, items, values, strict=True):
            failures: tuple[Failure, ...] = ()
            answers, place = None, None
            if type(value) is Failure or type(value) is Partial:
                failures, answers, value = _taken_apart(value)
                failed += 1
            if failures and not answers:
                self._discard(item)
            else:
                encoded.append(value)
                place = self._rows if self.sink.sequential else None
                self._rows += 1
            self._outcomes.append(Outcome(position, item, failures, place, answers))
        self.sink.append(encoded)
        self._changed = self._changed or bool(encoded)
        self._disorder = self._disorder or positions[0] < self._highest
        self._highest = max(self._highest, positions[-1])
        self._failed_now = self._failed_now or failed > 0
        return len(values) - failed, failed

    def _discard(self, item: Item | int) -> None:
        """Remove the file that an earlier version of a failed item may have left in an output of one file an item."""
        discard = getattr(self.sink, "discard", None)
        if discard is not None:
            discard(item.id if isinstance(item, Item) else item)

    @property
    def uncommitted(self) -> int:
        """How many outcomes wait for `commit`."""
        return len(self._outcomes)

    def commit(self, attempts: Mapping[tuple[int, str | None], int] | None = None) -> int:
        """Make what was absorbed durable, then say so in the ledger; return how many items that were."""
        if not self._outcomes:
            return 0
        state = self.sink.commit()
        if self.sink.sequential and state["rows"] != self._rows:
            raise AuditError(
                f"{self.out}: {self._rows:,} rows were given to the output and it has {state['rows']:,}. What was "
                "committed before is safe: run the same command again. If this repeats, it is a bug in penstock."
            )
        outcomes = [_counted(o, attempts or {}) for o in self._outcomes] if self._failed_now else self._outcomes
        for name in EVALUATION_FILES:  # it would be taken for one of these results
            (self.folder / name).unlink(missing_ok=True)
        with self.ledger.transaction():
            self.ledger.record(outcomes)
            self.ledger.put(SINK_STATE, state)
            if self._disorder:
                self.ledger.put(DISORDER, True)
        n = len(self._outcomes)
        self._outcomes, self._failed_now = [], False
        return n

    def drop(self) -> None:
        """Forget what was absorbed and not committed: it is done again by the next run."""
        self._outcomes = []

    def finish(self, *, by_input: bool) -> None:
        """Complete the output: input order restored where it was lost, stale rows gone, containers closed."""
        counts = self.ledger.counts()
        if self.sink.sequential:
            stale = self._rows != counts.rows
            if stale or (by_input and self._disorder):
                self._rewrite(by_input=by_input)
        state = self.sink.finish()
        with self.ledger.transaction():
            self.ledger.put(SINK_STATE, state)
        self.report_failures()

    def report_failures(self) -> None:
        """Bring failures.jsonl up to date."""
        write_failures(self.ledger, self.folder / "failures.jsonl")

    def _rewrite(self, *, by_input: bool) -> None:
        """Write the output anew in the right order: the ledger switches over first, then the rename follows.

        After a kill between the two, opening the job completes the rename.
        """
        state = self.sink.rewrite(self.ledger.places(by_input=by_input))
        with self.ledger.transaction():
            self.ledger.renumber(by_input=by_input)
            self.ledger.put(SINK_STATE, state)
            self.ledger.put(DISORDER, not by_input)
        self.sink.publish()
        self._disorder = not by_input
        self._rows = int(state["rows"])

    def audit(self, *, planned: int, complete: bool) -> Counts:
        """Return the counts of the ledger; AuditError where they do not add up to what was planned."""
        counts = self.ledger.counts(planned)
        skipped = planned - counts.done - counts.failed
        if skipped != 0 if complete else skipped < 0:
            raise AuditError(
                f"{self.out}: {planned:,} items were planned, but {counts.done:,} done + {counts.failed:,} failed are "
                "in the ledger. Run the same command again; if this repeats, it is a bug in penstock."
            )
        if complete:
            self._audit_rows(counts)
        return Counts(planned, counts.done, counts.failed, counts.vanished, counts.rows)

    def _audit_rows(self, counts: Counts) -> None:
        """Count the results that lie in the output, where a run has changed it, or has found it wrong before."""
        if not self._changed and not self.ledger.get(SUSPECT):
            return
        there, sequential = self.sink.stored(), self.sink.sequential
        expected = counts.rows if sequential else sum(1 for _ in self.ledger.done_ids())
        wrong = there != expected if sequential else there < expected  # others may put files into a folder
        self.remember(SUSPECT, wrong or None)
        if wrong:
            raise AuditError(
                f"{self.out} has {there:,} results, and {expected:,} are in the ledger: some were lost on the way, or "
                "somebody else changed the output. Start over with --fresh (fresh=True), or into another out."
            )


def _taken_apart(value: Failure | Partial) -> tuple[tuple[Failure, ...], Mapping[str, Any] | None, Any]:
    """Return why the item failed, what some models gave for it all the same, and its row."""
    return ((value,), None, None) if isinstance(value, Failure) else (value.failures, value.answers, value.output)


def _counted(outcome: Outcome, attempts: Mapping[tuple[int, str | None], int]) -> Outcome:
    """Return `outcome` with the number of earlier attempts of its item added to its failures."""
    earlier = [attempts.get((outcome.position, failure.model), 0) for failure in outcome.failures]
    counted = [replace(f, attempts=f.attempts + n) for f, n in zip(outcome.failures, earlier, strict=True)]
    return replace(outcome, failures=tuple(counted)) if any(earlier) else outcome


def differing(stored: Any, now: Any, path: str = "") -> list[str]:
    """Return a line for each leaf in which two JSON values differ."""
    if isinstance(stored, dict) and isinstance(now, dict):
        keys: Iterable[str] = sorted({*stored, *now})
        return [line for k in keys for line in differing(stored.get(k), now.get(k), f"{path}.{k}" if path else k)]
    return [] if stored == now else [f"{path}: {_short(stored)} then, {_short(now)} now"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:97] + "..."


def _lock(path: Path) -> TextIO:
    """Return the locked file; the kernel frees the lock when its owner dies, however it dies."""
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise SinkError(f"{path} cannot be made: {error.strerror}.") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        owner = file.read().strip() or "an unknown process"
        file.close()
        raise LedgerError(f"{path.parent} is in use by {owner}. Wait for it to end, or use another out.") from error
    file.truncate(0)
    begun = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {begun}")
        file.flush()
    except OSError as error:
        raise SinkError(f"{path} cannot be written: {error.strerror}. Free some space.") from error
    return file


def read_failures(out: Path) -> Iterator[dict[str, Any]]:
    """Yield the failures of the job at `out` in input order. Raises UsageError where there is no job."""
    path = job_folder(out) / "ledger.sqlite"
    if not path.is_file():
        raise UsageError(f"{out} has no ledger ({path} does not exist): nothing was run into it.")
    with readable(path), Ledger(path) as ledger:
        yield from ledger.failures()


def done_in(out: Path) -> int:
    """Return how many results the job at `out` has; 0 where there is none."""
    path = job_folder(out) / "ledger.sqlite"
    if not path.is_file():
        return 0
    with readable(path), Ledger(path) as ledger:
        counts = ledger.counts()
    return counts.done + counts.vanished
