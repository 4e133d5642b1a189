"""A request -> what the engine runs: which spec holds, which steps an item goes through, which model answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock._branches import Earlier
from penstock._contracts import Failure, Item, Model, Predict
from penstock._engine.step import Rows, Step, run_step
from penstock._models.ceiling import Ceiling
from penstock._options import Workers
from penstock._plan import Part
from penstock._request import Request, model_file, torch_source
from penstock._spec import OutputSpec, Spec, find_spec, resolve, spec_beside
from penstock.errors import LedgerError, UsageError

if TYPE_CHECKING:
    from penstock._models.choose import Chosen

ItemFn = Callable[[Item | int, Any], Any]
CALLABLE_BATCH = 8
"""Items a callable gets at once unless Batching says otherwise: enough to vectorise, few enough to lose little."""
CHECKED = 16
"""Real items on which the answers of a model file are checked before they count."""


class Recipe:
    """A request that was checked: which spec holds, which steps an item goes through. No model is loaded yet.

    Args:
        request: what was asked.
        positional: True where items are plain values, False where they are files.
    """

    def __init__(self, request: Request, *, positional: bool) -> None:
        """Check the request. Raises UsageError or SpecError where it cannot be carried out."""
        self.request = request
        self._positional = positional
        self._file = model_file(request)
        self._calls = self._file is None and request.torch is None and not request.keras
        self.spec = self._find_spec()
        self._torch = torch_source(request)
        self._reading = [self._reading_part(i, stage) for i, stage in enumerate(request.stages)]
        self.post = [] if request.post is None else [post_part(request.post, self.threads)]

    def _find_spec(self) -> Spec | None:
        r = self.request
        said = r.spec is not None or r.preset is not None
        if self._calls and not said:
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
        return ready(loaded, [*self.before(), self.model_part(loaded), *self.after()])

    def before(self) -> list[Part]:
        """Return the steps from an item to what the model takes."""
        return [*self.reading(self.shrink_to), *self.preparing()]

    def reading(self, shrink_to: int | None) -> list[Part]:
        """Return the steps that read an item, alike for every model: the decoder, or the user's stages."""
        return [Part(self._decode_step(shrink_to))] if self.decodes else list(self._reading)

    def _reading_part(self, i: int, given: Any) -> Part:
        stage = given if isinstance(given, Workers) else Workers(given)
        fn = PathFirst(stage.fn) if i == 0 and not self._positional else stage.fn
        return worker_part(stage, fn, self.threads)

    def preparing(self) -> list[Part]:
        """Return the steps that make the model's input of what was read."""
        if self.spec is None:
            return []
        from penstock._preprocess import make

        return [Part(Step.of("preprocess", make(self.spec.input)))]

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
        if self._calls:
            return self._load_callable(choices or {})
        chosen = self._chosen(probes(self.before(), entries, CHECKED), choices)
        agreement = None if chosen.agreement is None else str(chosen.agreement)
        measurements = tuple(chosen.measurements)
        return Loaded(
            chosen.model, Ceiling(chosen.model.name), chosen.batch_size, chosen.choices, measurements, agreement
        )

    def _chosen(self, items: list[Any], choices: Mapping[str, Any] | None) -> Chosen:
        from penstock._models import choose, torch_choose

        r, spec = self.request, None if self.spec is None else self.spec.input
        exact = r.batching.safety == "exact"
        wanted = choose.Wanted(self.threads, r.runtime, r.precision, r.batching.max_size, exact)
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

        # Nobody knows whether a user's function bears two threads at once, unless it says so or is asked to.
        concurrency = None if self.request.threads == "auto" else "concurrent"
        spec = None if self.spec is None else self.spec.input
        model = callable_model(self.request.model, spec, concurrency)
        asked = self.request.batching.max_size
        size = int(choices.get("batch", CALLABLE_BATCH)) if asked == "auto" else asked
        return Loaded(model, Ceiling(model.name), size, {"runtime": "python", "batch": size})

    @property
    def threads(self) -> int:
        """The threads that share the work: as asked, or the CPU budget."""
        if self.request.threads != "auto":
            return self.request.threads
        from penstock._devices import cpu_budget

        return cpu_budget().threads

    def model_part(self, loaded: Loaded) -> Part:
        """Return the step that calls the model."""
        model = loaded.model
        step = Step("model", _entered(loaded), block=loaded.batch_size, model=model.name)
        return Part(step, serial=model.concurrency != "concurrent")

    # ---- behind the model

    @property
    def output(self) -> OutputSpec:
        """What a row of the model means."""
        return OutputSpec() if self.spec is None else self.spec.output

    def interpreting(self, output: OutputSpec) -> list[Part]:
        """Return the step that makes an output of a row; a callable's row is kept as it is."""
        if self._calls and output.task == "raw":
            return []
        from penstock._postprocess import make

        return [Part(Step.of("postprocess", make(output)))]

    def after(self) -> list[Part]:
        """Return the steps from a row of the model to an output."""
        return [*self.interpreting(self.output), *self.post]


def post_part(post: Any, threads: int, wrapped: Callable[[ItemFn], ItemFn] = lambda fn: fn) -> Part:
    """Return the step that calls the user's `post(item, output)`."""
    stage = post if isinstance(post, Workers) else Workers(post)
    return worker_part(stage, wrapped(WithItem(stage.fn)), threads, takes_item=True)


def worker_part(stage: Workers, fn: Callable[..., Any], threads: int, *, takes_item: bool = False) -> Part:
    """Return the step that calls a function of the user's: `fn`, which does so with what the step is given.

    Raises UsageError where it is to be done by processes and cannot be.
    """
    name, own = str(getattr(stage.fn, "__name__", type(stage.fn).__name__)), None if stage.n == "auto" else stage.n
    if stage.kind == "thread":
        return Part(Step.of(name, fn, takes_item=takes_item), own)
    from penstock._engine.processes import stage_step

    return Part(stage_step(name, fn, workers=own or threads, takes_item=takes_item), own)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model, what fits in its memory, its batch size, and the choices that bring it back on resume.

    `measurements`: what was measured to choose it. `agreement`: how its answers on real items compare with the
    reference, in words; None for callables.
    """

    model: Model
    ceiling: Ceiling
    batch_size: int
    choices: Mapping[str, Any]
    measurements: tuple[Mapping[str, Any], ...] = ()
    agreement: str | None = None

    def noted(self) -> dict[str, Any]:
        """Return what was found while it ran: batches that did not fit in memory, compiles after the seal."""
        compiles = getattr(self.model, "compiles_after_seal", None)
        found = {"memory_ceilings": self.ceiling.describe(), "compiles_after_seal": compiles}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Ready:
    """What is loaded, as a run needs it: its steps, the choices to store, why they were made, and its end.

    `parts(earlier)`: all steps from an item to its output; a model is not asked again for what `earlier` has.
    `noted()`: what was found while it ran.
    """

    parts: Callable[[Earlier], list[Part]]
    choices: Mapping[str, Any]
    measurements: Sequence[Mapping[str, Any]]
    agreement: str | None
    noted: Callable[[], Mapping[str, Any]]
    close: Callable[[], None]


def ready(loaded: Loaded, parts: list[Part]) -> Ready:
    """Return one loaded model with its steps."""
    close = loaded.model.close
    return Ready(lambda _: parts, loaded.choices, loaded.measurements, loaded.agreement, loaded.noted, close)


def _entered(loaded: Loaded) -> Callable[[], AbstractContextManager[Predict]]:
    """Return what a worker thread enters to call the model, in batches that fit in memory."""

    @contextmanager
    def bind() -> Iterator[Predict]:
        with loaded.model.worker() as predict:
            yield loaded.ceiling.under(predict)

    return bind


@dataclass(frozen=True, slots=True)
class PathFirst:
    """A function taking an item: the first stage reads the file itself, so it is given the path. It pickles."""

    fn: Callable[[str], Any]

    def __call__(self, item: Item) -> Any:
        """Call it with the item's path."""
        return self.fn(item.path or "")


@dataclass(frozen=True, slots=True)
class WithItem:
    """A function taking an item also where items are plain values, known by their position. It pickles."""

    fn: Callable[[Item, Any], Any]

    def __call__(self, item: Item | int, output: Any) -> Any:
        """Call it with an item."""
        return self.fn(item if isinstance(item, Item) else Item(item), output)


def probes(before: Sequence[Part], entries: Sequence[Any], n: int) -> list[Any]:
    """Return up to `n` entries as the model gets them; those that fail on the way are met again by the run."""
    rows = Rows(range(len(entries)), entries, list(entries), 0)
    with ExitStack() as stack:
        for part in before:
            out: list[Any] = []
            failed = run_step(part.step, stack.enter_context(part.step.bind()), rows, out)
            rows = Rows(rows.positions, rows.items, out, failed)
    return [value for value in rows.values if type(value) is not Failure][:n]
