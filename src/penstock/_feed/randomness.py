"""Random numbers that belong to an item, whoever works on it, and wherever."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from penstock.errors import UsageError

SAMPLE, COLLATE = 0, 1
"""What a stream of random numbers is for: the first of two words that key it."""
_WORD = (1 << 64) - 1


class Draw(threading.local):
    """Whose random numbers the calling thread draws."""

    key: tuple[int, int, int, int] | None = None
    begun = False
    """Whether the generator stands where the key says, or behind."""
    generator: np.random.Generator | None = None


DRAW = Draw()


def sample_rng() -> np.random.Generator:
    """Return the random numbers of the item that is worked on: a generator keyed by (seed, epoch, item).

    For `__getitem__`, `transform` and `collate` of a `Feed`: what it gives does not depend on workers, on what was done
    before, or on where a resumed run began. In `collate` it is that of the batch. It is for the item in hand: the
    next one of the same worker begins it anew. Philox (Salmon et al. 2011), keyed by the seed, its counter begun at
    (epoch, item).

    Raises UsageError anywhere else.
    """
    if DRAW.key is None:
        raise UsageError(
            "sample_rng() has no item here: call it in the __getitem__, transform or collate of a Feed, in the thread "
            "that was called."
        )
    if DRAW.generator is None:
        DRAW.generator = np.random.Generator(np.random.Philox())
    if not DRAW.begun:
        DRAW.generator.bit_generator.state = _state(*DRAW.key)
        DRAW.begun = True
    return DRAW.generator


def _state(seed: int, use: int, epoch: int, number: int) -> dict[str, Any]:
    """Return the state of a Philox(counter=[0, 0, epoch, number], key=[seed, use]), which takes long to be made."""
    words = {"counter": np.array([0, 0, epoch, number], np.uint64), "key": np.array([seed & _WORD, use], np.uint64)}
    unused = {"buffer": np.zeros(4, np.uint64), "buffer_pos": 4, "has_uint32": 0, "uinteger": 0}
    return {"bit_generator": "Philox", "state": words, **unused}


@contextmanager
def drawing() -> Iterator[Draw]:
    """Let what is called inside draw by the key that is set; afterwards nobody may."""
    try:
        yield DRAW
    finally:
        DRAW.key = None


def begin(key: tuple[int, int, int, int]) -> None:
    """Let the calling thread draw the numbers of (seed, use, epoch, number) from now on."""
    DRAW.key, DRAW.begun = key, False


def seed_globals(key: tuple[int, int, int, int]) -> None:
    """Seed the generators that all of a process shares: Python's, numpy's, and torch's where it is in use.

    Only in a process that works on one item at a time.
    """
    number = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(number)
    np.random.seed(number)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(number)


def touched(fn: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Return what `fn()` returns, and which shared generators it drew from; they are put back as they were."""
    kept = {name: state() for name, (state, _) in _shared().items()}
    try:
        value = fn()
    finally:
        drawn = []
        for name, (state, restore) in _shared().items():
            if name in kept and not _same(state(), kept[name]):
                drawn.append(name)
                restore(kept[name])
    return value, drawn


def _shared() -> dict[str, tuple[Callable[[], Any], Callable[[Any], None]]]:
    """Return the generators that all of a process shares: how to read their state, and how to set it."""
    found: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
        "random": (random.getstate, random.setstate),
        "numpy.random": (partial(np.random.get_state, legacy=False), np.random.set_state),
    }
    if (torch := sys.modules.get("torch")) is not None:
        found["torch"] = (torch.get_rng_state, torch.set_rng_state)
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):  # numpy's
        same = a["state"]["pos"] == b["state"]["pos"] and a["has_gauss"] == b["has_gauss"]
        return bool(same and np.array_equal(a["state"]["key"], b["state"]["key"]))
    return a == b if isinstance(a, tuple) else bool(a.equal(b))
