"""`kill -9` at random instants, each time resumed: is anything lost, doubled, torn, or done too often?

python benchmarks/kill.py             # 100 kills of a job of 500 photos
python benchmarks/kill.py --quick     # 8 kills, writes nothing

Jobs are killed with all their processes until 100 kills hit; the output of each finished job must equal an
uninterrupted run's byte for byte, and the model must have been called for no more items than there are, plus one window
for each kill. A callable model counts its items in a side file by appending a byte each (one write call a batch, kept
by the kernel when the process dies). Exits 1 where anything is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _measure import DATA, save, table
from _photos import SIDE, Array, read

SCRIPT = Path(__file__).resolve()


def counting(calls: str) -> Callable[[Sequence[Array]], list[dict[str, Any]]]:
    """Return a model over inputs of photos that counts its items in the file `calls`."""
    counter = os.open(calls, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def predict(batch: Sequence[Array]) -> list[dict[str, Any]]:
        os.write(counter, b"." * len(batch))
        return [{"mean": float(x.mean()), "first": x.reshape(3, SIDE, SIDE)[:, 0, :4].tolist()} for x in batch]

    return predict


def play(photos: str, out: str, calls: str) -> dict[str, Any]:
    """Run the job, or go on with it."""
    import penstock

    model = counting(calls)
    report = penstock.run(photos, penstock_model(model), out=out, stages=[read], batch=4, threads=2)
    return {"done": report.done, "planned": report.planned, "attempted": report.attempted, "window": window_of(report)}


def penstock_model(model: Any) -> Any:
    """Give the model a version: its closure holds a path that differs between jobs."""
    model.version = "1"
    return model


def window_of(report: Any) -> int:
    """Return how many items the run had in flight at most."""
    return int(report.plan.get("window", 0))


@dataclass
class Tally:
    """What all jobs together showed."""

    kills: int = 0
    jobs: int = 0
    late: int = 0
    calls: int = 0
    allowed: int = 0
    instants: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """One folder of photos, where jobs are run, and how long an uninterrupted one takes."""

    photos: str
    folder: Path
    seconds: float
    window: int
    reference: bytes
    items: int

    def start(self, job: int) -> subprocess.Popen[str]:
        """Start the job's process, or start it again; in a group of its own, so that a kill takes all of it."""
        return started(self.photos, self.folder / f"{job}.jsonl", self.folder / f"{job}.calls")

    def job(self, number: int, rng: random.Random, wanted: int, tally: Tally) -> None:
        """Run one job, killed up to `wanted` times, until it is done; check what it left."""
        kills = 0
        while kills < wanted:
            process = self.start(number)
            instant = rng.uniform(0, self.seconds)
            try:
                process.wait(instant)
                tally.late += 1  # it was done before the kill
                process.communicate(timeout=5)
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate(timeout=60)
                kills += 1
                tally.instants.append(round(instant, 3))
        finished(self.start(number))
        self._check(number, kills, tally)

    def _check(self, number: int, kills: int, tally: Tally) -> None:
        out, calls = self.folder / f"{number}.jsonl", (self.folder / f"{number}.calls").stat().st_size
        allowed = self.items + kills * self.window
        tally.jobs += 1
        tally.kills += kills
        tally.calls += calls
        tally.allowed += allowed
        if out.read_bytes() != self.reference:
            tally.wrong.append(f"job {number} ({kills} kills): its output is not the uninterrupted run's")
        if not self.items <= calls <= allowed:
            tally.wrong.append(f"job {number} ({kills} kills): the model saw {calls} items, allowed {allowed}")


def started(photos: str, out: Path, calls: Path) -> subprocess.Popen[str]:
    """Start a process that runs the job."""
    arguments = json.dumps({"photos": photos, "out": str(out), "calls": str(calls)})
    command = [sys.executable, str(SCRIPT), "--round", "job", "--arguments", arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, start_new_session=True, **pipes)


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a job's process and return what it reported."""
    said, errors = process.communicate(timeout=300)
    if process.returncode != 0:
        raise SystemExit(f"a job ended with {process.returncode}:\n{errors[-3000:]}")
    return dict(json.loads(said.splitlines()[-1]))


def prepared(photos: str, folder: Path) -> Bench:
    """Run the job twice without a kill: the output must be the same; the second run's time is taken."""
    finished(started(photos, folder / "reference.jsonl", folder / "reference.calls"))
    begun = time.perf_counter()
    report = finished(started(photos, folder / "warm.jsonl", folder / "warm.calls"))
    seconds = time.perf_counter() - begun
    first, second = ((folder / f"{name}.jsonl").read_bytes() for name in ("reference", "warm"))
    if first != second or report["done"] != report["planned"]:
        raise SystemExit(f"two uninterrupted runs differ, or are not complete: {report}")
    return Bench(photos, folder, seconds, report["window"], first, report["done"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 kills; writes nothing")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--per-job", type=int, default=4, help="at most this many kills of one job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--round", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.round:
        print(json.dumps(play(**given.arguments)))
        return
    wanted, rng, tally = 8 if given.quick else given.kills, random.Random(given.seed), Tally()
    with tempfile.TemporaryDirectory() as folder:
        bench = prepared(str(given.data / "photos" / "flowers"), Path(folder))
        while tally.kills < wanted:
            bench.job(tally.jobs, rng, min(given.per_job, wanted - tally.kills), tally)
            print(f"{tally.kills} kills, {tally.jobs} jobs, wrong: {tally.wrong}", file=sys.stderr)
    row = {
        "kills": tally.kills,
        "jobs": tally.jobs,
        "items a job": bench.items,
        "done before the kill": tally.late,
        "window": bench.window,
        "items the model saw": tally.calls,
        "allowed": tally.allowed,
        "wrong": len(tally.wrong),
    }
    said = "Every output equals an uninterrupted run's byte for byte." if not tally.wrong else "; ".join(tally.wrong)
    if given.quick:
        print(f"{said}\n\n{table([row])}")
    else:
        save("kill", said, {"Kills": table([row])}, {"row": row, "instants_s": tally.instants, "wrong": tally.wrong})
    sys.exit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
