"""Settings that exceed the budget: what is said of them, once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import penstock
from penstock import _exceeding
from penstock._devices import CpuBudget
from penstock._engine.spawning import THREADS
from penstock._engine.step import Step
from penstock._exceeding import Setting, exceeding, of_environment, of_libraries, of_work
from penstock._plan import Part

TWO = CpuBudget(2, 2, "affinity to 2 of 64 CPUs")


def identity(value: Any) -> Any:
    return value


def test_a_message_has_the_setting_the_numbers_their_reason_and_what_to_do() -> None:
    settings = [Setting("threads=2", 2, "x"), Setting("threads=8", 8, "give {fit}")]
    assert list(exceeding(settings, TWO)) == [
        "threads=8: 8 threads at once, and this process may keep 2 busy (affinity to 2 of 64 CPUs); give 2."
    ]


def test_what_is_set_for_each_call_counts_for_all_calls_at_once() -> None:
    environment = {
        "OMP_NUM_THREADS": "2,1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "",
        "NUMEXPR_NUM_THREADS": "x",
    }
    assert [(s.name, s.threads) for s in of_environment(environment, 1)] == [
        ("OMP_NUM_THREADS=2", 2),
        ("MKL_NUM_THREADS=1", 1),
    ]
    said = list(exceeding(list(of_environment(environment, 2)), TWO))
    assert len(said) == 1
    assert said[0].startswith("OMP_NUM_THREADS=2 in each of 2 calls at once: 4 threads at once, and this process may ")
    assert said[0].endswith("or set it to 1.")


def test_workers_of_the_users_functions_are_named() -> None:
    parts = [
        Part(Step.of("decode", identity)),
        Part(Step.of("load", identity), 16, own="thread"),
        Part(Step.of("crop", identity), own="thread"),
    ]
    assert [(s.name, s.threads) for s in of_work(parts, 4)] == [("threads=4", 4), ("Workers(load, 16)", 16)]


def test_libraries_that_are_loaded_are_asked() -> None:
    modules = {"torch": SimpleNamespace(get_num_threads=lambda: 8), "cv2": SimpleNamespace()}  # half imported
    assert [(s.name, s.threads, s.advice) for s in of_libraries(modules)] == [
        ("torch with 8 threads", 8, "call torch.set_num_threads({fit})")
    ]
    modules = {"cv2": SimpleNamespace(getNumThreads=lambda: 3)}
    assert [(s.name, s.threads) for s in of_libraries(modules)] == [("cv2 with 3 threads", 3)]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of two CPUs where nothing was said yet."""
    monkeypatch.setattr(_exceeding, "cpu_budget", lambda: TWO)
    monkeypatch.setattr(_exceeding, "of_libraries", lambda _modules: iter(()))
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    _exceeding._once.cache_clear()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [message.partition(":")[0] for message in found]


def test_a_session_warns_once_in_a_process(two: None, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        with penstock.Session(identity, stages=[penstock.Workers(identity, 3)], threads=2) as session:
            assert list(session.map([1])) == [1]
    assert warnings(caplog) == ["Workers(identity, 3)"]


def test_a_run_warns(two: None, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    penstock.run([1], identity, threads=5, out=tmp_path / "out.jsonl")
    assert warnings(caplog) == ["threads=5"]


def test_a_run_that_fits_says_nothing(two: None, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    penstock.run([1], identity, threads=2, out=tmp_path / "out.jsonl")
    assert warnings(caplog) == []


def test_a_setting_of_the_environment_is_said_for_the_calls_there_are(
    two: None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with penstock.Session(identity) as session:  # called by one thread
        assert list(session.map([1])) == [1]
    assert warnings(caplog) == []
    with penstock.Session(identity, threads=2) as session:
        assert list(session.map([1])) == [1]
    assert warnings(caplog) == ["OPENBLAS_NUM_THREADS=2 in each of 2 calls at once"]


@pytest.mark.parametrize(("workers", "said"), [(3, ["workers=3"]), (2, []), ("auto", [])])
def test_a_feed_warns_of_what_was_asked(
    workers: Any, said: list[str], two: None, caplog: pytest.LogCaptureFixture
) -> None:
    with penstock.Feed(list(range(8)), batch_size=4, workers=workers, kind="thread") as feed:
        assert len(list(feed)) == 2
    assert warnings(caplog) == said


def test_torch_says_what_it_was_told() -> None:
    """The real one, in a process of its own: what it is told is kept for its whole life."""
    pytest.importorskip("torch", reason="pip install 'penstock[torch]'")
    code = (
        "import logging, torch, penstock\n"
        "logging.basicConfig(format='%(message)s')\n"
        "torch.set_num_threads(99)\n"
        "with penstock.Session(lambda batch: batch) as session: assert list(session.map([1])) == [1]"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=50, check=True
    )
    assert "torch with 99 threads: 99 threads at once, and this process may keep" in done.stderr
