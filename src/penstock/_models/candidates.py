"""The ways to run a model file here: which runtimes are installed, and which of their settings are worth a try."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field
from typing import Any

from penstock._models import graph, ort, ov
from penstock._models.contender import FIXED_BATCH
from penstock._models.modelfile import ModelFile, refused
from penstock._models.ports import Ports, free_in_batch_only
from penstock._options import Auto
from penstock._spec import InputSpec
from penstock.errors import MissingDependency, ModelError, UsageError

RUNTIMES = (ort.RUNTIME, ov.RUNTIME)
PRECISIONS = ("f32", "bf16", "f16")
RuntimeModel = ort.OrtModel | ov.OvModel


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run a model file."""

    runtime: str
    precision: str = "f32"
    settings: dict[str, Any] = field(default_factory=dict)

    def load(self, path: str | os.PathLike[str], spec: InputSpec | None) -> RuntimeModel:
        """Return the loaded model."""
        adapter = ort.OrtModel if self.runtime == ort.RUNTIME else ov.OvModel
        return adapter(path, spec, self.precision, self.settings)

    def __str__(self) -> str:
        """Show it as in messages and plans."""
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{self.runtime} {self.precision} ({settings})"


def installed() -> list[str]:
    """Return the runtimes that are installed, the reference's first."""
    return [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]


def usable(runtime: str, precision: str) -> list[str]:
    """Return the installed runtimes that were asked for and can run at `precision`.

    Raises UsageError for a request that no runtime can meet, MissingDependency where what could is not installed.
    """
    if runtime not in ("auto", *RUNTIMES):
        raise UsageError(f"runtime={runtime!r}: give one of auto, {', '.join(RUNTIMES)}.")
    if precision not in PRECISIONS:
        raise UsageError(f"precision={precision!r}: give one of {', '.join(PRECISIONS)}.")
    if runtime == ort.RUNTIME and precision != "f32":
        raise UsageError(
            f"runtime='onnxruntime' cannot run precision={precision!r} on a CPU. "
            "Use runtime='openvino', or precision='f32'."
        )
    able = [name for name in RUNTIMES if runtime in ("auto", name) and (precision == "f32" or name == ov.RUNTIME)]
    found = [name for name in able if name in installed()]
    if not found:
        raise _missing(able, precision)
    return found


def reference_candidate() -> Candidate:
    """Return the plainest way there is: one thread, the file as it is; ONNX Runtime where it is installed."""
    here = installed()
    if not here:
        raise _missing(list(RUNTIMES), "f32")
    if here[0] == ort.RUNTIME:
        return Candidate(ort.RUNTIME, settings={"intra_threads": 1, "qdq": True, "in_graph": False})
    return Candidate(ov.RUNTIME, settings={"streams": 1, "threads": 1, "fold": False, "in_graph": False})


def ports_of(path: str | os.PathLike[str]) -> Ports:
    """Return what the model file at `path` takes and gives, as it is, before it is chosen how to run it.

    Raises UsageError or ModelError where it cannot be read, MissingDependency where nothing is installed that can.
    """
    if not graph.available():
        model = reference_candidate().load(path, None)
        model.close()
        return model.ports
    file = ModelFile.read(path)
    try:
        return graph.read_ports(file.data)
    except ModelError as error:
        raise refused(file.path, "the package onnx", error) from error


def candidates(
    path: str | os.PathLike[str],
    runtimes: list[str],
    precision: str,
    threads: int,
    inside: int | None = None,
    batch: int | Auto = "auto",
) -> list[Candidate]:
    """Return the settings worth timing for `threads` calling threads, the likeliest first.

    `inside`: the threads that a call may have inside where there is one call at a time; None: `threads`. `batch`: what
    was asked for; of a larger one than 1 a part may be called, by itself, so that none is compiled for it alone.
    """
    file, most = ModelFile.read(path), inside or threads
    found: list[Candidate] = []
    if ort.RUNTIME in runtimes:
        found.extend(Candidate(ort.RUNTIME, precision, settings) for settings in _ort_settings(file, most))
    if ov.RUNTIME in runtimes:
        settings_of_ov = _ov_settings(file, threads, most)
        if batch in ("auto", 1) and all(map(free_in_batch_only, ports_of(path).inputs)):
            settings_of_ov.insert(0, settings_of_ov[0] | {FIXED_BATCH: 1})
        found.extend(Candidate(ov.RUNTIME, precision, settings) for settings in settings_of_ov)
    return found


def _ort_settings(file: ModelFile, inside: int) -> list[dict[str, Any]]:
    # Quantised weights: without the runtime's handling of them the same graph runs up to twice as fast. Quantised
    # activations: with it. Only a measurement tells.
    in_graph = graph.available()
    found = [
        {"intra_threads": 1, "qdq": qdq, "in_graph": in_graph} for qdq in ((False, True) if file.quantised else (True,))
    ]
    return found if inside == 1 else [*found, found[0] | {"intra_threads": inside}]


def _ov_settings(file: ModelFile, threads: int, inside: int) -> list[dict[str, Any]]:
    fold = ov.can_fold(file)
    one = {"streams": 1, "threads": inside, "fold": fold, "in_graph": True}
    left = graph.quantised_nodes(graph.fold_weights(file.data)) if fold else int(file.quantised)
    # OpenVINO 2026.4.1 answers wrongly, at random for each compile, where two streams share quantised weights.
    return [one] if threads == 1 or left else [one | {"streams": threads, "threads": threads}, one]


def _missing(runtimes: list[str], precision: str) -> MissingDependency:
    extras = {ort.RUNTIME: "onnx", ov.RUNTIME: "openvino"}
    ways = " or ".join(f"pip install 'penstock[{extras[name]}]'" for name in runtimes)
    return MissingDependency(
        f"running an .onnx model at precision={precision!r} needs {' or '.join(runtimes)}, and none is installed. "
        f"Run: {ways}"
    )
