"""What a feed was asked for, checked."""

from __future__ import annotations

import os
import sys
from typing import Any, Literal

from penstock._options import TORCH_DEVICE, Auto
from penstock.errors import UsageError

Kind = Literal["auto", "thread", "process"]


def checked(name: str, value: Any, least: int) -> int:
    """Return a whole number that is at least `least`. Raises UsageError where it is not."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{name}={value!r}: give a whole number >= {least}.")
    return value


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """Return a word that is one of those allowed. Raises UsageError where it is not."""
    if value not in allowed:
        raise UsageError(f"{name}={value!r}: give one of {', '.join(map(repr, allowed))}.")
    return str(value)


def workers_asked(value: int | Auto) -> int | None:
    """Return how many workers were asked for; None: to be found."""
    return None if value == "auto" else checked("workers", value, 0)


def device_asked(device: str | None) -> str | None:
    """Return the device that batches are to be on: None, "cpu", "cuda" or "cuda:N". Raises UsageError for any other."""
    if device is not None and (device == "auto" or not TORCH_DEVICE.fullmatch(str(device))):
        raise UsageError(f'device={device!r}: give "cpu", "cuda", "cuda:N", or None.')
    return device


def ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Return which rank this is, of how many: as said, or as torch.distributed knows, or the only one.

    Raises UsageError where one is missing, and where WORLD_SIZE says that there are more and nobody knows which.
    """
    if (rank is None) != (world_size is None):
        raise UsageError(f"rank={rank!r}, world_size={world_size!r}: give both, or none.")
    if rank is not None and world_size is not None:
        checked("world_size", world_size, 1)
        if checked("rank", rank, 0) >= world_size:
            raise UsageError(f"rank={rank} of world_size={world_size}: ranks count from 0.")
        return rank, world_size
    torch = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    world = os.environ.get("WORLD_SIZE", "1")
    if world != "1":
        raise UsageError(
            f"WORLD_SIZE is {world}, so this is one of several ranks, and torch.distributed is not initialised: do that"
            " before, or say rank= and world_size=. Otherwise each rank would get the whole data."
        )
    return 0, 1
