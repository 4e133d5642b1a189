"""What kind of model was given, told without importing its framework: who has one of its objects has imported it."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from penstock._options import Torch
from penstock.errors import UsageError

KERAS_SUFFIX = ".keras"
TORCH_SUFFIXES = (".pt", ".pth", ".ts", ".pt2")


def is_keras(thing: Any) -> bool:
    """Return whether `thing` is a Keras model, or a path that ends in `.keras`."""
    if isinstance(thing, (str, os.PathLike)):
        return Path(thing).suffix.lower() == KERAS_SUFFIX
    model_class = getattr(sys.modules.get("keras"), "Model", None)
    return model_class is not None and isinstance(thing, model_class)


def is_torch_module(thing: Any) -> bool:
    """Return whether `thing` is an `nn.Module` (an instance, no class), and none of Keras's on torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.nn.Module) and not is_keras(thing)


def torch_of(model: Any, device: str) -> Torch | None:
    """Return `model` as one of torch's, to run on `device`; None where it is none: neither `Torch`, module nor file.

    Raises UsageError where `model` says another device, or its source is no source.
    """
    if not isinstance(model, Torch):
        if not is_torch_module(model) and not _is_torch_file(model):
            return None
        return Torch(model, device=device)
    if not isinstance(model.source, (str, os.PathLike)) and not is_torch_module(model.source):
        raise UsageError(
            f"Torch(source={model.source!r:.80}): give an nn.Module, or the path of a file: TorchScript, "
            "torch.export's, or a state dict with factory=."
        )
    if device not in ("auto", model.device) and model.device != "auto":
        raise UsageError(f"device={device!r} and Torch(device={model.device!r}) contradict each other. Leave one out.")
    return model if device == "auto" else dataclasses.replace(model, device=device)


def _is_torch_file(model: Any) -> bool:
    return isinstance(model, (str, os.PathLike)) and Path(model).suffix.lower() in TORCH_SUFFIXES
