"""How the benchmarks measure: fresh processes, interleaved rounds, medians, bootstrap intervals, files of results."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DATA = HERE.parents[1] / "shared" / "data"
"""Real photos and models, beside the checkout; every script takes another place with --data."""

PACKAGES = (
    "penstock numpy onnxruntime openvino opencv-python-headless simplejpeg pillow torch torchdata spdl grain ray "
    "litserve"
).split()
Round = dict[str, Any]
"""What one round of one entry gave: JSON values."""


def machine() -> dict[str, Any]:
    """Return what the figures depend on: CPU, cores this process may use, memory, system, Python, versions, date."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in facts.get("flags", "").split()]
    # A hypervisor may hide the model's name; family and number still tell the generation.
    return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']}; {' '.join(wide)})"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def fresh(script: Path, entry: str, arguments: Mapping[str, Any], timeout_s: float = 900) -> Round:
    """Run one round of `entry` in a fresh process of `script` and return what it printed last, as JSON.

    Raises RuntimeError with the end of its errors where it fails: a rival that fails is no result.
    """
    command = [sys.executable, str(script), "--round", entry, "--arguments", json.dumps(dict(arguments))]
    with tempfile.TemporaryDirectory() as empty:  # nothing that was chosen earlier is known, nor kept for the user
        own = {**os.environ, "XDG_CACHE_HOME": empty}
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, env=own)
    if done.returncode != 0:
        raise RuntimeError(f"{entry} ended with {done.returncode}:\n{done.stderr[-3000:]}\n{done.stdout[-1000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def interleaved(
    entries: Sequence[str], rounds: int, play: Callable[[str, int], Round], seed: int = 0
) -> dict[str, list[Round]]:
    """Return each entry's rounds: all entries once a round, in an order drawn anew for each, one at a time."""
    taken: dict[str, list[Round]] = {entry: [] for entry in entries}
    for number in range(rounds):
        order = random.Random(seed * 1000 + number).sample(list(entries), len(entries))
        for entry in order:
            begun = time.perf_counter()
            taken[entry].append(play(entry, number))
            took = time.perf_counter() - begun
            print(f"round {number + 1}/{rounds} {entry}: {took:.1f} s {_short(taken[entry][-1])}", file=sys.stderr)
    return taken


def _short(values: Round) -> str:
    return " ".join(f"{key}={value:.4g}" for key, value in values.items() if isinstance(value, float))


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def ratio(over: Sequence[float], under: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return (median, low, high) of the ratios round by round, with the 95 % percentile bootstrap interval.

    Paired, because what slows one round of a machine slows all its entries. Source: Efron & Tibshirani, An Introduction
    to the Bootstrap (1993), ch. 13.
    """
    pairs = [a / b for a, b in zip(over, under, strict=True)]
    rng = random.Random(seed)
    medians = sorted(statistics.median(rng.choices(pairs, k=len(pairs))) for _ in range(4000))
    return statistics.median(pairs), medians[100], medians[3899]


def spread(figures: tuple[float, float, float]) -> str:
    """Return `median (low to high)` for a table."""
    return f"{figures[0]:.3f} ({figures[1]:.3f} to {figures[2]:.3f})"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a markdown table; the first row's keys are the head."""
    head = list(rows[0])
    lines = [_line(head), _line(["---"] * len(head)), *(_line([row.get(key, "") for key in head]) for row in rows)]
    return "\n".join(lines)


def _line(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def save(name: str, said: str, tables: Mapping[str, str], values: Mapping[str, Any]) -> None:
    """Print the tables and write results/NAME.md and results/NAME.json (all rounds, machine, versions)."""
    place = machine()
    RESULTS.mkdir(exist_ok=True)
    versions = ", ".join(f"{package} {version}" for package, version in place["versions"].items())
    head = (
        f"# {name}\n\n{said}\n\n{place['date']}; {place['cpu']}, {place['cores']} cores, {place['memory_gib']} GiB; "
        f"{place['system']}, Python {place['python']}; load before writing this {place['load_before']}.\n{versions}\n"
    )
    text = head + "".join(f"\n## {title}\n\n{body}\n" for title, body in tables.items())
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": place, **values}, indent=1) + "\n")
    print(text)


def peak_rss_mib() -> dict[str, float]:
    """Return the highest resident set of this process and, summed, of its living descendants, in MiB.

    Pages shared between a parent and its forked children count in each of them, so a tree's sum is an upper bound.
    """
    return {"rss_mib": sum(_peak_mib(pid) for pid in _tree(os.getpid())), "own_rss_mib": _peak_mib(os.getpid())}


def _peak_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return 0.0
    return sum(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in listed.read_text().split():
            yield from _tree(int(child))
