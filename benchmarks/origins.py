"""The original designs beside penstock: a replica per thread, a pool per image over its views, two models in lock-step.

python benchmarks/origins.py            # 7 interleaved rounds, about 10 minutes
python benchmarks/origins.py --quick    # 2 rounds of few photos, writes nothing
python benchmarks/origins.py --feed     # original 001, reader processes for a trainer, beside a Feed

All on ONNX Runtime at f32. The limit of a use = 1 / (1/decode + the models), each alone on all cores in the same round.
Then the makespan of 31 equal items on 16 workers, and of the same with one item 50 times as long.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _measure import DATA, Round, fresh, interleaved, median, peak_rss_mib, ratio, save, spread, table
from _origin_001 import compare
from _photos import Job
from _rivals_origins import RIVALS, VIEWS, limits, second_model
from folder import SAME_WORK

SCRIPT = Path(__file__).resolve()
USES = ("000", "002", "003")
GOALS = {"000 as described": 2.0, "002": 1.1, "003": 1.1}
NAP_S, ITEMS, WORKERS, SLOW = 0.05, 31, 16, 50


def penstock_run(job: Job, use: str) -> float:
    """Return the seconds of penstock's run, first item to last commit."""
    import penstock

    model: Any = job.model
    if use == "002":
        views = [penstock.View(rotate=90 * turns, flip=flip) for turns, flip in VIEWS]
        model = penstock.Augment(job.model, views)
    elif use == "003":
        model = {"a": job.model, "b": second_model(job)}
    report = penstock.run(job.photos, model, out=job.out, spec=SAME_WORK, runtime="onnxruntime", limit=job.limit)
    if report.done != len(job.paths()):
        raise SystemExit(f"penstock, {use}: {report}\n{report.failures[:3]}")
    return report.seconds


def play(name: str, job: Job) -> Round:
    """Run one entry; return its rate and memory."""
    n = len(job.paths())
    if name == "limits":
        return dict(limits(job))
    if name == "makespan":
        return makespan()
    if name.startswith("penstock"):
        seconds = penstock_run(job, name.rpartition(" ")[2])
    else:
        with RIVALS[name](job) as run:
            begun = time.perf_counter()
            run()
            seconds = time.perf_counter() - begun
    rows = len(Path(job.out).read_text().splitlines())
    if rows != n:
        raise SystemExit(f"{name}: {rows} rows of {n} photos.")
    return {"rate": n / seconds, **peak_rss_mib()}


def makespan() -> Round:
    """Return how many item times 31 items take on 16 workers, and how far the others get beside one slow item."""
    from penstock import Session, Workers

    def nap(x: float) -> float:
        time.sleep(x)
        return x

    with Session(list_of, stages=[Workers(nap, WORKERS)], batch=1) as session:
        list(session.map([0.0] * WORKERS))
        begun = time.perf_counter()
        list(session.map([NAP_S] * ITEMS))
        equal = (time.perf_counter() - begun) / NAP_S
        ended: list[float] = []
        lock = threading.Lock()

        def noted(x: float) -> float:
            time.sleep(x)
            with lock:
                ended.append(time.perf_counter())
            return x

    with Session(list_of, stages=[Workers(noted, WORKERS)], batch=1) as session:
        begun = time.perf_counter()
        list(session.map([NAP_S * SLOW, *[NAP_S] * (ITEMS - 1)]))
        others = (sorted(ended)[-2] - begun) / NAP_S
    return {"equal": equal, "others": others}


def list_of(batch: list[float]) -> list[float]:
    """Return the items as they are: a model that does nothing."""
    return batch


def use_of(name: str) -> str:
    """Return the design that an entry belongs to."""
    return next(use for use in USES if use in name)


def findings(taken: dict[str, list[Round]]) -> str:
    """Return what the issue asks."""
    said = []
    for use in USES:
        own = [r["rate"] for r in taken[f"penstock, {use}"]]
        limit = [r[use] for r in taken["limits"]]
        said.append(f"- {use}: penstock / limit ({median(limit):.1f}/s) {spread(ratio(own, limit))}; goal 0.95")
        for name in RIVALS:
            if use_of(name) == use:
                goal = f"; goal {GOALS[name]}" if name in GOALS else ""
                said.append(f"- penstock / {name}: {spread(ratio(own, [r['rate'] for r in taken[name]]))}{goal}")
    equal, others = (median([r[key] for r in taken["makespan"]]) for key in ("equal", "others"))
    said.append(f"- {ITEMS} equal items on {WORKERS} workers: {equal:.2f} item times; goal 2.1 (the static split: 16)")
    said.append(f"- beside one item {SLOW} times as long the others are done after {others:.2f} item times")
    return "\n".join(said)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 48 photos; writes nothing")
    parser.add_argument("--feed", action="store_true", help="original 001 beside a Feed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--round", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.round:
        with contextlib.redirect_stdout(sys.stderr):
            got = play(given.round, Job(**given.arguments))
        print(json.dumps(got))
        return
    if given.feed:
        compare(given.rounds, given.data)
        return
    rounds = 2 if given.quick else given.rounds
    photos, model = given.data / "photos" / "flowers", given.data / "models" / "mobilenet_v2_1.0_224_quant.onnx"
    names = ["limits", "makespan", *RIVALS, *(f"penstock, {use}" for use in USES)]
    with tempfile.TemporaryDirectory() as folder:

        def one(name: str, number: int) -> Round:
            few = 48 if given.quick else 100 if "002" in name else None  # eight views each
            out = str(Path(folder) / f"{names.index(name)}-{number}.jsonl")
            return fresh(SCRIPT, name, asdict(Job(str(photos), str(model), out, limit=few)))

        taken = interleaved(names, rounds, one)
    rows = [
        {
            "entry": name,
            "photos/s": f"{median([r['rate'] for r in taken[name]]):.1f}",
            "peak RSS MiB": f"{median([r['rss_mib'] for r in taken[name]]):.0f}",
        }
        for name in sorted((*RIVALS, *(f"penstock, {use}" for use in USES)), key=lambda name: (use_of(name), name))
    ]
    tables = {"What it shows": findings(taken), "Entries": table(rows)}
    said = f"The original designs and penstock on real photos, ONNX Runtime, f32; {rounds} interleaved rounds; medians."
    if given.quick:
        print("\n\n".join([said, *tables.values()]))
    else:
        save("origins", said, tables, {"rounds": taken})


if __name__ == "__main__":
    main()
