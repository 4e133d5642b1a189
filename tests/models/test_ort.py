"""ONNX Runtime's adapter, on real models and real photos."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._models import graph
from penstock._models.normalise import normalised
from penstock._models.ort import OrtModel
from penstock._spec import InputSpec
from penstock.errors import Closed, ItemError, MissingDependency, ModelError, SpecError, UsageError

onnxruntime = pytest.importorskip("onnxruntime")

Photos = Callable[[int, int], list[Any]]
REAL = [
    ("mobilenet_v2_1.0_224_quant", 224, (1001,)),
    ("mobilenet_v1_0.75_192_quant", 192, (1001,)),
    ("flowers5_mobilenet_v2_head", 224, (5,)),
    ("squeezenet10_fp16_winml", 224, (1000, 1, 1)),
    ("fastestdet_coco", 352, (85, 22, 22)),
]


def predict(model: OrtModel, items: list[Any]) -> list[Any]:
    with model.worker() as run:
        return list(run(items))


def plain(path: Path, batch: Any) -> Any:
    """Return the first output of a session of our own making."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


@pytest.mark.parametrize(("name", "side", "shape"), REAL)
def test_answers_are_those_of_a_plain_session(
    models: Path, photos: Photos, specs: dict[str, InputSpec], name: str, side: int, shape: tuple[int, ...]
) -> None:
    items, path = photos(4, side), models / f"{name}.onnx"
    dtype = "float16" if "fp16" in name else "float32"
    for settings in ({}, {"qdq": False}, {"in_graph": False}, {"intra_threads": 2}):
        model = OrtModel(path, specs[name], settings=settings)
        assert model.normalises == ("numpy" if "in_graph" in settings else "graph")
        for item, row in zip(items, predict(model, items), strict=True):
            expected = plain(path, normalised(item[None], specs[name], dtype))[0]
            assert row.shape == expected.shape == shape
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_ready_arrays_need_no_spec(models: Path, photos: Photos, specs: dict[str, InputSpec]) -> None:
    name = "flowers5_mobilenet_v2_head"
    items, path = photos(3, 224), models / f"{name}.onnx"
    ready = [normalised(item[None], specs[name], "float32")[0] for item in items]
    model = OrtModel(path)
    assert model.normalises == "no"
    for row, expected in zip(predict(model, ready), predict(OrtModel(path, specs[name]), items), strict=True):
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-7)


def test_a_free_width_model_takes_lines_of_all_widths(
    models: Path, lines: Callable[[int], list[Any]], specs: dict[str, InputSpec]
) -> None:
    items, path = lines(4), models / "crnn_lite_op.onnx"
    items.append(items[0])
    assert len({item.shape for item in items}) > 2
    rows = predict(OrtModel(path, specs["crnn_lite_op"]), items)
    for item, row in zip(items, rows, strict=True):
        expected = plain(path, normalised(item[None], specs["crnn_lite_op"], "float32"))[0]
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_eight_threads_give_what_one_gives(models: Path, photos: Photos, specs: dict[str, InputSpec]) -> None:
    name = "mobilenet_v1_0.75_192_quant"
    items = photos(5, 192)
    model = OrtModel(models / f"{name}.onnx", specs[name], settings={"qdq": False})
    serial = predict(model, items)

    def hammer(seed: int) -> int:
        with model.worker() as run:
            return sum(
                np.array_equal(run([items[(seed + call) % 5]])[0], serial[(seed + call) % 5]) for call in range(50)
            )

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(hammer, range(8))) == [50] * 8


def test_a_fixed_batch_is_known_and_fed(models: Path, photos: Photos, specs: dict[str, InputSpec]) -> None:
    name = "squeezenet10_fp16_winml"
    model = OrtModel(models / f"{name}.onnx", specs[name])
    assert model.batch_size == 1
    items = photos(3, 224)
    rows = predict(model, items)
    for item, row in zip(items, rows, strict=True):
        np.testing.assert_array_equal(predict(model, [item])[0], row)


def test_a_wrong_shape_is_an_items_error(models: Path, photos: Photos, specs: dict[str, InputSpec]) -> None:
    name = "mobilenet_v1_0.75_192_quant"
    model = OrtModel(models / f"{name}.onnx", specs[name])
    good = photos(1, 192)
    with pytest.raises(ItemError, match=r"\(1, 224, 224, 3\)"):
        predict(model, photos(1, 224))
    with pytest.raises(ItemError, match="float64"):
        predict(model, [good[0].astype(np.float64)])
    assert len(predict(model, good)) == 1  # usable afterwards


def test_a_corrupt_file_is_named(models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = (models / "mobilenet_v1_0.75_192_quant.onnx").read_bytes()
    for data in (whole[: len(whole) // 2], b"this is text, not a model\n" * 9):
        path = tmp_path / "broken.onnx"
        path.write_bytes(data)
        for spec in (None, InputSpec()):
            with pytest.raises(ModelError, match=r"broken\.onnx' could not be loaded by ONNX Runtime.*get it again"):
                OrtModel(path, spec)
    assert capfd.readouterr().err == ""  # the runtime's own log stays silent


def test_a_call_that_fails_is_an_items_error_and_prints_nothing(
    build: Callable[..., bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])
    path = tmp_path / "seven.onnx"
    shapes = {"shape": np.asarray([-1, 7], np.int64)}
    path.write_bytes(build([node], {"x": ("float32", ["N", "W"])}, {"y": ("float32", ["N", 7])}, shapes))
    model = OrtModel(path)
    assert predict(model, [np.zeros(7, np.float32)])[0].shape == (7,)
    with pytest.raises(ItemError, match=r"seven failed on float32 \(1, 6\)"):
        predict(model, [np.zeros(6, np.float32)])
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        OrtModel(tmp_path / "nothing.onnx")


def test_other_precisions_are_refused_by_name(models: Path) -> None:
    with pytest.raises(UsageError, match="runtime='onnxruntime' cannot run precision='bf16'"):
        OrtModel(models / "fastestdet_coco.onnx", precision="bf16")


def test_a_spec_that_contradicts_the_model_is_refused(models: Path) -> None:
    with pytest.raises(SpecError, match="channels"):
        OrtModel(models / "fastestdet_coco.onnx", InputSpec(color="gray"))


def test_without_onnx_normalisation_stays_in_numpy(
    models: Path, photos: Photos, specs: dict[str, InputSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, items = "flowers5_mobilenet_v2_head", photos(2, 224)
    expected = predict(OrtModel(models / f"{name}.onnx", specs[name]), items)
    monkeypatch.setattr(graph, "available", lambda: False)
    model = OrtModel(models / f"{name}.onnx", specs[name])
    assert model.normalises == "numpy"
    for row, same in zip(predict(model, items), expected, strict=True):
        np.testing.assert_allclose(row, same, rtol=1e-5, atol=1e-7)


def test_without_the_runtime_the_extra_is_named(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match=r"penstock\[onnx\]"):
        OrtModel(models / "fastestdet_coco.onnx")


def test_weights_beside_the_model_are_found_with_a_changed_graph_too(
    build: Callable[..., bytes], tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"])
    shape = ["N", 3, 2, 2]
    weights = {"w": np.full((3, 2, 2), 0.5, np.float32)}
    data = build([node], {"x": ("float32", shape)}, {"y": ("float32", shape)}, weights)
    path = tmp_path / "big.onnx"
    onnx.save(onnx.load_model_from_string(data), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    model = OrtModel(path, InputSpec(std=(255.0,)))
    assert model.normalises == "graph"
    assert (predict(model, [np.full((2, 2, 3), 255, np.uint8)])[0] == 1.5).all()


def test_a_model_with_several_outputs_gives_dicts(build: Callable[..., bytes], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    nodes = [onnx.helper.make_node("Neg", ["x"], ["minus"]), onnx.helper.make_node("Identity", ["x"], ["same"])]
    port = ("float32", ["N", 2])
    path = tmp_path / "two.onnx"
    path.write_bytes(build(nodes, {"x": port}, {"minus": port, "same": port}))
    rows = predict(OrtModel(path), [np.asarray([1, 2], np.float32), np.asarray([3, 4], np.float32)])
    assert [{name: list(value) for name, value in row.items()} for row in rows] == [
        {"minus": [-1, -2], "same": [1, 2]},
        {"minus": [-3, -4], "same": [3, 4]},
    ]


def test_the_description_is_of_the_file(models: Path) -> None:
    path = models / "fastestdet_coco.onnx"
    described = OrtModel(path).describe()
    assert described["name"] == "fastestdet_coco.onnx"
    assert len(described["sha256"]) == 64
    assert OrtModel(path, settings={"intra_threads": 2}).describe() == described


def test_closed_is_closed(models: Path) -> None:
    model = OrtModel(models / "fastestdet_coco.onnx")
    with model.worker() as run:
        model.close()
        model.close()
        with pytest.raises(Closed, match="was closed"):
            run([np.zeros((3, 352, 352), np.float32)])
    assert "closed" in repr(model)


def test_one_session_however_many_threads(models: Path) -> None:
    """The runtime's own threads are those asked for, not one pool for each calling thread."""
    model = OrtModel(models / "fastestdet_coco.onnx")
    before = len(list(Path("/proc/self/task").iterdir())) if Path("/proc/self/task").is_dir() else 0
    entered = threading.Barrier(4)

    def enter(_: int) -> int:
        with model.worker() as run:
            run([np.zeros((3, 352, 352), np.float32)])
            entered.wait(30)
            return len(list(Path("/proc/self/task").iterdir())) if before else 4

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(enter, range(4))) <= before + 4
