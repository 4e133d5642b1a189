"""Where a model's spec is said: given, a preset, beside the model; where nothing says it, what to write."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock._spec import huggingface
from penstock._spec.fields import InputSpec, OutputSpec, Spec
from penstock._spec.huggingface import read_huggingface
from penstock._spec.tables import read_labels, read_tables, read_toml
from penstock.errors import SpecError

_CLASSIFY = OutputSpec(task="classify", activation="none")
PRESETS = {
    # torchvision's and timm's: the ImageNet mean and deviation of [0, 1], here of 0..255.
    "imagenet": Spec(
        InputSpec(
            size=(224, 224),
            resize="short_side",
            short_side=256,
            crop="center",
            mean=(123.675, 116.28, 103.53),
            std=(58.395, 57.12, 57.375),
        ),
        _CLASSIFY,
    ),
    # TensorFlow's Inception and MobileNet: (x - 128) / 128, the central 0.875 of the short side.
    "inception": Spec(
        InputSpec(resize="short_side", short_side="size/0.875", crop="center", mean=(128.0,), std=(128.0,)), _CLASSIFY
    ),
}
"""Specs by name. Scores are the model's own numbers: a preset cannot know whether its last layer is a softmax."""

_TO_WRITE = """\
[input]
size = [224, 224]             # height, width
resize = "short_side"         # or "stretch", "pad"
short_side = 256
crop = "center"
color = "rgb"                 # or "bgr", "gray", "rgba"
mean = [123.675, 116.28, 103.53]   # x in 0..255 becomes (x - mean) / std
std = [58.395, 57.12, 57.375]
layout = "NCHW"

[output]
task = "classify"             # or "ctc", "embed", "raw"
activation = "softmax"        # "none" where the model ends in a softmax
labels = "labels.txt"         # one a line
"""


def find_spec(
    model_path: str | os.PathLike[str] | None,
    spec: Spec | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    preset: str | None = None,
    labels: Any = None,
    top_k: int | None = None,
) -> Spec:
    """Return the spec of a model: as given, a preset, or as a file beside the model says.

    Args:
        model_path: the model's file; None for a callable.
        spec: a Spec, a dict of its tables, or the path of a TOML file or of a `preprocessor_config.json`.
        preset: "imagenet" or "inception"; with `spec`, refused.
        labels: a list, or the path of a file with one label a line; in the place of those in the spec.
        top_k: in the place of the one in the spec.

    Raises:
        SpecError: nothing says it (the message says what to write), or what is said cannot be.
    """
    model = None if model_path is None else Path(model_path)
    found, where = _found(model, spec, preset)
    changes: dict[str, Any] = {}
    if labels is not None:
        changes["labels"] = read_labels(labels)
    if top_k is not None:
        if found.output.task != "classify":
            raise SpecError(
                f'top_k={top_k} has a meaning for task="classify" alone; {where} says "{found.output.task}".'
            )
        changes["top_k"] = top_k
    if changes:
        found = dataclasses.replace(found, output=dataclasses.replace(found.output, **changes))
    _check_complete(found, where)
    return found


def spec_beside(model_path: str | os.PathLike[str]) -> Path | None:
    """Return the file beside a model that says its spec: `model.toml`, else `preprocessor_config.json`; or None."""
    path = Path(model_path)
    beside = (path.with_suffix(".toml"), path.with_name(huggingface.NAME))
    return next((file for file in beside if file.is_file()), None)


def _found(model: Path | None, spec: Any, preset: str | None) -> tuple[Spec, str]:
    if spec is not None and preset is not None:
        raise SpecError(f"spec and preset={preset!r} are both given, and each says everything. Leave one out.")
    if preset is not None:
        if preset not in PRESETS:
            raise SpecError(f"preset={preset!r} is not known; use one of {', '.join(PRESETS)}.")
        return PRESETS[preset], f"preset {preset!r}"
    if isinstance(spec, Spec):
        return spec, "the spec"
    if isinstance(spec, Mapping):
        return read_tables(spec, "the spec", Path()), "the spec"
    if isinstance(spec, (str, os.PathLike)):
        return _read(Path(spec)), str(spec)
    if spec is not None:
        raise SpecError(f"spec={spec!r:.80}: give a Spec, a dict of tables, or the path of a file.")
    beside = None if model is None else spec_beside(model)
    if beside is None:
        raise SpecError(_refusal(model))
    return _read(beside), str(beside)


def _read(path: Path) -> Spec:
    return read_huggingface(path) if path.suffix == ".json" else read_toml(path)


def _refusal(model: Path | None) -> str:
    name, file, beside = "the model", "a file", ""
    if model is not None:
        name, file = model.name, str(model.with_suffix(".toml"))
        beside = f", and there is no {model.with_suffix('.toml').name} or {huggingface.NAME} beside it"
    return (
        f"nothing says how {name} wants its pictures: no spec and no preset is given{beside}. A guess would give wrong "
        'answers in silence. Give preset="imagenet" (models of torchvision and timm) or preset="inception" '
        f"(TensorFlow's MobileNet and Inception), or write {file}:\n\n{_TO_WRITE}"
    )


def _check_complete(spec: Spec, where: str) -> None:
    """Refuse what leaves something open that would have to be guessed. Raises SpecError saying what to write."""
    given, output = spec.input, spec.output
    if not (given.mean or given.std) and given.dtype != "uint8":
        raise SpecError(
            f"{where} does not say how to normalise. Write in [input]: mean = ... and std = ... (0 and 1 keep 0..255)."
        )
    if given.size is not None and given.resize is None:
        raise SpecError(
            f"{where} gives a size but not how to get there. Write in [input]: "
            'resize = "short_side", "stretch" or "pad".'
        )
    if output.task == "classify" and output.activation is None:
        raise SpecError(
            f"{where} does not say whether the model's output needs a softmax. Write in [output]: "
            'activation = "softmax", or "none" where the model ends in one.'
        )
    if output.task == "ctc" and output.labels is None:
        raise SpecError(f'{where} has task = "ctc" but no symbols. Write in [output]: labels = "symbols.txt"')
