"""The limit of the machine: 1 / (1/decode + 1/model + 1/write), each alone on all cores, with the rivals' own code."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from _photos import Array, Job, Lines, Shared, in_threads, line, pixels, tensor
from _runtimes import Predict, cores, openvino, ort, request


def limit(job: Job) -> dict[str, float]:
    """Return items/s of decoding cached bytes, of the model on cached inputs in each runtime, of writing cached rows.

    `limit` takes the faster runtime: nothing that uses one runtime a run can be faster.
    """
    paths = job.paths()
    encoded = [path.read_bytes() for path in paths]
    decode = rate_of(lambda data: tensor(pixels(data)), encoded)
    inputs = [tensor(pixels(data)) for data in encoded]
    models = {name: _model_rate(predicts, inputs) for name, predicts in _runtimes(job).items()}
    row = ort(job.model)(inputs[0])[0]
    with open(job.out, "w") as file:
        lines = Lines(file)
        write = rate_of(lambda path: lines.write(line(job.id(path), row)), paths)
    best = max(models.values())
    rates = {"decode": decode, **models, "write": write}
    return {**rates, "rate": 1 / (1 / decode + 1 / best + 1 / write)}


def _runtimes(job: Job) -> dict[str, list[Predict]]:
    compiled = openvino(job.model, job.precision)
    found = {"model_openvino": [request(compiled) for _ in range(cores())]}
    if job.precision == "f32":  # ONNX Runtime's CPU kernels have no bfloat16
        found["model_onnxruntime"] = [ort(job.model)] * cores()
    return found


def _model_rate(predicts: Sequence[Predict], inputs: Sequence[Array]) -> float:
    shared = Shared(inputs)

    def work(predict: Predict) -> None:
        for values in shared:
            predict(values)

    return _timed(lambda: in_threads(work, predicts), len(inputs))


def rate_of(fn: Callable[[Any], Any], values: Sequence[Any]) -> float:
    """Return the values a second that `fn` does on all cores, after one call to warm it."""
    fn(values[0])
    shared = Shared(values)

    def work(_: int) -> None:
        for value in shared:
            fn(value)

    return _timed(lambda: in_threads(work, range(cores())), len(values))


def _timed(fn: Callable[[], None], n: int) -> float:
    begun = time.perf_counter()
    fn()
    return n / (time.perf_counter() - begun)
