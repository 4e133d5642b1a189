"""What the user typed -> what the engine runs. All interpreting of arguments lives here."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock._contracts import Failure, Item, Model, Predict
from penstock._engine.step import Rows, Step, run_step
from penstock._options import Auto, Batching, Torch, Workers
from penstock._plan import Part
from penstock._spec import OutputSpec, Spec, find_spec, resolve, spec_beside
from penstock.errors import LedgerError, UsageError

if TYPE_CHECKING:
    from penstock._models.choose import Chosen
    from penstock._models.torch_net import TorchSource

CALLABLE_BATCH = 8
"""Items a callable gets at once unless Batching says otherwise: enough to vectorise, few enough to lose little."""
CHECKED = 16
"""Real items on which the answers of a model file are checked before they count."""
DEVICES = ("auto", "cpu")
PRECISIONS = ("f32", "bf16", "f16")
RUNTIMES = ("auto", "onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class Request:
    """The keywords that `run` and `Session` share, as they were given."""

    model: Any
    spec: Any = None
    preset: str | None = None
    labels: Any = None
    top_k: int | None = None
    stages: Sequence[Any] = ()
    post: Any = None
    batch: Batching | int | Auto = "auto"
    threads: int | Auto = "auto"
    runtime: str = "auto"
    precision: str = "f32"
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot be, before any work."""
        devices = DEVICES if self.torch is None else (self.device,)  # torch's were checked where it was made
        for name, value, known in (
            ("device", self.device, devices),
            ("precision", self.precision, PRECISIONS),
            ("runtime", self.runtime, RUNTIMES),
        ):
            if value not in known:
                raise UsageError(f"{name}={value!r} is not known here; use one of {', '.join(known)}.")
        if self.threads != "auto" and (not isinstance(self.threads, int) or self.threads < 1):
            raise UsageError(f'threads={self.threads!r}: give a number of threads >= 1, or "auto".')
        _ = self.batching  # checks itself
        for stage in self.stages:
            if not isinstance(stage, Workers) and not callable(stage):
                raise UsageError(f"stages: {stage!r} is neither a function nor Workers(function, n).")
        if self.post is not None and not isinstance(self.post, Workers) and not callable(self.post):
            raise UsageError(f"post: {self.post!r} is neither a function nor Workers(function, n).")

    @property
    def batching(self) -> Batching:
        """The batching, with a plain number taken as its max_size."""
        return self.batch if isinstance(self.batch, Batching) else Batching(max_size=self.batch)

    @property
    def model_path(self) -> Path | None:
        """The model file, or None for an object."""
        source = self.model.source if isinstance(self.model, Torch) else self.model
        return Path(source) if isinstance(source, (str, os.PathLike)) else None

    @property
    def torch(self) -> Torch | None:
        """The model as one of torch's, or None where it is none."""
        from penstock._models.recognise import torch_of

        return torch_of(self.model, self.device)


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
        self._file = _model_file(request)
        self._calls = self._file is None and request.torch is None
        self.spec = self._find_spec()
        self._torch = _torch_source(request)
        self._stages = [stage if isinstance(stage, Workers) else Workers(stage) for stage in request.stages]

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
        return resolve(found, None if self._file is None or r.torch else _input_shape(self._file))

    def fingerprint(self) -> dict[str, Any]:
        """Return everything of the request that decides about the answers, as JSON values."""
        from penstock._models.source_hash import describe

        return {
            "model": self._describe_model(),
            "spec": None if self.spec is None else self.spec.to_dict(),
            "stages": [describe(stage.fn) for stage in self._stages],
            "post": None if self.request.post is None else describe(_function(self.request.post)),
            "precision": self.request.precision,
            "decoder": self._decoder() if self._decodes else None,
        }

    def _decoder(self) -> str:
        from penstock._decode import choose_decoder

        return choose_decoder()

    def _describe_model(self) -> dict[str, Any]:
        if self._torch is not None:
            return self._torch.describe()
        if self._file is None:
            from penstock._models.source_hash import describe

            return describe(self.request.model)
        from penstock._models.modelfile import ModelFile

        return ModelFile.read(self._file).describe()

    @property
    def _decodes(self) -> bool:
        return not self.request.stages and (not self._positional or self.spec is not None)

    # ---- before the model

    def before(self) -> list[Part]:
        """Return the steps from an item to what the model takes."""
        parts = []
        if self._decodes:
            parts.append(Part(self._decode_step()))
        for i, stage in enumerate(self._stages):
            fn = _path_first(stage.fn) if i == 0 and not self._positional else stage.fn
            parts.append(Part(Step.of(_name(stage.fn), fn), _own_workers(stage)))
        if self.spec is not None:
            from penstock._preprocess import make

            parts.append(Part(Step.of("preprocess", make(self.spec.input, in_graph=True))))
        return parts

    def _decode_step(self) -> Step:
        from penstock._decode import decode, load
        from penstock._preprocess import shrink_to

        least = None if self.spec is None else shrink_to(self.spec.input)
        alpha = self.spec is not None and self.spec.input.color == "rgba"
        if not self._positional:
            return Step.of("decode", lambda item: load(item, shrink_to=least, alpha=alpha))
        return Step.of("decode", lambda v: v if isinstance(v, np.ndarray) else decode(v, shrink_to=least, alpha=alpha))

    # ---- the model

    def load(self, samples: Callable[[int], list[Any]], choices: Mapping[str, Any] | None) -> Loaded:
        """Load the model: exactly as in `choices` (a resumed job), or the best of what is installed on `samples(n)`.

        Raises ModelError where no candidate answers like the reference, UsageError where a choice is not installed.
        """
        self._refuse_other_choices(choices or {})
        if self._calls:
            return self._load_callable(choices or {})
        chosen = self._chosen(samples(CHECKED), choices)
        agreement = None if chosen.agreement is None else str(chosen.agreement)
        return Loaded(chosen.model, chosen.batch_size, chosen.choices, tuple(chosen.measurements), agreement)

    def _chosen(self, items: list[Any], choices: Mapping[str, Any] | None) -> Chosen:
        from penstock._models import choose, torch_choose

        r, spec = self.request, None if self.spec is None else self.spec.input
        wanted = choose.Wanted(self.threads, r.runtime, r.precision, r.batching.max_size)
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
            if name in choices and value not in ("auto", choices[name]):
                raise LedgerError(
                    f"This job was begun with {name} {choices[name]!r}, and {name}={value!r} is asked for now. Leave "
                    "it out to go on, use another out, or start over with --fresh (fresh=True)."
                )

    def _load_callable(self, choices: Mapping[str, Any]) -> Loaded:
        from penstock._models.callables import CallableModel

        # Nobody knows whether a user's function bears two threads at once, unless it says so or is asked to.
        concurrency = None if self.request.threads == "auto" else "concurrent"
        spec = None if self.spec is None else self.spec.input
        model = CallableModel(self.request.model, spec=spec, concurrency=concurrency)
        asked = self.request.batching.max_size
        size = int(choices.get("batch", CALLABLE_BATCH)) if asked == "auto" else asked
        return Loaded(model, size, {"runtime": "python", "batch": size})

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
        step = Step("model", _entered(model), block=loaded.batch_size, model=model.name)
        return Part(step, serial=model.concurrency != "concurrent")

    # ---- behind the model

    def after(self) -> list[Part]:
        """Return the steps from a row of the model to an output."""
        parts = []
        output = OutputSpec() if self.spec is None else self.spec.output
        if not self._calls or output.task != "raw":  # a callable's row is kept as it is
            from penstock._postprocess import make

            parts.append(Part(Step.of("postprocess", make(output))))
        if self.request.post is not None:
            post = self.request.post
            own = _own_workers(post) if isinstance(post, Workers) else None
            parts.append(Part(Step.of(_name(_function(post)), _with_item(_function(post)), takes_item=True), own))
        return parts


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model, its batch size, the choices that bring it back on resume, and what was measured to choose it.

    `agreement`: how its answers on real items compare with the reference, in words; None for callables.
    """

    model: Model
    batch_size: int
    choices: Mapping[str, Any]
    measurements: tuple[Mapping[str, Any], ...] = ()
    agreement: str | None = None


def _model_file(request: Request) -> Path | None:
    from penstock._models.recognise import TORCH_SUFFIXES

    path, torch = request.model_path, request.torch
    if torch is not None and (request.runtime != "auto" or request.precision != "f32"):
        raise UsageError(
            f"runtime={request.runtime!r}, precision={request.precision!r}: these choose how an .onnx file is run. For "
            'a torch model say Torch(source, dtype="bfloat16") or Torch(source, autocast="bfloat16").'
        )
    if path is None:
        if torch is None:
            _check_callable(request)
        return None
    if path.suffix.lower() != ".onnx" and torch is None:
        raise UsageError(
            f"model={str(path)!r}: files of type {path.suffix or '(none)'} are not known; use .onnx, or a file of "
            f"torch's: {', '.join(TORCH_SUFFIXES)}."
        )
    if not path.is_file():
        raise UsageError(f"The model file {path} does not exist (looked in {path.absolute().parent}).")
    return path


def _torch_source(request: Request) -> TorchSource | None:
    options = request.torch
    if options is None:
        return None
    from penstock._models.torch_net import TorchSource

    return TorchSource(options)


def _check_callable(request: Request) -> None:
    if not callable(request.model) and not hasattr(request.model, "predict"):
        raise UsageError(
            f"model={request.model!r} is no model: give the path of an .onnx or .pt file, an nn.Module, a function "
            "predict(batch), or an object with a method predict(batch)."
        )
    if request.runtime != "auto" or request.precision != "f32":
        raise UsageError("runtime and precision choose how a model file is run; a callable decides that itself.")


def _input_shape(path: Path) -> Sequence[int | str | None] | None:
    """Return the shape that the model in the file takes, batch first."""
    from penstock._models.graph import read_ports
    from penstock._models.modelfile import ModelFile

    file = ModelFile.read(path)
    return read_ports(file.data).only_input(file.name).shape


def _entered(model: Model) -> Callable[[], AbstractContextManager[Predict]]:
    return model.worker


def _function(fn: Any) -> Callable[..., Any]:
    found: Callable[..., Any] = fn.fn if isinstance(fn, Workers) else fn
    return found


def _name(fn: Callable[..., Any]) -> str:
    return str(getattr(fn, "__name__", type(fn).__name__))


def _own_workers(stage: Workers) -> int | None:
    return None if stage.n == "auto" else stage.n


def _path_first(fn: Callable[[str], Any]) -> Callable[[Item], Any]:
    """Return `fn` taking an item: the first stage reads the file itself, so it is given the path."""
    return lambda item: fn(item.path or "")


def _with_item(fn: Callable[[Item, Any], Any]) -> Callable[[Item | int, Any], Any]:
    """Return `fn` taking an item also where items are plain values, known by their position."""
    return lambda item, output: fn(item if isinstance(item, Item) else Item(item), output)


def probes(before: Sequence[Part], entries: Sequence[Any], n: int) -> list[Any]:
    """Return up to `n` entries as the model gets them; those that fail on the way are met again by the run."""
    rows = Rows(range(len(entries)), entries, list(entries), 0)
    with ExitStack() as stack:
        for part in before:
            out: list[Any] = []
            failed = run_step(part.step, stack.enter_context(part.step.bind()), rows, out)
            rows = Rows(rows.positions, rows.items, out, failed)
    return [value for value in rows.values if type(value) is not Failure][:n]


@contextmanager
def closing_model(loaded: Loaded) -> Iterator[Loaded]:
    """Own a loaded model: it is closed on leaving."""
    try:
        yield loaded
    finally:
        loaded.model.close()
