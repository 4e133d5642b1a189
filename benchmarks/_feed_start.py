"""The first batch of 1.2 million (path, label) with 4 workers, and what each further worker costs in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _measure import interleaved, median, ratio, save, spread, table

ROWS, WORKERS, BATCH = 1_200_000, 4, 64
SCRIPT = Path(__file__).resolve()


def rows() -> list[tuple[str, int]]:
    """Return the list."""
    return [(f"imagenet/train/n{i % 1000:08}/n{i % 1000:08}_{i}.JPEG", i % 1000) for i in range(ROWS)]


class Holding:
    """A data set object that holds such a list; a sample is the length of its path."""

    def __init__(self, given: list[tuple[str, int]]) -> None:
        self.rows = given

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[int, int]:
        """Return one sample."""
        return shape_of(self.rows[number])


def shape_of(row: tuple[str, int]) -> tuple[int, int]:
    """Return a sample of a row."""
    path, label = row
    return len(path), label


def first_batch(name: str, workers: int, n: int) -> dict[str, float]:
    """Return the seconds to the first batch, and the proportional set size of all processes together, in MiB."""
    given = rows()[:n]
    if name == "packing":
        from penstock._feed.packed import packed

        begun = time.perf_counter()
        packed(given)
        return {"first_s": time.perf_counter() - begun}
    if name != "penstock, list":
        data: Any = Holding(given)
        del given
    begun = time.perf_counter()
    if name.startswith("DataLoader"):
        from torch.utils.data import DataLoader

        begun = time.perf_counter()  # the import of torch is not the feed's
        stream: Iterator[Any] = iter(
            DataLoader(data, BATCH, shuffle=True, num_workers=workers, multiprocessing_context=name.split(", ")[1])
        )
        next(stream)
        return {"first_s": time.perf_counter() - begun}
    import penstock

    more: dict[str, Any] = {"transform": shape_of} if name == "penstock, list" else {}
    source: Any = given if name == "penstock, list" else data
    with penstock.Feed(source, BATCH, workers=workers, kind="process", **more) as feed:
        stream = iter(feed)
        next(stream)
        first_s = time.perf_counter() - begun
        for _ in range(20 * workers):  # every worker has made some
            next(stream, None)
        # With this process's: what all of them share counts in each for its part.
        return {"first_s": first_s, "pss_mib": sum(map(_pss_mib, [os.getpid(), *_children()]))}


def _children() -> list[int]:
    listed = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for pids in listed for pid in pids]


def _pss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(float(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


ENTRIES = ("packing", "penstock, list", "penstock, data set", "DataLoader, fork", "DataLoader, forkserver")


def start(rounds: int) -> None:
    """Measure and save."""

    def one(name: str, _: int) -> dict[str, Any]:
        entry, workers, n = _parsed(name)
        command = [sys.executable, str(SCRIPT), entry, str(workers), str(n)]
        return dict(json.loads(subprocess.run(command, capture_output=True, check=True, timeout=300).stdout))

    memory = [f"penstock, list|{workers}|{n}" for workers in (1, 4) for n in (2 * BATCH * 40, ROWS)]
    taken = interleaved([*ENTRIES, *memory], rounds, one)
    first = {name: [round_["first_s"] for round_ in taken[name]] for name in ENTRIES}
    pss = {name: median([round_["pss_mib"] for round_ in taken[name]]) for name in memory}
    few, many = (pss[memory[i + 2]] - pss[memory[i]] for i in (0, 1))
    index_mib = sum(len(path) + 16 for path, _ in rows()) / 2**20
    more_mib = (many - few) / 3
    beside = ratio(first["penstock, data set"], first["DataLoader, forkserver"])
    share = f"{more_mib:.2f} MiB, {more_mib / index_mib:.2%}"
    beyond = [a - b for a, b in zip(first["penstock, list"], first["packing"], strict=True)]
    said = [
        f"- list: {median(beyond):.2f} s beyond packing it ({median(first['packing']):.2f} s); goal < 1",
        f"- data set / DataLoader, forkserver: {spread(beside)}; goal 0.33",
        f"- memory of each further worker, beyond one with a short list: {share} of the index; goal < 1 %",
    ]
    lines = table([{"entry": name, "first batch s": f"{median(first[name]):.2f}"} for name in ENTRIES])
    head = f"{ROWS:,} (path, label), {WORKERS} workers; {rounds} interleaved rounds; medians."
    save("feed-start", head, {"What it shows": "\n".join(said), "First batch": lines}, {"rounds": taken})


def _parsed(name: str) -> tuple[str, int, int]:
    entry, *numbers = name.split("|")
    return (entry, int(numbers[0]), int(numbers[1])) if numbers else (entry, WORKERS, ROWS)


if __name__ == "__main__":
    print(json.dumps(first_batch(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
