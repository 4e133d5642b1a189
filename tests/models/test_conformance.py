"""What every adapter promises: 8 threads x 200 calls give what one thread gives, and leave the model as it was.

Keras joins ADAPTERS with its adapter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._contracts import Model
from penstock._models.agreement import difference
from penstock._models.callables import CallableModel
from penstock._models.ort import OrtModel
from penstock._models.ov import OvModel
from penstock._options import Torch
from penstock._spec import InputSpec
from penstock.errors import Closed, PenstockError

THREADS, CALLS, WARM = 8, 200, 20
MEET_S = 30
SPEC = InputSpec(mean=(120.0,), std=(60.0,))
Build = Callable[..., bytes]


@dataclass(frozen=True)
class Kit:
    """What an adapter's model is made of."""

    folder: Path
    request: pytest.FixtureRequest

    def onnx_file(self) -> Path:
        """Return a small convolutional net as an ONNX file."""
        helper = pytest.importorskip("onnx").helper
        build: Build = self.request.getfixturevalue("build")
        rng = np.random.default_rng(7)
        weights = {"w": rng.normal(size=(8, 3, 3, 3)).astype(np.float32)}
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("GlobalAveragePool", ["b"], ["y"]),
        ]
        ports = {"x": ("float32", ["N", 3, "H", "W"])}, {"y": ("float32", ["N", 8, 1, 1])}
        path = self.folder / "net.onnx"
        path.write_bytes(build(nodes, *ports, weights))
        return path

    def torch_model(self, save: str | None = None, **settings: Any) -> Model:
        """Return a small torch net: as a module, or by way of a file."""
        nets = self.request.getfixturevalue("nets")
        from penstock._models.torch_model import TorchModel
        from penstock._models.torch_net import load_net

        source = nets.make() if save is None else getattr(nets, save)(nets.make(), self.folder / "net.pt")
        return TorchModel(load_net(Torch(source, device="cpu")), SPEC, settings)

    def ort(self) -> Model:
        """Return a model on ONNX Runtime."""
        pytest.importorskip("onnxruntime")
        return OrtModel(self.onnx_file(), SPEC)

    def ov(self) -> Model:
        """Return a model on OpenVINO, with two streams."""
        pytest.importorskip("openvino")
        return OvModel(self.onnx_file(), SPEC, settings={"streams": 2, "threads": 2})


def spread(batch: Any) -> Any:
    return {"mean": batch.mean((1, 2, 3)), "spread": batch.std((1, 2, 3))}


ADAPTERS: dict[str, Callable[[Kit], Model]] = {
    "onnxruntime": Kit.ort,
    "openvino": Kit.ov,
    "torch module": Kit.torch_model,
    "torch module, one at a time": lambda kit: kit.torch_model(concurrency="one_at_a_time", intra_threads=2),
    "TorchScript": lambda kit: kit.torch_model("save_script"),
    "torch.export": lambda kit: kit.torch_model("save_export"),
    "callable": lambda _: CallableModel(spread, spec=SPEC, concurrency="concurrent"),
    "callable, one at a time": lambda _: CallableModel(spread, spec=SPEC),
}


@pytest.fixture(params=ADAPTERS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    """Return each adapter's model in turn."""
    return ADAPTERS[request.param](Kit(tmp_path, request))


def os_threads() -> int:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()


def rows_of(model: Model, items: list[Any]) -> list[Any]:
    with model.worker() as predict:
        return [predict([item])[0] for item in items]


def same(row: Any, expected: Any) -> bool:
    return difference(row, expected) <= 1e-6


def test_eight_threads_give_what_one_gives(model: Model, pictures: Callable[..., list[Any]]) -> None:
    items = pictures(7)
    serial = rows_of(model, items)
    counts: list[int] = []
    meeting = threading.Barrier(THREADS, lambda: counts.append(os_threads()))

    def hammer(seed: int) -> int:
        right = 0
        with model.worker() as predict:
            for call in range(CALLS):
                if call in (WARM, CALLS - 1):
                    meeting.wait(MEET_S)
                at = (seed + call) % len(items)
                right += same(predict([items[at]])[0], serial[at])
        return right

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(hammer, range(THREADS), timeout=MEET_S)) == [CALLS] * THREADS
    assert counts[0] == counts[1], "threads were made while it ran"
    again = rows_of(model, items)  # usable afterwards, here and in a thread that is new to it
    with ThreadPoolExecutor(1) as pool:
        again += pool.submit(rows_of, model, items).result(MEET_S)
    assert all(same(row, expected) for row, expected in zip(again, serial * 2, strict=True))
    model.close()


def test_a_batch_gives_what_its_items_give(model: Model, pictures: Callable[..., list[Any]]) -> None:
    items = [*pictures(3), *pictures(2, 24, 40)]
    with model.worker() as predict:
        rows = predict(items)
    assert len(rows) == len(items)
    for row, expected in zip(rows, rows_of(model, items), strict=True):
        assert difference(row, expected) <= 1e-5


def test_an_item_that_fails_costs_no_other(model: Model, pictures: Callable[..., list[Any]]) -> None:
    items = pictures(1)
    expected = rows_of(model, items)
    with model.worker() as predict:
        with pytest.raises(PenstockError, match="uint8"):
            predict([np.zeros((3, 4), np.float32)])
        assert same(predict(items)[0], expected[0])


def test_a_closed_model_says_so(model: Model, pictures: Callable[..., list[Any]]) -> None:
    items = pictures(1)
    rows_of(model, items)
    model.close()
    model.close()
    with pytest.raises(Closed):
        rows_of(model, items)


def test_inference_mode_is_entered_in_every_thread(nets: Any, pictures: Callable[..., list[Any]]) -> None:
    torch = pytest.importorskip("torch")
    from penstock._models.torch_model import TorchModel
    from penstock._models.torch_net import load_net

    seen: set[tuple[int, bool]] = set()
    module = nets.make()
    module.register_forward_hook(lambda *_: seen.add((threading.get_ident(), torch.is_inference_mode_enabled())))
    model = TorchModel(load_net(Torch(module, device="cpu")), SPEC)
    meeting = threading.Barrier(THREADS)

    def work(_: int) -> list[Any]:
        meeting.wait(MEET_S)
        return rows_of(model, pictures(1))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))
    assert len(seen) == THREADS
    assert {entered for _, entered in seen} == {True}
