"""KerasModel on each backend, in a process of its own: the cases are in keras_*cases.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock._models.recognise import is_keras

BACKENDS = ("torch", "jax", "tensorflow")
CASES = [Path(__file__).with_name(name) for name in ("keras_cases.py", "keras_file_cases.py", "keras_state_cases.py")]
ROOT = Path(__file__).resolve().parents[2]
FRESH = """
import json, sys
from pathlib import Path
from penstock._models.keras_file import backend, describe, import_keras
from penstock._models.keras_model import KerasModel

path = Path(sys.argv[1])
told = KerasModel(path) if path.exists() else None
keras = import_keras()
keras.utils.set_random_seed(5)
net = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten()])
if told is None:
    net.save(path)
elif backend() == "tensorflow":
    import tensorflow
    assert tensorflow.config.threading.get_intra_op_parallelism_threads() == 1
late = KerasModel(net, intra_threads=2)
print(json.dumps([describe(path), late.describe(), told and told.threads_note, late.threads_note]))
"""
PYTEST = "import pytest, sys; sys.exit(pytest.main(sys.argv[1:]))"
NO_BACKEND = """
import os, sys
os.environ["KERAS_BACKEND"] = "jax"
sys.modules["jax"] = None
from penstock._models import keras_file
from penstock.errors import MissingDependency
try:
    keras_file.backend()
except MissingDependency as error:
    print(error)
"""


# Keras imports any TensorFlow it finds, on all backends; without it these runs are shorter, and as most users have it.
ALONE = "import sys; sys.modules['tensorflow'] = None\n"


def run(backend: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, with Keras on `backend`."""
    env = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", code if backend == "tensorflow" else ALONE + code, *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.timeout(110)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_case_holds_on(backend: str) -> None:
    done = run(backend, PYTEST, *map(str, CASES), "-q", "-p", "no:cacheprovider", "--durations=3")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    cases = sum(len(re.findall(r"^def test_", path.read_text("utf-8"), re.MULTILINE)) for path in CASES)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= cases
    assert "skipped" not in done.stdout


@pytest.mark.timeout(110)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_fingerprint_is_the_same_in_every_process(backend: str, tmp_path: Path) -> None:
    first, second = (fresh(backend, tmp_path / "net.keras") for _ in range(2))
    assert first[:2] == second[:2]
    file, instance, told, late = second
    assert file["backend"] == instance["backend"] == backend
    # A file is loaded after the backend was told how many threads a call may use; an instance is there before.
    assert told == (late if backend == "jax" else None)
    assert {"torch": "None", "jax": "NPROC", "tensorflow": "TensorFlow was in use"}[backend] in str(late)


def fresh(backend: str, path: Path) -> list[Any]:
    done = run(backend, FRESH, str(path))
    assert done.returncode == 0, done.stderr[-4000:]
    answer: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_keras_is_recognised_without_importing_it() -> None:
    known = "keras" in sys.modules
    assert is_keras("model.keras")
    assert is_keras(Path("x/MODEL.KERAS"))
    assert not is_keras("model.onnx")
    assert not is_keras(len)
    assert ("keras" in sys.modules) == known


def test_a_missing_backend_is_named_with_those_that_are_there() -> None:
    done = run("jax", NO_BACKEND)
    assert "KERAS_BACKEND='jax'" in done.stdout, done.stderr[-2000:]
    assert "installed here: torch" in done.stdout


def test_a_missing_keras_is_named_with_its_extra() -> None:
    code = NO_BACKEND.replace('"jax"] = None', '"keras"] = None')
    assert "pip install 'penstock[keras]'" in run("jax", code).stdout
