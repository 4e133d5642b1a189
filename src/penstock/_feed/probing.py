"""Threads or processes, and how many: found on the first samples, which are made once more in their batches."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from penstock._feed.randomness import touched

PROBES = 8
PROBE_S = 0.5
"""Samples that are looked at, and for how long at most."""
CHEAP_S = 50e-6
"""Samples that take less are not worth a process: sending them takes longer."""
SHORT_S = 1.0
"""An epoch that takes less is over before processes are at work."""
MOST_WORKERS = 32


@dataclass(frozen=True, slots=True)
class Probe:
    """What the first samples showed.

    `drawn`: shared random generators they drew from; `sample_s`, `cpu_s`: seconds a sample, and of a processor;
    `waits`: they give the processor up by themselves, for a disk or a network, and not only to other programs.
    """

    drawn: list[str] = field(default_factory=list)
    sample_s: float = 0.0
    cpu_s: float = 0.0
    waits: bool = False


def probed(sample: Callable[[int], Any], n: int) -> Probe:
    """Return what `sample(i)` for the first of `n` samples shows; one that raises is passed over."""
    drawn: set[str] = set()
    good = 0
    begun, spent_s, cpu_s, pauses = time.perf_counter(), 0.0, 0.0, 0
    for i in range(min(n, PROBES)):
        started, cpu, before = time.perf_counter(), time.thread_time(), _pauses()
        ok, found = touched(lambda i=i: _tried(sample, i))  # type: ignore[misc]
        took_s, took_cpu_s = time.perf_counter() - started, time.thread_time() - cpu
        drawn.update(found)
        if ok:
            good += 1
        if ok and good > 1:  # the first one imports and opens
            spent_s, cpu_s, pauses = spent_s + took_s, cpu_s + took_cpu_s, pauses + _pauses() - before
        if time.perf_counter() - begun > PROBE_S:
            break
    timed = good - 1
    if timed < 1:
        return Probe(sorted(drawn))
    return Probe(sorted(drawn), spent_s / timed, cpu_s / timed, pauses >= timed)


def _pauses() -> int:
    """Return how often this thread gave up the processor by itself; 0 where the system does not tell."""
    kind = getattr(resource, "RUSAGE_THREAD", None)
    return 0 if kind is None else resource.getrusage(kind).ru_nvcsw


def _tried(sample: Callable[[int], Any], i: int) -> bool:
    """Make a sample; tell whether there is one. Why there is none is said where it is fed."""
    try:
        sample(i)
    except Exception:  # noqa: BLE001 - it is asked for again in its batch, and fails there with its name
        return False
    return True


def kind_of(probe: Probe, n: int | None) -> tuple[str, str]:
    """Return "thread" or "process" for an epoch of `n` items (None: not known), and why."""
    if probe.drawn:
        return "process", f"samples draw from {' and '.join(probe.drawn)}, which threads share"
    found = f"a sample takes {probe.sample_s * 1000:.3g} ms"
    if probe.sample_s < CHEAP_S:
        return "thread", f"{found}, sending it takes longer"
    if n is not None and n * probe.sample_s < SHORT_S:
        return "thread", f"{found}, an epoch less than {SHORT_S:g} s"
    return "process", f"{found}, and is made outside of the loop's process"


def workers_of(probe: Probe, cpus: int) -> int:
    """Return how many workers keep `cpus` busy: more than that many where samples wait for a disk or a network."""
    waits = probe.sample_s / probe.cpu_s if probe.waits and probe.cpu_s > 0 else 1.0
    return max(1, min(MOST_WORKERS, math.ceil(cpus * max(1.0, waits) - 0.25)))
