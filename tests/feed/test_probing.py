"""Threads or processes, and how many: decided by what the first samples show."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from penstock._feed import probing
from penstock._feed.probing import MOST_WORKERS, PROBES, Probe, kind_of, probed, workers_of


@pytest.mark.parametrize(
    ("probe", "n", "kind", "why"),
    [
        (Probe(), 10**9, "thread", "sending it takes longer"),
        (Probe(["random"], 1.0, 1.0), 1, "process", "draw from random"),
        (Probe([], 0.001, 0.001), 2000, "process", "a sample takes 1 ms, and is made outside"),
        (Probe([], 0.001, 0.001), 900, "thread", "an epoch less than 1 s"),
        (Probe([], 0.000_01, 0.000_01), 10**9, "thread", "sending it takes longer"),
    ],
)
def test_the_kind_follows_from_what_was_seen(probe: Probe, n: int, kind: str, why: str) -> None:
    found, reason = kind_of(probe, n)
    assert found == kind
    assert why in reason


@pytest.mark.parametrize(
    ("sample_s", "cpu_s", "workers"),
    [(0.01, 0.01, 2), (0.0, 0.0, 2), (0.02, 0.01, 4), (0.0105, 0.01, 2), (1.0, 0.001, MOST_WORKERS)],
)
def test_samples_that_wait_get_more_workers(sample_s: float, cpu_s: float, workers: int) -> None:
    assert workers_of(Probe([], sample_s, cpu_s, waits=True), 2) == workers
    assert workers_of(Probe([], sample_s, cpu_s), 2) == 2  # it was another program that had the processor


def test_waiting_is_told_from_working() -> None:
    assert probed(lambda i: threading.Event().wait(0.002), 100).waits
    assert not probed(lambda i: sum(range(20_000)), 100).waits


def test_samples_are_looked_at_and_put_back() -> None:
    asked: list[int] = []
    lock = threading.Lock()

    def sample(i: int) -> Any:
        with lock:
            asked.append(i)
        if i == 1:
            raise OSError("gone")
        return i

    probe = probed(sample, 100)
    assert probe.drawn == []
    assert set(asked) == set(range(PROBES))
    assert probe.sample_s > 0


def test_draws_are_found_on_whichever_sample() -> None:
    state = random.getstate()
    probe = probed(lambda i: random.random() if i == 5 else 0, 100)
    assert probe.drawn == ["random"]
    assert random.getstate() == state


def test_nothing_is_known_where_all_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probed(lambda i: 1 // 0, 3) == Probe()
    monkeypatch.setattr(probing, "PROBE_S", 0.0)
    assert probed(lambda i: i, 100) == Probe()
