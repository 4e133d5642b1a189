"""Models on ONNX Runtime: one session, shared by all worker threads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from penstock._contracts import Predict
from penstock._models import graph
from penstock._models.batcher import Batcher
from penstock._models.modelfile import LOADING, ModelFile, refused
from penstock._models.normalise import normalised
from penstock._models.ports import Array, Dim, Port, Ports
from penstock._spec import InputSpec
from penstock.errors import Closed, MissingDependency, ModelError, SpecError, UsageError

RUNTIME = "onnxruntime"
_ERROR, _FATAL = 3, 4
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
_DTYPES = {"float": "float32", "double": "float64"}


class OrtModel:
    """A model on ONNX Runtime's CPU provider, run by any number of threads at once.

    With a `spec`, items are uint8 pictures (H, W, C) in the model's channel order, and `normalises` says where they
    become numbers ("graph" or "numpy"); without, items are arrays as the model takes them, less the batch axis.

    `settings`: `intra_threads` (threads inside one call, default 1), `qdq` (False drops the runtime's handling of
    quantised tensors, which costs half the speed where only weights are quantised), `in_graph` (False keeps
    normalisation out of the graph).

    Raises UsageError or ModelError where the file cannot be loaded, MissingDependency without onnxruntime.
    """

    concurrency = "concurrent"
    runtime = RUNTIME

    def __init__(
        self,
        path: str | os.PathLike[str],
        spec: InputSpec | None = None,
        precision: str = "f32",
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if precision != "f32":
            raise UsageError(
                f"runtime='onnxruntime' cannot run precision={precision!r} on a CPU. "
                "Use runtime='openvino', or precision='f32'."
            )
        file = ModelFile.read(path)
        self.name = file.name
        self._description = file.describe()
        self.weights_bytes = file.weights_bytes
        self.precision = precision
        self.settings = {"intra_threads": 1, "qdq": True, "in_graph": True} | dict(settings or {})
        self.normalises = "no" if spec is None else "numpy"
        self.version = version()
        self._session: Any = _session(file, self._with_normalisation(file, spec), self.settings)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.ports = _ports(self._session)
        prepare = None
        if spec is not None and self.normalises == "numpy":
            prepare = partial(normalised, spec=spec, dtype=self.ports.only_input(self.name).dtype)
        self._batcher = Batcher(self.name, self.ports, prepare)
        self._input = self.ports.inputs[0].name

    def __repr__(self) -> str:
        """Show what is loaded and how."""
        state = "closed" if self._session is None else "loaded"
        return f"<OrtModel {self.name} {state}: {self.version} {self.precision} {self.settings}>"

    @property
    def batch_size(self) -> int | None:
        """The only batch size the model runs at, or None where it takes any."""
        return self._batcher.size

    @contextmanager
    def worker(self) -> Iterator[Predict]:
        """Give `predict(items) -> rows`; ONNX Runtime needs nothing of its thread."""
        yield partial(self._batcher.predict, self._run)

    def describe(self) -> dict[str, Any]:
        """Return the model's part of a job's fingerprint: kind, file name, sha256."""
        return dict(self._description)

    def close(self) -> None:
        """Free the session; idempotent."""
        self._session = None

    def _run(self, batch: Array) -> list[Any]:
        session = self._session
        if session is None:
            raise Closed(f"model {self.name} was closed.")
        return list(session.run(self._outputs, {self._input: batch}))

    def _with_normalisation(self, file: ModelFile, spec: InputSpec | None) -> bytes | None:
        """Return the changed model, or None where the file is run as it is."""
        if spec is None or not self.settings["in_graph"]:
            return None
        if not graph.available():
            return None
        try:
            changed = graph.with_uint8_input(file.data, spec)
        except SpecError:
            raise
        except ModelError:
            return None  # the file's own loading says what is wrong with it, if anything is
        self.normalises = "graph"
        return changed


def version() -> str:
    """Return the installed version. Raises MissingDependency without one."""
    return str(_module().__version__)


def _module() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency.of("onnxruntime", "onnx", "running models on ONNX Runtime") from error
    # The process-wide logger warns of GPUs that it looked for and did not find.
    onnxruntime.set_default_logger_severity(_ERROR)
    return onnxruntime


def _session(file: ModelFile, changed: bytes | None, settings: Mapping[str, Any]) -> Any:
    ort = _module()
    options = ort.SessionOptions()
    options.intra_op_num_threads = settings["intra_threads"]
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL  # each error is raised too; printed, it would tear the progress line
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not settings["qdq"]:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if changed is not None and file.external():
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(file.path.resolve().parent))
    source = str(file.path) if changed is None else changed
    with LOADING:
        try:
            return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise refused(file.path, "ONNX Runtime", error) from error


def _ports(session: Any) -> Ports:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return Ports(tuple(map(_port, inputs)), tuple(map(_port, outputs)))


def _port(value: Any) -> Port:
    kind = value.type
    if not kind.startswith("tensor("):
        return Port(value.name, None, kind)
    word = kind.removeprefix("tensor(").removesuffix(")")
    shape = tuple(_dim(dim) for dim in value.shape)
    return Port(value.name, shape, np.dtype(_DTYPES.get(word, word)).name if word != "string" else word)


def _dim(dim: Any) -> Dim:
    # Some exporters write a free batch as 0 or -1.
    return dim if isinstance(dim, str) or (isinstance(dim, int) and dim > 0) else None
