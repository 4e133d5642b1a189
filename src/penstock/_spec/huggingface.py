"""Hugging Face's `preprocessor_config.json` -> a spec. What cannot be honoured is refused by name.

The meaning of the keys is that of the image processors in the library `transformers`; `config.json` beside it says the
classes of an image classifier, whose output there is always logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock._spec.fields import InputSpec, OutputSpec, Spec
from penstock.errors import SpecError

NAME = "preprocessor_config.json"
_HONOURED = set(
    "do_resize size resample do_center_crop crop_size do_rescale rescale_factor do_normalize image_mean image_std "
    "data_format do_convert_rgb".split()
)
# Names of classes and bookkeeping: they change no pixel.
_WITHOUT_EFFECT = set(
    "auto_map feature_extractor_type image_processor_type processor_class return_tensors input_data_format device "
    "_valid_processor_keys disable_grouping".split()
)
_INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling
_LAYOUTS = {"channels_first": "NCHW", "channels_last": "NHWC"}


def read_huggingface(path: Path) -> Spec:
    """Return the spec that the file at `path`, and `config.json` beside it, say. Raises SpecError naming the key."""
    config = _json(path)
    try:
        _check_keys(config)
        return Spec(InputSpec(**_geometry(config), **_numbers(config), layout=_layout(config)), _output(path))
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def _json(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise SpecError(f"{path} is no JSON: {error}.") from error
    if not isinstance(config, Mapping):
        raise SpecError(f"{path} holds {type(config).__name__}, not a table of keys.")
    return config


def _check_keys(config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        if key not in _HONOURED | _WITHOUT_EFFECT and value not in (None, False):
            raise SpecError(
                f"{key}={value!r} cannot be honoured. Write a spec (TOML) that says the same in its own words."
            )


def _needed(config: Mapping[str, Any], key: str, reason: str) -> Any:
    if config.get(key) is None:
        raise SpecError(f"{key} is missing ({reason}), and its default depends on the class. Add it, or write a spec.")
    return config[key]


def _geometry(config: Mapping[str, Any]) -> dict[str, Any]:
    if not config.get("do_resize", True):
        if config.get("do_center_crop"):
            raise SpecError("do_center_crop without do_resize cannot be honoured.")
        return {}
    resample = _needed(config, "resample", "do_resize")
    if resample not in _INTERPOLATIONS:
        raise SpecError(f"resample={resample!r} cannot be honoured; 2 (bilinear) and 3 (bicubic) can.")
    size = _needed(config, "size", "do_resize")
    if not isinstance(size, Mapping):
        raise SpecError(
            f"size={size!r} means a square or a short side, by class. Write "
            '{"height": ..., "width": ...} or {"shortest_edge": ...}.'
        )
    return {"interpolation": _INTERPOLATIONS[resample], **_sides(config, size)}


def _sides(config: Mapping[str, Any], size: Mapping[str, Any]) -> dict[str, Any]:
    crops = bool(config.get("do_center_crop"))
    if set(size) == {"shortest_edge"}:
        fields: dict[str, Any] = {"resize": "short_side", "short_side": size["shortest_edge"]}
        if crops:
            crop = _needed(config, "crop_size", "do_center_crop")
            sides = [crop.get("height"), crop.get("width")] if isinstance(crop, Mapping) else [crop, crop]
            fields.update(crop="center", size=sides)
        return fields
    if set(size) != {"height", "width"}:
        raise SpecError(f"size={dict(size)!r} cannot be honoured; height and width, or shortest_edge, can.")
    if crops and config.get("crop_size") not in (size, size["height"]):
        raise SpecError("do_center_crop after a resize to height and width cannot be honoured.")
    return {"resize": "stretch", "size": [size["height"], size["width"]]}


def _numbers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return mean and std in 0..255: (x * factor - mean) / std is (x - mean / factor) / (std / factor)."""
    factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1.0
    if not isinstance(factor, (int, float)) or not factor > 0:
        raise SpecError(f"rescale_factor={factor!r}: it must be a number > 0.")
    if not config.get("do_normalize", True):
        return {"mean": 0.0, "std": 1 / factor}
    mean, std = (_needed(config, key, "do_normalize") for key in ("image_mean", "image_std"))
    return {"mean": _divided("image_mean", mean, factor), "std": _divided("image_std", std, factor)}


def _divided(key: str, values: Any, factor: float) -> list[float]:
    found = values if isinstance(values, list) else [values]
    if not all(isinstance(value, (int, float)) for value in found):
        raise SpecError(f"{key}={values!r}: give numbers.")
    # Written by hand as 0.485 of 255: twelve digits keep 123.675 what it is.
    return [float(f"{value / factor:.12g}") for value in found]


def _layout(config: Mapping[str, Any]) -> Any:
    name = config.get("data_format") or "channels_first"
    if name not in _LAYOUTS:
        raise SpecError(f"data_format={name!r} is not known; use one of {', '.join(_LAYOUTS)}.")
    return _LAYOUTS[name]


def _output(path: Path) -> OutputSpec:
    beside = path.with_name("config.json")
    if not beside.is_file():
        return OutputSpec()
    config = _json(beside)
    names, heads = config.get("id2label"), config.get("architectures") or []
    if not isinstance(names, Mapping) or not any(str(head).endswith("ForImageClassification") for head in heads):
        return OutputSpec()
    if set(names) != {str(row) for row in range(len(names))}:
        raise SpecError(f"{beside}: id2label does not number its {len(names)} labels from 0 on.")
    labels = tuple(str(names[str(row)]) for row in range(len(names)))
    return OutputSpec(task="classify", activation="softmax", labels=labels)
