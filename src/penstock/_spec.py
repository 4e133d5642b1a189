"""How a model wants its input and what its output means: frozen dataclasses, read from TOML, presets or Hugging Face."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Resize = Literal["short_side", "stretch", "pad"]
Color = Literal["rgb", "bgr", "gray", "rgba"]
Task = Literal["classify", "ctc", "embed", "raw"]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The geometry and numbers of a model's input; every field as in the `[input]` table of a TOML file."""

    size: tuple[int, int] | None = None
    resize: Resize | None = None
    short_side: int | None = None
    crop: Literal["center"] | None = None
    keep_aspect_height: int | None = None
    interpolation: Literal["bilinear", "bicubic", "area"] = "bilinear"
    antialias: bool = True
    color: Color = "rgb"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtype: str = "float32"
    pad_value: int = 0


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What a row of the model's output means; every field as in the `[output]` table of a TOML file."""

    task: Task = "raw"
    activation: Literal["none", "softmax"] | None = None
    labels: tuple[str, ...] | None = None
    index_offset: int | None = None
    top_k: int = 5
    blank: int = 0


@dataclass(frozen=True, slots=True)
class Spec:
    """Input and output of a model together."""

    input: InputSpec
    output: OutputSpec = field(default_factory=OutputSpec)
