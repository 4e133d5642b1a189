"""`run`: a model over everything in a source, into an output that survives a crash; `plan`: what that would be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from penstock._options import Auto, Batching, Limits
from penstock._request import Request
from penstock._telemetry.plan import Plan
from penstock._telemetry.progress import Mode
from penstock._telemetry.report import Report
from penstock.errors import UsageError


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
    device: str | Sequence[str] = "auto",
    replicas: int | Auto = "auto",
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
        model: an .onnx file; an `nn.Module`, a TorchScript or `torch.export` file, or `Torch(...)`; a Keras model or
            .keras file; a function `predict(batch)`, or an object with such a method. `batch` is a list in item order,
            or one array (N, ...) when a spec is given; it returns N rows (list, array, or dict of arrays). Several
            models: a dict by name, `Ensemble(...)`; one on several views: `Augment(...)`.
        out: a folder (one JSON an item), or a name ending in .jsonl, .parquet or .sqlite.
        spec: how the model wants its input and what its output means: a TOML file, a `Spec`, or None for MODEL.toml.
        preset: "imagenet" or "inception" in the place of a spec.
        labels: names of the classes or characters: a list, or a file with one a line.
        top_k: how many classes a record holds.
        stages: functions before the model; the first takes the path of a file item, and replaces the decoder.
        post: function `fn(item, output)` behind the model; `item` has id, path, size (h, w), and the row's columns.
        batch: items per call of the model: `Batching`, a number, or "auto".
        threads: threads that share the work, or "auto": the CPU budget, and one more where OpenVINO computes.
        runtime: "auto" (measured), "onnxruntime" or "openvino".
        precision: "f32", or "bf16"/"f16" where the runtime has it.
        device: "auto" or "cpu"; for torch "cuda" or "cuda:N" too, for a class what its `load(device)` knows. Several in
            a list: a copy of the model on each.
        replicas: how many workers call the model at once on each device, or "auto". They share one copy of the weights,
            unless the model bears one thread at a time: then each has a copy.
        limits: `Limits(item_timeout_s, max_bytes)`.
        max_failures: how many items may fail: a number, a share of the planned ones ("1%"), or None for no limit.
        order: True: results in input order. False: as they are done.
        limit: only the first n items.
        fresh: forget an earlier job on this `out` and start over.
        retry: run the failed items again, and nothing else.
        progress: on stderr; "quiet", "auto" (a panel on a terminal or in a notebook, else lines), "plain" or "json".

    Raises:
        UsageError: before any work (also LedgerError: `out` belongs to another job or process).
        ModelError: the model cannot be loaded or answers wrongly.
        StageError: more items failed than may.
        Stalled: too many items took longer than `limits.item_timeout_s`, or one did that no other thread can replace.
        AuditError: planned != done + failed + skipped, or results are missing in the output.
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
        replicas=replicas,
    )
    # Ledger, sources and sinks cost as much to import as everything else together; a Session needs none of them.
    from penstock._task import Call, carry_out

    call = Call(source, Path(out), limits or Limits(), max_failures, order, limit, fresh, retry, progress)
    return carry_out(request, call)


def plan(source: Any, model: Any, *, limit: int | None = None, **options: Any) -> Plan:
    """Return what `run` would do with `model` over `source`: each step measured on some of the items, what to expect.

    It takes up to 20 s, of several models about 5 s more for each. The choice of runtime, settings and batch for a
    model file is kept in the user's cache folder, where `run` finds it. Nothing else is written. Functions of yours are
    not called: the run, which shows each item once to them, tells.

    Args:
        source: as for `run`. Of an iterator that runs only once, the items that are looked at are used up.
        model: as for `run`.
        limit: only the first n items.
        options: as for `run`: those from `spec` to `replicas`.

    Raises:
        UsageError: what cannot be carried out, or there are no items.
        ModelError: the model cannot be loaded or answers wrongly.
    """
    from penstock._planning import plan as measured

    unknown = options.keys() - {field.name for field in fields(Request)} | (options.keys() & {"recall"})
    if unknown:
        raise UsageError(f"plan() has no option {', '.join(sorted(unknown))}; it takes those of run() on the model.")
    return measured(source, Request(model=model, **options), limit)


def retry_arguments(out: Path) -> dict[str, Any]:
    """Return the arguments of the job at `out`, for `run(**arguments, out=out, retry=True)`.

    Raises UsageError where the job was begun with functions, which only the program that has them can pass again.
    """
    from penstock._command import restored
    from penstock._job import COMMAND, job_folder
    from penstock._sinks.damage import readable
    from penstock._sinks.ledger import Ledger

    path = job_folder(out) / "ledger.sqlite"
    if not path.is_file():
        raise UsageError(f"{out} has no ledger ({path} does not exist): nothing was run into it.")
    with readable(path), Ledger(path) as ledger:
        command = ledger.get(COMMAND)
    if command is None:
        raise UsageError(
            f"The job at {out} was begun with functions or an iterable; run the failed items again from the program "
            "that has them: penstock.run(..., retry=True)."
        )
    return restored(command)
