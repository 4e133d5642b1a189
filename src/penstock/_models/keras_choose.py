"""How a Keras model is called here: loaded, warmed on real items, and at which batch its answers stay the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock._models.agreement import Agreement, compare
from penstock._models.checking import check, truth_by
from penstock._models.choose import Chosen, Wanted
from penstock._models.keras_model import RUNTIME, KerasModel
from penstock._spec import InputSpec
from penstock.errors import UsageError

AUTO_BATCH = 8
"""Items a call where nothing was asked: compiled programs gain from a batch, and few are lost with one."""


def choose_keras(
    thing: Any, spec: InputSpec | None, items: Sequence[Any], wanted: Wanted, choices: Mapping[str, Any] | None
) -> Chosen:
    """Return the model, warmed on `items` and sealed, at the largest batch that was asked for and keeps its answers.

    Several calling threads have one thread each inside, one caller has them all. Raises UsageError or ModelError where
    it cannot be loaded, or is not the Keras of `choices` (a resumed job).
    """
    model = KerasModel(thing, spec, intra_threads=1)
    try:
        _refuse_another(model, choices)
        asked = AUTO_BATCH if wanted.batch == "auto" else wanted.batch
        batch = int(choices["batch"]) if choices is not None else model.batch_size or asked
        return _warmed(model, batch, items, wanted)
    except BaseException:
        model.close()
        raise


def _warmed(model: KerasModel, batch: int, items: Sequence[Any], wanted: Wanted) -> Chosen:
    said = "the same model, item by item in one thread"
    found: dict[str, Any] = {"runtime": RUNTIME, "version": model.version, "backend": model.backend, "batch": batch}
    if not items:
        return Chosen(model, batch, found, None, said)
    model.warm(items, batch)
    with model.worker() as predict:
        truth = truth_by(predict, items, said, wanted.padding)
    if truth.padding.get("padded_to"):
        model.warm(truth.items, batch)  # in the shapes that the run will give
    found |= {**truth.padding, **({} if wanted.exact else {"safety": "fast"})}
    agreement = check(model, truth, wanted.threads, batch)
    if not agreement.within("f32") and wanted.exact and batch > 1:
        found |= {"batch": 1, "asked_batch": batch, "why_batch": _apart(batch, agreement)}
        with model.worker() as predict:
            agreement = compare(truth.rows, [row for item in truth.items for row in predict([item])])
    tried = {"runtime": RUNTIME, "batch": found["batch"], "how": model.how, "why": model.why}
    tried |= {"threads": model.threads_note} if model.threads_note else {}
    return Chosen(model, found["batch"], found, agreement, said, [tried])


def _apart(batch: int, agreement: Agreement) -> str:
    return f"items are kept apart, for in batches of {batch} they get other answers than alone: {agreement}"


def _refuse_another(model: KerasModel, choices: Mapping[str, Any] | None) -> None:
    if choices is None:
        return
    here = {"version": model.version, "backend": model.backend}
    then = {name: choices[name] for name in here}
    if here != then:
        raise UsageError(
            f"this job was begun with Keras {then['version']} on {then['backend']}; here it is {here['version']} on "
            f"{here['backend']}, whose answers may differ. Bring that back, or start over with fresh=True (--fresh)."
        )
