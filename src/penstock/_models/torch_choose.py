"""How a torch model is called: shared by threads, by one with torch's own behind it, or a copy each; in what batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock._models.agreement import compare
from penstock._models.checking import Truth, truth_by
from penstock._models.choose import Choice, Chosen, Wanted
from penstock._models.padding import Padding
from penstock._models.torch_checks import why_alone
from penstock._models.torch_copies import Copies, remembers
from penstock._models.torch_model import RUNTIME, TorchModel, version
from penstock._models.torch_net import Net, TorchSource
from penstock._spec import InputSpec
from penstock.errors import LedgerError, ModelError, UsageError

ALONE = "one_at_a_time"
_PLAIN = {"concurrency": ALONE, "intra_threads": 1}


@dataclass(frozen=True, slots=True)
class TorchCandidate:
    """One way to call a net."""

    precision: str
    settings: dict[str, Any] = field(default_factory=dict)
    runtime: str = RUNTIME

    def load(self, source: Net, spec: InputSpec | None) -> TorchModel | Copies:
        """Return the model; the net is shared, not loaded again, but for further copies. Raises as `Copies` does."""
        model, copies = TorchModel(source, spec, self.settings), self.settings.get("copies", 1)
        return model if copies == 1 else Copies(model, copies)

    def __str__(self) -> str:
        """Show it as in messages and plans."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.runtime} {self.precision} ({settings})"


def choose_torch(source: TorchSource, spec: InputSpec | None, items: Sequence[Any], wanted: Wanted) -> Chosen:
    """Return the fastest way to call the model whose answers on `items` are those of one plain thread.

    `items` as the model will get them. The reference is the same model in float32, not compiled, called item by item
    in one thread. A model that cannot be called by several threads at once (see `torch_checks.why_alone`) gets one
    thread, with the budget's threads inside torch; its reason is in the settings. On a CPU, where the number of
    replicas is left open, a copy for each thread is timed too, and taken where it is faster by more than can be
    mistaken: but never of a net whose answers depend on what it was asked before, which remembers as in a plain loop.
    Random answers cannot be compared: batch 1.

    Raises UsageError or ModelError where the model cannot be loaded, or no way to call it is right.
    """
    net = source.load()
    try:
        truth = _truth(net, spec, items, wanted.padding)
        if not items:
            chosen = Choice(net, spec, wanted, truth).take(TorchCandidate(net.precision, _alone(net, wanted, None)))
        elif _is_random(net, spec, truth):
            why = "its answers to one item differ from call to call"
            batch: Any = 1 if wanted.batch == "auto" else wanted.batch
            choice = Choice(net, spec, dataclasses.replace(wanted, batch=batch), truth)
            chosen = choice.take(TorchCandidate(net.precision, _alone(net, wanted, why)))
        else:
            choice = Choice(net, spec, wanted, truth)
            reason = why_alone(net, spec, truth)
            choice.load([*_candidates(net, wanted, reason), *_copies(net, spec, truth, wanted, reason)])
            chosen = choice.fastest()
    except BaseException:
        net.close()
        raise
    return _owning(chosen, net)


def load_torch_as(
    source: TorchSource, spec: InputSpec | None, choices: Mapping[str, Any], items: Sequence[Any], threads: int
) -> Chosen:
    """Return the model called exactly as `choices` (from an earlier `choose_torch`) say.

    Raises LedgerError where device or source are not those of `choices`, UsageError where torch's version is not.
    """
    settings = dict(choices["settings"])
    _refuse_device(source.options.device, settings["device"])
    net = source.load(settings["device"])
    try:
        _refuse_another(net, choices)
        truth = _truth(net, spec, items)
        candidate = TorchCandidate(choices["precision"], settings)
        exact = choices.get("safety") != "fast"
        choice = Choice(net, spec, Wanted(threads, batch=choices["batch"], exact=exact), truth)
        if not items or _is_random(net, spec, truth):
            chosen = choice.take(candidate)
        else:
            choice.load([candidate])
            chosen = choice.first()
    except BaseException:
        net.close()
        raise
    return _owning(chosen, net)


def _owning(chosen: Chosen, net: Net) -> Chosen:
    model: Any = chosen.model
    if isinstance(model, Copies):  # those of the run are made with the plan for the memory
        model = model.alone()
        chosen = dataclasses.replace(chosen, model=model)
    model.close_net = net.close
    model.seal()
    chosen.choices["source"] = net.source
    return chosen


def _candidates(net: Net, wanted: Wanted, why: str | None) -> list[TorchCandidate]:
    alone = TorchCandidate(net.precision, _alone(net, wanted, why))
    if why is not None or wanted.threads == 1:
        return [alone]
    shared = TorchCandidate(net.precision, {"concurrency": "concurrent", "intra_threads": 1, "device": net.device})
    if wanted.replicas not in ("auto", 1):
        return [shared]  # several callers were asked for, and they need no copies
    # Of equals the earlier one is taken: on a GPU one thread that feeds it is the simpler thing.
    return [shared, alone] if net.device == "cpu" else [alone, shared]


def _copies(net: Net, spec: InputSpec | None, truth: Truth, wanted: Wanted, why: str | None) -> list[TorchCandidate]:
    """Return the way with a copy for each thread, where it may be tried. It comes last: of equals the others are taken.

    Only on a CPU: on a GPU the copies would share it, and nobody has measured that they gain anything there.
    """
    if wanted.replicas != "auto" or wanted.threads == 1 or net.device != "cpu" or net.compiled:
        return []
    settings = {"concurrency": ALONE, "intra_threads": 1, "device": net.device, "copies": wanted.threads}
    candidate = TorchCandidate(net.precision, settings if why is None else settings | {"why": why})
    try:
        return [] if why is not None and remembers(net, spec, truth) else [candidate]
    except ModelError:
        return [candidate]  # it cannot be copied: loading it fails for the same reason, which the plan then says


def _alone(net: Net, wanted: Wanted, why: str | None) -> dict[str, Any]:
    replicas = 1 if wanted.replicas == "auto" else wanted.replicas
    threads = max(1, (wanted.inside or wanted.threads) // replicas) if net.device == "cpu" else 1
    settings = {"concurrency": ALONE, "intra_threads": threads, "device": net.device}
    return settings if why is None else settings | {"why": why}


def _truth(net: Net, spec: InputSpec | None, items: Sequence[Any], padding: Padding | None = None) -> Truth:
    said = "the same module, float32, item by item in one thread"
    if not items:
        return Truth([], [], said)
    plain = net.plain()
    try:
        with TorchModel(plain, spec, _PLAIN).worker() as predict:
            return truth_by(predict, items, said, padding)
    finally:
        if plain is not net:
            plain.close()


def _is_random(net: Net, spec: InputSpec | None, truth: Truth) -> bool:
    item = truth.items[:1]
    with TorchModel(net, spec, _PLAIN).worker() as predict:
        return not compare(predict(item), predict(item)).within(net.precision)


def _refuse_device(asked: str, device: str) -> None:
    if asked not in ("auto", device, device.partition(":")[0]):
        raise LedgerError(
            f"This job was begun on device {device!r}, and device={asked!r} is asked for now. Leave it out to "
            "go on, use another out, or start over with --fresh (fresh=True)."
        )


def _refuse_another(net: Net, choices: Mapping[str, Any]) -> None:
    if choices["version"] != version():
        raise UsageError(
            f"this job was begun with torch {choices['version']}; {version()} is installed, and its answers may "
            f"differ. Install torch=={choices['version']}, or start over with fresh=True (--fresh)."
        )
    if choices["source"] != net.source:
        raise LedgerError(
            f"This job was begun with other code of {net.name}: its source was {choices['source'][:12]} and is "
            f"{net.source[:12]}. Undo the change, use another out, or start over with --fresh (fresh=True)."
        )
