"""Models on OpenVINO: one compiled model, an infer request of its own for each worker thread."""

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
from penstock._models.contender import FIXED_BATCH
from penstock._models.modelfile import LOADING, ModelFile, refused
from penstock._models.normalise import constants, normalised
from penstock._models.ports import Array, Dim, Port, Ports
from penstock._spec import InputSpec
from penstock._spec.fields import CHANNELS
from penstock.errors import Closed, MissingDependency, SpecError, UsageError

RUNTIME = "openvino"
_HINTS = {"f32": ("f32", "FP32"), "bf16": ("bf16", "BF16"), "f16": ("f16", "FP16")}


class OvModel:
    """A model on OpenVINO's CPU device, run by any number of threads at once.

    With a `spec`, items are uint8 pictures (H, W, C) in the model's channel order, and `normalises` says where they
    become numbers ("graph" or "numpy"); without, items are arrays as the model takes them, less the batch axis.

    `settings`: `streams` (calls that run side by side, default 1), `threads` (CPU threads for all of them, default 1),
    `fold` (False leaves quantised weights as they are: with more than one stream OpenVINO 2026.4.1 answers wrongly
    then, at random for each compile), `in_graph` (False keeps normalisation out of the graph), `fixed_batch` (1: it is
    compiled for one item at a time; default 0: as the file says).

    Raises UsageError or ModelError where the file cannot be loaded or the CPU lacks the precision, MissingDependency
    without openvino.
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
        file = ModelFile.read(path)
        self.name = file.name
        self.precision = precision
        usual = {"streams": 1, "threads": 1, "fold": True, "in_graph": True, FIXED_BATCH: 0}
        self.settings = usual | dict(settings or {})
        self.version = version()
        self._description = file.describe()
        self.weights_bytes = file.weights_bytes
        self._core = _module().Core()
        _refuse_precision(self._core, precision)
        model = _read(self._core, file, fold=self.settings["fold"])
        if self.settings[FIXED_BATCH]:
            _fix_batch(model, file, self.settings[FIXED_BATCH])
        self.normalises = "no" if spec is None else "graph" if self.settings["in_graph"] else "numpy"
        if spec is not None and self.normalises == "graph":
            model = self._normalising(model, spec)
        self._compiled: Any = self._compile(model, file)
        self.ports = Ports(_ports(self._compiled.inputs), _ports(self._compiled.outputs))
        prepare = None
        if spec is not None and self.normalises == "numpy":
            prepare = partial(normalised, spec=spec, dtype=self.ports.only_input(self.name).dtype)
        self._batcher = Batcher(self.name, self.ports, prepare)

    def __repr__(self) -> str:
        """Show what is loaded and how."""
        state = "closed" if self._compiled is None else "loaded"
        return f"<OvModel {self.name} {state}: {self.version} {self.precision} {self.settings}>"

    @property
    def batch_size(self) -> int | None:
        """The only batch size the model runs at, or None where it takes any."""
        return self._batcher.size

    @property
    def streams(self) -> int:
        """How many calls its own threads compute side by side, while the callers wait."""
        return int(self.settings["streams"])

    @contextmanager
    def worker(self) -> Iterator[Predict]:
        """Give `predict(items) -> rows` with an infer request of its own: one request cannot serve two threads."""
        with LOADING:
            if self._compiled is None:
                raise Closed(f"model {self.name} was closed.")
            request = self._compiled.create_infer_request()
        yield partial(self._batcher.predict, partial(self._run, request))

    def describe(self) -> dict[str, Any]:
        """Return the model's part of a job's fingerprint: kind, file name, sha256."""
        return dict(self._description)

    def close(self) -> None:
        """Free the compiled model; idempotent. Workers that are still inside keep theirs until they leave."""
        self._compiled = None

    def _run(self, request: Any, batch: Array) -> list[Any]:
        if self._compiled is None:
            raise Closed(f"model {self.name} was closed.")
        # Not [batch]: a dict of inputs would be made of it, 0.08 ms of Python a call.
        request.infer(batch, share_inputs=True, share_outputs=True)
        # Copied, because the request writes its next answer into the same memory.
        return [request.get_output_tensor(place).data.copy() for place in range(len(self.ports.outputs))]

    def _normalising(self, model: Any, spec: InputSpec) -> Any:
        """Return the model with uint8 NHWC input, by OpenVINO's own PrePostProcessor (needs no package `onnx`)."""
        from openvino import Layout, Type
        from openvino.preprocess import PrePostProcessor

        port = Ports(_ports(model.inputs), ()).only_input(self.name)
        if port.shape is None or len(port.shape) != 4:
            self.normalises = "numpy"
            return model
        _refuse_channels(port.shape, spec)
        steps = PrePostProcessor(model)
        steps.input().tensor().set_element_type(Type.u8).set_layout(Layout("NHWC"))
        steps.input().model().set_layout(Layout(spec.layout))
        convert = steps.input().preprocess().convert_element_type(Type.f32)
        for op, values in constants(spec):
            numbers = np.broadcast_to(values.ravel(), CHANNELS[spec.color]).tolist()
            convert = convert.mean(numbers) if op == "Sub" else convert.scale(numbers)
        return steps.build()

    def _compile(self, model: Any, file: ModelFile) -> Any:
        properties = {
            "INFERENCE_PRECISION_HINT": _HINTS[self.precision][0],  # where it can, OpenVINO runs at bf16 unasked
            "NUM_STREAMS": self.settings["streams"],
            "INFERENCE_NUM_THREADS": self.settings["threads"],
        }
        with LOADING:
            try:
                return self._core.compile_model(model, "CPU", properties)
            except Exception as error:
                raise refused(file.path, "OpenVINO", error) from error


def version() -> str:
    """Return the installed version. Raises MissingDependency without one."""
    return str(_module().__version__).partition("-")[0]


def _module() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise MissingDependency.of("openvino", "openvino", "running models on OpenVINO") from error
    return openvino


def _refuse_precision(core: Any, precision: str) -> None:
    if precision not in _HINTS:
        raise UsageError(f"precision={precision!r}: give one of {', '.join(_HINTS)}.")
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if _HINTS[precision][1] not in able:
        # OpenVINO itself would take the hint and run at another precision.
        name = core.get_property("CPU", "FULL_DEVICE_NAME")
        raise UsageError(f"precision={precision!r}: the CPU ({name}) has {', '.join(able)} only. Use precision='f32'.")


def _read(core: Any, file: ModelFile, *, fold: bool) -> Any:
    source: Any = str(file.path)
    try:
        if fold and can_fold(file):
            source = graph.fold_weights(file.data)
        return core.read_model(source)
    except Exception as error:
        raise refused(file.path, "OpenVINO", error) from error


def _fix_batch(model: Any, file: ModelFile, batch: int) -> None:
    """Have the model take `batch` items at a time and no other number.

    So OpenVINO plans memory and kernels once; else at every call: an item of a MobileNetV2 took 12 % more CPU time
    (Xeon with AMX, OpenVINO 2026.4.1).
    """
    try:
        model.reshape({port: [batch, *list(port.partial_shape)[1:]] for port in model.inputs})
    except Exception as error:
        raise refused(file.path, f"OpenVINO, in batches of {batch} alone,", error) from error


def can_fold(file: ModelFile) -> bool:
    """Return whether quantised weights of the file can be folded: there are any, and they are inside of it."""
    return file.quantised and not file.external() and graph.available()


def _refuse_channels(shape: tuple[Dim, ...], spec: InputSpec) -> None:
    channels = shape[1] if spec.layout == "NCHW" else shape[3]
    if isinstance(channels, int) and channels != CHANNELS[spec.color]:
        raise SpecError(
            f"color={spec.color!r}, layout={spec.layout!r} means {CHANNELS[spec.color]} channels; the model takes "
            f"{channels} (input shape {shape}). Correct color or layout."
        )


def _ports(values: Any) -> tuple[Port, ...]:
    return tuple(Port(value.get_any_name(), _shape(value.partial_shape), _dtype(value)) for value in values)


def _shape(shape: Any) -> tuple[Dim, ...] | None:
    if shape.rank.is_dynamic:
        return None
    return tuple(None if dim.is_dynamic else dim.get_length() for dim in shape)


def _dtype(value: Any) -> str:
    return str(np.dtype(value.element_type.to_dtype()).name)
