"""What BLAS and torch are told while functions of the user's run, and afterwards."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import penstock
from penstock import _dealing
from penstock._dealing import dealt, said
from penstock._devices import CpuBudget
from penstock._engine.step import Step
from penstock._plan import Part, callers_of

threadpoolctl = pytest.importorskip("threadpoolctl", reason="pip install 'penstock[blas]'")


def threads() -> list[int]:
    """Return the threads of numpy's BLAS; OpenCV brings one of its own, whenever it is first imported."""
    found = [each for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"]
    return [each["num_threads"] for each in found if "opencv" not in each["filepath"]]


@pytest.fixture(autouse=True)
def four(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of 8 threads on 4 cores, a BLAS with 4 threads and nothing said by the user, whatever is here."""
    if not threads():
        pytest.skip("numpy's BLAS is none that threadpoolctl knows")
    monkeypatch.setattr(_dealing, "cpu_budget", lambda: CpuBudget(8, 4, "a test"))
    monkeypatch.setattr(_dealing, "_torch", lambda: None)
    for name in {name for names in _dealing.SETTINGS.values() for name in names}:
        monkeypatch.delenv(name, raising=False)
    with threadpoolctl.threadpool_limits(4, user_api="blas"):
        yield
        assert set(threads()) == {4}


def first(batch: list[Any]) -> list[float]:
    return [float(value[0, 0]) for value in batch]


def called_by(workers: int) -> list[Part]:
    return [Part(Step.of("load", first), workers, own="thread")]


@pytest.mark.parametrize(("callers", "share"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_cores_are_dealt_to_the_callers_and_come_back(callers: int, share: int) -> None:
    with dealt(called_by(callers), 8) as (_, found):
        assert set(threads()) == set(found.values()) == {share}
    assert set(threads()) == {4}


def test_nothing_is_told_where_nobody_calls() -> None:
    parts = [Part(Step.of("decode", first))]
    with dealt(parts, 8) as (told, found):
        assert (told, found) == (parts, {})
        assert set(threads()) == {4}


def test_a_blas_never_gets_more_than_it_had() -> None:
    with threadpoolctl.threadpool_limits(1, user_api="blas"), dealt(called_by(2), 8) as (_, found):
        assert set(threads()) == set(found.values()) == {1}


def test_of_several_the_smallest_share_holds_whoever_ends_first() -> None:
    early, late = dealt(called_by(2), 8), dealt(called_by(4), 8)
    early.__enter__()
    late.__enter__()
    assert set(threads()) == {1}
    early.__exit__(None, None, None)
    assert set(threads()) == {1}
    late.__exit__(None, None, None)
    assert set(threads()) == {4}


def test_what_the_user_said_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    with dealt(called_by(4), 8) as (_, found):
        assert set(threads()) == {4}
        assert found == {}
    assert said("openblas", {"OPENBLAS_NUM_THREADS": "2"})
    assert not said("openblas", {"MKL_NUM_THREADS": "2", "OMP_NUM_THREADS": ""})


def test_the_users_function_may_say_something_else() -> None:
    def alone() -> None:
        with threadpoolctl.threadpool_limits(1, user_api="blas"):
            seen.extend(threads())

    seen: list[int] = []
    with dealt(called_by(2), 8):
        worker = threading.Thread(target=alone)
        worker.start()
        worker.join(10)
        assert set(seen) == {1}
        assert set(threads()) == {2}


def test_a_session_deals_to_its_function_and_gives_back() -> None:
    seen: list[int] = []

    def product(batch: list[Any]) -> list[float]:
        seen.extend(threads())
        return [float((value @ value)[0, 0]) for value in batch]

    items = [np.eye(8, dtype=np.float32)] * 20
    with penstock.Session(product, threads=2) as session:
        assert list(session.map(items)) == [1.0] * 20
        assert set(session.plan["threads_inside"].values()) == {2}
    assert set(seen) == {2}


def test_a_run_deals_to_the_functions_of_the_user(tmp_path: Path) -> None:
    seen: list[int] = []

    def product(value: Any) -> Any:
        seen.extend(threads())
        return value @ value

    items = [np.eye(8, dtype=np.float32)] * 20
    stages = [penstock.Workers(product, 2)]
    report = penstock.run(items, first, stages=stages, threads=4, out=tmp_path / "out.jsonl")
    assert report.done == 20
    assert set(report.plan["threads_inside"].values()) == {1}  # the model is the user's too, and four threads call it
    assert set(seen) == {1}


def test_the_callers_are_those_of_the_users_model_or_else_of_its_stages() -> None:
    decode, load = Part(Step.of("decode", first)), Part(Step.of("load", first), 6, own="thread")
    model = Part(Step("model", Step.of("", first).bind, model="m"), own="thread")
    assert callers_of([decode], 3) is None
    assert callers_of([decode, replace(load, own="process")], 3) is None
    assert callers_of([decode, load], 3) == 6
    assert callers_of([decode, load, model], 3) == 3
    assert callers_of([decode, load, replace(model, workers=1)], 3) == 1


def test_without_threadpoolctl_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with dealt(called_by(8), 8) as (_, found):
        assert found == {}
        assert set(threads()) == {4}


def test_pipelines_that_begin_and_end_in_many_threads_leave_it_as_it_was() -> None:
    start = threading.Barrier(4)
    wrong: list[int] = []

    def work(callers: int) -> None:
        start.wait(10)
        for _ in range(20):
            with dealt(called_by(callers), 8):
                wrong.extend(n for n in threads() if n > 4 // callers)

    workers = [threading.Thread(target=work, args=(callers,)) for callers in (1, 2, 3, 4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert wrong == []


class ByThread:
    """A library as MKL is: what a thread says is for that thread."""

    internal_api, filepath = "mkl", "libmkl.so"

    def __init__(self) -> None:
        self.told = threading.local()

    @property
    def num_threads(self) -> int:
        return int(getattr(self.told, "threads", 4))

    def set_num_threads(self, threads: int) -> None:
        self.told.threads = threads


def test_libraries_with_a_number_for_each_thread_are_told_by_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    library = ByThread()
    loaded: list[ByThread] = []
    monkeypatch.setattr(_dealing, "_libraries", lambda: loaded)

    class Model:
        concurrency = "concurrent"

        def load(self, device: str) -> None:
            loaded.append(library)  # as a first import does

        def predict(self, batch: list[Any]) -> list[int]:
            return [library.num_threads] * len(batch)

    with penstock.Session(Model, threads=2) as session:
        assert set(session.map(range(50))) == {2}
    assert library.num_threads == 4


def test_torch_is_told_by_the_workers_and_new_threads_begin_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    torch = SimpleNamespace(get_num_threads=lambda: 4, set_num_threads=told.append)
    monkeypatch.setattr(_dealing, "_torch", lambda: torch)

    @contextmanager
    def bind() -> Iterator[Any]:
        yield first

    with dealt([Part(Step("load", bind), 2, own="thread")], 8) as (parts, found):
        assert found["torch"] == 2
        with parts[0].step.bind() as fn:
            assert fn is first
            assert told == [2]
    assert told == [2, 4]


def test_real_opencv_has_its_share_inside_of_a_function() -> None:
    cv2: Any = pytest.importorskip("cv2", reason="pip install 'penstock[images]'")
    before = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        with penstock.Session(lambda batch: [cv2.getNumThreads() for _ in batch], threads=2) as session:
            assert set(session.map(range(20))) == {2}
    finally:
        cv2.setNumThreads(before)


def test_processes_of_a_model_share_the_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "told_models.py").write_text(
        "import os\n"
        "class Told:\n"
        "    concurrency = 'process'\n"
        "    def predict(self, batch): return [os.environ['OMP_NUM_THREADS']] * len(batch)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("penstock._engine.processes.cpu_budget", lambda: CpuBudget(8, 4, "a test"))
    told: Any = importlib.import_module("told_models")
    for replicas, threads in ((1, "4"), (2, "2")):
        with penstock.Session(told.Told, replicas=replicas) as session:
            assert set(session.map(range(4))) == {threads}


def test_real_torch_has_its_share_inside_of_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    torch: Any = pytest.importorskip("torch", reason="pip install 'penstock[torch]'")
    monkeypatch.setattr(_dealing, "_torch", lambda: torch)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with penstock.Session(lambda batch: [torch.get_num_threads() for _ in batch], threads=2) as session:
            assert set(session.map(range(20))) == {2}
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
