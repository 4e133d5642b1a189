"""What is loaded, as a run needs it: one model, or all of a request with their steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock._branches import Earlier
from penstock._plan import Part

if TYPE_CHECKING:
    from penstock._models.footprint import BytePlan
    from penstock._models.replicas import Replicas


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model, its memory plans (one a device), its batch size, and the choices that bring it back on resume.

    `measurements`: what was measured to choose it. `agreement`: how its answers on real items compare with the
    reference, in words; None for callables. `keep(choices)`: keeps others than `choices` for the next
    run in the user's cache folder, where these are kept too; None where they are not.
    """

    model: Replicas
    memory: tuple[BytePlan, ...]
    batch_size: int
    choices: Mapping[str, Any]
    measurements: tuple[Mapping[str, Any], ...] = ()
    agreement: str | None = None
    keep: Callable[[Mapping[str, Any]], object] | None = None

    @property
    def padded(self) -> bool:
        """Whether its items are padded as its spec allows."""
        return bool(self.choices.get("padded_to"))


@dataclass(frozen=True, slots=True)
class Ready:
    """What is loaded, as a run needs it: its steps, the choices to store, why they were made, and its end.

    `parts(earlier)`: all steps from an item to its output; a model is not asked again for what `earlier` has.
    `memory`: what is going to be taken of it. `noted()`: what was found while it ran. `ceilings`: the items a second
    that steps could do alone, as far as they were measured. `kept`: every choice of a model is kept for the next run;
    `keep(choices)`: keeps others for the one model there is.
    """

    parts: Callable[[Earlier], list[Part]]
    choices: Mapping[str, Any]
    measurements: Sequence[Mapping[str, Any]]
    agreement: str | None
    memory: Sequence[BytePlan]
    noted: Callable[[], Mapping[str, Any]]
    close: Callable[[], None]
    ceilings: Mapping[str, float] = field(default_factory=dict)
    kept: bool = False
    keep: Callable[[Mapping[str, Any]], object] | None = None


def ready(loaded: Loaded, parts: list[Part]) -> Ready:
    """Return one loaded model with its steps."""
    model = loaded.model
    return Ready(
        parts=lambda _: parts,
        choices=loaded.choices,
        measurements=loaded.measurements,
        agreement=loaded.agreement,
        memory=loaded.memory,
        noted=model.noted,
        close=model.close,
        kept=loaded.keep is not None,
        keep=loaded.keep,
    )
