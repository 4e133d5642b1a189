"""What one call of `run` has to do: the items of a source that the job's ledger does not have yet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from penstock._branches import encoding
from penstock._budget import Budget
from penstock._ceilings import of_run, raced
from penstock._command import stored
from penstock._contracts import Source
from penstock._devices import cpu_budget, cpu_name
from penstock._drive import Drive, Orders
from penstock._engine.chunks import chosen, listed, positional
from penstock._engine.flow import Take
from penstock._engine.step import Step
from penstock._interrupt import Interrupts, checkpoint
from penstock._job import CEILINGS, CHOICES, COMMAND, WORKING_FOLDER, Job, done_in, job_folder
from penstock._options import Limits
from penstock._plan import Part
from penstock._ready import Ready
from penstock._recipes import AnyRecipe, recipe_of
from penstock._request import Request
from penstock._several import Several
from penstock._sinks.damage import readable
from penstock._sinks.opening import open_sink
from penstock._sources.duplicates import check_duplicates
from penstock._sources.opening import open_source
from penstock._telemetry.progress import Mode
from penstock._telemetry.report import Report
from penstock.errors import UsageError

PROBES = 32
"""Items looked at (some may be broken) to choose and check a model file before its answers count."""


@dataclass(frozen=True, slots=True)
class Call:
    """What `run` was asked beyond the model: from where to where, and how far."""

    source: Any
    out: Path
    limits: Limits
    max_failures: int | str | None
    order: bool
    limit: int | None
    fresh: bool
    retry: bool
    progress: Mode

    def kept(self) -> dict[str, Any]:
        """Return what a retry from the command line goes by, too (JSON values)."""
        return {
            "order": self.order,
            "limit": self.limit,
            "max_failures": self.max_failures,
            "item_timeout_s": self.limits.item_timeout_s,
        }


def carry_out(request: Request, call: Call) -> Report:
    """Do what is to be done and return the report; see `penstock.run` for what it raises."""
    budget = Budget.parse(call.max_failures)
    if call.limit is not None and call.limit < 1:
        raise UsageError(f"limit={call.limit!r}: give a number of items >= 1, or leave it out.")
    own = job_folder(call.out)
    open_sink(call.out, own)  # refuses a suffix it does not know before anything is made
    source = open_source(call.source, exclude=(call.out, own), limit=call.limit)
    task = Task(source, recipe_of(request, positional=source.positional, partial=True), retry=call.retry)
    if isinstance(call.source, (str, Path)):
        refuse_nothing(source, call.out)
    with (
        Interrupts() as interrupts,
        readable(own / "ledger.sqlite"),
        Job(call.out, open_sink, fresh=call.fresh) as job,
    ):
        planned = task.list_items(job, order=call.order)
        job.remember(COMMAND, stored(call.source, request, call.kept()))
        job.remember(WORKING_FOLDER, os.getcwd())
        todo = task.count_todo(job, planned)
        asked = (call.limits, budget, call.order, call.retry, call.progress)
        orders = Orders(*asked, planned, todo, call.limit, request.threads)
        drive = Drive(job, orders, interrupts)
        with drive.recorded():
            task.carry_out(job, drive, todo)
            report = drive.finish(source.ignored)
        if report.skipped:
            interrupts.raise_noted()
    return report


def refuse_nothing(source: Source, out: Path) -> None:
    """Refuse a source on disk without items, before anything is made: a mistyped pattern, a disk that is not there."""
    if next(iter(source), None) is not None:
        return
    ignored = f" ({source.ignored:,} files are no pictures, by their suffix)" if source.ignored else ""
    n = done_in(out)
    kept = f" The {n:,} results in {out} stay as they are." if n else ""
    raise UsageError(f"There is nothing to do: {source!r} has no items{ignored}. Check the source.{kept}")


class Task:
    """The items to be done, and how to get at them."""

    def __init__(self, source: Source, recipe: AnyRecipe, *, retry: bool) -> None:
        """Take a source and a checked recipe. With `retry` the failed items are the task, and no others."""
        self._source = source
        self._recipe = recipe
        self._retry = retry
        self._values: Iterable[Any] = source if source.positional else ()
        self._head: list[Any] = []

    def list_items(self, job: Job, *, order: bool) -> int | None:
        """Agree with the job, bring its plan up to date, and return how many items there are (None: not known yet)."""
        job.agree({**self._recipe.fingerprint(), "source": self._source.describe(), "order": order})
        if self._source.positional:
            return self._source.count()
        check_duplicates(self._source)
        job.ledger.sync(self._source)
        return job.ledger.counts().planned

    def count_todo(self, job: Job, planned: int | None) -> int | None:
        """Return how many items are to be done in this run, None where only the end will tell."""
        if self._retry:
            return job.ledger.count_retries()
        counts = job.ledger.counts(planned)
        return None if planned is None else planned - counts.done - counts.failed

    def carry_out(self, job: Job, drive: Drive, todo: int | None) -> None:
        """Load the model (as the job began with it) and drive what is to be done through it."""
        sink = job.open_sink()
        if todo == 0:
            return
        choices = job.ledger.get(CHOICES)
        entries = self._first_entries(job)
        with drive.interrupts.deferred():
            ready = self._recipe.ready(entries, choices)
        with closing(ready):
            checkpoint()
            if choices is None:
                job.remember(CHOICES, dict(ready.choices))
            several = isinstance(self._recipe, Several)
            encode = encoding(sink.encode) if several else sink.encode
            earlier = job.ledger.answers() if several and self._retry else {}
            parts = [*ready.parts(earlier), Part(Step.of("write", encode, takes_item=True))]
            anew = ready.parts({})  # a model that is not asked again would seem to take no time
            with drive.interrupts.deferred():
                ready = replace(ready, ceilings=self._ceilings(job, ready, anew, entries, todo))
            checkpoint()
            drive.run(parts, self._take(job), ready, self._recipe.threads)

    def _ceilings(
        self, job: Job, ready: Ready, parts: Sequence[Part], entries: Sequence[Any], todo: int | None
    ) -> dict[str, float]:
        """Return what the steps could do alone: as the job knows it of this machine, or measured now."""
        threads = cpu_budget().threads
        here = {"threads": threads, "cpu": cpu_name()}
        kept = job.ledger.get(CEILINGS)
        if kept is not None and kept["of"] == here:
            return dict(kept["rates"])
        rates = {**self._raced(ready), **of_run(parts, entries, threads, todo)}
        if rates:
            job.remember(CEILINGS, {"of": here, "rates": rates})
        return rates

    def _raced(self, ready: Ready) -> dict[str, float]:
        """Return the ceilings that the choice of the models has found, where it was made for as many threads."""
        return raced(ready.measurements) if self._recipe.threads == cpu_budget().threads else {}

    def _first_entries(self, job: Job) -> Sequence[Any]:
        """Return some of the items to be done, to try the model on; an iterable that runs only once is given back."""
        if not self._source.positional:
            return [item for _, item in islice(job.ledger.pending(retry=self._retry), PROBES)]
        iterator = iter(self._source)
        self._head = list(islice(iterator, PROBES if self._source.count() is not None else 1))
        self._values = iterator
        return self._head

    def _take(self, job: Job) -> Take:
        if not self._source.positional:
            return listed(job.ledger.pending(retry=self._retry))
        values = chain(self._head, self._values)
        if self._retry:
            return chosen(values, job.ledger.failed_positions())
        n = job.ledger.contiguous()
        return positional(values, job.ledger.settled() if n is None else range(n))
