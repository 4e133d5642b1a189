"""Data sets and functions that the tests of feeds give to worker processes, which can import them."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np

import penstock


class Squares:
    """n samples of (array, number); item k is [k, k * k], with noise of its own where `noisy`."""

    def __init__(self, n: int, *, noisy: bool = False) -> None:
        self.n = n
        self.noisy = noisy

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, k: int) -> tuple[Any, int]:
        array = np.array([k, k * k], np.float64)
        if self.noisy:
            array += penstock.sample_rng().random(2)
        return array, k


class Faulty(Squares):
    """Some of the items do what they are told to."""

    def __init__(self, n: int, orders: dict[int, str]) -> None:
        super().__init__(n)
        self.orders = orders

    def __getitem__(self, k: int) -> tuple[Any, int]:
        order = self.orders.get(k, "")
        if order == "raise":
            raise ValueError(f"no sample {k}")
        if order == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "shape":
            return np.zeros(3), k
        return super().__getitem__(k)


class Once(Squares):
    """The process that first comes to one of the items is killed."""

    def __init__(self, n: int, mark: str, item: int) -> None:
        super().__init__(n)
        self.mark = mark
        self.item = item

    def __getitem__(self, k: int) -> int:  # type: ignore[override]
        if k == self.item and not os.path.exists(self.mark):
            with open(self.mark, "x", encoding="utf-8"):
                os.kill(os.getpid(), signal.SIGKILL)
        return k


class Global(Squares):
    """Samples draw from the generators that all of a process shares."""

    def __getitem__(self, k: int) -> tuple[Any, int]:
        array, k = super().__getitem__(k)
        return array + random.random() + np.random.random(), k


def noise(sample: tuple[Any, int]) -> tuple[Any, int]:
    array, k = sample
    return array + penstock.sample_rng().random(2), k


def stacked(samples: list[tuple[Any, int]]) -> dict[str, Any]:
    """Put a batch together, with a random number of its own."""
    return {
        "x": np.stack([array for array, _ in samples]),
        "k": [k for _, k in samples],
        "lot": penstock.sample_rng().random(),
    }


def refused(samples: list[Any]) -> Any:
    raise RuntimeError("cannot put this together")


def length(path: str) -> int:
    return len(path)


class Lazy:
    """A data set that opens its file at the first sample, and cannot be sent afterwards."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file: Any = None

    def __len__(self) -> int:
        return 20

    def __getitem__(self, k: int) -> int:
        if self.file is None:
            self.file = open(self.path, "rb")  # noqa: SIM115 - as people do
        self.file.seek(k)
        return int(self.file.read(1)[0])

    def __del__(self) -> None:
        if self.file is not None:
            self.file.close()


def with_torch(k: int) -> float:
    """Draw from a generator of a library that the sample itself imports."""
    import torch

    return float(torch.rand(1).item())


class Numbers:
    """An iterable that can be read again and again."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))


def shaken(k: int) -> float:
    return k + random.random()


class Indexed:
    """A data set over an index that it holds."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int) -> tuple[int, int]:
        return int(self.rows[k]), os.getpid()
