"""Random numbers that belong to an item: the same wherever they are drawn, others for each item."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest

import penstock
from penstock._feed.randomness import COLLATE, SAMPLE, begin, drawing, seed_globals, touched
from penstock.errors import UsageError


def drawn(key: tuple[int, int, int, int]) -> list[float]:
    with drawing():
        begin(key)
        return list(penstock.sample_rng().random(4))


def test_numbers_depend_on_the_key_alone() -> None:
    keys = [
        (0, SAMPLE, 0, 0),
        (1, SAMPLE, 0, 0),
        (0, COLLATE, 0, 0),
        (0, SAMPLE, 1, 0),
        (0, SAMPLE, 0, 1),
        (1 << 70, 0, 9, 5),
    ]
    found = [drawn(key) for key in keys]
    assert len({tuple(numbers) for numbers in found}) == len(keys)
    assert [drawn(key) for key in reversed(keys)] == found[::-1]


def test_streams_of_neighbours_do_not_overlap() -> None:
    with drawing():
        begin((5, SAMPLE, 0, 0))
        long = penstock.sample_rng().integers(1 << 62, size=100_000)
        begin((5, SAMPLE, 0, 1))
        other = penstock.sample_rng().integers(1 << 62, size=100_000)
    assert len(np.intersect1d(long, other)) == 0


def test_numbers_are_the_same_in_every_version() -> None:
    assert drawn((0, SAMPLE, 0, 0)) == KEPT


KEPT = [0.011546754286331562, 0.24154919656271812, 0.11142585551493822, 0.5644146216071337]


def test_one_item_has_one_generator() -> None:
    with drawing():
        begin((0, SAMPLE, 0, 7))
        assert penstock.sample_rng() is penstock.sample_rng()


def test_outside_of_a_feed_there_is_none() -> None:
    with pytest.raises(UsageError, match="sample_rng"):
        penstock.sample_rng()
    refused = []

    def elsewhere() -> None:
        try:
            penstock.sample_rng()
        except UsageError as error:
            refused.append(error)

    with drawing():
        begin((0, SAMPLE, 0, 0))
        other = threading.Thread(target=elsewhere)
        other.start()
        other.join(10)
    assert len(refused) == 1
    with pytest.raises(UsageError):
        penstock.sample_rng()


def test_shared_generators_are_seeded_by_item() -> None:
    torch = pytest.importorskip("torch")

    def numbers(key: tuple[int, int, int, int]) -> tuple[float, float, float]:
        seed_globals(key)
        return random.random(), np.random.random(), torch.rand(1).item()

    _, seen = touched(lambda: [numbers((0, 0, 0, 1)), numbers((0, 0, 0, 2))])
    assert seen == ["random", "numpy.random", "torch"]
    first, second, again = (touched(lambda k=k: numbers((0, 0, 0, k)))[0] for k in (1, 2, 1))  # type: ignore[misc]
    assert first == again
    assert all(a != b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["random", "numpy.random", "torch", "normal"])
def test_who_draws_from_a_shared_generator_is_seen_and_it_is_put_back(name: str) -> None:
    torch = pytest.importorskip("torch")
    draws: dict[str, Any] = {
        "random": random.random,
        "numpy.random": np.random.random,
        "torch": lambda: torch.rand(1).item(),
        "normal": np.random.standard_normal,
    }
    if name == "normal":
        np.random.standard_normal()
    value, found = touched(draws[name])
    assert found == ["numpy.random" if name == "normal" else name]
    assert draws[name]() == value
    assert touched(lambda: None) == (None, [])


def test_it_is_put_back_where_it_raises() -> None:
    def raises() -> None:
        random.random()
        raise KeyError

    state = random.getstate()
    with pytest.raises(KeyError):
        touched(raises)
    assert random.getstate() == state
