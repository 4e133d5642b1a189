from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._models import graph
from penstock._models.normalise import normalised
from penstock._models.ports import Port
from penstock._spec import InputSpec
from penstock.errors import MissingDependency, ModelError, SpecError

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
Build = Callable[..., bytes]


def run(model: bytes, feed: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: feed})[0]


def identity(build: Build, layout: str, dtype: str, opset: int, ir: int = 8) -> bytes:
    shape = ["N", 3, "H", "W"] if layout == "NCHW" else ["N", "H", "W", 3]
    node = onnx.helper.make_node("Identity", ["pixels"], ["out"])
    return build([node], {"pixels": (dtype, shape)}, {"out": (dtype, shape)}, opset=opset, ir=ir)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("opset", [7, 9, 13, 18, 22])
def test_the_graph_normalises_as_numpy_does(build: Build, opset: int, layout: str) -> None:
    spec = InputSpec(mean=MEAN, std=STD, layout=layout)  # type: ignore[arg-type]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    answer = run(graph.with_uint8_input(identity(build, layout, "float32", opset), spec), pixels)
    np.testing.assert_allclose(answer, normalised(pixels, spec, "float32"), rtol=1e-6)


def test_a_float16_model_gets_float16(build: Build) -> None:
    spec = InputSpec(mean=MEAN, std=STD)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 4, 4, 3), np.uint8)
    answer = run(graph.with_uint8_input(identity(build, "NCHW", "float16", 13), spec), pixels)
    np.testing.assert_array_equal(answer, normalised(pixels, spec, "float16"))


def test_ports_keep_free_dimensions_and_leave_weights_out(models: Path) -> None:
    squeezenet = graph.read_ports((models / "squeezenet10_fp16_winml.onnx").read_bytes())
    assert squeezenet.inputs == (Port("data_0", (1, 3, 224, 224), "float16"),)
    crnn = graph.read_ports((models / "crnn_lite_op.onnx").read_bytes())
    assert crnn.inputs == (Port("input", ("N", 3, 32, "W"), "float32"),)
    assert crnn.outputs == (Port("logits", ("N", "T", 5531), "float32"),)


def test_an_old_file_that_lists_its_weights_as_inputs(build: Build) -> None:
    add = onnx.helper.make_node("Add", ["pixels", "w"], ["out"])
    shape = ["N", 3, 2, 2]
    weights = {"w": np.ones((3, 2, 2), np.float32)}
    model = build(
        [add],
        {"pixels": ("float32", shape), "w": ("float32", (3, 2, 2))},
        {"out": ("float32", shape)},
        weights,
        opset=7,
        ir=3,
    )
    assert [port.name for port in graph.read_ports(model).inputs] == ["pixels"]
    answer = run(graph.with_uint8_input(model, InputSpec(std=(255.0,))), np.full((1, 2, 2, 3), 255, np.uint8))
    assert (answer == 2).all()


def test_the_new_input_takes_the_free_dimensions_over(build: Build) -> None:
    changed = graph.with_uint8_input(identity(build, "NCHW", "float32", 13), InputSpec(mean=MEAN))
    port = graph.read_ports(changed).only_input("m")
    assert port.shape == ("N", "H", "W", 3)
    assert port.dtype == "uint8"


def test_names_that_are_taken_are_not_taken_again(build: Build) -> None:
    once = graph.with_uint8_input(identity(build, "NHWC", "float32", 13), InputSpec(layout="NHWC", mean=MEAN))
    twice = graph.with_uint8_input(once, InputSpec(layout="NHWC"))
    pixels = np.full((1, 2, 2, 3), 9, np.uint8)
    np.testing.assert_array_equal(run(twice, pixels), run(once, pixels))


@pytest.mark.parametrize("opset", [6, 23])
def test_other_opsets_are_refused(build: Build, opset: int) -> None:
    with pytest.raises(ModelError, match=f"opset {opset}"):
        graph.with_uint8_input(identity(build, "NCHW", "float32", opset, ir=10), InputSpec())


def test_an_input_that_is_no_image_is_refused(build: Build) -> None:
    node = onnx.helper.make_node("Identity", ["tokens"], ["out"])
    model = build([node], {"tokens": ("float32", ["N", 16])}, {"out": ("float32", ["N", 16])})
    with pytest.raises(ModelError, match="not an image of rank 4"):
        graph.with_uint8_input(model, InputSpec())


def test_channels_that_contradict_the_model_are_refused(build: Build) -> None:
    with pytest.raises(SpecError, match="means 1 channels; the model takes 3"):
        graph.with_uint8_input(identity(build, "NCHW", "float32", 13), InputSpec(color="gray"))


def test_bytes_that_are_no_model() -> None:
    for data in (b"hello world, this is no model", b""):
        with pytest.raises(ModelError, match=f"{len(data)} bytes"):
            graph.read_ports(data)


def test_without_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert not graph.available()
    with pytest.raises(MissingDependency, match=r"penstock\[onnx\]"):
        graph.read_ports(b"")


@pytest.mark.parametrize("per_axis", [True, False])
@pytest.mark.parametrize("zero", [True, False])
def test_folded_weights_are_the_dequantised_ones(build: Build, per_axis: bool, zero: bool) -> None:
    rng = np.random.default_rng(2)
    weights = {
        "q": rng.integers(-128, 128, (4, 3), np.int8),
        "s": rng.random(3 if per_axis else (), np.float32),
    }
    if zero:
        weights["z"] = rng.integers(-5, 5, 3, np.int8) if per_axis else np.asarray(3, np.int8)
    dequantise = onnx.helper.make_node("DequantizeLinear", list(weights), ["w"], axis=1)
    model = build(
        [dequantise, onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": ("float32", ["N", 4])},
        {"y": ("float32", ["N", 3])},
        weights,
    )
    folded = graph.fold_weights(model)
    assert graph.quantised_nodes(model) == 1
    assert graph.quantised_nodes(folded) == 0
    assert [weight.name for weight in onnx.load_model_from_string(folded).graph.initializer] == ["w"]
    eye = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(run(folded, eye), run(model, eye), rtol=1e-6)  # the runtime fuses: one rounding less


def test_quantised_activations_stay(build: Build) -> None:
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    weights = {"s": np.asarray(0.1, np.float32), "z": np.asarray(3, np.uint8)}
    model = build(nodes, {"x": ("float32", ["N", 4])}, {"y": ("float32", ["N", 4])}, weights)
    folded = graph.fold_weights(model)
    assert graph.quantised_nodes(folded) == 1
    x = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(run(folded, x), run(model, x))


def test_a_real_model_folds_whole(models: Path) -> None:
    data = (models / "mobilenet_v1_0.75_192_quant.onnx").read_bytes()
    folded = graph.fold_weights(data)
    assert graph.quantised_nodes(folded) == 0
    x = np.random.default_rng(3).random((1, 3, 192, 192), np.float32)
    np.testing.assert_allclose(run(folded, x), run(data, x), rtol=1e-4, atol=1e-7)
