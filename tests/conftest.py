"""What every test shares: deterministic property tests, no thread or process left over, and the real data."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import multiprocessing
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

if importlib.util.find_spec("openvino"):
    importlib.import_module("openvino")  # starts a thread of its own that lives as long as the process

ROOT = Path(__file__).resolve().parents[1]
LEAVING_S = 5.0
_number = itertools.count()

# The same examples on every run and on every machine; no database of examples is left in the tree.
settings.register_profile(
    "penstock",
    database=None,
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("penstock")


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    """Fail a test that leaves a thread or a child process behind (rule 4: everything has an owner)."""
    before = set(threading.enumerate())
    children = {process.pid for process in multiprocessing.active_children()}
    yield
    started = [thread for thread in threading.enumerate() if thread not in before]
    for thread in started:
        thread.join(timeout=LEAVING_S)
    alive = [thread.name for thread in started if thread.is_alive()]
    alive += [process.name for process in multiprocessing.active_children() if process.pid not in children]
    assert not alive, f"left over after the test: {', '.join(alive)}"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep choices of models in a folder of the tests, never in the user's: for what runs before each test."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("caches")
        patch.setenv("XDG_CACHE_HOME", str(place / "shared"))
        yield place


@pytest.fixture(autouse=True)
def empty_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let each test begin without choices that another one made; return where its own are kept."""
    place = own_cache / str(next(_number))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    return place


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real photos, lines and models; skips where it is absent."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the real photos and models are not on this machine (../shared/data)")
    return path


@pytest.fixture
def nets(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module `torch_nets`, which can then be named in factory=, too."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("torch_nets")


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module `process_tasks`, which worker processes can then import, too."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("process_tasks")


@pytest.fixture
def no_child_left() -> Iterator[None]:
    """Fail a test that leaves a process behind, however it was started."""
    before = set(children())
    yield
    assert set(children()) - before == set()


def children() -> list[int]:
    """Return the processes that this one has started and that are still there."""
    found = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for pids in found for pid in pids]
