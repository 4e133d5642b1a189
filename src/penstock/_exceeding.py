"""Settings of the user's by which more threads would compute than there are CPUs for: said once each, with numbers."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock._devices import CpuBudget, cpu_budget
from penstock._engine.spawning import THREADS
from penstock._plan import Part

_LOG = logging.getLogger("penstock")
_WAITING = "where they wait for a disk or a network it is right; where they compute they take turns: give {fit}"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as the user wrote it, the threads that compute at once by it, and what to do where they are too many.

    `advice` may name {fit}, the number of threads that the budget has for it; `callers`: who shares them.
    """

    name: str
    threads: int
    advice: str
    callers: int = 1


def warn(parts: Sequence[Part], threads: int) -> None:
    """Log a warning for each setting that exceeds the CPU budget, once in a process, before `parts` are run."""
    _warn([*of_work(parts, threads), *of_environment(os.environ, _calls(parts, threads)), *of_libraries(sys.modules)])


def warn_of_feed(workers: int, kind: str) -> None:
    """Log a warning for each setting that exceeds the CPU budget, once in a process, before `workers` are started."""
    given = [Setting(f"workers={workers}", workers, _WAITING)]
    _warn([*given, *of_environment(os.environ, max(1, workers) if kind == "process" else 1)])


def exceeding(settings: Sequence[Setting], budget: CpuBudget) -> Iterator[str]:
    """Yield what is to be said of the `settings` that exceed the budget."""
    for setting in settings:
        if setting.threads > budget.threads:
            fit = budget.threads if setting.callers == 1 else budget.inside(setting.callers)
            yield (
                f"{setting.name}: {setting.threads:,} threads at once, and this process may keep {budget.threads:,} "
                f"busy ({budget.why}); {setting.advice.format(fit=fit)}."
            )


def of_work(parts: Sequence[Part], threads: int) -> Iterator[Setting]:
    """Yield the numbers of workers there will be: of the common threads, and of each function with its own."""
    yield Setting(f"threads={threads}", threads, _WAITING)
    for part in parts:
        if part.own and part.workers and part.step.model is None:
            yield Setting(f"Workers({part.step.name}, {part.workers})", part.workers, _WAITING)


def of_environment(environment: Mapping[str, str], callers: int) -> Iterator[Setting]:
    """Yield what tells libraries how many threads each call has, of which there are `callers` at once."""
    for name in THREADS:
        value = environment.get(name, "").split(",")[0].strip()  # OMP_NUM_THREADS may have one for each level
        if value.isdecimal():
            shown = f"{name}={value}" if callers == 1 else f"{name}={value} in each of {callers} calls at once"
            yield Setting(
                shown, int(value) * callers, "unset it, and the budget is dealt out, or set it to {fit}", callers
            )


def of_libraries(modules: Mapping[str, Any]) -> Iterator[Setting]:
    """Yield what the user told libraries that are loaded already: torch and OpenCV."""
    for module, asked, told in (
        ("torch", "get_num_threads", "torch.set_num_threads"),
        ("cv2", "getNumThreads", "cv2.setNumThreads"),
    ):
        count = getattr(modules.get(module), asked, None)
        if count is not None:
            threads = int(count())
            yield Setting(f"{module} with {threads} threads", threads, f"call {told}({{fit}})")


def _calls(parts: Sequence[Part], threads: int) -> int:
    """Return how many calls of the user's functions there may be at once; 1 where there are none."""
    return max((part.workers or threads for part in parts if part.own), default=1)


def _warn(settings: Sequence[Setting]) -> None:
    for message in exceeding(settings, cpu_budget()):
        _once(message)


@functools.cache
def _once(message: str) -> None:
    _LOG.warning("%s", message)
