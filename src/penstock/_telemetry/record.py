"""The record of a run: `report.json` in the job's own folder, there while it goes on and after it."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from penstock._devices import memory_use
from penstock._engine.statistics import PipelineStatistics
from penstock._telemetry.timeline import Reading, Timeline, reading_of, samples

NAME = "report.json"
VERSION = 1
PERIOD_S = 1.0
"""Between two writings while a run goes on, at least; and at least 400 times what one takes."""
SHARE = 1 / 400
_LOG = logging.getLogger("penstock")


class Record:
    """Takes readings of a run and writes what is known of it; used by the run loop's thread.

    The file is renamed into place, so whoever reads it finds it whole. It is not synced to disk: nothing depends on
    it, and a run does not wait for it. One that cannot be written costs a warning.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.perf_counter) -> None:
        """Prepare to write into `folder`, the job's own; nothing is touched before the run has done something."""
        self._path = folder / NAME
        self._clock = clock
        self._timeline = Timeline()
        self._began = datetime.now().astimezone().isoformat(timespec="seconds")
        self._began_s = self._written_s = clock()
        self._cost_s = 0.0
        self._begun = False
        self._latencies: Sequence[Mapping[str, Any]] = ()

    def begin(self) -> None:
        """Say that the first item is about to begin: times are counted from here."""
        self._began_s = self._written_s = self._clock()

    def look(self, statistics: PipelineStatistics, counts: tuple[int, int]) -> None:
        """Take a reading, if one is due, of the pipeline and of how many items are (done, failed)."""
        t_s = self.elapsed_s
        if self._timeline.is_due(t_s):
            self._timeline.add(with_memory(reading_of(t_s, statistics, counts)))

    def close(
        self, statistics: PipelineStatistics, counts: tuple[int, int], latencies: Sequence[Mapping[str, Any]]
    ) -> None:
        """Take the last reading; `latencies`: of each step, see `penstock._engine.latency`."""
        self._timeline.close(with_memory(reading_of(self.elapsed_s, statistics, counts)))
        self._latencies = latencies

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first item began."""
        return self._clock() - self._began_s

    @property
    def is_due(self) -> bool:
        """Whether it is time to write what is known so far."""
        return self._clock() - self._written_s >= max(PERIOD_S, self._cost_s / SHARE)

    def write(self, report: Mapping[str, Any], ended: str | None, error: BaseException | None = None) -> None:
        """Write `report`, a `Report.to_dict()`, with the timeline.

        `ended`: "complete", "interrupted", "stopped" (by `error`), or None while it goes on. A run that attempted
        nothing leaves the record of the one before, if there is one.
        """
        if not report["attempted"] and not self._begun and self._path.exists():
            return
        self._begun = True
        begun_s = self._clock()
        values = {**self._about(ended, error), **report, "timeline": samples(self._timeline.readings)}
        text = json.dumps(finite({**values, "latencies": list(self._latencies)}), ensure_ascii=True)
        temporary = self._path.with_suffix(".tmp")
        try:
            temporary.write_text(text, encoding="ascii")
            temporary.replace(self._path)
        except OSError as problem:
            _LOG.warning("%s cannot be written (%s); the results are not touched by that.", self._path, problem)
        self._written_s = self._clock()
        self._cost_s = self._written_s - begun_s

    def _about(self, ended: str | None, error: BaseException | None) -> dict[str, Any]:
        said = None if error is None else {"type": type(error).__name__, "message": str(error)}
        return {"version": VERSION, "began": self._began, "ended": ended, "error": said, "folder": os.getcwd()}


def with_memory(reading: Reading) -> Reading:
    """Return the reading with what this process and torch's devices hold now."""
    return replace(reading, rss_bytes=memory_use(0).resident, device_bytes=device_bytes())


def device_bytes() -> dict[str, int]:
    """Return the bytes that torch has allocated on each CUDA device it is at work on; nothing where it is not."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return {}
    return {f"cuda:{i}": int(torch.cuda.memory_allocated(i)) for i in range(torch.cuda.device_count())}


def finite(value: Any) -> Any:
    """Return `value` as JSON values that every reader takes: NaN and infinity are null, what is unknown a text."""
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
