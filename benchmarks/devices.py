"""Scheduling over several devices: the makespan beside that of a schedule made with all costs known (LPT).

python benchmarks/devices.py            # 7 rounds of each fleet, about 2 minutes
python benchmarks/devices.py --quick    # 1 round, writes nothing

The devices are fakes that sleep: item i costs c_i seconds on a device of speed 1 (log-normal, mean 5 ms, drawn anew in
each round), c_i / speed on another. LPT: the longest first, each to the device that will be done with it first, with
all costs known beforehand. penstock gets the items in their order, one at a time, and knows nothing. Beside it: the
items dealt out in turn (i % n), as a static split does.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from _measure import median, ratio, save, spread, table

FLEETS = {"2 equal": (1.0, 1.0), "4 equal": (1.0,) * 4, "4 and 1": (1.0, 0.25), "8, 4, 2, 1": (1.0, 0.5, 0.25, 0.125)}
ITEMS = 400
MEAN_S = 0.005


def lpt_s(costs: Sequence[float], speeds: Sequence[float]) -> float:
    """Return when the last device ends, by the longest-processing-time rule on uniform machines."""
    ends = [0.0] * len(speeds)
    for cost in sorted(costs, reverse=True):
        first = min(range(len(speeds)), key=lambda k: ends[k] + cost / speeds[k])
        ends[first] += cost / speeds[first]
    return max(ends)


def in_turn_s(costs: Sequence[float], speeds: Sequence[float]) -> float:
    """Return when the last device ends where item i goes to device i % n."""
    return max(sum(costs[k :: len(speeds)]) / speed for k, speed in enumerate(speeds))


class Device:
    """Sleeps for as long as the items would take on it."""

    begun: list[float]
    lock = threading.Lock()

    def load(self, device: str) -> None:
        """Take the device by its name: its speed."""
        self.speed = float(device)

    def predict(self, batch: list[float]) -> list[float]:
        """Take as long as the items cost."""
        with self.lock:
            self.begun.append(time.perf_counter())
        time.sleep(sum(batch) / self.speed)
        return batch


def penstock_s(costs: Sequence[float], speeds: Sequence[float]) -> float:
    """Return the seconds from the first call of a device to the end of the run."""
    import penstock

    Device.begun = []
    names = [f"{speed}{'0' * k}" for k, speed in enumerate(speeds)]  # each name once: 1.0, 1.00, 1.000
    with tempfile.TemporaryDirectory() as folder:
        penstock.run(list(costs), Device, out=Path(folder) / "o.jsonl", device=names, batch=1)
        return time.perf_counter() - min(Device.begun)


def played(speeds: Sequence[float], rounds: int) -> dict[str, list[float]]:
    """Return seconds by way, a figure for each round."""
    found: dict[str, list[float]] = {"lpt": [], "penstock": [], "in turn": []}
    for seed in range(rounds):
        costs = np.random.default_rng(seed).lognormal(0.0, 0.6, ITEMS)
        costs = [float(cost) for cost in costs * MEAN_S / costs.mean()]
        found["lpt"].append(lpt_s(costs, speeds))
        found["in turn"].append(in_turn_s(costs, speeds))
        found["penstock"].append(penstock_s(costs, speeds))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 round; writes nothing")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    taken = {name: played(speeds, 1 if given.quick else given.rounds) for name, speeds in FLEETS.items()}
    rows = [
        {
            "speeds": name,
            "LPT s": f"{median(found['lpt']):.3f}",
            "penstock s": f"{median(found['penstock']):.3f}",
            "times LPT (95 %)": spread(ratio(found["penstock"], found["lpt"])),
            "in turn, times LPT": spread(ratio(found["in turn"], found["lpt"])),
        }
        for name, found in taken.items()
    ]
    if given.quick:
        print(table(rows))
        return
    said = f"{ITEMS} items of {MEAN_S * 1000:g} ms on average, over fake devices; the goal is 1.15 times LPT."
    save("devices", said, {"Makespan": table(rows)}, taken)


if __name__ == "__main__":
    main()
