"""What the machinery costs: trivial functions in three stages, and 1 ms of sleep an item, beside the rivals.

python benchmarks/overhead.py               # 7 interleaved rounds of 200,000 items, then telemetry, about 9 minutes
python benchmarks/overhead.py --quick       # 2 rounds of 20,000, writes nothing
python benchmarks/overhead.py --telemetry   # only what telemetry costs, with its own file of results, about 3 minutes
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from _measure import Round, fresh, interleaved, median, ratio, save, spread, table
from _rivals_overhead import BY_HAND, ENTRIES, ITEMS_SHARE, SLEEPERS, SLEEPING, expected, flat

SCRIPT = Path(__file__).resolve()
TELEMETRY = "telemetry"
TELEMETRY_ITEMS, TELEMETRY_ROUNDS = 1_000_000, 60
"""A run of so many items takes a reading and writes its record now and then, as long ones do."""


def play(kind: str, name: str, n: int, rounds: int = 1) -> Round:
    """Run one entry once to warm it, once on the clock; check that its rows are complete and in order."""
    if kind == TELEMETRY:
        import _overhead_telemetry  # not where rivals run: it imports all of penstock

        return _overhead_telemetry.play(n, rounds)
    entry = (SLEEPING if kind == "sleeping" else ENTRIES)[name]
    with entry() as run:
        run(n if kind == "trivial" else 64)  # DataLoader keeps its workers for one length only
        begun = time.perf_counter()
        rows = run(n)
        seconds = time.perf_counter() - begun
        if flat(rows) != expected(n):
            raise SystemExit(f"{name}: {len(flat(rows)):,} rows are not the {n:,} expected ones in order.")
        workers = getattr(run, "workers", None)
    return {"us_per_item": seconds / n * 1e6, "per_s": n / seconds, "n": n, "workers": workers}


def measured(kind: str, names: Sequence[str], n: int, rounds: int) -> dict[str, list[Round]]:
    """Return the rounds of the entries, each in a fresh process."""

    def one(name: str, _: int) -> Round:
        share = ITEMS_SHARE.get(name, 1.0) if kind == "trivial" else 1.0
        return fresh(SCRIPT, name, {"kind": kind, "n": int(n * share)})

    return interleaved(names, rounds, one)


def trivial_table(taken: dict[str, list[Round]]) -> str:
    """Return µs an item and the ratio to penstock."""
    own = [round_["us_per_item"] for round_ in taken.get("penstock", [])]
    rows = []
    for name in sorted(taken, key=lambda name: median([r["us_per_item"] for r in taken[name]])):
        figures = [r["us_per_item"] for r in taken[name]]
        rows.append(
            {
                "entry": f"{name} (beside)" if name in BY_HAND else name,
                "items": f"{taken[name][0]['n']:,}",
                "µs an item": f"{median(figures):.2f}",
                "times penstock (95 %)": spread(ratio(figures, own)) if own else "",
            }
        )
    return table(rows)


def sleeping_table(taken: dict[str, list[Round]]) -> str:
    """Return items a second and the share of the bare threads' rate."""
    bare = [round_["per_s"] for round_ in taken["bare threads"]]
    return table(
        [
            {
                "entry": name,
                "items/s": f"{median([r['per_s'] for r in rounds]):,.0f}",
                "share of bare threads (95 %)": spread(ratio([r["per_s"] for r in rounds], bare)),
            }
            for name, rounds in taken.items()
        ]
    )


def threads_used(rounds: Sequence[Round]) -> str:
    """Return what penstock's own statistics say about the workers of the first stage."""
    idle = [round_["workers"] for round_ in rounds if min(round_["workers"]) == 0]
    least = [min(round_["workers"]) / sum(round_["workers"]) for round_ in rounds]
    said = f"penstock's first stage, items of each worker in the last round: {rounds[-1]['workers']}; "
    said += f"the least busy one did {min(least):.1%} to {max(least):.1%} of them."
    return said + (f" THREADS NOT USED in {len(idle)} of {len(rounds)} rounds: {idle}" if idle else "")


def telemetry(quick: bool) -> tuple[Round, dict[str, str]]:
    """Return the rounds of the part about telemetry, and its tables."""
    import _overhead_telemetry

    n, rounds = (100_000, 3) if quick else (TELEMETRY_ITEMS, TELEMETRY_ROUNDS)
    taken = fresh(SCRIPT, TELEMETRY, {"kind": TELEMETRY, "n": n, "rounds": rounds})
    said = f"{_overhead_telemetry.verdict(taken, n)}\n\n{_overhead_telemetry.costs_table(taken)}"
    return taken, {"What telemetry costs": said}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds on a tenth of the items; writes nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="entries to run (both parts); writes nothing")
    parser.add_argument("--telemetry", action="store_true", help="only the part about telemetry")
    parser.add_argument("--round", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.round:
        print(json.dumps(play(name=given.round, **given.arguments)))
        return
    if given.telemetry:
        taken, tables = telemetry(given.quick)
        said = "The run loop over the same trivial stages, with telemetry and without."
        if given.quick:
            print("\n\n".join([said, *tables.values()]))
        else:
            save("overhead-telemetry", said, tables, {TELEMETRY: taken})
        return
    rounds, n, naps = (2, 20_000, 800) if given.quick else (given.rounds, 200_000, 8_000)
    trivial = measured("trivial", [name for name in ENTRIES if name in (given.only or ENTRIES)], n, rounds)
    sleeping = measured("sleeping", [name for name in SLEEPING if name in (given.only or SLEEPING)], naps, rounds)
    tables = {f"Trivial functions, {n:,} items, {rounds} rounds": trivial_table(trivial)}
    if "bare threads" in sleeping:
        tables[f"1 ms of sleep an item on {SLEEPERS} threads, {naps:,} items"] = sleeping_table(sleeping)
    if "penstock" in trivial:
        tables["Threads"] = threads_used(trivial["penstock"])
    said = "Map on 4 threads, batch of 32, map over the batch, in order; then naps. Medians; ratios round by round."
    if given.only:
        print("\n\n".join(tables.values()))
        return
    watched, costs = telemetry(given.quick)
    if given.quick:
        print("\n\n".join([*tables.values(), *costs.values()]))
    else:
        values = {"trivial": trivial, "sleeping": sleeping, TELEMETRY: watched}
        save("overhead", said, tables | costs, values)


if __name__ == "__main__":
    main()
