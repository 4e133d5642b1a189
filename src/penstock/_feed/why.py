"""Where the time of an epoch went, and what it says: the loop's own, and what it waited for (pure)."""

from __future__ import annotations

from dataclasses import dataclass, replace

LITTLE = 0.05
"""A share of waiting below which there is nothing to gain."""


@dataclass(frozen=True, slots=True)
class FeedStatistics:
    """One epoch so far. Seconds: `waited_s` the loop for batches, `loop_s` between them on its own work.

    `sample_s`, `collate_s`: spent by all workers on samples, and on putting custom batches together. `replay_s`: the
    loop's own seconds a batch when no worker was busy, 0.0 where that was not measured (`Feed.replay`).
    """

    epoch: int = 0
    batches: int = 0
    samples: int = 0
    failed: int = 0
    waited_s: float = 0.0
    loop_s: float = 0.0
    sample_s: float = 0.0
    collate_s: float = 0.0
    replay_s: float = 0.0
    workers: int = 0
    kind: str = "thread"
    cpus: int = 1

    @property
    def waiting(self) -> float:
        """Share of the time that the loop waited for batches."""
        whole_s = self.waited_s + self.loop_s
        return self.waited_s / whole_s if whole_s > 0 else 0.0

    @property
    def gain(self) -> float:
        """How many times as fast the loop could be at most, if it never waited and nothing disturbed it."""
        whole_s = self.waited_s + self.loop_s
        best_s = min(self.replay_s * self.batches, whole_s) if self.replay_s else self.loop_s
        return whole_s / best_s if best_s > 0 else float("inf")

    def begun(self, epoch: int) -> FeedStatistics:
        """Return the statistics at the start of an epoch."""
        kept = FeedStatistics(replay_s=self.replay_s, workers=self.workers, kind=self.kind, cpus=self.cpus)
        return replace(kept, epoch=epoch)


def verdict(s: FeedStatistics) -> str:
    """Return in a few lines whether the feed holds the loop up, what takes the time, and what to change."""
    if not s.batches:
        return "Nothing is known yet: no batch was handed out."
    waited = (
        f"Epoch {s.epoch}: the loop waited {s.waiting:.0%} of the time for data ({s.waited_s:.3g} s of "
        f"{s.waited_s + s.loop_s:.3g} s, {s.batches:,} batches)."
    )
    ceiling = "replayed batches" if s.replay_s else "the loop's own time; Feed.replay measures it without workers"
    parts = [waited, _slowest(s)]
    if s.gain != float("inf"):
        parts.append(f"To gain at most: {s.gain:.2f} times ({ceiling}).")
    return " ".join([*parts, _advice(s)])


def _slowest(s: FeedStatistics) -> str:
    made = max(1, s.samples + s.failed)
    part, spent_s = max((("samples", s.sample_s), ("collate", s.collate_s)), key=lambda pair: pair[1])
    who = "in the loop itself" if s.workers == 0 else f"in {s.workers} {s.kind} workers on {s.cpus} CPUs"
    return f"Slowest: {part}, {spent_s / made * 1000:.3g} ms an item {who}."


def _advice(s: FeedStatistics) -> str:
    if s.waiting < LITTLE:
        return "The feed keeps up: what is left to gain lies in the loop."
    if s.workers == 0:
        return "Give it workers: with 0 nothing is made while the loop is at work."
    if s.workers < s.cpus:
        return f"Raise workers to {s.cpus}."
    busy = (s.sample_s + s.collate_s) / (s.workers * (s.waited_s + s.loop_s) or 1.0)
    if s.kind == "thread" and busy > 0.9 and s.cpus > 1:
        return "The workers are busy all the time: make samples cheaper, or try kind='process' if they run in Python."
    if busy > 0.9:
        return "The workers are busy all the time: make samples cheaper, or give them more CPUs."
    return (
        "The workers are not busy all the time: they wait for a disk or for memory; try more workers or prefetch_bytes."
    )
