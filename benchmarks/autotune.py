"""Does `auto` find the best numbers? Its rate beside the best of a full grid, and what `penstock plan` foretold.

python benchmarks/autotune.py             # the grids, then 7 interleaved rounds of auto and the best 3, 50 minutes
python benchmarks/autotune.py --quick     # 3 points and 2 rounds of 60 items each, writes nothing

A rate is counted from the first item to the last commit, for every entry alike. What lies before (imports, loading,
for `auto` the measurements of its choice) is shown beside, as start-up. Every run is a process of its own, and knows
nothing of earlier ones.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _autotune_grid import WORKLOADS, Grid, Point, Workload, arguments_of, label, pinned
from _measure import DATA, Round, fresh, interleaved, median, ratio, save, spread, table

SCRIPT = Path(__file__).resolve()
AUTO, PLAN = "auto", "plan"
BEST = 3
"""Points of the grid that run again beside auto: one measurement each does not tell them apart."""
GOAL, NEAR, PLAN_S = 0.95, 0.15, 20.0


@dataclass(frozen=True)
class Job:
    """A workload over the first `n` files of `items`; `point`: its numbers, None where they are left to penstock."""

    workload: str
    data: str
    items: str
    n: int
    out: str
    point: Point | None = None


def play(name: str, job: Job) -> Round:
    """Run one entry in this process; what a point was refused for is a result too."""
    import penstock
    from penstock.errors import ModelError

    asked = WORKLOADS[job.workload].asked(Path(job.data))
    if name == PLAN:
        made = penstock.plan(job.items, limit=job.n, **asked)
        return {"expected": made.expected_per_s, "limit": made.limit_per_s, "seconds": made.seconds}
    begun = time.perf_counter()
    try:
        with pinned(asked["model"], job.point):
            report = penstock.run(job.items, out=job.out, limit=job.n, **arguments_of(asked, job.point))
    except ModelError as error:
        if job.point is None:
            raise
        return {"refused": str(error)}
    if report.done != job.n:
        raise SystemExit(f"{name}: {report}\n{report.failures[:3]}")
    if job.point is not None and report.plan["batch"] != job.point.get("batch", report.plan["batch"]):
        return {"refused": str(report.plan.get("why_batch"))}
    keys = ("runtime", "settings", "batch", "threads", "stages")
    chosen = {key: str(report.plan[key]) for key in keys if key in report.plan}
    return {"rate": report.rate, "start_s": time.perf_counter() - begun - report.seconds, "chosen": chosen}


@dataclass(frozen=True)
class Found:
    """What was measured of a workload: each point of its grid once, then rounds of auto, plan and the best points."""

    grid: Grid
    once: list[Round]
    rounds: dict[str, list[Round]]

    @property
    def best(self) -> str:
        """The best point of those that ran again."""
        points = [name for name in self.rounds if name not in (AUTO, PLAN)]
        return max(points, key=lambda name: median(self.rates(name)))

    def rates(self, name: str) -> list[float]:
        """Return the rates of an entry, round by round."""
        return [round_["rate"] for round_ in self.rounds[name]]

    def starts(self, name: str) -> list[float]:
        """Return what came before the first item."""
        return [round_["start_s"] for round_ in self.rounds[name]]


def measured(job: Job, points: Sequence[Point], rounds: int, seed: int, n_grid: int) -> tuple[list[Round], Any]:
    """Return (each point once, the rounds of auto, plan and the best points)."""
    names = {label(point): point for point in points}
    numbers = iter(range(10**6))

    def one(name: str, n: int) -> Round:
        point = names.get(name)
        out = str(Path(job.out, f"{next(numbers)}.jsonl"))
        return fresh(SCRIPT, name, asdict(job) | {"point": point, "n": n, "out": out})

    first = interleaved(list(names), 1, lambda name, _: one(name, n_grid), seed)
    once = [{"point": names[name], **taken[0]} for name, taken in first.items()]
    ran = sorted((r for r in once if "rate" in r), key=lambda r: -r["rate"])
    again = [AUTO, PLAN, *(label(r["point"]) for r in ran[:BEST])]
    return once, interleaved(again, rounds, lambda name, _: one(name, job.n), seed)


def copied(workload: Workload, data: Path, n: int, into: Path) -> Path:
    """Return a folder of `n` files of a workload, taken evenly from all there are; where there are fewer, in turn."""
    there = sorted((data / workload.folder).rglob(f"*{workload.suffix}"))
    if not there:
        raise SystemExit(f"{data / workload.folder} has no {workload.suffix} files. Give the place of the data: --data")
    into.mkdir()
    for i in range(n):
        source = there[i * len(there) // n if n < len(there) else i % len(there)]
        shutil.copyfile(source, into / f"{i:05}{workload.suffix}")
    return into


def found(name: str, data: Path, quick: bool, rounds: int, seed: int) -> Found:
    """Measure one workload."""
    workload = WORKLOADS[name]
    grid = workload.grid(data)
    points = grid.points[:: max(1, len(grid.points) // 3)] if quick else grid.points
    n, n_grid = (60, 60) if quick else (workload.n, workload.n_grid)
    with tempfile.TemporaryDirectory() as folder:
        items = copied(workload, data, n, Path(folder, "items"))
        job = Job(name, str(data), str(items), n, folder)
        return Found(grid, *measured(job, points, rounds, seed, n_grid))


# ---- what it shows


def goal(figures: tuple[float, float, float], least: float) -> str:
    """Return whether a ratio with its interval reaches what is asked."""
    return "reached" if figures[1] >= least else "MISSED" if figures[2] < least else "UNDECIDED"


def row_of(name: str, seen: Found) -> dict[str, Any]:
    """Return a workload's row: auto beside the best point of its grid."""
    share = ratio(seen.rates(AUTO), seen.rates(seen.best))
    refused = sum("refused" in round_ for round_ in seen.once)
    tuning = median([a - b for a, b in zip(seen.starts(AUTO), seen.starts(seen.best), strict=True)])
    return {
        "workload": name,
        "points (refused, cannot be)": f"{len(seen.once)} ({refused}, {sum(seen.grid.left_out.values())})",
        "best point": seen.best,
        "items/s": f"{median(seen.rates(seen.best)):.1f}",
        "auto": f"{median(seen.rates(AUTO)):.1f}",
        "auto / best (95 %)": spread(share),
        f"goal {GOAL}": goal(share, GOAL),
        "tuning s": f"{tuning:.1f}",
        "start-up s, pinned": f"{median(seen.starts(seen.best)):.1f}",
    }


def foretold_of(name: str, seen: Found) -> dict[str, Any]:
    """Return a workload's row: what `penstock plan` expected beside what the run then did."""
    plans = seen.rounds[PLAN]
    expected = [round_["expected"] for round_ in plans]
    head = {"workload": name, "plan takes s": f"{median([round_['seconds'] for round_ in plans]):.1f}"}
    if None in expected:
        return {**head, "plan / run (95 %)": "functions are not called: the run tells", f"within {NEAR:.0%}": ""}
    figures = ratio(expected, seen.rates(AUTO))
    near = abs(figures[0] - 1) <= NEAR
    return {**head, "plan / run (95 %)": spread(figures), f"within {NEAR:.0%}": "yes" if near else "NO"}


def grid_of(seen: Found, shown: int = 5) -> str:
    """Return the best points of a grid as they came out once, and why others were refused."""
    ran = sorted((round_ for round_ in seen.once if "rate" in round_), key=lambda round_: -round_["rate"])
    rows = [{"point": label(round_["point"]), "items/s, once": f"{round_['rate']:.1f}"} for round_ in ran]
    said = [table(rows[:shown] + rows[-1:] if len(rows) > shown else rows)]
    said += [f"- {n} cannot be: {why}" for why, n in seen.grid.left_out.items() if n]
    reasons = [(label(round_["point"]), round_["refused"]) for round_ in seen.once if "refused" in round_]
    said += (
        [f"- {len(reasons)} refused; {reasons[0][0]}: {reasons[0][1].splitlines()[-2:][0].strip()}"] if reasons else []
    )
    chosen = [json.dumps(round_["chosen"]) for round_ in seen.rounds[AUTO]]
    said += [f"- auto chose {chosen.count(one)} x {one}" for one in sorted(set(chosen))]
    return "\n\n".join([said[0], "\n".join(said[1:])])


def tables_of(all_found: Mapping[str, Found]) -> dict[str, str]:
    """Return everything that is shown."""
    slow = [name for name, seen in all_found.items() if max(r["seconds"] for r in seen.rounds[PLAN]) >= PLAN_S]
    took = f"\n\nEvery plan took less than {PLAN_S:.0f} s." if not slow else f"\n\nNOT within {PLAN_S:.0f} s: {slow}"
    return {
        "auto beside the best point of the grid": table([row_of(name, seen) for name, seen in all_found.items()]),
        "What `penstock plan` expects": table([foretold_of(n, seen) for n, seen in all_found.items()]) + took,
        **{f"{name}: the best five points, and the worst": grid_of(seen) for name, seen in all_found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 points, 2 rounds of 60 items; writes nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", choices=list(WORKLOADS), help="workloads to run; writes nothing")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the entries within the rounds")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--round", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.round:
        with contextlib.redirect_stdout(sys.stderr):  # libraries that print must not get into the answer
            got = play(given.round, Job(**given.arguments))
        print(json.dumps(got))
        return
    rounds, begun = 2 if given.quick else given.rounds, time.perf_counter()
    seen = {
        name: found(name, given.data.absolute(), given.quick, rounds, given.seed) for name in given.only or WORKLOADS
    }
    said = (
        f"Each point once, then {rounds} interleaved rounds of auto, plan and the best {BEST}; medians; "
        f"{(time.perf_counter() - begun) / 60:.0f} minutes in all."
    )
    tables = tables_of(seen)
    if given.quick or given.only:
        print("\n\n".join([said, *(f"{title}\n{body}" for title, body in tables.items())]))
    else:
        save("autotune", said, tables, {name: asdict(one) for name, one in seen.items()})


if __name__ == "__main__":
    main()
