"""One item of 300 goes wrong in a worker process: what each engine gives for the others. Run by faults.py, in a child.

python benchmarks/_rivals_faults.py ENTRY FAULT DELIVERED: writes each item that came out as a line of DELIVERED, and
what was raised on stderr. Every entry has two worker processes, and the settings that lose least of those it offers.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ITEMS, CULPRIT, WORKERS = 300, 137, 2
COST_S = 0.002
TIMEOUT_S = 5.0
"""For an item, a batch or a message, whichever an engine lets one limit."""
MOST_ERRORS = 5
"""After so many exceptions in a row a consumer gives up."""


def fail() -> None:
    """Raise, as a broken file does."""
    raise ValueError("this item cannot be read")


FAULTS: dict[str, Callable[[], Any]] = {
    "raises": fail,
    "kill -9": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: ctypes.string_at(0),
    "os._exit(3)": lambda: os._exit(3),
    "never returns": lambda: time.sleep(3600),
    "parent killed": lambda: os.kill(int(os.environ["PENSTOCK_FAULTS_PARENT"]), signal.SIGKILL),
}


def touch(item: int) -> int:
    """Work 2 ms on an item; the culprit meets the fault that the environment names."""
    time.sleep(COST_S)
    if item == CULPRIT:
        FAULTS[os.environ["PENSTOCK_FAULT"]]()
    return item


class Items:
    """A map-style data set."""

    def __len__(self) -> int:
        """Return the number of items."""
        return ITEMS

    def __getitem__(self, index: int) -> int:
        """Return one item."""
        return touch(index)


def same(batch: list[int]) -> list[int]:
    """Return the items of a batch: a collate function, or a model that does nothing."""
    return batch


def data_loader() -> Iterator[Any]:
    """DataLoader, with a timeout, which it has for a batch."""
    from torch.utils.data import DataLoader

    return iter(DataLoader(Items(), batch_size=4, num_workers=WORKERS, collate_fn=same, timeout=TIMEOUT_S))


def spdl() -> Iterator[Any]:
    """A pool of processes under spdl; a failed item is logged and left out."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from spdl.pipeline import PipelineBuilder

    pool = ProcessPoolExecutor(WORKERS, mp_context=get_context("forkserver"))
    builder = PipelineBuilder().add_source(range(ITEMS)).pipe(touch, executor=pool, concurrency=WORKERS)
    pipeline = builder.add_sink(64).build(num_threads=WORKERS)
    with pipeline.auto_stop():
        yield from pipeline.get_iterator(timeout=TIMEOUT_S)


def spdl_region() -> Iterator[Any]:
    """The whole pipeline of spdl in a process of its own."""
    from spdl.pipeline import PipelineBuilder, run_pipeline_in_subprocess

    config = PipelineBuilder().add_source(range(ITEMS)).pipe(touch, concurrency=WORKERS).add_sink(64).get_config()
    yield from run_pipeline_in_subprocess(config, num_threads=WORKERS, timeout=TIMEOUT_S)


def grain() -> Iterator[Any]:
    """Processes of grain that read ahead."""
    from absl import flags
    from grain import MapDataset
    from grain.multiprocessing import MultiprocessingOptions

    flags.FLAGS.mark_as_parsed()  # grain asks for them
    data = MapDataset.range(ITEMS).map(touch).to_iter_dataset()
    return iter(data.mp_prefetch(MultiprocessingOptions(num_workers=WORKERS)))


def ray_data() -> Iterator[Any]:
    """Ray Data, with broken blocks allowed; a worker that dies is tried again three times."""
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    rows = ray.data.range(ITEMS, override_num_blocks=60).map(lambda row: {"id": touch(int(row["id"]))})
    for row in rows.iter_rows():
        yield int(row["id"])


def penstock() -> Iterator[Any]:
    """Ours: a stage with processes."""
    import json
    import tempfile

    from penstock import Limits, Workers, run

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "o.jsonl"
        stages = [Workers(touch, WORKERS, kind="process")]
        report = run(range(ITEMS), same, out=out, stages=stages, limits=Limits(item_timeout_s=TIMEOUT_S))
        for failure in report.failures:
            print(f"raised: {failure['type']} for item {failure['id']}: {failure['message']}", file=sys.stderr)
        for line in out.read_text().splitlines():
            yield json.loads(line)["output"]


ENTRIES: dict[str, Callable[[], Iterator[Any]]] = {
    "penstock": penstock,
    "DataLoader": data_loader,
    "spdl, pool of processes": spdl,
    "spdl, process region": spdl_region,
    "grain": grain,
    "Ray Data": ray_data,
}


def main() -> None:
    entry, os.environ["PENSTOCK_FAULT"], delivered = sys.argv[1:]
    os.environ["PENSTOCK_FAULTS_PARENT"] = str(os.getpid())
    errors = 0
    with open(delivered, "w", buffering=1) as file:
        iterator = ENTRIES[entry]()
        while errors < MOST_ERRORS:
            try:
                value = next(iterator)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - whatever an engine raises is what is looked at
                errors += 1
                print(f"raised: {type(error).__name__}: {error}", file=sys.stderr)
                continue
            file.writelines(f"{item}\n" for item in (value if isinstance(value, list) else [value]))
    print("ended by itself", file=sys.stderr)


if __name__ == "__main__":
    main()
