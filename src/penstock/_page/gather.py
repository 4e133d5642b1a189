"""All that a page shows of a job, as one JSON value."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from penstock._job import job_folder, read_failures
from penstock._page.causes import group
from penstock._page.evaluation import summary_in
from penstock._page.gallery import Gallery, gallery
from penstock._page.results import listed
from penstock._page.thumbnails import thumbnails
from penstock._telemetry.record import NAME
from penstock.errors import LedgerError

MOST_BYTES, MOST_BYTES_OF_FAILURES = 3_600_000, 400_000
"""Of the small pictures of a page, those of results and those of failures, as text."""


def page_data(out: Path, picture_bytes: int = MOST_BYTES) -> dict[str, Any]:
    """Return what the page of the job at `out` shows: name, run, failures, evaluation, gallery.

    `picture_bytes`: of the small pictures of results together, as text.

    Raises UsageError where there is no job, LedgerError where what it left cannot be read.
    """
    causes = group(read_failures(out))
    record, evaluation = record_of(out), summary_in(job_folder(out))
    worst = [one["id"] for model in (evaluation or {"models": {}})["models"].values() for one in model["worst"]]
    shown = gallery(out, worst)
    folder = record.get("folder") or os.getcwd()  # where a path was given that is not absolute
    _add_pictures(shown, folder, picture_bytes)
    _add_pictures_of_failures(out, causes, folder)
    found = {"models": shown.models, "items": shown.items, "total": shown.total}
    return {"name": out.name, "run": record, "failures": causes, "evaluation": evaluation, "gallery": found}


def _add_pictures(shown: Gallery, folder: str, most_bytes: int) -> None:
    paths = [(n, os.path.join(folder, path)) for n in shown.order if (path := shown.paths[n]) is not None]
    pictures = thumbnails([path for _, path in paths], most_bytes)
    for n, path in paths:
        if path in pictures:
            shown.items[n]["picture"] = pictures[path]


def _add_pictures_of_failures(out: Path, causes: list[dict[str, Any]], folder: str) -> None:
    """Give the examples of failures their pictures: what failed behind the decoder often has one."""
    examples = [example for cause in causes for example in cause["examples"]]
    ids = {example["id"] for example in examples}
    paths = {
        item.id: os.path.join(folder, item.path) for item in listed(out) if item.id in ids and item.path is not None
    }
    pictures = thumbnails(list(paths.values()), MOST_BYTES_OF_FAILURES)
    for example in examples:
        if (picture := pictures.get(paths.get(example["id"], ""))) is not None:
            example["picture"] = picture
        example["id"] = str(example["id"])


def record_of(out: Path) -> dict[str, Any]:
    """Return the record of the last run at `out`, or, of a job that has none, what the ledger counts."""
    path = job_folder(out) / NAME
    if not path.is_file():
        states = [item.state for item in listed(out)]
        done, failed = states.count(1), len(states) - states.count(0) - states.count(1)
        return {"planned": len(states), "done": done, "failed": failed, "skipped": states.count(0), "timeline": []}
    try:
        values: dict[str, Any] = json.loads(path.read_bytes())
    except ValueError as error:
        raise LedgerError(f"{path} is damaged ({error}). Remove it; the next run writes it anew.") from error
    return values
