"""What autotune.py runs: five workloads, and for each the grid of numbers that it can be run with.

A point is run by penstock's own engine, with its numbers in the place of those that a run finds by itself: the threads
by `threads=`, the model's by the choices with which a resumed job begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _python_bound import as_it_is, entropy
from folder import SAME_WORK

Point = dict[str, Any]
THREADS, INTRA, BATCHES = (1, 2, 4), (1, 2), (1, 4, 8, 16)
RUNTIMES, REPLICAS = ("onnxruntime", "openvino"), ("shared", "copies")
KINDS, WORKERS = ("thread", "process"), (1, 2, 4)


@dataclass(frozen=True)
class Grid:
    """The points worth a try, and how many others cannot be, by the reason."""

    points: list[Point]
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class Workload:
    """A folder of the data with its files, and what `penstock.run` is asked, but for its numbers.

    n: items of a run; of one point of the grid, `n_grid`.
    """

    folder: str
    suffix: str
    n: int
    n_grid: int
    asked: Callable[[Path], dict[str, Any]]
    grid: Callable[[Path], Grid]


# ---- what is asked


def mobilenet(data: Path) -> dict[str, Any]:
    """MobileNetV2 with quantised weights; any batch."""
    return {"model": str(data / "models" / "mobilenet_v2_1.0_224_quant.onnx"), "spec": SAME_WORK}


def squeezenet(data: Path) -> dict[str, Any]:
    """SqueezeNet 1.0 in float16, whose batch is fixed at 1."""
    prepared = {"resize": "short_side", "short_side": 227, "crop": "center", "antialias": False}
    channels = {"color": "bgr", "mean": [104, 117, 123], "std": 1}
    spec = {"input": {**prepared, **channels}, "output": {"task": "classify", "activation": "none"}}
    return {"model": str(data / "models" / "squeezenet10_fp16_winml.onnx"), "spec": spec}


def crnn_lite(data: Path) -> dict[str, Any]:
    """A reader of text lines of any width."""
    models = data / "models"
    prepared = {"keep_aspect_height": 32, "color": "rgb", "mean": 127.5, "std": 127.5}
    read = {"task": "ctc", "activation": "softmax", "blank": 0, "index_offset": -1}
    labels = str((models / "crnn_lite_keys.txt").absolute())
    return {"model": str(models / "crnn_lite_op.onnx"), "spec": {"input": prepared, "output": read}, "labels": labels}


def torch_net(_: Path) -> dict[str, Any]:
    """MobileNetV2 in torch."""
    from _torch_net import make

    spec = {"input": {**SAME_WORK["input"], "size": [224, 224]}, "output": SAME_WORK["output"]}
    return {"model": make(), "spec": spec}


def python_bound(_: Path) -> dict[str, Any]:
    """A stage in plain Python; where it is run is left open."""
    import penstock

    return {"model": as_it_is, "stages": [penstock.Workers(entropy, kind="auto")]}


# ---- the grids


def of_file(asked: Callable[[Path], dict[str, Any]]) -> Callable[[Path], Grid]:
    """Return the grid of a model file: threads x intra threads x batch x runtime. Its weights are always shared."""

    def grid(data: Path) -> Grid:
        from penstock._models.candidates import ports_of

        path = Path(asked(data)["model"])
        fixed = ports_of(path).only_input(path.stem).shape[0]
        points = list(product(threads=THREADS, intra=INTRA, batch=BATCHES, runtime=RUNTIMES))
        kept = [point for point in points if not isinstance(fixed, int) or point["batch"] == fixed]
        return Grid(kept, {f"the batch is fixed at {fixed}": len(points) - len(kept)})

    return grid


def of_torch(_: Path) -> Grid:
    """Return the grid of a torch module: threads x intra threads x batch x (one module that all call | copies)."""
    points = list(product(threads=THREADS, intra=INTRA, batch=BATCHES, replicas=REPLICAS))
    kept = [point for point in points if point["threads"] > 1 or point["replicas"] == "shared"]
    return Grid(kept, {"one thread has one copy": len(points) - len(kept)})


def of_stage(_: Path) -> Grid:
    """Return the grid of a stage: threads or processes x how many."""
    return Grid(list(product(kind=KINDS, workers=WORKERS)), {})


def product(**values: Sequence[Any]) -> Iterator[Point]:
    """Yield all combinations, by name."""
    for combination in itertools.product(*values.values()):
        yield dict(zip(values, combination, strict=True))


WORKLOADS: dict[str, Workload] = {
    "mobilenet_v2": Workload("photos/flowers", ".jpg", 500, 200, mobilenet, of_file(mobilenet)),
    "squeezenet10": Workload("photos/flowers", ".jpg", 500, 200, squeezenet, of_file(squeezenet)),
    "crnn_lite": Workload("lines", ".png", 420, 140, crnn_lite, of_file(crnn_lite)),
    "torch net": Workload("photos/flowers", ".jpg", 400, 160, torch_net, of_torch),
    "Python-bound": Workload("photos/flowers", ".jpg", 16_000, 1000, python_bound, of_stage),
}


# ---- one point


def label(point: Point) -> str:
    """Return a point in words."""
    if "kind" in point:
        return f"{point['kind']} x {point['workers']}"
    where = point.get("runtime") or point["replicas"]
    return f"{where}, {point['threads']} threads x {point['intra']} inside, batch {point['batch']}"


def arguments_of(asked: Mapping[str, Any], point: Point | None) -> dict[str, Any]:
    """Return what `penstock.run` is given for a point; None: nothing is said but what is asked."""
    import penstock

    if point is None:
        return dict(asked)
    if "kind" in point:
        return {**asked, "stages": [penstock.Workers(entropy, point["workers"], point["kind"])]}
    return {**asked, "threads": point["threads"]}


@contextmanager
def pinned(model: Any, point: Point | None) -> Iterator[None]:
    """Have a run begin with the numbers of `point`, as a job goes on with those that it was begun with."""
    from penstock._adapt import Recipe

    if point is None or "kind" in point:
        yield
        return
    choices, load = choices_of(model, point), Recipe.load
    Recipe.load = lambda recipe, entries, _: load(recipe, entries, choices)  # type: ignore[method-assign]
    try:
        yield
    finally:
        Recipe.load = load  # type: ignore[method-assign]


def choices_of(model: Any, point: Point) -> dict[str, Any]:
    """Return a point as `Recipe.load` takes it: what a choice of the model is stored as."""
    made = file_choices(model, point) if "runtime" in point else torch_choices(model, point)
    return {**made, "precision": "f32", "batch": point["batch"]}


def file_choices(path: str, point: Point) -> dict[str, Any]:
    """Return runtime, version and settings: those that penstock would try first, with the point's threads.

    OpenVINO has a stream for each calling thread.
    """
    from penstock._models import ort, ov
    from penstock._models.candidates import candidates

    runtime, threads, intra = point["runtime"], point["threads"], point["intra"]
    settings = dict(candidates(path, [runtime], "f32", threads, batch=point["batch"])[0].settings)
    if runtime == ort.RUNTIME:
        return {"runtime": runtime, "version": ort.version(), "settings": settings | {"intra_threads": intra}}
    streams = {"streams": threads, "threads": threads * intra}
    return {"runtime": runtime, "version": ov.version(), "settings": settings | streams}


def torch_choices(module: Any, point: Point) -> dict[str, Any]:
    """Return runtime, version, settings and source of a torch module."""
    from penstock._models.torch_model import RUNTIME, version
    from penstock._models.torch_net import source_of

    copies = point["replicas"] == "copies"
    how = {"concurrency": "one_at_a_time" if copies else "concurrent", "intra_threads": point["intra"], "device": "cpu"}
    settings = how | ({"copies": point["threads"]} if copies else {})
    return {"runtime": RUNTIME, "version": version(), "settings": settings, "source": source_of(module)}
