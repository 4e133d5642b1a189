"""Every exception of penstock. The type says whose fault it is; the message says what, which, numbers, what to do.

PenstockError
├── UsageError            you asked for something that cannot be; raised before any work            exit code 2
│   ├── MissingDependency an optional package is not installed; names the extra that brings it
│   ├── SpecError         nothing, or something contradictory, says how a model wants its input
│   └── LedgerError       `out` belongs to another job, another process or another version
├── ItemError             one item could not be read, decoded or processed; the run goes on
│   ├── DeviceMemoryError one item alone does not fit in memory
│   └── WorkerDied        a process died of it; where none can be started, of the run                exit code 3
├── StageError            too many items failed: the failure budget is spent                         exit code 3
├── ModelError            a model cannot be loaded, or its answers cannot be trusted                 exit code 3
├── SinkError             results cannot be written (disk full, permission)                          exit code 3
├── Stalled               items are stuck, and the run cannot go on; has the stacks            exit code 4
├── AuditError            planned != done + failed + skipped                                         exit code 5
├── Overloaded            a session's queue is full, and had no room in the time allowed
├── Cancelled             the work was stopped before it was done
└── Closed                the session was closed
"""

from __future__ import annotations

from typing import Any


class PenstockError(Exception):
    """Base of every error penstock raises itself."""

    exit_code = 3
    stops_run = False
    """True: raised inside a worker it ends the run; it is nothing that an item could be blamed for."""


class UsageError(PenstockError, ValueError):
    """Raised before any work when a request cannot be carried out as it stands."""

    exit_code = 2


class MissingDependency(UsageError):
    """Raised when an optional package is needed and not installed; names the extra that brings it."""

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingDependency:
        """Return the error for `package`, which comes with `penstock[extra]` and is needed for `purpose`."""
        return cls(
            f"{purpose} needs the package {package!r}, which is not installed. Run: pip install 'penstock[{extra}]'"
        )


class SpecError(UsageError):
    """Raised when nothing says how a model wants its input, or when what is said contradicts itself or the model."""

    stops_run = True


class LedgerError(UsageError):
    """Raised when `out` belongs to another job, to a running process, or to another version of the ledger."""


class ItemError(PenstockError):
    """Raised for one item that could not be read, decoded or processed."""


class DeviceMemoryError(ItemError):
    """Raised for an item that a model has not the memory for, even alone in its batch; names its shape."""


class WorkerDied(ItemError):
    """Raised for an item whose process died again and again; says how (exit code, signal, and what that may mean)."""


class StageError(PenstockError):
    """Raised when a run stops because more items failed than its budget allows."""


class ModelError(PenstockError):
    """Raised when a model cannot be loaded, answers with the wrong shape, or answers wrongly."""


class SinkError(PenstockError):
    """Raised when results cannot be written."""

    stops_run = True


class Stalled(PenstockError):
    """Raised when a run cannot go on because of items that take longer than they may.

    The message names items and stages and shows the stacks. `lost`: (position, item, failure) of what was given up.
    """

    exit_code = 4
    lost: tuple[tuple[int, Any, Any], ...] = ()


class AuditError(PenstockError):
    """Raised when planned != done + failed + skipped: a result was lost."""

    exit_code = 5


class Overloaded(PenstockError):
    """Raised when a session takes no further item because its queue is full; the message has the numbers."""


class Cancelled(PenstockError):
    """Raised where a result is awaited that will not come because the work was stopped."""


class Closed(PenstockError):
    """Raised when something is asked of a session that was closed."""
