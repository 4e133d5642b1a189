"""Whether what the calling thread is at is still wanted: long work on one value asks, and ends early if not."""

from __future__ import annotations

from penstock._engine.room import ROOM
from penstock._engine.work import HERE


def wanted() -> bool:
    """Tell whether what this thread is at is still wanted: nobody has stopped its worker, here or in the parent."""
    if ROOM.cancelled is not None:
        return not ROOM.cancelled()
    worker = HERE.worker
    if worker is None:
        return True
    lease = worker.lease
    return not worker.ending and (lease is None or bool(lease.values))
