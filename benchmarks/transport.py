"""A batch of 9.6 MB from a process to the consumer, beside what one thread can copy or fill.

python benchmarks/transport.py            # 7 interleaved rounds of 400 batches, about 3 minutes
python benchmarks/transport.py --quick    # 2 rounds of 60, writes nothing
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from _measure import Round, fresh, interleaved, median, ratio, save, spread, table
from _rivals_transport import ALONE, ENTRIES, IN_PLACE, NBYTES, number_of

SCRIPT = Path(__file__).resolve()
WARM_UP = 150
"""Batches before the clock: processes have started, and shared memory is mapped, where it is kept."""
COPIED, WRITTEN = 0.45, 0.9
"""What penstock has to reach of memcpy and of memset."""


def play(name: str, n: int) -> Round:
    """Run one entry, the first batches to warm it, the rest on the clock; check that they are complete."""
    if name in ALONE:
        ALONE[name](WARM_UP)
        return {"gb_per_s": n * NBYTES / ALONE[name](n) / 1e9, "n": n}
    with ENTRIES[name]() as run:
        begun = 0.0
        expected = 0
        for batch in run(WARM_UP + n):
            if number_of(batch) != expected:
                raise SystemExit(f"{name}: batch {number_of(batch)} where {expected} was due.")
            expected += 1
            if expected == WARM_UP:
                begun = time.perf_counter()
        seconds = time.perf_counter() - begun
    if expected != WARM_UP + n:
        raise SystemExit(f"{name}: {expected} batches of {WARM_UP + n}.")
    return {"gb_per_s": n * NBYTES / seconds / 1e9, "n": n}


def shown(taken: dict[str, list[Round]]) -> str:
    """Return GB/s and the share of what one thread can do."""
    speeds = {name: [round_["gb_per_s"] for round_ in rounds] for name, rounds in taken.items()}
    rows = []
    for name in sorted(speeds, key=lambda name: -median(speeds[name])):
        bound = "memset" if name in IN_PLACE else "memcpy"
        share = spread(ratio(speeds[name], speeds[bound])) if bound in speeds else ""
        rows.append({"entry": name, "GB/s": f"{median(speeds[name]):.2f}", "of": bound, "share (95 %)": share})
    return table(rows)


def verdict(taken: dict[str, list[Round]]) -> str:
    """Return whether penstock reaches what is asked of it."""
    lines = []
    for name, bound, least in (("penstock, copied", "memcpy", COPIED), ("penstock, in place", "memset", WRITTEN)):
        if name in taken and bound in taken:
            share = ratio([r["gb_per_s"] for r in taken[name]], [r["gb_per_s"] for r in taken[bound]])[0]
            lines.append(f"{name}: {share:.2f} of {bound}, asked {least}: {'reached' if share >= least else 'MISSED'}.")
    return "\n".join(lines)


def measured(names: Sequence[str], n: int, rounds: int) -> dict[str, list[Round]]:
    """Return the rounds of the entries, each in a fresh process."""
    return interleaved(names, rounds, lambda name, _: fresh(SCRIPT, name, {"n": n}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 rounds of 60 batches; writes nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="entries to run; writes nothing")
    parser.add_argument("--round", help=argparse.SUPPRESS)
    parser.add_argument("--arguments", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.round:
        print(json.dumps(play(given.round, **given.arguments)))
        return
    rounds, n = (2, 60) if given.quick else (given.rounds, 400)
    names = [name for name in (*ALONE, *ENTRIES) if name in (given.only or (*ALONE, *ENTRIES))]
    taken = measured(names, n, rounds)
    tables = {f"{NBYTES / 1e6:.1f} MB a batch, {n} batches, {rounds} rounds": shown(taken), "Verdict": verdict(taken)}
    said = (
        "One process makes batches, the consumer looks at their first and last bytes. Medians; ratios round by round."
    )
    if given.quick or given.only:
        print("\n\n".join(tables.values()))
    else:
        save("transport", said, tables, {"transport": taken})


if __name__ == "__main__":
    main()
