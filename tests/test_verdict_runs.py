"""Verdicts on real runs, each with a bottleneck planted in it, of a size drawn anew each time; and on runs without.

What computes lets the interpreter go, as a decoder or a model does; what waits does so as for a network.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock import Workers
from penstock._cli import main
from penstock._devices import cpu_budget
from penstock._job import Job

RUN_S = 1.2
"""About how long a run takes."""
BLOCK = bytes(1 << 20)

pytestmark = pytest.mark.skipif(cpu_budget().threads < 2, reason="with one CPU all threads share it, whatever they do")


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def compute(megabytes: float) -> None:
    """Keep a CPU busy without the interpreter: about half a millisecond a megabyte."""
    for _ in range(max(1, round(megabytes))):
        hashlib.sha256(BLOCK).digest()


def same(batch: list[Any]) -> list[Any]:
    return batch


@pytest.fixture
def delay_s() -> float:
    return random.SystemRandom().uniform(0.004, 0.016)


@pytest.fixture
def size() -> float:
    """Megabytes to compute on for an item."""
    return random.SystemRandom().uniform(4.0, 12.0)


@pytest.fixture
def go(tmp_path: Path) -> Callable[..., penstock.Report]:
    """Return `run` into a file of this test."""
    return lambda source, model=same, **options: penstock.run(source, model, out=tmp_path / "o.jsonl", **options)


Go = Callable[..., Any]


def test_a_slow_source(go: Go, delay_s: float) -> None:
    def values() -> Iterator[int]:
        for i in range(int(RUN_S / delay_s)):
            wait(delay_s)
            yield i

    verdict = go(values()).verdict
    assert verdict.bottleneck == "source", verdict
    assert "only a faster one would help" in verdict.sentence


def test_a_slow_read(go: Go, delay_s: float) -> None:
    def read(x: int) -> int:
        wait(delay_s)
        return x

    verdict = go(range(int(2 * RUN_S / delay_s)), stages=[Workers(read, 2)]).verdict
    assert verdict.bottleneck == "read", verdict
    assert "Workers(read, 16) would give up to 8.0 times the rate" in verdict.sentence


def test_a_slow_decode(go: Go, size: float) -> None:
    def decode(x: int) -> int:
        compute(size)
        return x

    verdict = go(range(int(2000 * RUN_S / size)), stages=[decode]).verdict
    assert verdict.bottleneck == "decode", verdict
    assert "more threads would give nothing" in verdict.sentence
    assert verdict.limit_per_s is not None


class Net:
    """A model that computes, in as many threads as there are."""

    concurrency = "concurrent"
    megabytes = 0.0

    def predict(self, batch: list[int]) -> list[int]:
        compute(self.megabytes * len(batch))
        return batch


def test_a_slow_model(go: Go, size: float) -> None:
    net = Net()
    net.megabytes = size

    def decode(x: int) -> int:
        compute(1)
        return x

    verdict = go(range(int(2000 * RUN_S / size)), net, batch=2, stages=[decode]).verdict
    assert verdict.bottleneck == "model", verdict
    assert "a GPU or a smaller model would" in verdict.sentence


def test_a_slow_step_behind_the_model(go: Go, delay_s: float) -> None:
    def post(item: Any, output: int) -> int:
        wait(delay_s)
        return output

    verdict = go(range(int(2 * RUN_S / delay_s)), post=Workers(post, 2)).verdict
    assert verdict.bottleneck == "post", verdict


def test_a_slow_output(go: Go, delay_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    absorb = Job.absorb

    def slow(self: Job, positions: Any, items: Any, values: Any) -> tuple[int, int]:
        wait(delay_s * len(values))
        return absorb(self, positions, items, values)

    monkeypatch.setattr(Job, "absorb", slow)
    verdict = go(range(int(RUN_S / delay_s))).verdict
    assert verdict.bottleneck == "output", verdict
    assert "results were written for" in verdict.sentence


class Remote:
    """A model that waits for another machine; one call at a time, as nothing else is said."""

    delay_s = 0.0

    def predict(self, batch: list[int]) -> list[int]:
        wait(self.delay_s * len(batch))
        return batch


@pytest.mark.parametrize("replicas", ["auto", 1])
def test_too_few_replicas(go: Go, delay_s: float, replicas: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Remote, "delay_s", delay_s)
    verdict = go(range(int(RUN_S / delay_s)), Remote, batch=2, replicas=replicas).verdict
    assert verdict.bottleneck == "replicas", verdict
    assert "replicas=8 would give up to 8.0 times the rate" in verdict.sentence


def test_an_item_that_holds_up_the_others(go: Go, delay_s: float) -> None:
    slow, n = random.SystemRandom().randrange(40, 80), int(RUN_S * 16 / delay_s)

    def read(x: int) -> int:
        wait(2 * RUN_S if x == slow else delay_s / 4)
        return x

    verdict = go(range(n), stages=[Workers(read, 4)], batch=1).verdict
    assert verdict.bottleneck == "order", verdict
    assert "--no-order" in verdict.sentence


def test_a_window_that_is_too_small(go: Go, delay_s: float) -> None:
    def read(x: int) -> Any:
        wait(delay_s)
        return np.zeros(1 << 20, np.uint8)

    def size_of(batch: list[Any]) -> list[int]:
        return [len(values) for values in batch]

    limits = penstock.Limits(max_bytes=2 << 20)
    verdict = go(range(int(2 * RUN_S / delay_s)), size_of, batch=1, stages=[Workers(read, 8)], limits=limits).verdict
    assert verdict.bottleneck == "window", verdict
    assert "only 2 items fit: a larger Limits(max_bytes=) would help" in verdict.sentence


def test_threads_that_share_the_interpreter(go: Go, size: float) -> None:
    def python(x: int) -> int:
        return sum(i * i for i in range(int(size * 8000))) and x

    # It is read off how late others get the interpreter; a machine full of other programs may hide that for a while.
    runs = (go(range(int(2000 * RUN_S / size)), stages=[python], fresh=True).verdict for _ in range(3))
    verdict = next((found for found in runs if found.bottleneck == "interpreter"), None)
    assert verdict is not None
    assert "Workers(python, kind='process')" in verdict.sentence


# ---- nothing is claimed without reason


def test_steps_that_take_equally_long(go: Go, size: float) -> None:
    def one(x: int) -> int:
        compute(size / 2)
        return x

    def other(x: int) -> int:
        return one(x)

    verdict = go(range(int(2000 * RUN_S / size)), stages=[one, other]).verdict
    assert verdict.bottleneck is None, verdict
    assert "no stage stands out" in verdict.sentence


def test_work_that_is_next_to_none(go: Go) -> None:
    verdict = go(range(20_000)).verdict
    assert verdict.bottleneck is None, verdict


def test_a_few_items(go: Go, delay_s: float) -> None:
    def read(x: int) -> int:
        wait(delay_s * 10)
        return x

    verdict = go(range(6), stages=[read]).verdict
    assert (verdict.bottleneck, verdict.limit_per_s) == (None, None), verdict


# ---- where it is shown


def test_it_is_in_the_report(go: Go, delay_s: float, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = go(range(100))
    assert report.verdict.sentence in str(report)
    assert json.loads(json.dumps(report.to_dict()["verdict"])) == report.verdict.to_dict()
    assert go(range(100)).verdict is None  # nothing was left to do
    (tmp_path / "photos").mkdir()
    assert main(["run", str(tmp_path / "photos"), "--model", "m.onnx", "--out", str(tmp_path / "o")]) == 2
