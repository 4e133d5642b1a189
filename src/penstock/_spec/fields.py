"""The spec of a model as frozen dataclasses. They refuse what contradicts itself; `find_spec` what is missing."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from penstock.errors import SpecError

Resize = Literal["short_side", "stretch", "pad"]
Interpolation = Literal["bilinear", "bicubic", "area"]
Color = Literal["rgb", "bgr", "gray", "rgba"]
Layout = Literal["NCHW", "NHWC"]
Dtype = Literal["float32", "float16", "uint8"]
Task = Literal["classify", "ctc", "embed", "raw"]
Activation = Literal["none", "softmax"]

CHANNELS = {"gray": 1, "rgb": 3, "bgr": 3, "rgba": 4}
SHARE_OF_SIZE = re.compile(r"size/(0?\.\d+|1(?:\.0*)?)")
"""The other way to say `short_side`: "size/0.875" is 256 for a model of 224."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The geometry and numbers of a model's input; every field as in the `[input]` table of a TOML file.

    size: (height, width) in pixels; None takes it from the model. resize: how a picture gets there; "short_side" scales
    its short side to `short_side` pixels (or "size/0.875": the size divided by that) and crops, "stretch" scales both
    sides, "pad" fits it in the middle of a field of `pad_value`. keep_aspect_height: instead of these, a fixed height
    and whatever width the picture then has. pad_to_multiple_of: with it, the width may be filled up on the right with
    `pad_value`, so that lines of similar width share a batch; it is, where no answer changes by it (see `Batching`).
    antialias: as Pillow does; without, as OpenCV does. color: the channels and
    their order; mean and std follow that order: x in 0..255 becomes (x - mean) / std; where one of the two is
    said, the other changes nothing. One number serves all channels.
    layout and dtype: what the model takes.
    """

    size: tuple[int, int] | None = None
    resize: Resize | None = None
    short_side: int | str | None = None
    crop: Literal["center"] | None = None
    keep_aspect_height: int | None = None
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    color: Color = "rgb"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Layout = "NCHW"
    dtype: Dtype = "float32"
    pad_value: int = 0
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        """Bring lists and single numbers into their form; refuse what cannot be. Raises SpecError."""
        for name, values in _INPUT_CHOICES.items():
            _check_choice(name, getattr(self, name), values)
        if self.size is not None:
            _set(self, "size", _two_sides(self.size))
        if self.keep_aspect_height is not None:
            _check_whole("keep_aspect_height", self.keep_aspect_height, 1)
        if self.pad_to_multiple_of is not None:
            _check_whole("pad_to_multiple_of", self.pad_to_multiple_of, 2)
        _check_whole("pad_value", self.pad_value, 0, 255)
        if not isinstance(self.antialias, bool):
            raise SpecError(f"antialias={self.antialias!r}: give true or false.")
        for name in ("mean", "std"):
            _set(self, name, _numbers(name, getattr(self, name), CHANNELS[self.color]))
        _check_numbers(self)
        _check_geometry(self)


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What a row of the model's output means; every field as in the `[output]` table of a TOML file.

    task: "classify" one score for each class, "ctc" scores of symbols over time, "embed" a vector, "raw" arrays.
    labels: one for each row of the model ("classify") or each symbol ("ctc"). activation: what turns the numbers of
    the model into scores. index_offset: `index` is the row plus this ("classify", 0 if not said); the label of row r is
    labels[r + this] ("ctc", where it follows from `blank` if not said). top_k: how many classes. blank: the row of the
    blank in "ctc"; -1 is the last.
    """

    task: Task = "raw"
    activation: Activation | None = None
    labels: tuple[str, ...] | None = None
    index_offset: int | None = None
    top_k: int = 5
    blank: int = 0

    def __post_init__(self) -> None:
        """Bring lists into their form; refuse what cannot be. Raises SpecError."""
        _check_choice("task", self.task, get_args(Task))
        _check_choice("activation", self.activation, (None, *get_args(Activation)))
        _check_whole("top_k", self.top_k, 1)
        _check_whole("blank", self.blank, -1)
        if self.index_offset is not None:
            _check_whole("index_offset", self.index_offset, None)
        if self.labels is not None:
            _set(self, "labels", _strings(self.labels))
        if self.task in ("embed", "raw"):
            for name in ("labels", "activation"):
                if getattr(self, name) is not None:
                    raise SpecError(f'{name} has no meaning for task="{self.task}"; say task="classify" or task="ctc".')


@dataclass(frozen=True, slots=True)
class Spec:
    """Input and output of a model together."""

    input: InputSpec
    output: OutputSpec = field(default_factory=OutputSpec)

    def __post_init__(self) -> None:
        """Refuse what is no spec. Raises SpecError."""
        for name, kind in (("input", InputSpec), ("output", OutputSpec)):
            if not isinstance(getattr(self, name), kind):
                raise SpecError(f"Spec({name}=...) takes an {kind.__name__}, not {type(getattr(self, name)).__name__}.")

    def to_dict(self) -> dict[str, Any]:
        """Return every field as JSON values, for a job's fingerprint; the labels by their number and SHA-256."""
        output = dataclasses.asdict(self.output)
        if self.output.labels is not None:
            output["labels"] = _digest(self.output.labels)
        tables = {"input": dataclasses.asdict(self.input), "output": output}
        return {
            table: {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}
            for table, fields in tables.items()
        }


_INPUT_CHOICES: dict[str, tuple[Any, ...]] = {
    "resize": (None, *get_args(Resize)),
    "crop": (None, "center"),
    "interpolation": get_args(Interpolation),
    "color": get_args(Color),
    "layout": get_args(Layout),
    "dtype": get_args(Dtype),
}


def _set(spec: Any, name: str, value: Any) -> None:
    object.__setattr__(spec, name, value)


def _digest(labels: tuple[str, ...]) -> dict[str, Any]:
    import hashlib
    import json

    return {"count": len(labels), "sha256": hashlib.sha256(json.dumps(labels).encode()).hexdigest()}


def _check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        known = ", ".join(f'"{word}"' for word in allowed if word is not None)
        raise SpecError(f"{name}={value!r} is not known; use one of {known}.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_whole(name: str, value: Any, least: int | None, most: int | None = None) -> None:
    if _is_whole(value) and (least is None or value >= least) and (most is None or value <= most):
        return
    limits = "" if least is None else f" >= {least}" if most is None else f" from {least} to {most}"
    raise SpecError(f"{name}={value!r}: give a whole number{limits}.")


def _two_sides(size: Any) -> tuple[int, int]:
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(_is_whole(n) and n >= 1 for n in size):
        raise SpecError(f"size={size!r}: give [height, width], two whole numbers >= 1.")
    return (size[0], size[1])


def _numbers(name: str, values: Any, channels: int) -> tuple[float, ...]:
    found = tuple(values) if isinstance(values, (list, tuple)) else (values,)
    good = all(isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) for n in found)
    if not good or len(found) not in (0, 1, channels):
        raise SpecError(
            f"{name}={values!r}: give one number, or one for each of the {channels} channels in their order, in 0..255."
        )
    return tuple(float(n) for n in found)


def _strings(labels: Any) -> tuple[str, ...]:
    if not isinstance(labels, (list, tuple)) or not labels:
        raise SpecError(f"labels={labels!r:.80}: give a list of strings, one for each row of the model's output.")
    wrong = next((label for label in labels if not isinstance(label, str)), None)
    if wrong is not None:
        raise SpecError(f"labels hold {wrong!r}, which is no string.")
    return tuple(labels)


def _check_numbers(spec: InputSpec) -> None:
    if 0 in spec.std:
        raise SpecError(f"std={list(spec.std)} holds a zero: every value of that channel would be infinite.")
    if spec.dtype == "uint8" and (any(spec.mean) or any(n != 1 for n in spec.std)):
        raise SpecError('dtype="uint8" takes the pixels as they are: leave out mean and std, or correct dtype.')


def _check_geometry(spec: InputSpec) -> None:
    if spec.keep_aspect_height is not None:
        for name in ("size", "resize", "short_side", "crop"):
            if getattr(spec, name) is not None:
                raise SpecError(
                    f"keep_aspect_height says the whole geometry (height fixed, width free): leave out {name}."
                )
    elif spec.pad_to_multiple_of is not None:
        raise SpecError(
            "pad_to_multiple_of fills up the width that keep_aspect_height leaves free: say that too, or leave it out. "
            'A fixed size is filled by resize="pad".'
        )
    if spec.interpolation == "area" and not spec.antialias:
        raise SpecError('interpolation="area" is an antialiasing one: leave out antialias=false.')
    if (spec.short_side is not None or spec.crop is not None) and spec.resize != "short_side":
        name = "short_side" if spec.short_side is not None else "crop"
        raise SpecError(f'{name} belongs to resize="short_side"; resize is {spec.resize!r}.')
    if spec.resize == "short_side":
        _check_short_side(spec)


def _check_short_side(spec: InputSpec) -> None:
    side = spec.short_side
    if isinstance(side, str):
        if not SHARE_OF_SIZE.fullmatch(side) or spec.crop is None:
            raise SpecError(f'short_side={side!r}: give pixels, or, with crop="center", a share as in "size/0.875".')
        return
    _check_whole("short_side", side, 1)
    if spec.size is not None and spec.crop is None:
        raise SpecError('size and resize="short_side" need crop="center" too: one side of the picture is longer.')
    if spec.size is not None and side is not None and side < max(spec.size):
        raise SpecError(f"short_side={side} is less than size={list(spec.size)}: the crop would not fit.")
