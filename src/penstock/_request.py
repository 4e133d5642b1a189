"""What the user typed, checked: the keywords that `run` and `Session` share, and what kind of model it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock._options import Augment, Auto, Batching, Ensemble, Torch, Workers
from penstock.errors import UsageError

if TYPE_CHECKING:
    from penstock._models.torch_net import TorchSource

DEVICES = ("auto", "cpu")
"""What any model runs on."""
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
    device: str | Sequence[str] = "auto"
    replicas: int | Auto = "auto"
    recall: bool = True
    """Whether a choice made earlier on this machine may be taken; else it is made anew."""

    def __post_init__(self) -> None:
        """Refuse what cannot be, before any work."""
        self._refuse_devices()
        for name, value, known in (
            ("precision", self.precision, PRECISIONS),
            ("runtime", self.runtime, RUNTIMES),
        ):
            if value not in known:
                raise UsageError(f"{name}={value!r} is not known here; use one of {', '.join(known)}.")
        for name in ("preset", "labels"):
            if isinstance(getattr(self, name), Mapping) and not isinstance(self.model, Mapping | Ensemble):
                raise UsageError(f"{name}={getattr(self, name)!r} is by model, and there is one. Give it as it is.")
        for name, number in (("threads", self.threads), ("replicas", self.replicas)):
            if number != "auto" and (not isinstance(number, int) or number < 1):
                raise UsageError(f'{name}={number!r}: give a number of {name} >= 1, or "auto".')
        _ = self.batching  # checks itself
        for stage in self.stages:
            if not isinstance(stage, Workers) and not callable(stage):
                raise UsageError(f"stages: {stage!r} is neither a function nor Workers(function, n).")
        if self.post is not None and not isinstance(self.post, Workers) and not callable(self.post):
            raise UsageError(f"post: {self.post!r} is neither a function nor Workers(function, n).")

    def _refuse_devices(self) -> None:
        devices = self.devices
        if not devices or not all(isinstance(device, str) and device for device in devices):
            raise UsageError(f'device={self.device!r}: give the name of a device, a list of names, or "auto".')
        if len(set(devices)) < len(devices) or (len(devices) > 1 and "auto" in devices):
            raise UsageError(f'device={self.device!r}: name each device once; "auto" is one device.')
        if isinstance(self.model, Mapping | Ensemble | Augment) or self.torch is not None:
            return  # theirs are checked where each is made
        if not callable(getattr(self.model, "load", None)):
            unknown = [device for device in devices if device not in DEVICES]
            if unknown or len(devices) > 1:
                raise UsageError(
                    f"device={self.device!r}: this model runs on the CPU here; use one of {', '.join(DEVICES)}. Other "
                    "devices are for torch, and for classes with a method load(device)."
                )

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices asked for, the first one first."""
        return (self.device,) if isinstance(self.device, str) else tuple(self.device)

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides about the answers, whatever the model is, as JSON values."""
        from penstock._models.source_hash import describe

        return {
            "stages": [describe(function_of(stage)) for stage in self.stages],
            "post": None if self.post is None else describe(function_of(self.post)),
            "precision": self.precision,
        }

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
    def keras(self) -> bool:
        """Whether the model is one of Keras's."""
        from penstock._models.recognise import is_keras

        return is_keras(self.model)

    @property
    def torch(self) -> Torch | None:
        """The model as one of torch's, or None where it is none."""
        from penstock._models.recognise import torch_of

        return torch_of(self.model, self.devices[0])


def model_file(request: Request) -> Path | None:
    """Return the file of the model, None for an object. Raises UsageError where it is neither, or not there."""
    from penstock._models.recognise import KERAS_SUFFIX, TORCH_SUFFIXES

    path, torch = request.model_path, request.torch
    if request.keras and (request.runtime != "auto" or request.precision != "f32"):
        raise UsageError("runtime and precision choose how an .onnx file is run; a Keras model decides that itself.")
    if torch is not None and (request.runtime != "auto" or request.precision != "f32"):
        raise UsageError(
            f"runtime={request.runtime!r}, precision={request.precision!r}: these choose how an .onnx file is run. For "
            'a torch model say Torch(source, dtype="bfloat16") or Torch(source, autocast="bfloat16").'
        )
    if path is None:
        if torch is None and not request.keras:
            _check_callable(request)
        return None
    if path.suffix.lower() != ".onnx" and torch is None and not request.keras:
        raise UsageError(
            f"model={str(path)!r}: files of type {path.suffix or '(none)'} are not known; use .onnx, {KERAS_SUFFIX}, "
            f"or a file of torch's: {', '.join(TORCH_SUFFIXES)}."
        )
    if not path.is_file():
        raise UsageError(f"The model file {path} does not exist (looked in {path.absolute().parent}).")
    return path


def torch_source(request: Request) -> TorchSource | None:
    """Return the checked source of a torch model, None where it is none."""
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


def function_of(fn: Any) -> Callable[..., Any]:
    """Return a function given as it is or as `Workers`."""
    found: Callable[..., Any] = fn.fn if isinstance(fn, Workers) else fn
    return found
