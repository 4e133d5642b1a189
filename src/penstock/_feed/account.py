"""What an epoch of a feed has come to so far: seconds, samples, and the failures that it may have."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from penstock._budget import Budget
from penstock._feed.making import BadItem, Made
from penstock._feed.why import FeedStatistics, verdict
from penstock.errors import ItemError, StageError

_LOG = logging.getLogger("penstock")
_SEEN_AT_LEAST = 1000
"""Items that a share of failures is taken of where the number of items is not known."""


class Account:
    """Kept by the one thread that reads the feed.

    `budget`: how many items of an epoch may fail; `raises`: the first one ends the loop.
    """

    def __init__(self, budget: Budget, statistics: FeedStatistics, *, raises: bool) -> None:
        """Begin with nothing."""
        self.statistics = statistics
        self.failures: list[BadItem] = []
        self._budget = budget
        self._raises = raises
        self._asked = 0.0
        self._returned: float | None = None

    def begin(self, epoch: int) -> None:
        """Begin an epoch, or go on with it after an interruption, which is nobody's time."""
        self._returned = None
        if self.statistics.epoch != epoch:
            self.forget(epoch)

    def forget(self, epoch: int) -> None:
        """Begin an epoch from anywhere: what was counted of it before counts no more."""
        self.statistics = self.statistics.begun(epoch)
        self.failures = []

    def asked(self) -> None:
        """Note that the loop asks for a batch: until now it was at its own work."""
        self._asked = time.perf_counter()
        if self._returned is not None:
            s = self.statistics
            self.statistics = replace(s, loop_s=s.loop_s + self._asked - self._returned)
        self._returned = None

    def returned(self) -> None:
        """Note that it gets one."""
        self._returned = time.perf_counter()
        s = self.statistics
        self.statistics = replace(s, batches=s.batches + 1, waited_s=s.waited_s + self._returned - self._asked)

    def replayed(self, seconds: list[float]) -> None:
        """Note what the loop took for each batch while no worker was busy."""
        self.statistics = replace(self.statistics, replay_s=sorted(seconds)[len(seconds) // 2])
        self._returned = None

    def count(self, made: Made, planned: int | None) -> None:
        """Count what a batch is made of; `planned`: items of the epoch, where known.

        Raises ItemError and StageError where more failed than may.
        """
        s = self.statistics = replace(
            self.statistics,
            samples=self.statistics.samples + made.count,
            failed=self.statistics.failed + len(made.bad),
            sample_s=self.statistics.sample_s + made.sample_s,
            collate_s=self.statistics.collate_s + made.collate_s,
        )
        if not made.bad:
            return
        self.failures.extend(made.bad)
        if self._raises:
            raise ItemError(f"{made.bad[0]}\n{made.bad[0].traceback}")
        whole = max(_SEEN_AT_LEAST, s.samples + s.failed) if planned is None else planned
        why = self._budget.spent(s.failed, s.samples, whole)
        if why is not None:
            first = self.failures[0]
            named = str(first).removesuffix(".")
            raise StageError(f"{why} First: {named}. Raise max_failures=, or see feed.failures.\n{first.traceback}")

    def end(self) -> None:
        """Say what the epoch was."""
        s = self.statistics
        failed = f" {s.failed:,} items failed, first: {str(self.failures[0]).removesuffix('.')}." if s.failed else ""
        text = verdict(s) if s.batches else f"Epoch {s.epoch} is at its end."
        _LOG.log(logging.WARNING if s.failed else logging.INFO, "%s%s", text, failed)
