"""The original designs, written anew from their descriptions, each on ONNX Runtime at f32 with the settings it allows.

000: sixteen threads, a model each, a static split of the list. 002: a pool of threads for each image over its eight
views, two replicas taken in turn. 003: two models in lock-step from a pool of two, polled every 10 ms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
from _limit import rate_of
from _photos import TOP, Array, Job, Lines, in_threads, line, pixels, tensor
from _runtimes import Predict, ort, ort_defaults

Run = Callable[[], None]
Entry = Callable[[Job], AbstractContextManager[Run]]
VIEWS = [(turns, flip) for turns in range(4) for flip in (False, True)]
THREADS, REPLICAS, POLL_S, BATCH = 16, 2, 0.01, 8


def second_model(job: Job) -> str:
    """Return the other model of 003, which lies beside the first."""
    return str(Path(job.model).with_name("flowers5_mobilenet_v2_head.onnx"))


def image(path: Path) -> Array:
    """Return the pixels of a photo, cropped for the model."""
    return pixels(path.read_bytes())


def views(picture: Array) -> list[Array]:
    """Return the eight views of a picture as inputs of the model."""
    turned = (np.rot90(picture[:, ::-1] if flip else picture, turns) for turns, flip in VIEWS)
    return [tensor(np.ascontiguousarray(view)) for view in turned]


def best(row: Array) -> list[int]:
    """Return the best classes of a row, the best first."""
    return [int(i) for i in np.argsort(-row, kind="stable")[:TOP]]


def _static(predicts: list[Predict], job: Job) -> None:
    """000: each thread takes its slice; the last one takes what is left over."""
    paths = job.paths()
    gap = len(paths) // len(predicts)
    with open(job.out, "w") as file:
        lines = Lines(file)

        def work(k: int) -> None:
            end = len(paths) if k == len(predicts) - 1 else (k + 1) * gap
            for path in paths[k * gap : end]:
                lines.write(line(job.id(path), predicts[k](tensor(image(path)))[0]))

        in_threads(work, range(len(predicts)))


@contextmanager
def design_000(job: Job) -> Iterator[Run]:
    """As described: each model as it comes, with the threads it takes by itself."""
    predicts = [ort_defaults(job.model) for _ in range(THREADS)]
    yield lambda: _static(predicts, job)


@contextmanager
def design_000_tuned(job: Job) -> Iterator[Run]:
    """With folded weights and one thread a model: what the design can give at best."""
    predicts = [ort(job.model) for _ in range(THREADS)]
    yield lambda: _static(predicts, job)


@contextmanager
def design_002(job: Job) -> Iterator[Run]:
    """A new pool for each image, a task for each of its views, replica i % 2."""
    replicas = [ort(job.model) for _ in range(REPLICAS)]

    def run() -> None:
        with open(job.out, "w") as file:
            for path in job.paths():
                pool = ThreadPool(len(VIEWS))
                tasks = [pool.apply_async(replicas[i % REPLICAS], (view,)) for i, view in enumerate(views(image(path)))]
                rows = [task.get() for task in tasks]
                pool.close()
                file.write(line(job.id(path), np.mean(rows, axis=0)[0]))

    yield run


@contextmanager
def design_003(job: Job) -> Iterator[Run]:
    """A batch to both models at once, then wait for both, looking every 10 ms."""
    models = [ort(job.model), ort(second_model(job))]

    def run() -> None:
        paths = job.paths()
        with open(job.out, "w") as file, ThreadPoolExecutor(2) as pool:
            for begin in range(0, len(paths), BATCH):
                chunk = paths[begin : begin + BATCH]
                batch = np.concatenate([tensor(image(path)) for path in chunk])
                futures = [pool.submit(model, batch) for model in models]
                while not all(future.done() for future in futures):
                    time.sleep(POLL_S)
                file.writelines(
                    f'{{"id": "{job.id(path)}", "a": {best(one)}, "b": {best(other)}}}\n'
                    for path, one, other in zip(chunk, *(future.result() for future in futures), strict=True)
                )

    yield run


def limits(job: Job) -> dict[str, float]:
    """Return items/s of each use's limit: decoding and the models, each alone on all cores."""
    paths = job.paths()
    decode = rate_of(image, paths)
    pictures = [image(path) for path in paths]
    one, other = ort(job.model), ort(second_model(job))
    plain = rate_of(lambda picture: one(tensor(picture)), pictures)
    second = rate_of(lambda picture: other(tensor(picture)), pictures)
    eight = rate_of(lambda picture: [one(view) for view in views(picture)], pictures[: max(1, len(pictures) // 8)])
    return {
        "000": 1 / (1 / decode + 1 / plain),
        "002": 1 / (1 / decode + 1 / eight),
        "003": 1 / (1 / decode + 1 / plain + 1 / second),
    }


RIVALS: dict[str, Entry] = {
    "000 as described": design_000,
    "000 tuned": design_000_tuned,
    "002": design_002,
    "003": design_003,
}
