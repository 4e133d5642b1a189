"""A loaded model as the engine's workers meet it: its runnable copies, and which thread calls which."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from penstock._contracts import Model, Predict
from penstock._models.agreement import compare
from penstock._models.ceiling import Ceiling
from penstock._models.drill import in_batches, one_of_each
from penstock._models.footprint import BytePlan, measured
from penstock.errors import ModelError, UsageError

_TOGETHER = ("concurrent", "process")
"""Classes of models that several threads may call at once."""


class Replicas:
    """The copies of one model: one for each device, and more only where a copy cannot bear several threads.

    A thread that enters is given the copy that the fewest are in, and calls no other. Nobody deals items out: a worker
    takes what waits next when it is free, so work goes to whichever copy is least loaded, whatever an item costs and
    however fast its device is. (List scheduling: the last one ends at most one parcel after the others; R. L. Graham,
    Bounds on multiprocessing timing anomalies, 1969.)

    `callers`: how many workers a stage of the model's own has; None: the common threads call it, fused with the rest.
    `serial`: a copy bears one thread, so that nobody can take the place of one that is stuck in it. `devices`: where
    they are. `spare`: see `Places`.
    """

    def __init__(
        self,
        members: Sequence[Model],
        callers: int | None,
        devices: Sequence[str] = ("cpu",),
        warm_up: Sequence[Sequence[Any]] = (),
        spare: int = 0,
    ) -> None:
        """Take loaded `members`, as many for each of `devices` in turn; a thread that enters first runs `warm_up`."""
        self.name = members[0].name
        self.callers = callers
        self.concurrency = members[0].concurrency
        self.devices = tuple(devices)
        self.spare = spare
        self.serial = self.concurrency not in _TOGETHER
        self._members = list(members)
        self._ceilings = [Ceiling(member.name) for member in members]
        self._inside = [0] * len(members)
        self._labels = _labels(len(members), devices)
        self._warm_up = warm_up
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Show the copies and how many threads are in each."""
        inside = ", ".join(f"{label}: {n}" for label, n in zip(self._labels, self._inside, strict=True))
        return f"<Replicas of {self.name}, threads inside {inside}>"

    def __len__(self) -> int:
        """Return the number of copies."""
        return len(self._members)

    @contextmanager
    def worker(self) -> Iterator[Predict]:
        """Give the `predict` of the copy that the fewest threads are in, in batches that fit its memory.

        Raises ModelError, which names the copy, where it cannot be loaded.
        """
        with self._lock:
            place = min(range(len(self)), key=self._inside.__getitem__)
            self._inside[place] += 1
        try:
            with ExitStack() as stack:
                predict = self._ceilings[place].under(self._entered(stack, place))
                for batch in self._warm_up:
                    predict(batch)
                yield predict
        finally:
            with self._lock:
                self._inside[place] -= 1

    def _entered(self, stack: ExitStack, place: int) -> Predict:
        worker: AbstractContextManager[Predict] = self._members[place].worker()
        try:
            return stack.enter_context(worker)
        except ModelError as error:
            if len(self) == 1:
                raise
            raise ModelError(f"replica {place + 1} of {len(self)} ({self._labels[place]}): {error}") from error

    def noted(self) -> dict[str, Any]:
        """Return what was found while it ran: batches that did not fit in memory, compiles after the seal."""
        ceilings = {label: c.describe() for label, c in zip(self._labels, self._ceilings, strict=True) if c.describe()}
        compiles = [getattr(member, "compiles_after_seal", None) for member in self._members]
        found = {
            "memory_ceilings": ceilings if len(self) > 1 else next(iter(ceilings.values()), None),
            "compiles_after_seal": sum(n for n in compiles if n),
        }
        return {name: value for name, value in found.items() if value}

    def close(self) -> None:
        """Close every copy, whatever another one's close raises; idempotent where theirs are."""
        with ExitStack() as stack:
            for member in reversed(self._members):
                stack.callback(member.close)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a model is to run: its devices ("auto": where it is), replicas on each (None: not said), common threads.

    `said`: the user has said how many threads there are, or how many of them call the model.
    """

    devices: tuple[str, ...]
    replicas: int | None
    threads: int
    said: bool = False

    def spare(self, model: Any) -> int:
        """Return how many common threads there are beyond `threads`.

        One where they wait while the model computes in as many threads of its own, which would wait for the steps
        around the model else. A MobileNetV2 in two OpenVINO streams left two CPUs idle for 7 % of the time with
        two callers, for 1 % with three, which did 1.11 times as much (Xeon with AMX, photos decoded by the callers).
        """
        return 1 if getattr(model, "streams", 1) == self.threads > 1 and not self.said else 0

    def copies(self, concurrency: str) -> int:
        """Return how many copies a device gets: one that all threads share, unless the model bears one thread only."""
        return 1 if self.replicas is None or concurrency in _TOGETHER else self.replicas

    def callers(self, concurrency: str) -> int | None:
        """Return how many workers the model's own stage gets, or None: the common threads call it, fused.

        Several devices have workers of their own: at a slow one a common thread would wait, and decode nothing. A model
        that bears one thread has a worker of its own for each copy, unless each common thread has a copy.
        """
        together = concurrency in _TOGETHER
        each = self.replicas or (self.threads if concurrency == "concurrent" else 1)  # a process has weights of its own
        fused = len(self.devices) == 1 and each == self.threads and (together or self.threads > 1)
        return None if fused else each * len(self.devices)


def replicated(model: Any, places: Places, probes: Sequence[Any], batch: int) -> tuple[Replicas, tuple[BytePlan, ...]]:
    """Return the copies of a loaded model, and what they take of the memory of each device.

    Raises UsageError where they do not fit or such a model cannot be copied, ModelError where a copy answers `probes`
    otherwise; then everything is closed.
    """
    own = getattr(model, "device", "cpu")
    devices = [own if device == "auto" else device for device in places.devices]
    copies, callers = places.copies(model.concurrency), places.callers(model.concurrency)
    at_once = (callers or places.threads + places.spare(model)) // len(devices)
    members: list[Any] = []
    plans: list[BytePlan] = []
    try:
        for device in devices:
            members.append(copied(model, device, probes) if members else model)
            plans.append(measured(members[-1], device, probes[:batch], copies, at_once))
            plans[-1].refuse_too_large()
            for _ in range(copies - 1):
                members.append(copied(model, device, probes))
    except BaseException:
        for member in members:
            member.close()
        raise
    # On a GPU each new thread makes handles, and tries its algorithms for every shape, anew. On a CPU the trial did it.
    warm_up = [] if own == "cpu" else [[probe] * batch for probe in one_of_each(probes)]
    return Replicas(members, callers, devices, warm_up, places.spare(model)), tuple(plans)


def copied(model: Any, device: str, probes: Sequence[Any]) -> Any:
    """Return another copy of a loaded model on `device`, which answers `probes` as the first one does.

    Raises UsageError where such a model cannot be copied, ModelError where the copy answers otherwise.
    """
    replica: Callable[[str], Any] | None = getattr(model, "replica", None)
    if replica is None:
        raise UsageError(
            f"model {model.name} has one copy here: {type(model).__name__} is neither copied nor put on several "
            'devices. Leave replicas out (its weights are shared by all threads), and give device="auto".'
        )
    copy = replica(device)
    try:
        _refuse_otherwise(model, copy, probes)
    except BaseException:
        copy.close()
        raise
    return copy


def _refuse_otherwise(model: Any, copy: Any, probes: Sequence[Any]) -> None:
    if not probes:
        return
    answers = []
    for member in (model, copy):
        with member.worker() as predict:
            answers.append(in_batches(predict, probes, 1))
    agreement = compare(answers[1], answers[0])
    if not agreement.within(copy.precision):
        raise ModelError(
            f"model {model.name}: a copy on {copy.device} answers {len(probes)} items otherwise than the one on "
            f"{model.device} ({agreement}). Leave out device {copy.device!r}, or replicas."
        )


def _labels(n: int, devices: Sequence[str]) -> list[str]:
    each = n // len(devices)
    return [device if each == 1 else f"{device} copy {k + 1}" for device in devices for k in range(each)]
