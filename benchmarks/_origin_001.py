"""Original 001 beside a Feed: reader processes, a queue, a pinning thread, a second queue, a trainer.

Its topology written anew from the description (CornerNet's train.py): every process walks the whole data set in an
order of its own; a semaphore, tested behind each put, is to end the pinning thread; the processes are terminated.
Both feed the samples of feed.py. Then one of the two workers is killed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from _feed_photos import BATCH, drawn, keyed, rows
from _measure import DATA, interleaved, median, peak_rss_mib, ratio, save, spread, table

SCRIPT = Path(__file__).resolve()
WORKERS, PREFETCH, BATCHES = 2, 6, 40
JOIN_S = 5.0
"""How long is waited for what should end."""


def _read(given: list[tuple[str, int]], to: Any) -> None:
    """Body of a reader process: batches for ever."""
    import torch

    torch.set_num_threads(1)
    np.random.seed(os.getpid())
    while True:
        order = np.random.permutation(len(given))
        for i in range(0, len(order) - BATCH + 1, BATCH):
            samples = [keyed(given[k], int(k)) for k in order[i : i + BATCH]]
            to.put((torch.from_numpy(np.stack([photo for photo, _ in samples])), torch.tensor([y for _, y in samples])))


class Original:
    """The original's two queues and their workers."""

    def __init__(self, given: list[tuple[str, int]]) -> None:
        import torch.multiprocessing as mp

        context = mp.get_context("fork")
        self._queue: Any = context.Queue(PREFETCH)
        self._pinned: queue.Queue[Any] = queue.Queue(PREFETCH)
        self._over = threading.Semaphore()
        self._over.acquire()
        self.processes = [context.Process(target=_read, args=(given, self._queue), daemon=True) for _ in range(WORKERS)]
        for process in self.processes:
            process.start()
        self._thread = threading.Thread(target=self._pin, daemon=True)
        self._thread.start()

    def _pin(self) -> None:
        while True:
            self._pinned.put(self._queue.get())
            if self._over.acquire(blocking=False):
                return

    def get(self, timeout_s: float) -> Any:
        """Return a batch. Raises queue.Empty where none comes in time; the original waits for ever."""
        return self._pinned.get(timeout=timeout_s)

    def close(self) -> list[str]:
        """End it as the original does; return what is left after JOIN_S."""
        self._over.release()
        for process in self.processes:
            process.terminate()
        deadline = time.monotonic() + JOIN_S
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return ["the pinning thread"] * self._thread.is_alive() + ["a process" for p in self.processes if p.is_alive()]


class Ours:
    """A Feed with as many processes."""

    def __init__(self, given: list[tuple[str, int]]) -> None:
        import penstock

        self._feed = penstock.Feed(given, BATCH, transform=drawn, workers=WORKERS, kind="process")
        self._stream = self._feed.steps(0, 1 << 20)

    def get(self, timeout_s: float) -> Any:  # noqa: ARG002 - it never waits for ever
        """Return a batch."""
        return next(self._stream)

    def close(self) -> list[str]:
        """Close it; return the threads that are left."""
        self._feed.close()
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("penstock")]


def play(name: str, photos: str) -> dict[str, Any]:
    """Return start-up, rate, memory, shutdown with full queues, and what comes of a killed worker, and of all."""
    given = rows(photos, 2000)
    begun = time.perf_counter()
    feed: Any = Original(given) if name == "original 001" else Ours(given)
    feed.get(60)
    started = time.perf_counter()
    for _ in range(BATCHES):
        feed.get(60)
    rate = BATCHES * BATCH / (time.perf_counter() - started)
    memory = peak_rss_mib()["rss_mib"]
    killed = _after_kills(feed)
    time.sleep(1.0)  # the queues fill up: the normal case, the trainer is the slower side
    closing = time.perf_counter()
    left = feed.close()
    return {
        "start_s": started - begun,
        "rate": rate,
        "rss_mib": memory,
        "close_s": time.perf_counter() - closing,
        "left": left,
        **killed,
    }


def _workers() -> list[int]:
    """Return the worker processes: for a feed they are programs of their own, for the original forks."""
    listed = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    pids = sorted(int(pid) for pids in listed for pid in pids)
    return [pid for pid in pids if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _after_kills(feed: Any) -> dict[str, Any]:
    """Kill one worker, then all; return the rate after the first, and whether batches come after the second."""
    waits = "waits for ever, without a word"
    os.kill(_workers()[0], signal.SIGKILL)
    try:
        for _ in range(2 * PREFETCH):
            feed.get(30)  # what was made before
        begun = time.perf_counter()
        for _ in range(BATCHES // 2):
            feed.get(30)
    except queue.Empty:  # it had the lock of the queue, which it shared with the other one
        return {"rate_after_kill": 0.0, "after_all": waits}
    rate = BATCHES // 2 * BATCH / (time.perf_counter() - begun)
    for pid in _workers():
        os.kill(pid, signal.SIGKILL)
    try:
        for _ in range(4 * PREFETCH):
            feed.get(10)
    except queue.Empty:
        return {"rate_after_kill": rate, "after_all": waits}
    return {"rate_after_kill": rate, "after_all": "goes on"}


def compare(rounds: int, data: Path = DATA) -> None:
    """Measure both and save."""
    photos = str(data / "photos" / "flowers")

    def one(name: str, _: int) -> dict[str, Any]:
        done = subprocess.run([sys.executable, str(SCRIPT), name, photos], capture_output=True, check=True, timeout=300)
        return dict(json.loads(done.stdout.splitlines()[-1]))

    names = ["original 001", "penstock.Feed"]
    taken = interleaved(names, rounds, one)
    keys = {
        "start_s": "start-up s",
        "rate": "photos/s",
        "rss_mib": "peak RSS MiB",
        "rate_after_kill": "photos/s after one of 2 workers was killed",
        "close_s": "closing s",
    }
    lines = [
        {
            "entry": name,
            **{title: f"{median([r[key] for r in taken[name]]):.2f}" for key, title in keys.items()},
            "stood still after that": f"{sum(not r['rate_after_kill'] for r in taken[name])} of {rounds}",
            "after all were killed": taken[name][-1]["after_all"],
            "left after closing": ", ".join(taken[name][-1]["left"]) or "nothing",
        }
        for name in names
    ]
    own, other = ([r["rate"] for r in taken[name]] for name in reversed(names))
    times = spread(ratio(own, other))
    said = f"Original 001 and a Feed, {WORKERS} processes; {rounds} rounds; medians. Rate: {times} times."
    save("origin-001", said, {"Entries": table(lines)}, {"rounds": taken})


if __name__ == "__main__":
    print(json.dumps(play(sys.argv[1], sys.argv[2])))
