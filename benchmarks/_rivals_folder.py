"""Photos to JSON lines, as people write it by hand and with each library, at the best settings found.

An entry is a context manager: loading and compiling are done on entry; its `run()` goes from the first photo to the
closed file. `run` returns its seconds where the entry knows its first item's time better than the caller does.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _photos import Array, Job, Lines, Shared, in_threads, line, read
from _runtimes import Predict, blank, cores, loaded, openvino, ort, ort_defaults, request

Run = Callable[[], float | None]
Entry = Callable[[Job], AbstractContextManager[Run]]


def _loop(job: Job, predict: Predict) -> None:
    with open(job.out, "w") as file:
        file.writelines(line(job.id(path), predict(read(path))[0]) for path in job.paths())


@contextmanager
def plain_defaults(job: Job) -> Iterator[Run]:
    """The plain loop with ONNX Runtime as it comes."""
    predict = ort_defaults(job.model)
    yield lambda: _loop(job, predict)


@contextmanager
def plain_tuned(job: Job) -> Iterator[Run]:
    """The plain loop, folded weights, all cores in each call."""
    predict = ort(job.model, intra=cores())
    yield lambda: _loop(job, predict)


@contextmanager
def sixteen_threads(job: Job) -> Iterator[Run]:
    """Sixteen threads, a session each, a static split: the way of the original; a tuned session each."""
    predicts = [ort(job.model) for _ in range(16)]

    def run() -> None:
        paths = job.paths()
        with open(job.out, "w") as file:
            lines = Lines(file)

            def work(k: int) -> None:
                for path in paths[k::16]:
                    lines.write(line(job.id(path), predicts[k](read(path))[0]))

            in_threads(work, range(16))

    yield run


def _fused(job: Job, predicts: list[Predict]) -> Run:
    def run() -> None:
        paths = Shared(job.paths())
        with open(job.out, "w") as file:
            lines = Lines(file)

            def work(predict: Predict) -> None:
                for path in paths:
                    lines.write(line(job.id(path), predict(read(path))[0]))

            in_threads(work, predicts)

    return run


@contextmanager
def fused_ort(job: Job) -> Iterator[Run]:
    """A thread a core, each decodes, runs, writes; one ONNX Runtime session, one thread a call, no spinning."""
    settings = {"threads": cores(), "intra": 1} | job.settings
    yield _fused(job, [ort(job.model, settings["intra"])] * settings["threads"])


@contextmanager
def fused_by_steps(job: Job) -> Iterator[Run]:
    """The same with four photos at a time, step by step: what penstock does by itself, by hand."""
    predict = ort(job.model)

    def run() -> None:
        paths = job.paths()
        chunks = Shared([paths[i : i + 4] for i in range(0, len(paths), 4)])
        with open(job.out, "w") as file:
            lines = Lines(file)

            def work(_: int) -> None:
                for chunk in chunks:
                    inputs = [read(path) for path in chunk]
                    rows = [predict(values)[0] for values in inputs]
                    lines.write("".join(line(job.id(path), row) for path, row in zip(chunk, rows, strict=True)))

            in_threads(work, range(cores()))

    yield run


@contextmanager
def fused_openvino(job: Job) -> Iterator[Run]:
    """The same with an OpenVINO request a thread, a stream a core, folded weights; a thread more than streams.

    While one decodes, the others keep the streams at work: 1.11 times what as many threads as cores do.
    """
    settings = {"threads": cores() + 1, "streams": cores()} | job.settings
    compiled = openvino(job.model, job.precision, settings["streams"])
    yield _fused(job, [request(compiled) for _ in range(settings["threads"])])


class Photos:
    """A map-style data set for DataLoader: (position, input)."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Array]:
        """Return one photo's input."""
        return index, read(self.paths[index])


@contextmanager
def data_loader(job: Job) -> Iterator[Run]:
    """DataLoader and a loop; small batches, tensors through shared memory."""
    import torch
    from torch.utils.data import DataLoader

    warnings.filterwarnings("ignore", message="This DataLoader will create")
    torch.set_num_threads(1)
    paths = job.paths()
    settings = {"runtime": "onnxruntime", "intra": cores(), "batch_size": 4, "num_workers": cores()} | job.settings
    predict = loaded(job, {key: settings.pop(key) for key in ("runtime", "intra")})
    loader: Any = DataLoader(Photos(paths), collate_fn=stacked, persistent_workers=True, prefetch_factor=4, **settings)

    def run() -> None:
        with open(job.out, "w") as file:
            for places, batch in loader:
                file.writelines(
                    line(job.id(paths[place]), row) for place, row in zip(places, predict(batch.numpy()), strict=True)
                )

    yield run


def stacked(rows: list[tuple[int, Array]]) -> tuple[list[int], Any]:
    """Return the positions of a batch, and its inputs as one tensor."""
    import torch  # tensors travel through shared memory, arrays would be pickled

    return [place for place, _ in rows], torch.from_numpy(np.concatenate([values for _, values in rows]))


@contextmanager
def spdl(job: Job) -> Iterator[Run]:
    """A thread a core for decoding and running together (fused), or for each of the two; photos go in chunks."""
    from spdl.pipeline import PipelineBuilder

    settings = {"runtime": "onnxruntime", "intra": 1, "fused": True, "threads": cores(), "sink": 8} | job.settings
    predict, chunk = loaded(job, settings), job.settings.get("chunk", 8)

    def lines(paths: list[Path]) -> list[str]:
        return [line(job.id(path), predict(read(path))[0]) for path in paths]

    def lines_of(pairs: list[tuple[Path, Array]]) -> list[str]:
        return [line(job.id(path), predict(values)[0]) for path, values in pairs]

    def run() -> None:
        builder = PipelineBuilder().add_source(job.paths()).aggregate(chunk)
        n = settings["threads"]
        if settings["fused"]:
            builder = builder.pipe(lines, concurrency=n)
        else:
            builder = builder.pipe(lambda paths: [(path, read(path)) for path in paths], concurrency=n)
            builder = builder.pipe(lines_of, concurrency=n)
        pipeline = builder.add_sink(settings["sink"]).build(num_threads=n)
        with open(job.out, "w") as file, pipeline.auto_stop():
            for chunk_of_lines in pipeline.get_iterator():
                file.writelines(chunk_of_lines)

    yield run


@contextmanager
def infer_queue(job: Job) -> Iterator[Run]:
    """OpenVINO's AsyncInferQueue, a stream a core on folded weights, inputs not copied."""
    import openvino as ov

    settings = {"streams": cores(), "jobs": 2 * cores()} | job.settings
    queue: Any = ov.AsyncInferQueue(openvino(job.model, job.precision, settings["streams"]), settings["jobs"])
    queue.start_async([blank()])
    queue.wait_all()

    def run() -> None:
        with open(job.out, "w") as file:
            lines = Lines(file)
            # A shared input must live until its answer is there; the queue keeps nothing but its user data.
            queue.set_callback(lambda done, item: lines.write(line(item[0], done.get_output_tensor(0).data[0])))
            for path in job.paths():
                values = read(path)
                queue.start_async([values], (job.id(path), values), share_inputs=True)
            queue.wait_all()

    yield run


class RayWorker:
    """A Ray actor: loads the model once, then takes batches of paths."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.predict = ort(job.model)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON lines of a batch of paths, and when it was begun."""
        begun = time.time()
        paths = [Path(path) for path in batch["path"]]
        lines = [line(self.job.id(path), self.predict(read(path))[0]) for path in paths]
        return {"line": np.array(lines), "begun": np.full(len(lines), begun)}


@contextmanager
def ray_data(job: Job) -> Iterator[Run]:
    """Ray Data, one actor a core that decodes and runs."""
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0", PYTHONPATH=str(Path(__file__).parent))
    import ray

    settings = {"batch": 16, "blocks": 32} | job.settings
    ray.init(num_cpus=cores(), include_dashboard=False, log_to_driver=False, logging_level="error")
    context: Any = ray.data.DataContext.get_current()
    context.enable_progress_bars = False

    def run() -> float:
        data = ray.data.from_items([{"path": str(p)} for p in job.paths()], override_num_blocks=settings["blocks"])
        done = data.map_batches(
            RayWorker, fn_constructor_args=(job,), batch_size=settings["batch"], concurrency=cores(), num_cpus=1
        )
        first = float("inf")
        with open(job.out, "w") as file:
            for batch in done.iter_batches(batch_size=None):
                file.writelines(batch["line"])
                first = min(first, float(batch["begun"].min()))
        return time.time() - first

    yield run
    ray.shutdown()


RIVALS: dict[str, Entry] = {
    "plain loop, defaults": plain_defaults,
    "plain loop, tuned": plain_tuned,
    "sixteen threads, a session each": sixteen_threads,
    "fused threads, ONNX Runtime": fused_ort,
    "fused threads, OpenVINO": fused_openvino,
    "DataLoader": data_loader,
    "spdl": spdl,
    "AsyncInferQueue": infer_queue,
    "Ray Data": ray_data,
}

BESIDE: dict[str, Entry] = {"fused threads by steps (beside)": fused_by_steps}
"""Shown beside: here the user writes penstock's own way of working by hand."""

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "fused threads, ONNX Runtime": [{"threads": 3}, {"threads": 1, "intra": 2}],
    "fused threads, OpenVINO": [{"threads": 2}, {"threads": 4}, {"streams": 1}, {"threads": 1, "streams": 1}],
    "DataLoader": [
        {"num_workers": workers, "batch_size": batch, "intra": intra}
        for workers, batch, intra in ((1, 4, 2), (1, 1, 2), (1, 16, 2), (2, 4, 1), (2, 1, 2), (2, 16, 2))
    ]
    + [{"runtime": "openvino", "batch_size": 1, "num_workers": workers} for workers in (1, 2)],
    "spdl": [
        {"runtime": "openvino"},
        {"threads": 3},
        {"sink": 64},
        {"chunk": 1},
        {"chunk": 16, "sink": 2},
        {"fused": False},
        {"fused": False, "threads": 3},
    ],
    "AsyncInferQueue": [{"streams": 1}, {"streams": 1, "jobs": 2}, {"jobs": 2}, {"jobs": 3}, {"jobs": 8}],
    "Ray Data": [{"batch": 4, "blocks": 32}, {"batch": 64, "blocks": 8}, {"batch": 16, "blocks": 100}],
}
"""Other settings that settings.py tries beside those above, which are the fastest of its last search."""
