"""Which runtime, settings and batch size run a model file fastest here, among those whose answers are right."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock._interrupt import checkpoint
from penstock._models import graph, ort, ov
from penstock._models.agreement import Agreement
from penstock._models.candidates import Candidate, candidates, installed, reference_candidate, usable
from penstock._models.ceiling import Ceiling
from penstock._models.checking import Truth, check, truth_of
from penstock._models.contender import Contender, Runnable
from penstock._models.drill import same_shape
from penstock._models.padding import Padding
from penstock._models.race import Clock, Lap, Result, race, verdict
from penstock._options import Auto
from penstock._spec import InputSpec
from penstock.errors import MissingDependency, ModelError, PenstockError, UsageError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked of a choice: the calling threads there will be, and what is not left to it.

    `exact`: a batch counts only where its items get the answers they get alone. `padding`: what the spec allows.
    `replicas`: copies that there will be of a model which bears one thread only, or "auto". `inside`: CPU threads
    inside a call where there is one at a time; None: `threads`.
    """

    threads: int
    runtime: str = "auto"
    precision: str = "f32"
    batch: int | Auto = "auto"
    exact: bool = True
    padding: Padding | None = None
    replicas: int | Auto = "auto"
    inside: int | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """A loaded, checked model and why it is this one.

    `choices` (JSON values) is what `load_as` needs to load exactly this again. `measurements`: one dict for each thing
    tried: runtime, precision, settings, batch, items_per_s (None: not timed) and its clock ("wall", or "cpu" on a
    machine that others were using: see `race.clock_of`), max_rel (None: not checked, or without bound) and verdict.
    `agreement` is the chosen model's with the `reference`, or None where there was no item to check: then the model is
    the reference itself, which needs no check.
    """

    model: Runnable
    batch_size: int
    choices: dict[str, Any]
    agreement: Agreement | None
    reference: str
    measurements: list[dict[str, Any]] = field(default_factory=list)


def choose(path: str | os.PathLike[str], spec: InputSpec | None, items: Sequence[Any], wanted: Wanted) -> Chosen:
    """Return the fastest way to run the model at `path` whose answers on `items` are the reference's.

    `items` are real ones, as the model will get them (uint8 (H, W, C) with a `spec`, else arrays as the model takes
    them less the batch axis); 16 are plenty. For mobilenets it takes about four seconds.

    Raises UsageError or MissingDependency for what cannot be, ModelError where no way to run the file is right.
    """
    runtimes = usable(wanted.runtime, wanted.precision)
    choice = Choice(path, spec, wanted, truth_of(path, spec, items, wanted.padding))
    if not items:
        return choice.take(reference_candidate())
    try:
        choice.load(candidates(path, runtimes, wanted.precision, wanted.threads, wanted.inside, wanted.batch))
        return choice.fastest()
    finally:
        choice.close()


def load_as(
    path: str | os.PathLike[str],
    spec: InputSpec | None,
    choices: Mapping[str, Any],
    items: Sequence[Any],
    threads: int,
) -> Chosen:
    """Return the model loaded exactly as `choices` (from an earlier `Chosen`) say, and checked on `items`.

    Raises UsageError or MissingDependency where what was chosen is not installed as it was, ModelError where the
    answers are wrong.
    """
    candidate = Candidate(choices["runtime"], choices["precision"], dict(choices["settings"]))
    _refuse_other_installation(candidate, choices["version"], spec)
    exact = choices.get("safety") != "fast"
    wanted = Wanted(threads, candidate.runtime, candidate.precision, choices["batch"], exact)
    choice = Choice(path, spec, wanted, truth_of(path, spec, items))
    if not items:
        return choice.take(reference_candidate())
    try:
        choice.load([candidate])
        return choice.first()
    finally:
        choice.close()


class Choice:
    """A choice in the making: owns the models it loaded until one is chosen.

    `source` is what its contenders load: the path of a file, or a `Net` of torch's.
    """

    def __init__(self, source: Any, spec: InputSpec | None, wanted: Wanted, truth: Truth) -> None:
        self._source = source
        self._spec = spec
        self._wanted = wanted
        self._truth = truth
        self._first_batch = 1 if wanted.batch == "auto" else wanted.batch
        self._laps: list[Lap] = []
        self._agreements: dict[Lap, Agreement] = {}
        self._refused_laps: set[Lap] = set()
        self._refused: list[dict[str, Any]] = []
        self._wrong: list[str] = []
        self._errors: list[PenstockError] = []
        self._loaded: list[Runnable] = []
        self._apart: str | None = None

    def load(self, tried: Sequence[Contender]) -> None:
        """Load and check every candidate; keep the right ones. Raises where there is none."""
        laps: list[Lap] = []
        for candidate in tried:
            checkpoint()
            try:
                model = candidate.load(self._source, self._spec)
            except PenstockError as error:
                self._errors.append(error)
                self._refused.append(_tried(candidate, self._first_batch, f"not loaded: {error}"))
                continue
            self._loaded.append(model)
            laps.append(Lap(candidate, model, self._first_batch, Ceiling(model.name)))
        self._laps = [lap for lap in laps if self._agrees(lap)]
        if not self._laps and self._first_batch > 1:
            self._keep_items_apart(laps)
        if not self._laps:
            raise self._nothing_right()

    def _keep_items_apart(self, laps: Sequence[Lap]) -> None:
        """Fall back to batches of one, where the answers of an item depend on those beside it."""
        why = f"items are kept apart, for in batches of {self._first_batch} they get other answers than alone: "
        self._apart = why + "; ".join(self._wrong)
        alone = [Lap(lap.candidate, lap.model, 1) for lap in laps]
        self._laps = [lap for lap in alone if self._agrees(lap)]

    def fastest(self) -> Chosen:
        """Time what is left, and return the fastest that is right at its batch size too."""
        items = self._truth.items
        # Unpadded, items of different shapes hardly ever share a batch.
        try_batches = self._wanted.batch == "auto" and (same_shape(items) or bool(self._truth.padding.get("padded_to")))
        timed = race(self._laps, items, self._wanted.threads, try_batches=try_batches)
        for lap in timed.laps:
            if self._agrees(lap):  # again, at its batch size, after all it has run
                return self._chosen(lap, timed)
        raise self._nothing_right()

    def first(self) -> Chosen:
        """Return the only candidate, untimed, after a second check."""
        if not self._agrees(self._laps[0]):
            raise self._nothing_right()
        return self._chosen(self._laps[0], Result([], "wall"))

    def take(self, candidate: Contender) -> Chosen:
        """Return `candidate` as it is, for when there is nothing to check it on: then it should be the reference."""
        lap = Lap(candidate, candidate.load(self._source, self._spec), self._first_batch)
        return Chosen(lap.model, lap.batch, self._choices(lap), None, self._truth.said)

    def close(self) -> None:
        """Free every model that was loaded and not chosen."""
        while self._loaded:
            self._loaded.pop().close()

    def _agrees(self, lap: Lap) -> bool:
        try:
            agreement = check(lap.model, self._truth, self._wanted.threads, lap.batch if self._wanted.exact else 1)
        except PenstockError as error:
            self._refuse(lap, None, f"failed on items that the reference runs: {error}")
            return False
        if not agreement.within(lap.candidate.precision):
            self._refuse(lap, agreement, f"wrong answers {agreement}")
            return False
        self._agreements[lap] = agreement
        return True

    def _refuse(self, lap: Lap, agreement: Agreement | None, why: str) -> None:
        self._refused_laps.add(lap)
        self._wrong.append(f"{lap.candidate} with batches of {lap.batch}: {why}")
        self._refused.append(_tried(lap.candidate, lap.batch, f"refused: {why}", agreement))

    def _chosen(self, lap: Lap, timed: Result) -> Chosen:
        self._loaded.remove(lap.model)
        agreement = self._agreements[lap]
        tried = [
            _timed(other, timed.clock, verdict(other, lap, timed.clock), self._agreements.get(other))
            for other in timed.laps
            if other not in self._refused_laps
        ]
        tried += [_tried(other.candidate, other.batch, f"failed: {other.faults[0]}") for other in timed.failed]
        choices = self._choices(lap)
        if self._apart is not None:
            choices |= {"asked_batch": self._first_batch, "why_batch": self._apart}
        return Chosen(lap.model, lap.batch, choices, agreement, self._truth.said, tried + self._refused)

    def _choices(self, lap: Lap) -> dict[str, Any]:
        return {
            "runtime": lap.candidate.runtime,
            "version": lap.model.version,
            "precision": lap.candidate.precision,
            "settings": dict(lap.candidate.settings),
            "batch": lap.batch,
            **self._truth.padding,
            **({} if self._wanted.exact else {"safety": "fast"}),
        }

    def _nothing_right(self) -> PenstockError:
        if not self._wrong:
            return self._errors[0]
        tried = "\n  ".join([*self._wrong, *map(str, self._errors)])
        return ModelError(
            f"no way to run {str(self._source)!r} here gives the answers of {self._truth.said} on "
            f"{len(self._truth.items)} items:\n  {tried}\nTry another runtime= or precision=, or another version of it."
        )


def _tried(candidate: Contender, batch: int, verdict: str, agreement: Agreement | None = None) -> dict[str, Any]:
    return {
        "runtime": candidate.runtime,
        "precision": candidate.precision,
        "settings": dict(candidate.settings),
        "batch": batch,
        "items_per_s": None,
        "clock": None,
        "max_rel": None if agreement is None or math.isinf(agreement.max_rel) else agreement.max_rel,
        "verdict": verdict,
    }


def _timed(lap: Lap, clock: Clock, verdict: str, agreement: Agreement | None) -> dict[str, Any]:
    tried = _tried(lap.candidate, lap.batch, verdict, agreement)
    return tried | {"items_per_s": round(lap.rate(clock), 1), "clock": clock}


def _refuse_other_installation(candidate: Candidate, version: str, spec: InputSpec | None) -> None:
    begun = f"this job was begun with {candidate.runtime} {version}"
    way_out = f"Install {candidate.runtime}=={version}, or start over with fresh=True (--fresh)."
    if candidate.runtime not in installed():
        raise UsageError(f"{begun}, which is not installed. {way_out}")
    folded = candidate.settings.get("fold", False)
    in_graph = spec is not None and candidate.runtime == ort.RUNTIME and candidate.settings.get("in_graph", False)
    if (folded or in_graph) and not graph.available():
        raise MissingDependency.of("onnx", "onnx", "going on with a job whose model was changed with it")
    here = (ort if candidate.runtime == ort.RUNTIME else ov).version()
    if here != version:
        raise UsageError(f"{begun}; {here} is installed, and its answers may differ. {way_out}")
