"""The model of folder.py on ONNX Runtime and OpenVINO, at the best settings found, for the hand-written rivals.

CPU milliseconds a photo, one search on 2 shared cores (two threads, MobileNetV2 with quantised weights): ONNX Runtime
plain 15.4, `session.disable_quant_qdq` 5.4 (without arena 6.9, without memory pattern, denormals to zero, stopped
spinning: the same within noise; batches of 2 and 4 the same, of 8 slower); OpenVINO f32, one stream of two threads 6.3
to 7.8, two streams on folded weights 5.1, on the model as it is 6.0 and WRONG; bfloat16 3.0.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _photos import SIDE, Array, Job

Predict = Callable[[Array], Array]


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def blank() -> Array:
    """Return an input to warm a model with, outside the clock."""
    return np.zeros((1, 3, SIDE, SIDE), np.float32)


def ort_options(intra: int = 1) -> Any:
    """Return session options: folded weights, no spinning, `intra` threads a call."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def ort(model: str, intra: int = 1) -> Predict:
    """Return a warm session on ONNX Runtime; safe in many threads."""
    import onnxruntime

    return _predict(onnxruntime.InferenceSession(model, ort_options(intra), providers=["CPUExecutionProvider"]))


def ort_defaults(model: str) -> Predict:
    """Return a warm session with nothing set."""
    import onnxruntime

    return _predict(onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]))


def _predict(session: Any) -> Predict:
    name = session.get_inputs()[0].name

    def predict(batch: Array) -> Array:
        return np.asarray(session.run(None, {name: batch})[0])

    predict(blank())
    return predict


def folded(model: str) -> bytes:
    """Return the model with its quantised weights folded to float32, by ONNX Runtime's basic optimisations."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = ort_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return Path(options.optimized_model_filepath).read_bytes()


def openvino(model: str, precision: str, streams: int | None = None) -> Any:
    """Return the compiled model, a stream for each core, weights folded: two streams are wrong on quantised ones."""
    import openvino as ov

    core = ov.Core()
    read = core.read_model(folded(model), b"")
    read.reshape({0: [1, 3, SIDE, SIDE]})
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": str(streams or cores()),
        "INFERENCE_NUM_THREADS": str(cores()),
    }
    return core.compile_model(read, "CPU", settings)


def request(compiled: Any) -> Predict:
    """Return a warm infer request, for one thread."""
    own = compiled.create_infer_request()

    def predict(batch: Array) -> Array:
        return np.asarray(own.infer([batch], share_inputs=True, share_outputs=True)[0])

    predict(blank())
    return predict


def loaded(job: Job, settings: Mapping[str, Any]) -> Predict:
    """Return the model on `settings["runtime"]`, safe in many threads: OpenVINO takes a request for each."""
    if settings["runtime"] == "onnxruntime":
        return ort(job.model, settings["intra"])
    compiled = openvino(job.model, job.precision, cores() // settings["intra"])
    request(compiled)
    own = threading.local()

    def predict(batch: Array) -> Array:
        if not hasattr(own, "predict"):
            own.predict = request(compiled)
        return np.asarray(own.predict(batch))

    return predict
