"""replicas= and several devices through `run` and `Session`: who gets how much, what is copied, what it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import penstock
from penstock import _adapt, errors
from penstock._devices import CpuBudget
from penstock._models import candidates

ROOT = Path(__file__).resolve().parents[1]


class Device:
    """A fake device, whose call takes as long as its name says; counts the items it got."""

    seconds: ClassVar[dict[str, float]] = {"fast": 0.002, "slow": 0.008, "cpu": 0.0}
    items: ClassVar[Counter[str]] = Counter()
    inside = 0
    lock, busy = threading.Lock(), threading.Event()

    def load(self, device: str) -> None:
        self.device = device

    def predict(self, batch: list[int]) -> list[int]:
        with self.lock:
            self.inside += 1
            assert self.inside == 1, "two threads in a copy that bears one"
        self.busy.wait(self.seconds[self.device])
        with self.lock:
            self.inside -= 1
            self.items[self.device] += len(batch)
        return [2 * value for value in batch]


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    Device.items.clear()


def outputs(path: Path) -> list[Any]:
    return [json.loads(line)["output"] for line in path.read_text("utf-8").splitlines()]


def test_a_device_four_times_slower_gets_about_a_fifth(tmp_path: Path) -> None:
    report = penstock.run(range(400), Device, out=tmp_path / "o.jsonl", device=["fast", "slow"], batch=1)
    assert outputs(tmp_path / "o.jsonl") == [2 * n for n in range(400)]
    assert Device.items.total() == 400
    assert 0.1 < Device.items["slow"] / 400 < 0.34  # 0.2; half of them if items were dealt out in turn
    assert report.plan["stages"]["model"] == 2
    assert [plan["device"] for plan in report.plan["memory"]] == ["fast", "slow"]


def test_a_class_that_bears_one_thread_has_a_copy_for_each_replica(tmp_path: Path) -> None:
    report = penstock.run(range(64), Device, out=tmp_path / "o.jsonl", replicas=3, batch=4)
    assert outputs(tmp_path / "o.jsonl") == [2 * n for n in range(64)]
    assert report.plan["stages"]["model"] == 3
    assert report.plan["memory"][0]["copies"] == 3


def test_a_session_has_replicas_too() -> None:
    with penstock.Session(Device, replicas=3, batch=1) as session:
        assert list(session.map(range(20))) == [2 * n for n in range(20)]
        assert session.plan["memory"][0]["copies"] == 3
        assert session.submit(5).result(30) == 10


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"device": []}, "give the name of a device"),
        ({"device": ["cpu", "cpu"]}, "name each device once"),
        ({"device": ["cpu", "auto"]}, "name each device once"),
        ({"device": "cuda:0"}, "this model runs on the CPU here"),
        ({"device": ["cpu", "cuda:0"]}, "this model runs on the CPU here"),
        ({"replicas": 0}, "give a number of replicas >= 1"),
        ({"replicas": 2}, "there can be no second copy"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    def double(batch: list[int]) -> list[int]:
        return [2 * value for value in batch]

    with pytest.raises(errors.UsageError, match=message):
        penstock.run(range(5), double, out=tmp_path / "o.jsonl", **wrong)


def test_a_copy_that_cannot_be_loaded_ends_the_run_and_names_it(tmp_path: Path) -> None:
    class Third(Device):
        made = 0

        def load(self, device: str) -> None:
            with Device.lock:
                Third.made += 1
                if Third.made == 3:
                    raise OSError("it is broken")
            super().load("cpu")

    with pytest.raises(errors.ModelError, match=r"replica \d of 4 .*it is broken"):
        penstock.run(range(50), Third, out=tmp_path / "o.jsonl", replicas=4)
    report = penstock.run(range(50), Third, out=tmp_path / "o.jsonl", replicas=4)
    assert report.done == 50


WEIGHTS = """
import json, sys
import numpy as np, torch
import penstock
from penstock._devices import memory_use

torch.manual_seed(0)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = torch.nn.Linear(16, 1 << 20)   # 71 MB
        self.keep = KEEP
    def forward(self, x):
        if self.keep:
            self.last = x
        return self.wide(x)[:, :4].clone()  # a slice would hold on to all of it
items = [np.full(16, n, np.float32) for n in range(64)]
net = Net()
before = memory_use(0).resident
report = penstock.run(items, net, out=sys.argv[1], replicas=REPLICAS, batch=1, threads=2)
print(json.dumps({"before": before, "peak": report.plan["peak_memory_bytes"], "memory": report.plan["memory"],
                  "stages": report.plan["stages"], "exceeded": report.plan["memory_exceeded_bytes"]}))
"""


def weights_run(tmp_path: Path, *, keep: bool, replicas: int) -> dict[str, Any]:
    code = WEIGHTS.replace("KEEP", str(keep)).replace("REPLICAS", str(replicas))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "o.jsonl")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_sixteen_replicas_of_a_shared_model_take_its_weights_once(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = weights_run(tmp_path, keep=False, replicas=16)
    (plan,) = found["memory"]
    assert plan["weights_bytes"] == 17 * 4 << 20
    assert (plan["copies"], plan["callers"], found["stages"]["model"]) == (1, 16, 16)
    # 16 calls at once take 4 MB each; sixteen copies would be 1,100 MB more.
    assert found["peak"] - found["before"] < 5 * plan["weights_bytes"]
    assert found["exceeded"] == 0


def test_replicas_of_a_model_that_writes_to_itself_are_copies(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = weights_run(tmp_path, keep=True, replicas=4)
    (plan,) = found["memory"]
    assert (plan["copies"], plan["callers"], found["stages"]["model"]) == (4, 4, 4)
    assert found["peak"] - found["before"] > 2.9 * plan["weights_bytes"]
    assert found["exceeded"] == 0


def test_a_torch_net_with_copies_answers_as_one_does(tmp_path: Path, nets: Any) -> None:
    torch = pytest.importorskip("torch")
    net = nets.make_remembering()
    pictures = [np.random.default_rng(n).random((3, 32, 32), np.float32) for n in range(40)]
    with torch.inference_mode():
        expected = [net(torch.from_numpy(picture)[None])[0].numpy() for picture in pictures]
    report = penstock.run(pictures, net, out=tmp_path / "o.jsonl", replicas=2, threads=2)
    found = [
        np.asarray(output["output"] if isinstance(output, dict) else output) for output in outputs(tmp_path / "o.jsonl")
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert report.plan["memory"][0]["copies"] == 2
    assert report.plan["settings"]["intra_threads"] == 1
    assert "model" not in report.plan["stages"]  # each of the two common threads has a copy


def test_what_does_not_fit_is_refused_before_any_item_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nets: Any
) -> None:
    from penstock._models import footprint

    monkeypatch.setattr(footprint, "memory_budget", lambda: 1 << 20)
    with pytest.raises(errors.UsageError, match=r"it does not fit: memory: Remembers on cpu.* of 1\.0 MB"):
        penstock.run(
            [np.zeros((3, 32, 32), np.float32)] * 4, nets.make_remembering(), out=tmp_path / "o.jsonl", replicas=2
        )


def test_the_plan_is_shown_before_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    penstock.run(range(4), Device, out=tmp_path / "o.jsonl", progress="plain")
    first = capsys.readouterr().err.splitlines()[0]
    assert first.startswith("memory: Device on cpu: weights unknown x 1 copy")


@pytest.mark.parametrize(("said", "workers"), [({}, 3), ({"threads": 2}, 2), ({"replicas": 2}, 2)])
def test_streams_of_openvino_get_a_caller_more_where_nobody_said_how_many(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any], workers: int
) -> None:
    pytest.importorskip("openvino")
    streams = {"streams": 2, "threads": 2, "fold": False, "in_graph": True}
    monkeypatch.setattr(_adapt, "cpu_budget", lambda: CpuBudget(2, 2, "a test"))
    monkeypatch.setattr(candidates, "_ov_settings", lambda *_: [streams])
    model = shared_data / "models" / "fastestdet_coco.onnx"
    spec = {"input": {"size": [352, 352], "resize": "stretch", "mean": 0, "std": 255}, "output": {"task": "raw"}}
    with penstock.Session(model, spec=spec, runtime="openvino", batch=1, **said) as session:
        session.submit(np.zeros((352, 352, 3), np.uint8)).result(timeout=60.0)
        assert list(session.plan["stages"].values()) == [workers]
