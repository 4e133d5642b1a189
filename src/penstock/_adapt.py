"""A request -> what the engine runs: which spec holds, which steps an item goes through, which model answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from penstock._contracts import Failure
from penstock._devices import cpu_budget
from penstock._engine.step import Rows, Step, run_step
from penstock._options import Workers
from penstock._own import PathFirst, post_part, worker_part
from penstock._plan import Part
from penstock._ready import Loaded, Ready, ready
from penstock._request import Request, model_file, torch_source
from penstock._spec import InputSpec, OutputSpec, Spec, find_spec, resolve, spec_beside
from penstock.errors import LedgerError, PenstockError, UsageError

if TYPE_CHECKING:
    from penstock._models.choose import Chosen, Wanted
    from penstock._models.padding import Padding
    from penstock._models.replicas import Places

_LOG = logging.getLogger("penstock")
CALLABLE_BATCH = 8
"""Items a callable gets at once unless Batching says otherwise: enough to vectorise, few enough to lose little."""
CHECKED = 16
"""Real items on which the answers of a model file are checked before they count."""


class Recipe:
    """A request that was checked: which spec holds, which steps an item goes through. No model is loaded yet.

    Args:
        request: what was asked.
        positional: True where items are plain values, False where they are files.
        pads: False where padding, which the spec may allow, has no place: rows must have their picture's own size.
    """

    def __init__(self, request: Request, *, positional: bool, pads: bool = True) -> None:
        """Check the request. Raises UsageError or SpecError where it cannot be carried out."""
        self.request = request
        self._positional = positional
        self._file = model_file(request)
        self.calls = self._file is None and request.torch is None and not request.keras
        self.spec = self._find_spec()
        if self.spec is not None and not pads:
            self.spec = replace(self.spec, input=replace(self.spec.input, pad_to_multiple_of=None))
        self._torch = torch_source(request)
        self._reading = [self._reading_part(i, stage) for i, stage in enumerate(request.stages)]
        self.post = [] if request.post is None else [post_part(request.post, self.threads)]

    def _find_spec(self) -> Spec | None:
        r = self.request
        said = r.spec is not None or r.preset is not None
        if self.calls and not said:
            if r.labels is not None or r.top_k is not None:
                raise UsageError("labels and top_k belong to a spec; give spec= or preset= too, or leave them out.")
            return None
        prepared = not said and (self._positional or r.stages)
        beside = self._file is not None and spec_beside(self._file)
        if prepared and not beside and r.labels is None and r.top_k is None:
            return None  # what the user prepared goes to the model as it is
        found = find_spec(self._file, spec=r.spec, preset=r.preset, labels=r.labels, top_k=r.top_k)
        return resolve(found, self._input_shape())

    def _input_shape(self) -> Sequence[int | str | None] | None:
        """Return the shape that the model takes, batch first; None where it does not say."""
        if self.request.keras:
            from penstock._models import keras_file

            return keras_file.input_shape(self.request.model)
        if self._file is None or self.request.torch is not None:
            return None
        from penstock._models.candidates import ports_of

        return ports_of(self._file).only_input(self._file.stem).shape

    def fingerprint(self) -> dict[str, Any]:
        """Return everything of the request that decides about the answers, as JSON values."""
        return {
            "model": self._describe_model(),
            "spec": None if self.spec is None else self.spec.to_dict(),
            "decoder": self._decoder() if self.decodes else None,
            **self.request.fingerprint(),
        }

    def _decoder(self) -> str:
        from penstock._decode import choose_decoder

        return choose_decoder()

    def _describe_model(self) -> dict[str, Any]:
        if self._torch is not None:
            return self._torch.describe()
        if self.request.keras:
            from penstock._models import keras_file

            return keras_file.describe(self.request.model)
        if self._file is None:
            from penstock._models.source_hash import describe

            return describe(self.request.model)
        from penstock._models.modelfile import ModelFile

        return ModelFile.read(self._file).describe()

    @property
    def decodes(self) -> bool:
        """Whether items are pictures that penstock decodes."""
        return not self.request.stages and (not self._positional or self.spec is not None)

    # ---- before the model

    def ready(self, entries: Sequence[Any], choices: Mapping[str, Any] | None) -> Ready:
        """Load the model, see `load`, and return all steps from an item to its output."""
        loaded = self.load(entries, choices)
        return ready(loaded, [*self.before(loaded.padded), self.model_part(loaded), *self.after()])

    def before(self, padded: bool) -> list[Part]:
        """Return the steps from an item to what the model takes; `padded`: as its spec allows and `load` found good."""
        return [*self.reading(self.shrink_to), *self.preparing(padded)]

    def reading(self, shrink_to: int | None) -> list[Part]:
        """Return the steps that read an item, alike for every model: the decoder, or the user's stages."""
        return [Part(self._decode_step(shrink_to), tryable=True)] if self.decodes else list(self._reading)

    def _reading_part(self, i: int, given: Any) -> Part:
        stage = given if isinstance(given, Workers) else Workers(given)
        fn = PathFirst(stage.fn) if i == 0 and not self._positional else stage.fn
        return worker_part(stage, fn, self.threads)

    def preparing(self, padded: bool) -> list[Part]:
        """Return the steps that make the model's input of what was read."""
        spec = self.input_of(padded)
        if spec is None:
            return []
        from penstock._preprocess import make

        return [Part(Step.of("preprocess", make(spec)), tryable=True)]

    def input_of(self, padded: bool) -> InputSpec | None:
        """Return how the model's input is made of what was read; None: it is what was read."""
        if self.spec is None or padded:
            return None if self.spec is None else self.spec.input
        return replace(self.spec.input, pad_to_multiple_of=None)

    @property
    def shrink_to(self) -> int | None:
        """The short side in pixels that a photo may be shrunk to while it is decoded; None: it must not be."""
        if self.spec is None:
            return None
        from penstock._preprocess import shrink_to

        return shrink_to(self.spec.input)

    def _decode_step(self, least: int | None) -> Step:
        from penstock._decode import decode, load

        alpha = self.spec is not None and self.spec.input.color == "rgba"
        if not self._positional:
            return Step.of("decode", lambda item: load(item, shrink_to=least, alpha=alpha))
        return Step.of("decode", lambda v: v if isinstance(v, np.ndarray) else decode(v, shrink_to=least, alpha=alpha))

    # ---- the model

    def load(self, entries: Sequence[Any], choices: Mapping[str, Any] | None) -> Loaded:
        """Load the model: exactly as in `choices` (a resumed job), or the best of what is installed on real `entries`.

        Raises ModelError where no candidate answers like the reference, UsageError where a choice is not installed.
        """
        self._refuse_other_choices(choices or {})
        if self.calls:
            return self._load_callable(choices or {})
        from penstock._models import remembered

        items = probes(self.before(padded=False), entries, CHECKED)
        key = None if choices is not None else self._key(items)
        known = None if key is None or not self.request.recall else remembered.recall(key)
        if known is not None:
            try:
                told = tuple({**tried, "made": known.made} for tried in known.measurements)
                return replace(self._loaded(entries, items, known.choices), measurements=told)
            except PenstockError as error:
                _LOG.warning("A choice made earlier does not hold any more, and is made anew: %s", error)
        loaded = self._loaded(entries, items, choices)
        if key is not None and loaded.agreement is not None:
            keep = partial(remembered.keep, key, measurements=loaded.measurements)
            return replace(loaded, keep=keep if keep(loaded.choices) is not None else None)
        return loaded

    def _loaded(self, entries: Sequence[Any], items: list[Any], choices: Mapping[str, Any] | None) -> Loaded:
        from penstock._models.replicas import replicated

        padded = choices is not None and bool(choices.get("padded_to"))
        if padded:
            items = probes(self.before(padded), entries, CHECKED)
        chosen = self._chosen(items, choices)
        found = {**(choices or {}), **chosen.choices}
        if bool(found.get("padded_to")) != padded:  # what was tried on them so far was decided with both
            items = probes(self.before(not padded), entries, CHECKED)
        places = self._places(found.get("settings", {}))
        model, memory = replicated(chosen.model, places, items, chosen.batch_size)
        agreement = None if chosen.agreement is None else str(chosen.agreement)
        return Loaded(model, memory, chosen.batch_size, found, tuple(chosen.measurements), agreement)

    def _key(self, items: Sequence[Any]) -> dict[str, Any] | None:
        """Return under what a choice is kept; None where it is made anew each time.

        Kept is what a file's bytes decide, and what is checked again on the run's items. Whether threads may share a
        torch module, and whether padding changes an answer, is neither.
        """
        from penstock._models import remembered

        if self._file is None or self._torch is not None or self.request.keras or self._padding() is not None:
            return None
        if len(items) < remembered.LEAST_ITEMS:
            return None
        spec = None if self.spec is None else self.spec.input
        return remembered.key_of(self._describe_model(), spec, self._wanted(None), self.request.devices, items)

    def _places(self, settings: Mapping[str, Any]) -> Places:
        """Return where the model is to run: with replicas="auto" in the copies that its `settings` were chosen with."""
        from penstock._models.replicas import Places

        r = self.request
        copies = settings.get("copies") if r.replicas == "auto" else r.replicas
        return Places(r.devices, copies, self.threads, said=(r.threads, r.replicas) != ("auto", "auto"))

    def _chosen(self, items: list[Any], choices: Mapping[str, Any] | None) -> Chosen:
        from penstock._models import choose, torch_choose

        r, spec, wanted = self.request, None if self.spec is None else self.spec.input, self._wanted(choices)
        if r.keras:
            from penstock._models.keras_choose import choose_keras

            return choose_keras(r.model, spec, items, wanted, choices)
        if self._torch is not None:
            if choices is not None:
                return torch_choose.load_torch_as(self._torch, spec, choices, items, self.threads)
            return torch_choose.choose_torch(self._torch, spec, items, wanted)
        if choices is not None:
            return choose.load_as(r.model, spec, choices, items, self.threads)
        return choose.choose(r.model, spec, items, wanted)

    def _wanted(self, choices: Mapping[str, Any] | None) -> Wanted:
        from penstock._models.choose import Wanted

        r = self.request
        return Wanted(
            self.threads,
            inside=cpu_budget().cores if r.threads == "auto" else r.threads,
            runtime=r.runtime,
            precision=r.precision,
            batch=r.batching.max_size,
            exact=(choices or {}).get("safety", r.batching.safety) == "exact",
            padding=self._padding() if choices is None else None,
            replicas=1 if len(r.devices) > 1 and r.replicas == "auto" else r.replicas,
        )

    def _padding(self) -> Padding | None:
        """Return what the spec allows, to be tried on real items; None where it allows none."""
        from penstock._models.padding import Padding
        from penstock._postprocess import make

        if self.spec is None or self.spec.input.pad_to_multiple_of is None:
            return None
        return Padding(self.spec.input, make(self.spec.output), self.request.batching.safety == "exact")

    def _refuse_other_choices(self, choices: Mapping[str, Any]) -> None:
        """Refuse to go on with a job under a runtime or batch size asked for now that is not the one it has."""
        r = self.request
        asked = {"runtime": r.runtime if self._file else "auto", "batch": r.batching.max_size}
        for name, value in asked.items():
            if name in choices and value not in ("auto", choices[name], choices.get(f"asked_{name}")):
                raise LedgerError(
                    f"This job was begun with {name} {choices[name]!r}, and {name}={value!r} is asked for now. Leave "
                    "it out to go on, use another out, or start over with --fresh (fresh=True)."
                )

    def _load_callable(self, choices: Mapping[str, Any]) -> Loaded:
        from penstock._models.callables import callable_model
        from penstock._models.replicas import replicated

        # Nobody knows whether a user's function bears two threads at once, unless it says so or is asked to.
        concurrency = None if self.request.threads == "auto" else "concurrent"
        spec, device = None if self.spec is None else self.spec.input, self.request.devices[0]
        places = self._places({})
        processes = len(self.request.devices) * (places.replicas or 1)
        where = "cpu" if device == "auto" else device
        model = callable_model(self.request.model, spec, where, concurrency, processes)
        asked = self.request.batching.max_size
        size = int(choices.get("batch", CALLABLE_BATCH)) if asked == "auto" else asked
        copies, memory = replicated(model, places, [], size)  # no probes: a callable sees each item once
        padded_to = None if spec is None else spec.pad_to_multiple_of  # not tried either
        found = {"runtime": "python", "batch": size} | ({"padded_to": padded_to} if padded_to else {})
        return Loaded(copies, memory, size, found)

    @property
    def threads(self) -> int:
        """The threads that share the work: as asked, or the CPU budget."""
        if self.request.threads != "auto":
            return self.request.threads
        return cpu_budget().threads

    def model_part(self, loaded: Loaded) -> Part:
        """Return the step that calls the model."""
        model = loaded.model
        step = Step("model", model.worker, block=loaded.batch_size, model=model.name)
        tryable = not self.calls and model.callers is None and not model.serial and model.devices == ("cpu",)
        own: Literal["thread", "process"] | None = None
        if self.calls:
            own = "process" if model.concurrency == "process" else "thread"
        said = self.request.replicas != "auto" or self.request.threads != "auto"
        pinned = said or model.serial or own == "process" or model.devices != ("cpu",)  # a device's memory is planned
        apart = self.threads if loaded.choices.get("shape") == "separate" else None  # as a plan found to be faster
        workers, spare = model.callers or apart, model.spare
        return Part(step, workers, serial=model.serial, own=own, tryable=tryable, pinned=pinned, spare=spare)

    # ---- behind the model

    @property
    def output(self) -> OutputSpec:
        """What a row of the model means."""
        return OutputSpec() if self.spec is None else self.spec.output

    def interpreting(self, output: OutputSpec) -> list[Part]:
        """Return the step that makes an output of a row; a callable's row is kept as it is."""
        if self.calls and output.task == "raw":
            return []
        from penstock._postprocess import make

        return [Part(Step.of("postprocess", make(output)), tryable=True)]

    def after(self) -> list[Part]:
        """Return the steps from a row of the model to an output."""
        return [*self.interpreting(self.output), *self.post]


def probes(before: Sequence[Part], entries: Sequence[Any], n: int) -> list[Any]:
    """Return up to `n` entries as the model gets them; those that fail on the way are met again by the run."""
    rows = Rows(range(len(entries)), entries, list(entries), 0)
    with ExitStack() as stack:
        for part in before:
            out: list[Any] = []
            failed = run_step(part.step, stack.enter_context(part.step.bind()), rows, out)
            rows = Rows(rows.positions, rows.items, out, failed)
    return [value for value in rows.values if type(value) is not Failure][:n]
