"""Training data from 2,000 photos: random crop, flip, colour jitter, batches of 64; penstock beside its rivals.

python benchmarks/feed.py              # 12 interleaved rounds, about 25 minutes
python benchmarks/feed.py --quick      # 2 rounds of 500 photos, writes nothing
python benchmarks/feed.py --settings   # the rivals with other settings; writes nothing
python benchmarks/feed.py --start      # the first batch of 1.2 million rows, and memory for each further worker

Two epochs. The clock runs from the fourth batch to the last; what comes before is shown as start-up. Limit: the same
function on the same photos, alone on all cores, with nothing put together or handed over. Then the same with a trainer
that takes 60 % of one core (half of it in Python): its step beside the one it has when one batch comes again and again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the trainer takes a share of one core, and reads this once

import numpy as np
from _feed_photos import BATCH, Photos, keyed, rows
from _feed_start import start
from _limit import rate_of
from _measure import DATA, Round, fresh, interleaved, median, peak_rss_mib, ratio, save, spread, table
from _rivals_feed import PLAN, RIVALS, VARIANTS, Work, penstock
from _runtimes import cores

SCRIPT = Path(__file__).resolve()
OWN = "penstock"
PROCESSES = "penstock, processes"
ENTRIES = {OWN: penstock, PROCESSES: penstock, **RIVALS}
KINDS: dict[str, dict[str, Any]] = {PROCESSES: {"kind": "process"}}
OVERHEADS_S = {"grain": 0.32e-3}
"""A rival that burns more of a core for an item, beyond the function itself, is set wrongly.

Where decoding alone took 2.33 ms of a core, grain reached 0.88 of the limit: it burnt 0.32 ms.
"""
FIRST = 4
"""Batches before the clock begins."""
BUSY = 0.6
"""Share of one core that the trainer takes."""
LEFT = 0.85
"""Of what the machine could feed beside the trainer, how much it asks for."""


def play(name: str, given: dict[str, Any]) -> Round:
    """Run one entry; return its rate, or with a trainer its step."""
    found = rows(given["photos"], given["n"])
    if name == "limit":
        samples = Photos(found)
        return {"rate": rate_of(lambda i: keyed(samples.rows[i], i), range(len(found)))}
    entry, trainer, _ = name.partition(" + trainer")
    work = Work(found, given["epochs"], {**KINDS.get(entry, {}), **given.get("settings", {})})
    with ENTRIES[entry](work) as batches:
        got = _steps(batches, given["period_s"]) if trainer else _rate(batches)
        memory = peak_rss_mib()
    if got.pop("photos") != len(found) * given["epochs"]:
        raise SystemExit(f"{name} has lost photos: {got}")
    return {**got, **memory, "plan": dict(PLAN)}


def _count(batch: Any) -> int:
    images, labels = batch
    if tuple(images.shape[1:]) != (224, 224, 3) or len(labels) != len(images):
        raise SystemExit(f"a batch of {images.shape} and {labels.shape}")
    return len(images)


def _rate(batches: Iterator[Any]) -> Round:
    begun = time.perf_counter()
    start_s, photos, clock, before = 0.0, 0, begun, 0
    for i, batch in enumerate(batches):
        photos += _count(batch)
        if i == 0:
            start_s = time.perf_counter() - begun
        if i == FIRST - 1:
            clock, before = time.perf_counter(), photos
    seconds = time.perf_counter() - clock
    return {"rate": (photos - before) / seconds, "start_s": start_s, "photos": photos}


def _steps(batches: Iterator[Any], period_s: float) -> Round:
    """Train: the median step, and the processor seconds of this process beyond those of the trainer's own work."""
    trainer = Trainer(period_s)
    photos, marks = 0, []
    cpu = 0.0
    for i, batch in enumerate(batches):
        photos += _count(batch)
        if i == FIRST - 1:
            marks, cpu = [time.perf_counter()], time.process_time()
            trainer.cpu_s = 0.0
        trainer.step()
        if marks:
            marks.append(time.perf_counter())
    burnt = time.process_time() - cpu - trainer.cpu_s
    return {"step_s": (marks[-1] - marks[0]) / (len(marks) - 1), "burnt_s": burnt, "photos": photos}


class Trainer:
    """Takes BUSY of one core, half of it in Python and half in numpy, and waits for the rest, as for a GPU."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._matrix = np.full((256, 256), 0.5, np.float32)
        self.cpu_s = 0.0
        self._rounds = self._calibrated()

    def _calibrated(self) -> int:
        self._work(20)
        begun = time.thread_time()
        self._work(200)
        return max(1, round(BUSY * self._period_s / ((time.thread_time() - begun) / 200)))

    def _work(self, n: int) -> None:
        for _ in range(n):
            self._matrix @ self._matrix
            sum(i * i for i in range(2500))

    def step(self) -> None:
        """Do one step: the same work every time."""
        begun = time.thread_time()
        self._work(self._rounds)
        self.cpu_s += time.thread_time() - begun
        time.sleep((1 - BUSY) * self._period_s)


def ceiling(given: dict[str, Any]) -> Round:
    """Return the trainer's step when the same batch comes again and again."""
    found = rows(given["photos"], BATCH)
    batch = (np.stack([keyed(row, i)[0] for i, row in enumerate(found)]), np.zeros(BATCH))
    got = _steps(iter([batch] * 40), given["period_s"])
    return {"step_s": got["step_s"]}


def findings(taken: dict[str, list[Round]]) -> str:
    """Return what the issue asks."""
    limit = [round_["rate"] for round_ in taken["limit"]]
    rate = {name: [round_["rate"] for round_ in taken[name]] for name in taken if "rate" in taken[name][0]}
    best = max(RIVALS, key=lambda name: median(rate[name]) if name in rate else 0.0)
    said = [
        f"- limit {median(limit):.0f} photos/s",
        f"- penstock / best rival ({best}): {spread(ratio(rate[OWN], rate[best]))}; goal 1.00",
        f"- penstock / limit: {spread(ratio(rate[OWN], limit))}; goal 0.97 reached",
        f"- penstock chose: {taken[OWN][-1]['plan']}",
    ]
    for start_, most_s in OVERHEADS_S.items():
        found = [median(rate[name]) for name in rate if name.startswith(start_)]
        if found:
            burnt_s = cores() * (1 / max(found) - 1 / median(limit))
            fault = "" if burnt_s <= most_s else ": MIS-SET"
            said.append(f"- {start_} burns {burnt_s * 1e3:.2f} ms of a core an item; at most {most_s * 1e3:.2f}{fault}")
    return "\n".join(said)


def rates_table(taken: dict[str, list[Round]]) -> str:
    """Return a row for each entry, the fastest first."""
    names = [name for name in taken if name in ENTRIES]
    rate = {name: [round_["rate"] for round_ in taken[name]] for name in [*names, "limit"]}
    return table(
        [
            {
                "entry": name,
                "photos/s": f"{median(rate[name]):.0f}",
                "share of the limit (95 %)": spread(ratio(rate[name], rate["limit"])),
                "penstock / it (95 %)": spread(ratio(rate[OWN], rate[name])),
                "start-up s": f"{median([r['start_s'] for r in taken[name]]):.2f}",
                "peak RSS MiB": f"{median([r['rss_mib'] for r in taken[name]]):.0f}",
            }
            for name in sorted(names, key=lambda name: -median(rate[name]))
        ]
    )


def steps_table(taken: dict[str, list[Round]]) -> str:
    """Return a row for each entry with the trainer."""
    names = [name for name in taken if name.endswith(" + trainer")]
    step = {name: [round_["step_s"] for round_ in taken[name]] for name in [*names, "ceiling"]}
    return table(
        [
            {
                "entry": name.removesuffix(" + trainer"),
                "step ms": f"{median(step[name]) * 1000:.1f}",
                "step / ceiling (95 %)": spread(ratio(step[name], step["ceiling"])),
                "CPU s burnt in the trainer's process": f"{median([r['burnt_s'] for r in taken[name]]):.2f}",
            }
            for name in sorted(names, key=lambda name: median(step[name]))
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 500 photos; writes nothing")
    parser.add_argument("--settings", action="store_true", help="the rivals with other settings; writes nothing")
    parser.add_argument("--start", action="store_true", help="the first batch of a long list, and memory")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the order of the entries within the rounds")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="*", help="entries to run")
    parser.add_argument("--round", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.round:
        with contextlib.redirect_stdout(None):  # libraries that print must not get into the answer
            got = (ceiling if given.round == "ceiling" else lambda a: play(given.round, a))(given.arguments)
        print(json.dumps(got))
        return
    if given.start:
        start(given.rounds)
        return
    photos = str(given.data / "photos" / "flowers")
    work: dict[str, Any] = {"photos": photos, "n": 500 if given.quick else 2000, "epochs": 2}
    rounds = 2 if given.quick else given.rounds
    if given.settings:
        _settings(work, rounds)
        return
    only = given.only or list(ENTRIES)
    work["period_s"] = BATCH / (LEFT * (1 - BUSY / 2) * fresh(SCRIPT, "limit", work)["rate"])
    names = ["limit", "ceiling", *only, *(f"{name} + trainer" for name in only)]
    taken = interleaved(names, rounds, lambda name, _: fresh(SCRIPT, name, work), given.seed)
    tables = {"What it shows": findings(taken)} if OWN in taken and set(RIVALS) & set(taken) else {}
    tables |= {"Feeding alone": rates_table(taken), f"With a trainer of {BUSY:.0%} of a core": steps_table(taken)}
    said = f"{work['n']:,} photos, {work['epochs']} epochs, batches of {BATCH}; {rounds} interleaved rounds; medians."
    if given.quick or given.only:
        print("\n\n".join([said, *tables.values()]))
    else:
        save("feed", said, tables, {"rounds": taken})


def _settings(work: dict[str, Any], rounds: int) -> None:
    """Print the rate of the rivals with each of their settings."""
    names = [(name, settings) for name in VARIANTS for settings in ({}, *VARIANTS[name])]
    shown = {f"{name} {settings}": (name, settings) for name, settings in names}

    def one(key: str, _: int) -> Round:
        name, settings = shown[key]
        return fresh(SCRIPT, name, {**work, "settings": settings})

    taken = interleaved(list(shown), rounds, one)
    print(table([{"entry": key, "photos/s": f"{median([r['rate'] for r in taken[key]]):.0f}"} for key in shown]))


if __name__ == "__main__":
    main()
