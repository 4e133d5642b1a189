from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from penstock._models import graph
from penstock._models.candidates import candidates, installed, ports_of, reference_candidate, usable
from penstock._models.ports import free_in_batch_only
from penstock._options import Auto
from penstock.errors import MissingDependency, ModelError, UsageError

BOTH = ["onnxruntime", "openvino"]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give only(names): as if no other runtime were installed."""

    def hide(*names: str) -> None:
        for name in BOTH:
            if name not in names:
                monkeypatch.setitem(sys.modules, name, None)

    return hide


def settings(path: Path, runtime: str, threads: int) -> list[dict[str, Any]]:
    return [candidate.settings for candidate in candidates(path, [runtime], "f32", threads)]


def test_quantised_weights_are_tried_with_and_without_the_runtimes_handling(models: Path) -> None:
    tried = settings(models / "mobilenet_v2_1.0_224_quant.onnx", "onnxruntime", 2)
    assert [(each["qdq"], each["intra_threads"]) for each in tried] == [(False, 1), (True, 1), (False, 2)]
    tried = settings(models / "fastestdet_coco.onnx", "onnxruntime", 2)
    assert [(each["qdq"], each["intra_threads"]) for each in tried] == [(True, 1), (True, 2)]
    assert len(settings(models / "fastestdet_coco.onnx", "onnxruntime", 1)) == 1


def test_two_streams_never_share_quantised_weights(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO 2026.4.1 answers wrongly then."""
    pytest.importorskip("onnx")
    quantised = models / "mobilenet_v2_1.0_224_quant.onnx"
    tried = [(each["streams"], each["fold"]) for each in settings(quantised, "openvino", 2)]
    assert tried == [(2, True), (2, True), (1, True)]
    plain = settings(models / "fastestdet_coco.onnx", "openvino", 2)
    assert [(each["streams"], each["fold"]) for each in plain] == [(2, False), (1, False)]
    monkeypatch.setattr(graph, "available", lambda: False)
    tried = [(each["streams"], each["fold"]) for each in settings(quantised, "openvino", 2)]
    assert tried == [(1, False), (1, False)]


def test_a_model_that_takes_any_batch_is_tried_compiled_for_one_item_too(models: Path) -> None:
    free = models / "mobilenet_v2_1.0_224_quant.onnx"

    def batches(path: Path, batch: int | Auto) -> list[int]:
        return [each.settings.get("fixed_batch", 0) for each in candidates(path, ["openvino"], "f32", 2, batch=batch)]

    assert batches(free, "auto") == batches(free, 1) == [1, 0, 0]
    assert batches(free, 8) == [0, 0]  # a part of the batch may be called, by itself
    assert batches(models / "squeezenet10_fp16_winml.onnx", "auto") == [0, 0]  # it takes one item as it is
    assert batches(models / "crnn_lite_op.onnx", "auto") == [0, 0]  # of any width


def test_only_where_the_batch_alone_is_free_can_it_be_fixed(models: Path) -> None:
    found = {path.stem: free_in_batch_only(ports_of(path).inputs[0]) for path in models.glob("*.onnx")}
    assert found["mobilenet_v2_1.0_224_quant"]
    assert not found["squeezenet10_fp16_winml"]
    assert not found["crnn_lite_op"]


def test_one_call_at_a_time_has_the_cores_inside_and_calls_at_once_the_threads(models: Path) -> None:
    """On 4 threads of 2 cores."""
    path = models / "fastestdet_coco.onnx"
    tried = candidates(path, BOTH, "f32", 4, 2)
    assert [each.settings["intra_threads"] for each in tried if each.runtime == "onnxruntime"] == [1, 2]
    streams = [(each.settings["streams"], each.settings["threads"]) for each in tried if each.runtime == "openvino"]
    assert streams == [(4, 4), (1, 2)]


def test_what_is_installed_can_be_used(only: Any) -> None:
    only("openvino")
    assert installed() == ["openvino"]
    assert usable("auto", "f32") == ["openvino"]
    assert reference_candidate().runtime == "openvino"
    with pytest.raises(MissingDependency, match=r"pip install 'penstock\[onnx\]'"):
        usable("onnxruntime", "f32")


def test_without_any_runtime_both_extras_are_named(only: Any) -> None:
    only()
    for ask in (lambda: usable("auto", "f32"), reference_candidate):
        with pytest.raises(MissingDependency, match=r"penstock\[onnx\].*penstock\[openvino\]"):
            ask()


def test_lower_precisions_are_openvinos(only: Any) -> None:
    with pytest.raises(UsageError, match="runtime='onnxruntime' cannot run precision='bf16'"):
        usable("onnxruntime", "bf16")
    only("onnxruntime")
    with pytest.raises(MissingDependency, match=r"penstock\[openvino\]"):
        usable("auto", "bf16")


def test_unknown_words_are_refused() -> None:
    with pytest.raises(UsageError, match="runtime='tensorrt'"):
        usable("tensorrt", "f32")
    with pytest.raises(UsageError, match="precision='int4'"):
        usable("auto", "int4")


def test_ports_are_known_before_anything_is_chosen(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = models / "squeezenet10_fp16_winml.onnx"
    ports = ports_of(path)
    assert ports.only_input("m").shape == (1, 3, 224, 224)
    monkeypatch.setattr(graph, "available", lambda: False)
    assert ports_of(path) == ports


def test_ports_of_a_corrupt_file_name_it(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model at all")
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        ports_of(tmp_path / "broken.onnx")
