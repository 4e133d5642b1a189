"""On a machine with many CPUs of which this process may use one: every pool has the size that the budget says.

Counted in processes of their own, by their threads in /proc; nothing is timed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="affinity and /proc are Linux's")

BEGIN = """\
import json, os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import numpy as np
import penstock
from penstock._devices import cpu_budget
def threads(): return len(os.listdir("/proc/self/task"))
def said(**found): print(json.dumps({"budget": cpu_budget().threads, "cores": cpu_budget().cores, **found}))
def pictures(n): return [np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8) for i in range(n)]
"""


def run(code: str, **names: str) -> dict[str, Any]:
    """Run `code` on one CPU and return what it says."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src"), **names}
    for name in [name for name in environment if name.endswith("_NUM_THREADS")]:
        del environment[name]
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert (found["budget"], found["cores"]) == (1, 1)
    return found


def test_functions_of_the_user_have_one_thread_each_and_blas_none_beside_it() -> None:
    found = run(
        "with penstock.Session(lambda b: [float(x[0, 0]) for x in b], stages=[lambda v: v @ v]) as session:\n"
        "    list(session.map([np.eye(64)] * 100))\n"
        "    said(stages=session.plan['stages'], inside=session.plan['threads_inside'], threads=threads())\n"
    )
    assert set(found["stages"].values()) == {1}
    assert set(found["inside"].values()) <= {1}
    assert found["threads"] <= 2 + len(found["stages"])  # the main thread, the watch, and a worker each


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_model_file_has_one_thread_inside(runtime: str, tmp_path: Path) -> None:
    pytest.importorskip(runtime)
    path = tmp_path / "mean.onnx"
    write_model(path)
    found = run(
        f"with penstock.Session({os.fspath(path)!r}, runtime={runtime!r}, preset='imagenet') as session:\n"
        "    list(session.map(pictures(20)))\n"
        "    said(stages=session.plan['stages'], settings=session.plan['settings'], threads=threads())\n"
    )
    assert set(found["stages"].values()) == {1}
    inside = {found["settings"].get(name, 1) for name in ("intra_threads", "threads", "streams")}
    assert inside == {1}
    assert found["threads"] <= 2 + len(found["stages"]) + (4 if runtime == "openvino" else 0)  # its own, which wait


def write_model(path: Path) -> None:
    """Write a small convolution with a mean behind it."""
    onnx = pytest.importorskip("onnx")
    import numpy as np

    helper, tensor = onnx.helper, onnx.TensorProto.FLOAT
    weights = onnx.numpy_helper.from_array(np.ones((8, 3, 3, 3), np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", tensor, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info("y", tensor, ["n", 8])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def test_a_torch_module_has_one_thread_inside() -> None:
    pytest.importorskip("torch")
    found = run(
        "import torch\n"
        "net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())\n"
        "with penstock.Session(net, preset='imagenet') as session:\n"
        "    list(session.map(pictures(20)))\n"
        "    said(stages=session.plan['stages'], settings=session.plan['settings'], threads=threads())\n"
    )
    assert set(found["stages"].values()) == {1}
    assert found["settings"]["intra_threads"] == 1
    assert found["threads"] <= 2 + len(found["stages"])


def test_a_feed_has_one_worker() -> None:
    found = run(
        "with penstock.Feed(list(range(200)), batch_size=8, transform=lambda i: np.full(4, i)) as feed:\n"
        "    n = sum(1 for _ in feed)\n"
        "    said(n=n, plan=feed.plan, threads=threads())\n"
    )
    assert found["n"] == 25
    assert found["plan"]["workers"] == 1
    assert found["threads"] <= 4


def test_processes_are_told_of_one_thread(tmp_path: Path) -> None:
    (tmp_path / "seen.py").write_text(
        "import os\ndef environment(_): return [os.environ['OMP_NUM_THREADS'], len(os.sched_getaffinity(0))]\n"
    )
    found = run(
        f"import sys; sys.path.insert(0, {os.fspath(tmp_path)!r})\n"
        "from seen import environment\n"
        "stage = penstock.Workers(environment, kind='process')\n"
        "with penstock.Session(lambda batch: batch, stages=[stage]) as session:\n"
        "    seen = list(session.map([0] * 4))\n"
        "    said(seen=seen, stages=session.plan['stages'])\n",
    )
    assert found["seen"] == [["1", 1]] * 4
    assert set(found["stages"].values()) == {1}
