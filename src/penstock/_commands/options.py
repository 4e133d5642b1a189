"""The options that several subcommands share: which model, how it wants its input, how it is run."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

NAMES = "top_k batch threads runtime precision device replicas".split()
"""Options whose values go to `penstock.run` as they are."""
_NAMED = re.compile(r"([A-Za-z0-9_.-]+)=(.+)", re.DOTALL)
"""How a value for one of several models is given."""


def add_model(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of a model; return the group of those on how it is run."""
    parser.add_argument(
        "--model",
        required=True,
        action="append",
        metavar="M",
        help="model file (.onnx, .pt, .pth, .ts, .pt2); several: NAME=FILE for each",
    )
    parser.add_argument("--factory", metavar="PKG:MAKE", help="what makes the module of a torch state dict")
    what = parser.add_argument_group("how the model wants its input, and what its output means")
    what.add_argument("--spec", action="append", metavar="FILE", help="spec in TOML (default: beside the model)")
    what.add_argument("--preset", action="append", metavar="P", help="a built-in spec: imagenet or inception")
    what.add_argument("--labels", action="append", metavar="FILE", help="names of the classes, one a line")
    what.add_argument("--top-k", type=int, metavar="K", help="how many classes a record holds")
    how = parser.add_argument_group("how it is run (everything is measured and chosen by itself)")
    how.add_argument("--batch", type=number_or_auto, default="auto", metavar="N", help="items per call, or auto")
    how.add_argument("--threads", type=number_or_auto, default="auto", metavar="N", help="threads, or auto")
    how.add_argument("--runtime", choices=("auto", "onnxruntime", "openvino"), default="auto")
    how.add_argument("--precision", choices=("f32", "bf16", "f16"), default="f32")
    how.add_argument("--device", type=devices, default="auto", metavar="D[,D]", help="cpu, cuda:0, or auto")
    how.add_argument("--replicas", type=number_or_auto, default="auto", metavar="N", help="callers a device, or auto")
    return how


def model_options(given: argparse.Namespace) -> dict[str, Any]:
    """Return what was given as arguments of `penstock.run`. Raises UsageError for what does not fit together."""
    options: dict[str, Any] = {name: getattr(given, name) for name in NAMES}
    options |= {name: by_model(f"--{name}", getattr(given, name)) for name in ("model", "spec", "preset", "labels")}
    if given.factory is not None:
        options["model"] = made_by(given.factory, options["model"])
    return options


def devices(text: str) -> str | list[str]:
    """Return one device, or a list of those between commas."""
    return text.split(",") if "," in text else text


def number_or_auto(text: str) -> int | str:
    """Return a number, or "auto"."""
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor auto") from None


def by_model(option: str, values: list[str] | None) -> Any:
    """Return the one value given, or a value for each model, given as NAME=VALUE. Raises UsageError for a mixture."""
    from penstock.errors import UsageError

    if values is None:
        return None
    named = [_NAMED.fullmatch(value) for value in values]
    if len(values) == 1 and (named[0] is None or Path(values[0]).exists()):
        return values[0]
    found = {match[1]: match[2] for match in named if match is not None}
    if len(found) < len(values):
        given = ", ".join(values)
        raise UsageError(
            f"{option} was given {len(values)} times ({given}): give each a name of its own, {option} a=FILE."
        )
    return found


def made_by(factory: str, model: Any) -> Any:
    """Return a state dict file, or the one of several model files, with the factory that makes its module.

    The factory's module is found where the command is typed, as with `python -m`.
    """
    from penstock._options import Torch
    from penstock.errors import UsageError

    if isinstance(model, dict):
        raise UsageError(
            "--factory belongs to one model; for several, call penstock.run with model={name: Torch(...)}."
        )
    sys.path.insert(0, "")
    return Torch(model, factory=factory)
