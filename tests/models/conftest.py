"""Real photos and text lines as the models want them, and small ONNX files of our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._spec import InputSpec

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="session")
def models(shared_data: Path) -> Path:
    """Return the folder of real models."""
    return shared_data / "models"


@pytest.fixture(scope="session")
def photos(shared_data: Path) -> Callable[[int, int], list[Array]]:
    """Give photos(n, side): n real photos, two from every class or more, as uint8 RGB (side, side, 3)."""
    cv2 = pytest.importorskip("cv2")
    paths = sorted((shared_data / "photos" / "flowers").glob("*/*.jpg"))

    def read(n: int, side: int) -> list[Array]:
        chosen = paths[:: len(paths) // n][:n]
        return [cv2.cvtColor(cv2.resize(cv2.imread(str(p)), (side, side)), cv2.COLOR_BGR2RGB) for p in chosen]

    return read


@pytest.fixture(scope="session")
def pictures() -> Callable[..., list[Array]]:
    """Give pictures(n, height, width): n pictures of noise, uint8 (height, width, 3), the same on every call."""

    def make(n: int, height: int = 32, width: int = 32) -> list[Array]:
        rng = np.random.default_rng(n)
        return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(n)]

    return make


@pytest.fixture(scope="session")
def lines(shared_data: Path) -> Callable[[int], list[Array]]:
    """Give lines(n): n real text lines as uint8 RGB (32, W, 3), W different, narrow ones for speed."""
    cv2 = pytest.importorskip("cv2")
    paths = sorted((shared_data / "lines" / "train").glob("*.png"), key=lambda path: path.stat().st_size)

    def read(n: int) -> list[Array]:
        raw = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths[:n]]
        return [cv2.resize(line, (max(16, line.shape[1] * 32 // line.shape[0]), 32)) for line in raw]

    return read


@pytest.fixture(scope="session")
def specs() -> dict[str, InputSpec]:
    """Return how each real model wants its pixels (../shared/data/README.md)."""
    inception = InputSpec(mean=(128.0,), std=(128.0,))
    return {
        "mobilenet_v2_1.0_224_quant": inception,
        "mobilenet_v1_0.75_192_quant": inception,
        "flowers5_mobilenet_v2_head": inception,
        "squeezenet10_fp16_winml": InputSpec(color="bgr", mean=(104.0, 117.0, 123.0)),
        "fastestdet_coco": InputSpec(color="bgr", std=(255.0,)),
        "crnn_lite_op": InputSpec(mean=(127.5,), std=(127.5,)),
    }


@pytest.fixture(scope="session")
def build() -> Callable[..., bytes]:
    """Give build(nodes, inputs, outputs, weights, opset, ir): the bytes of a small ONNX model."""
    onnx = pytest.importorskip("onnx")

    def make(
        nodes: Sequence[Any],
        inputs: dict[str, tuple[str, Sequence[Any]]],
        outputs: dict[str, tuple[str, Sequence[Any]]],
        weights: dict[str, Array] | None = None,
        *,
        opset: int = 13,
        ir: int = 8,
    ) -> bytes:
        def values(ports: dict[str, tuple[str, Sequence[Any]]]) -> list[Any]:
            return [
                onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
                for name, (dtype, shape) in ports.items()
            ]

        tensors = [onnx.numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
        graph = onnx.helper.make_graph(list(nodes), "g", values(inputs), values(outputs), tensors)
        opsets = [onnx.helper.make_opsetid("", opset)]
        file: bytes = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=ir).SerializeToString()
        return file

    return make


@pytest.fixture
def summing(build: Callable[..., bytes], tmp_path: Path) -> Callable[..., Path]:
    """Give summing(shape, dtype): the path of a model that sums each item's numbers, 'x' -> 'total' (N,)."""
    onnx = pytest.importorskip("onnx")

    def make(shape: Sequence[Any] = ("N", 3, 4, 4), dtype: str = "float32", rows: Any = "N") -> Path:
        node = onnx.helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=0)
        axes = {"axes": np.arange(1, len(shape), dtype=np.int64)}
        path = tmp_path / "summing.onnx"
        path.write_bytes(build([node], {"x": (dtype, shape)}, {"total": (dtype, [rows])}, axes))
        return path

    return make
