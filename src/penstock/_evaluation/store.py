"""An evaluation in the job's own folder: the result, a line for each judged item, a line for each that was left out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from penstock._evaluation.result import Evaluation
from penstock._job import EVALUATION_FILES
from penstock._sinks.disk import put_in_place, writing

RESULT, LINES, LEFT_OUT = EVALUATION_FILES


def store(
    job: Path, evaluation: Evaluation, lines: Iterable[dict[str, Any]], left_out: Iterable[tuple[int | str, str]]
) -> None:
    """Write the three files, each whole or not at all, the result last. Raises SinkError."""
    with _written(job / LINES) as file:
        file.writelines(_line(line) for line in lines)
    with _written(job / LEFT_OUT) as file:
        file.writelines(_line({"id": id_, "why": why}) for id_, why in left_out)
    with _written(job / RESULT) as file:
        file.write(_line(evaluation.to_dict()))


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False) + "\n"


@contextmanager
def _written(path: Path) -> Iterator[TextIO]:
    """Give a file to write, which is put at `path` when it is whole and durable."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with writing(path):
        try:
            with partial.open("w", encoding="utf-8", newline="\n") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            put_in_place(partial, path)
        finally:
            partial.unlink(missing_ok=True)
