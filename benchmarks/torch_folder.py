"""A folder of photos to JSON lines with a torch net on the CPU: penstock beside a plain loop, DataLoader and the limit.

python benchmarks/torch_folder.py             # 7 interleaved rounds of 500 photos, about 12 minutes
python benchmarks/torch_folder.py --quick     # 2 rounds of 60, writes nothing

penstock is given the module and nothing else: whether threads share it or one thread has torch's own behind it, and how
many photos a call gets, it finds by itself. The limit = 1 / (1/decode + 1/model + 1/write), each alone on all cores in
the same round, the model by the faster of the two, with the best of a few batch sizes. Every round of every entry is a
process of its own; the clock runs from the first photo to the last commit.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from _limit import rate_of
from _measure import DATA, Round, fresh, interleaved, median, peak_rss_mib, ratio, save, spread, table
from _photos import SIDE, Array, Job, Lines, Shared, in_threads, line, pixels, read, tensor
from _rivals_folder import Photos, stacked
from _runtimes import cores
from _torch_net import make, predictor
from folder import SAME_WORK

SCRIPT = Path(__file__).resolve()
OWN, LIMIT = "penstock", "limit"
GOAL = 0.95
SPEC = {"input": {**SAME_WORK["input"], "size": [SIDE, SIDE]}, "output": SAME_WORK["output"]}
BATCHES = (1, 4, 8)
"""Tried for the limit and by hand; larger ones are slower on a CPU."""
TOLERANCE, LEAST_AGREEMENT = 1e-3, 0.99
Predict = Callable[[Array], Array]


def batches(values: Sequence[Any], size: int) -> list[Any]:
    """Return `values` in lists of `size`."""
    return [values[begin : begin + size] for begin in range(0, len(values), size)]


# ---- the limit


def limit(job: Job) -> Round:
    """Return items/s of decoding, of the model and of writing, each alone on all cores."""
    paths = job.paths()
    encoded = [path.read_bytes() for path in paths]
    rates = {"decode": rate_of(lambda data: tensor(pixels(data)), encoded)}
    rates |= model_rates([tensor(pixels(data)) for data in encoded])
    row = np.linspace(0, 1, 1000, dtype=np.float32)
    with open(job.out, "w") as file:
        lines = Lines(file)
        rates["write"] = rate_of(lambda path: lines.write(line(job.id(path), row)), paths)
    best = max(rate for name, rate in rates.items() if name.startswith("model"))
    return {**rates, "rate": 1 / (1 / rates["decode"] + 1 / best + 1 / rates["write"])}


def model_rates(inputs: Sequence[Array]) -> dict[str, float]:
    """Return photos/s of the net on cached inputs, for each way to use the cores and each batch size."""
    net, rates = make(), {}
    for threads, size in itertools.product((1, cores()), BATCHES):
        predict = predictor(net, cores() // threads)
        shared = Shared([np.concatenate(part) for part in batches(inputs, size)])
        begun = time.perf_counter()
        in_threads(lambda _, p=predict, s=shared: [p(batch) for batch in s], range(threads))
        rates[f"model_{threads}x{cores() // threads}_batch{size}"] = len(inputs) / (time.perf_counter() - begun)
    return rates


# ---- the entries: each returns its seconds, loading not counted


def own(job: Job) -> float:
    """Ours, with nothing set but the spec."""
    import penstock

    report = penstock.run(job.photos, make(), out=job.out, spec=SPEC, limit=job.limit)
    if report.done != len(job.paths()):
        raise SystemExit(f"penstock: {report}\n{report.failures[:3]}")
    keys = ("settings", "batch", "stages")
    PLAN.update({key: str(report.plan[key]) for key in keys})
    return report.seconds


PLAN: dict[str, str] = {}
"""What penstock chose in this process."""


def plain_loop(job: Job) -> float:
    """The plain loop, torch's threads as they come (one for each core)."""
    predict = predictor(make(), cores())
    begun = time.perf_counter()
    with open(job.out, "w") as file:
        file.writelines(line(job.id(path), predict(read(path))[0]) for path in job.paths())
    return time.perf_counter() - begun


def data_loader(job: Job) -> float:
    """DataLoader and a loop: decoding in processes, the model with all threads here."""
    from torch.utils.data import DataLoader

    predict, paths = predictor(make(), cores()), job.paths()
    loader: Any = DataLoader(Photos(paths), batch_size=8, num_workers=1, prefetch_factor=4, collate_fn=stacked)
    begun = time.perf_counter()
    with open(job.out, "w") as file:
        for places, batch in loader:
            rows = zip(places, predict(batch.numpy()), strict=True)
            file.writelines(line(job.id(paths[place]), row) for place, row in rows)
    return time.perf_counter() - begun


def fused(job: Job) -> float:
    """A thread for each core with one of torch's, each decodes, runs and writes one photo after the other."""
    predict = predictor(make(), 1)
    begun = time.perf_counter()
    paths = Shared(job.paths())
    with open(job.out, "w") as file:
        lines = Lines(file)

        def work(_: int) -> None:
            for path in paths:
                lines.write(line(job.id(path), predict(read(path))[0]))

        in_threads(work, range(cores()))
    return time.perf_counter() - begun


ENTRIES: dict[str, Callable[[Job], float]] = {
    OWN: own,
    "plain loop": plain_loop,
    "DataLoader + loop": data_loader,
    "fused threads (beside)": fused,
}


def play(name: str, job: Job) -> Round:
    """Run one entry; return its rate, start-up, memory and answers."""
    if name == LIMIT:
        return limit(job)
    begun = time.perf_counter()
    seconds = ENTRIES[name](job)
    start = time.perf_counter() - begun - seconds
    answers = [json.loads(text) for text in Path(job.out).read_text().splitlines()]
    best = {record["id"]: record["output"]["top"][0] for record in answers}
    if len(answers) != len(best) or len(best) != len(job.paths()):
        raise SystemExit(f"{name}: {len(answers)} lines of {len(best)} of {len(job.paths())} photos.")
    return {"rate": len(best) / seconds, "start_s": start, **peak_rss_mib(), "answers": best, "plan": dict(PLAN)}


def measured(job: Job, rounds: int, seed: int) -> dict[str, list[Round]]:
    """Return the rounds; answers become the share that agrees with the plain loop's first."""
    for path in job.paths():
        path.read_bytes()  # the page cache is warm
    with tempfile.TemporaryDirectory() as folder:

        def one(name: str, number: int) -> Round:
            out = Path(folder) / f"{number}-{[*ENTRIES, LIMIT].index(name)}.jsonl"
            return fresh(SCRIPT, name, {**asdict(job), "out": str(out)})

        reference = one("plain loop", -1)["answers"]
        taken = interleaved([LIMIT, *ENTRIES], rounds, one, seed)
    for name in ENTRIES:
        for got in taken[name]:
            got["agreement"] = agreement(got.pop("answers"), reference)
            if got["agreement"] < LEAST_AGREEMENT:
                raise SystemExit(f"{name}: only {got['agreement']:.1%} of its answers are the plain loop's.")
    return taken


def agreement(answers: dict[str, Any], reference: dict[str, Any]) -> float:
    """Return the share of photos with the same best class, and the same number for it within TOLERANCE."""
    same = [
        answers[key]["index"] == best["index"]
        and abs(answers[key]["score"] - best["score"]) <= TOLERANCE * abs(best["score"])
        for key, best in reference.items()
    ]
    return sum(same) / len(same)


def findings(taken: dict[str, list[Round]]) -> str:
    """Return what the issue asks."""
    rates = {name: [round_["rate"] for round_ in rounds] for name, rounds in taken.items()}
    parts = ", ".join(f"{key} {median([r[key] for r in taken[LIMIT]]):.0f}" for key in taken[LIMIT][0] if key != "rate")
    share = ratio(rates[OWN], rates[LIMIT])
    kept = "reached" if share[1] >= GOAL else "MISSED" if share[2] < GOAL else "UNDECIDED"
    plans = [json.dumps(round_["plan"]) for round_ in taken[OWN]]
    chosen = " | ".join(f"{plans.count(plan)} x {plan}" for plan in sorted(set(plans)))
    said = [
        f"- limit {median(rates[LIMIT]):.1f} photos/s (alone on all cores: {parts})",
        f"- penstock / limit: {spread(share)}; goal {GOAL} {kept}",
        *(f"- penstock / {name}: {spread(ratio(rates[OWN], rates[name]))}" for name in ENTRIES if name != OWN),
        f"- penstock chose: {chosen}",
    ]
    return "\n".join(said)


def entries_table(taken: dict[str, list[Round]]) -> str:
    """Return a row for each entry, the fastest first."""
    rates = {name: [round_["rate"] for round_ in rounds] for name, rounds in taken.items()}
    return table(
        [
            {
                "entry": name,
                "photos/s": f"{median(rates[name]):.1f}",
                "share of the limit (95 %)": spread(ratio(rates[name], rates[LIMIT])),
                "start-up s": f"{median([r['start_s'] for r in taken[name]]):.1f}",
                "peak RSS MiB": f"{median([r['rss_mib'] for r in taken[name]]):.0f}",
                "as the plain loop": f"{min(r['agreement'] for r in taken[name]):.1%}",
            }
            for name in sorted(ENTRIES, key=lambda name: -median(rates[name]))
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 60 photos; writes nothing")
    parser.add_argument("--rounds", type=int, default=7)
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
    rounds = 2 if given.quick else given.rounds
    job = Job(str(given.data / "photos" / "flowers"), model="", out="", limit=60 if given.quick else None)
    taken = measured(job, rounds, given.seed)
    tables = {"What it shows": findings(taken), "Entries": entries_table(taken)}
    said = f"{len(job.paths())} photos to JSON lines, MobileNetV2 in torch; {rounds} interleaved rounds; medians."
    if given.quick:
        print("\n\n".join([said, *tables.values()]))
    else:
        save("torch_folder", said, tables, {"rounds": taken})


if __name__ == "__main__":
    main()
