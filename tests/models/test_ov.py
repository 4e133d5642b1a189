"""OpenVINO's adapter, on real models and real photos, held against ONNX Runtime."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._models import graph
from penstock._models.ort import OrtModel
from penstock._models.ov import OvModel
from penstock._spec import InputSpec
from penstock.errors import Closed, ItemError, MissingDependency, ModelError, SpecError, UsageError

openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

Photos = Callable[[int, int], list[Any]]
REAL = [
    ("mobilenet_v2_1.0_224_quant", 224),
    ("flowers5_mobilenet_v2_head", 224),
    ("squeezenet10_fp16_winml", 224),
    ("fastestdet_coco", 352),
]


def predict(model: Any, items: list[Any]) -> list[Any]:
    with model.worker() as run:
        return list(run(items))


def near(row: Any, expected: Any) -> None:
    rounding = 2e-3 if expected.dtype == np.float16 else 1e-4
    assert row.shape == expected.shape
    np.testing.assert_allclose(row, expected, rtol=0, atol=rounding * np.abs(expected).max())


@pytest.mark.parametrize(("name", "side"), REAL)
def test_answers_are_onnx_runtimes(
    models: Path, photos: Photos, specs: dict[str, InputSpec], name: str, side: int
) -> None:
    items, path = photos(4, side), models / f"{name}.onnx"
    expected = predict(OrtModel(path, specs[name], settings={"in_graph": False}), items)
    for settings in ({"streams": 2, "threads": 2}, {"fold": False}, {"in_graph": False}):
        model = OvModel(path, specs[name], settings=settings)
        assert model.normalises == ("numpy" if "in_graph" in settings else "graph")
        for row, truth in zip(predict(model, items), expected, strict=True):
            near(row, truth)


def test_mean_and_std_of_each_channel(models: Path, photos: Photos) -> None:
    spec = InputSpec(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    path, items = models / "fastestdet_coco.onnx", photos(2, 352)
    for row, truth in zip(predict(OvModel(path, spec), items), predict(OrtModel(path, spec), items), strict=True):
        near(row, truth)


def test_eight_threads_have_a_request_each(models: Path, photos: Photos, specs: dict[str, InputSpec]) -> None:
    """One shared request fails from several threads ("Infer Request is busy"), or gives another item's rows."""
    name = "mobilenet_v1_0.75_192_quant"
    items = photos(5, 192)
    model = OvModel(models / f"{name}.onnx", specs[name], settings={"streams": 2, "threads": 2})
    serial = predict(model, items)

    def hammer(seed: int) -> int:
        with model.worker() as run:
            rows = [(run([items[(seed + call) % 5]])[0], serial[(seed + call) % 5]) for call in range(50)]
            return sum(np.array_equal(row, truth) for row, truth in rows)  # kept while later calls ran: copied

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(hammer, range(8))) == [50] * 8


def test_a_free_width_model_takes_lines_of_all_widths(
    models: Path, lines: Callable[[int], list[Any]], specs: dict[str, InputSpec]
) -> None:
    items, path = lines(3), models / "crnn_lite_op.onnx"
    expected = predict(OrtModel(path, specs["crnn_lite_op"]), items)
    for row, truth in zip(predict(OvModel(path, specs["crnn_lite_op"]), items), expected, strict=True):
        near(row, truth)


def test_compiled_for_one_item_it_answers_as_before(models: Path, photos: Photos, specs: dict[str, InputSpec]) -> None:
    path, spec, items = models / f"{REAL[0][0]}.onnx", specs[REAL[0][0]], photos(5, 224)
    free, fixed = OvModel(path, spec), OvModel(path, spec, settings={"fixed_batch": 1})
    assert (free.batch_size, fixed.batch_size) == (None, 1)
    for row, truth in zip(predict(fixed, items), predict(free, items), strict=True):
        near(row, truth)


def test_what_cannot_be_compiled_for_one_item_is_refused_by_name(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    make, number = onnx.helper, onnx.TensorProto
    pairs = make.make_tensor("pairs", number.INT64, [2], [2, 2])  # of a batch of one, there is no second pair
    graph = make.make_graph(
        [make.make_node("Reshape", ["in", "pairs"], ["out"])],
        "pairs",
        [make.make_tensor_value_info("in", number.FLOAT, ["n", 2])],
        [make.make_tensor_value_info("out", number.FLOAT, [2, 2])],
        [pairs],
    )
    path = tmp_path / "pairs.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9), path)
    OvModel(path)
    with pytest.raises(ModelError, match=r"pairs\.onnx.*OpenVINO, in batches of 1 alone"):
        OvModel(path, settings={"fixed_batch": 1})


def test_settings_of_an_earlier_version_are_taken(models: Path) -> None:
    """Jobs and kept choices from before `fixed_batch` do not have it."""
    model = OvModel(
        models / f"{REAL[0][0]}.onnx", settings={"streams": 2, "threads": 2, "fold": True, "in_graph": True}
    )
    assert (model.batch_size, model.streams) == (None, 2)


def test_read_only_and_strided_items_are_taken(models: Path) -> None:
    model = OvModel(models / "squeezenet10_fp16_winml.onnx")
    item = np.random.default_rng(0).normal(size=(3, 224, 224)).astype(np.float32)
    (expected,) = predict(model, [item])
    frozen = item.copy()
    frozen.flags.writeable = False
    strided = np.ascontiguousarray(item.transpose(1, 2, 0)).transpose(2, 0, 1)
    for given in (frozen, strided):
        assert np.array_equal(predict(model, [given])[0], expected)


def test_f32_is_f32(models: Path) -> None:
    """Left alone, OpenVINO runs at bfloat16 where the CPU has it."""
    model = OvModel(models / "fastestdet_coco.onnx")
    assert model._compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


def test_threads_and_streams_are_those_asked_for(models: Path) -> None:
    model = OvModel(models / "fastestdet_coco.onnx", settings={"streams": 2, "threads": 2})
    assert model._compiled.get_property("NUM_STREAMS") == 2
    assert model._compiled.get_property("INFERENCE_NUM_THREADS") == 2


def test_lower_precisions_run_where_the_cpu_has_them_and_are_refused_elsewhere(models: Path, photos: Photos) -> None:
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    path, spec, items = (
        models / "flowers5_mobilenet_v2_head.onnx",
        InputSpec(mean=(128.0,), std=(128.0,)),
        photos(4, 224),
    )
    expected = predict(OvModel(path, spec), items)
    for precision, capability in (("bf16", "BF16"), ("f16", "FP16")):
        if capability not in able:
            with pytest.raises(UsageError, match=f"precision='{precision}': the CPU"):
                OvModel(path, spec, precision)
            continue
        rows = predict(OvModel(path, spec, precision), items)
        assert not all(np.array_equal(row, truth) for row, truth in zip(rows, expected, strict=True))
    with pytest.raises(UsageError, match="give one of f32, bf16, f16"):
        OvModel(path, spec, "int8")


def test_a_wrong_shape_is_an_items_error(models: Path, photos: Photos, specs: dict[str, InputSpec]) -> None:
    name = "mobilenet_v1_0.75_192_quant"
    model = OvModel(models / f"{name}.onnx", specs[name])
    with pytest.raises(ItemError, match=r"\(1, 224, 224, 3\)"):
        predict(model, photos(1, 224))
    assert len(predict(model, photos(1, 192))) == 1


def test_a_corrupt_file_is_named(models: Path, tmp_path: Path) -> None:
    whole = (models / "mobilenet_v1_0.75_192_quant.onnx").read_bytes()
    for data in (whole[: len(whole) // 2], b"this is text, not a model\n" * 9):
        path = tmp_path / "broken.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"broken\.onnx' could not be loaded by OpenVINO"):
            OvModel(path)


def test_a_missing_file_is_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        OvModel(tmp_path / "nothing.onnx")


def test_a_spec_that_contradicts_the_model_is_refused(models: Path) -> None:
    with pytest.raises(SpecError, match="channels"):
        OvModel(models / "fastestdet_coco.onnx", InputSpec(color="gray"))


def test_it_runs_without_the_package_onnx(
    models: Path, photos: Photos, specs: dict[str, InputSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, items = "flowers5_mobilenet_v2_head", photos(2, 224)
    expected = predict(OvModel(models / f"{name}.onnx", specs[name]), items)
    monkeypatch.setattr(graph, "available", lambda: False)
    model = OvModel(models / f"{name}.onnx", specs[name])
    assert model.normalises == "graph"
    for row, truth in zip(predict(model, items), expected, strict=True):
        near(row, truth)


def test_without_the_runtime_the_extra_is_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependency, match=r"penstock\[openvino\]"):
        OvModel(models / "fastestdet_coco.onnx")


def test_closed_is_closed(models: Path) -> None:
    model = OvModel(models / "fastestdet_coco.onnx")
    with model.worker() as run:
        model.close()
        model.close()
        with pytest.raises(Closed, match="was closed"):
            run([np.zeros((3, 352, 352), np.float32)])
    with pytest.raises(Closed), model.worker():
        pass
    assert "closed" in repr(model)
