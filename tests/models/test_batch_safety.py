"""A batch counts only where its items get the answers they get alone; else they are kept apart, and it is said why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock.errors import UsageError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def centring(tmp_path: Path) -> Path:
    """Return a model that subtracts the mean of the batch: what it says of an item depends on those beside it."""
    from onnx import TensorProto, helper

    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["off"]),
        helper.make_node("Add", ["off", "x"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "centring", [port], [out], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = tmp_path / "centring.onnx"
    onnx.save(model, path)
    return path


def rows() -> list[Any]:
    return list(np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32))


def answers(path: Path) -> list[Any]:
    import json

    return [json.loads(line)["output"]["output"] for line in path.read_text().splitlines()]


def test_items_are_kept_apart_and_it_is_said(centring: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    report = penstock.run(rows(), centring, out=out, batch=4, runtime="onnxruntime")
    assert report.plan["batch"] == 1
    assert "items are kept apart, for in batches of 4 they get other answers than alone" in str(report)
    np.testing.assert_allclose(answers(out), rows(), rtol=1e-5)  # x - mean(x) + x of one item is the item
    again = penstock.run([*rows(), rows()[0]], centring, out=tmp_path / "p.jsonl", batch=4, limit=12)
    assert again.done == 12


def test_a_resumed_job_keeps_them_apart(centring: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    penstock.run(rows(), centring, out=out, batch=4, runtime="onnxruntime", limit=5)
    first = out.read_bytes()
    report = penstock.run(rows(), centring, out=out, batch=4, runtime="onnxruntime")
    assert (report.done, report.plan["batch"]) == (12, 1)
    assert out.read_bytes().startswith(first)
    np.testing.assert_allclose(answers(out), rows(), rtol=1e-5)


def test_whoever_says_fast_gets_batches(centring: Path, tmp_path: Path) -> None:
    batching = penstock.Batching(max_size=4, safety="fast")
    report = penstock.run(rows(), centring, out=tmp_path / "o.jsonl", batch=batching, runtime="onnxruntime")
    assert report.plan["batch"] == 4
    assert not np.allclose(answers(tmp_path / "o.jsonl"), rows(), rtol=1e-5)


def test_a_resumed_job_stays_fast(centring: Path, tmp_path: Path) -> None:
    batching = penstock.Batching(max_size=4, safety="fast")
    options: dict[str, Any] = {"batch": batching, "runtime": "onnxruntime"}
    penstock.run(rows(), centring, out=tmp_path / "o.jsonl", **options)
    penstock.run(rows(), centring, out=tmp_path / "p.jsonl", limit=8, **options)
    report = penstock.run(rows(), centring, out=tmp_path / "p.jsonl", batch=4)  # what it began with holds
    assert report.plan["batch"] == 4
    assert (tmp_path / "o.jsonl").read_bytes() == (tmp_path / "p.jsonl").read_bytes()


def test_a_module_that_looks_at_its_neighbours(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Centring(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return 2 * x - x.mean(0, keepdim=True)

    report = penstock.run(rows(), Centring(), out=tmp_path / "o.jsonl", batch=4)
    assert report.plan["batch"] == 1
    np.testing.assert_allclose(answers(tmp_path / "o.jsonl"), rows(), rtol=1e-5)


def test_safety_is_one_of_two() -> None:
    with pytest.raises(UsageError, match='"exact" or "fast"'):
        penstock.Batching(safety="no")  # type: ignore[arg-type]
