"""`run`: a model over everything in a source, into an output that survives a crash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from penstock._adapt import Recipe, Request, closing_model, probes
from penstock._budget import Budget
from penstock._contracts import Source
from penstock._drive import Drive, Orders
from penstock._engine.chunks import chosen, listed, positional
from penstock._engine.flow import Take
from penstock._engine.step import Step
from penstock._interrupt import Interrupts
from penstock._job import CHOICES, COMMAND, Job, job_folder
from penstock._options import Auto, Batching, Limits
from penstock._plan import Part
from penstock._sinks.opening import open_sink
from penstock._sources.duplicates import check_duplicates
from penstock._sources.opening import open_source
from penstock._telemetry.progress import Mode
from penstock._telemetry.report import Report
from penstock.errors import UsageError

PROBES = 32
"""Items looked at (some may be broken) to choose and check a model file before its answers count."""


def run(  # noqa: PLR0913 - one of the three heads
    source: Any,
    model: Any,
    *,
    out: str | Path,
    spec: Any = None,
    preset: str | None = None,
    labels: Any = None,
    top_k: int | None = None,
    stages: Sequence[Any] = (),
    post: Any = None,
    batch: Batching | int | Auto = "auto",
    threads: int | Auto = "auto",
    runtime: str = "auto",
    precision: str = "f32",
    device: str = "auto",
    limits: Limits | None = None,
    max_failures: int | str | None = None,
    order: bool = True,
    limit: int | None = None,
    fresh: bool = False,
    retry: bool = False,
    progress: Mode = "quiet",
) -> Report:
    """Run `model` over `source` into `out` and return the report; the same call after a crash goes on where it stopped.

    Args:
        source: a folder of pictures, a glob, a table (.csv, .jsonl, .parquet) with a path column, a list of paths,
            "-" (paths on stdin), or any iterable (ids are positions, items pass unchanged).
        model: an .onnx file, a function `predict(batch)`, or an object with such a method. `batch` is a list in item
            order, or one array (N, ...) when a spec is given; it returns N rows (list, array, or dict of arrays).
        out: a folder (one JSON an item), or a name ending in .jsonl, .parquet or .sqlite.
        spec: how the model wants its input and what its output means: a TOML file, a `Spec`, or None for MODEL.toml.
        preset: "imagenet" or "inception" in the place of a spec.
        labels: names of the classes or characters: a list, or a file with one a line.
        top_k: how many classes a record holds.
        stages: functions before the model; the first takes the path of a file item, and replaces the decoder.
        post: function `fn(item, output)` behind the model; `item` has id, path, size (h, w), and the row's columns.
        batch: items per call of the model: `Batching`, a number, or "auto".
        threads: threads that share the work, or "auto" (the CPU budget).
        runtime: "auto" (measured), "onnxruntime" or "openvino".
        precision: "f32", or "bf16"/"f16" where the runtime has it.
        device: "auto" or "cpu".
        limits: `Limits(item_timeout_s, max_bytes)`.
        max_failures: how many items may fail: a number, a share of the planned ones ("1%"), or None for no limit.
        order: True: results in input order. False: as they are done.
        limit: only the first n items.
        fresh: forget an earlier job on this `out` and start over.
        retry: run the failed items again, and nothing else.
        progress: "quiet", "auto" (one line on a terminal), "plain" or "json".

    Raises:
        UsageError: before any work (also LedgerError: `out` belongs to another job or process).
        ModelError: the model cannot be loaded or answers wrongly.
        StageError: more items failed than may.
        Stalled: an item took longer than `limits.item_timeout_s`.
        SinkError: results cannot be written.
    """
    request = Request(
        model=model,
        spec=spec,
        preset=preset,
        labels=labels,
        top_k=top_k,
        stages=stages,
        post=post,
        batch=batch,
        threads=threads,
        runtime=runtime,
        precision=precision,
        device=device,
    )
    target, budget = Path(out), Budget.parse(max_failures)
    open_sink(target, job_folder(target))  # refuses a suffix it does not know before anything is made
    opened = open_source(source, exclude=(target, job_folder(target)), limit=limit)
    task = Task(opened, Recipe(request, positional=opened.positional), retry=retry)
    with Interrupts() as interrupts, Job(target, open_sink, fresh=fresh) as job:
        planned = task.list_items(job, order=order)
        job.remember(COMMAND, _command(source, request, order=order))
        todo = task.count_todo(job, planned)
        drive = Drive(job, Orders(limits or Limits(), budget, order, retry, progress, planned, todo), interrupts)
        task.carry_out(job, drive, todo)
        report = drive.finish(opened.ignored)
        if report.skipped:
            interrupts.raise_noted()
    return report


class Task:
    """What one call of `run` has to do: the items of a source that the ledger does not have yet."""

    def __init__(self, source: Source, recipe: Recipe, *, retry: bool) -> None:
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
        counts = job.ledger.counts()
        if self._retry:
            return counts.failed
        return None if planned is None else planned - counts.done - counts.failed

    def carry_out(self, job: Job, drive: Drive, todo: int | None) -> None:
        """Load the model (as the job began with it) and drive what is to be done through it."""
        sink = job.open_sink()
        if todo == 0:
            return
        choices = job.ledger.get(CHOICES)
        before = self._recipe.before()
        entries = self._first_entries(job)
        loaded = self._recipe.load(lambda n: probes(before, entries, n), choices)
        with closing_model(loaded):
            if choices is None:
                job.remember(CHOICES, dict(loaded.choices))
            write = Part(Step.of("write", sink.encode, takes_item=True))
            parts = [*before, self._recipe.model_part(loaded), *self._recipe.after(), write]
            drive.run(parts, self._take(job), loaded, self._recipe.threads)

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


def _command(source: Any, request: Request, *, order: bool) -> dict[str, Any] | None:
    """Return what `penstock retry` needs to run the job again, or None where it holds functions or an iterable."""
    paths = (request.model, request.spec, request.labels)
    plain = all(value is None or isinstance(value, (str, Path)) for value in paths)
    if not plain or request.stages or request.post is not None or source == "-":
        return None
    if not isinstance(source, (str, Path)):
        return None
    model, spec, labels = (None if value is None else str(Path(value).absolute()) for value in paths)
    return {
        "source": str(Path(source).absolute()),
        "model": model,
        "spec": spec,
        "preset": request.preset,
        "labels": labels,
        "top_k": request.top_k,
        "batch": request.batching.max_size,
        "threads": request.threads,
        "runtime": request.runtime,
        "precision": request.precision,
        "order": order,
    }


def retry_arguments(out: Path) -> dict[str, Any]:
    """Return the arguments of the job at `out`, for `run(**arguments, out=out, retry=True)`.

    Raises UsageError where the job was begun with functions, which only the program that has them can pass again.
    """
    from penstock._sinks.ledger import Ledger

    path = job_folder(out) / "ledger.sqlite"
    if not path.is_file():
        raise UsageError(f"{out} has no ledger ({path} does not exist): nothing was run into it.")
    with Ledger(path) as ledger:
        command = ledger.get(COMMAND)
    if command is None:
        raise UsageError(
            f"The job at {out} was begun with functions or an iterable; run the failed items again from the program "
            "that has them: penstock.run(..., retry=True)."
        )
    return dict(command)
