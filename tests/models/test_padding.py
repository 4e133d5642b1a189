"""Lines are padded to share batches where that changes no answer; else they are not, and it is said why."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock import Batching, InputSpec, OutputSpec, Spec
from penstock._models.padding import Padding
from penstock.errors import ItemError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

MULTIPLE = 16
Reader = Callable[..., Path]


def spec(pad: int | None = MULTIPLE, **fields: Any) -> Spec:
    given = InputSpec(keep_aspect_height=8, color="gray", std=(255.0,), pad_to_multiple_of=pad, pad_value=255, **fields)
    return Spec(given, OutputSpec(task="ctc", activation="softmax", labels=("a", "b")))


@pytest.fixture
def reader(build: Callable[..., bytes], tmp_path: Path) -> Reader:
    """Give reader(centring): the path of a model that reads a column as blank, a or b by how light it is.

    With `centring` the mean of the line is taken off first: then its end counts in every column.
    """

    def make(centring: bool = False) -> Path:
        node = onnx.helper.make_node
        nodes = [node("ReduceMean", ["x"], ["light"], axes=[1, 2], keepdims=0)]
        if centring:
            nodes += [node("ReduceMean", ["light"], ["m"], axes=[1]), node("Sub", ["light", "m"], ["off"])]
        nodes += [
            node("Unsqueeze", ["off" if centring else "light", "last"], ["column"]),
            node("Mul", ["column", "slope"], ["steep"]),
            node("Add", ["steep", "offset"], ["logits"]),
        ]
        weights = {
            "last": np.array([2], np.int64),
            "slope": np.array([40, 0, -80], np.float32),
            "offset": np.array([0, 20, 36], np.float32),
        }
        ports = {"x": ("float32", ["n", 1, 8, "w"])}, {"logits": ("float32", ["n", "w", 3])}
        path = tmp_path / f"reader{centring}.onnx"
        path.write_bytes(build(nodes, *ports, weights))
        return path

    return make


def lines(n: int) -> list[Any]:
    """Return lines of n widths, white, with some columns grey (a) or black (b)."""
    random = np.random.default_rng(5)
    found = []
    for width in random.permutation(np.arange(9, 9 + 3 * n, 3)):
        columns = random.choice([255, 255, 80, 0], width).astype(np.uint8)
        found.append(np.ascontiguousarray(np.broadcast_to(columns[None, :, None], (8, width, 3))))
    return found


def outputs(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line)["output"] for line in path.read_text().splitlines()]


def run(model: Any, out: Path, *, items: list[Any] | None = None, **options: Any) -> Any:
    options = {"spec": spec(), "batch": 8, "runtime": "onnxruntime", **options}
    return penstock.run(lines(20) if items is None else items, model, out=out, **options)


def test_harmless_padding_is_kept_and_lines_share_batches(reader: Reader, tmp_path: Path, empty_cache: Path) -> None:
    padded = run(reader(), tmp_path / "p.jsonl")
    plain = run(reader(), tmp_path / "q.jsonl", spec=spec(pad=None), batch=1)
    assert (padded.plan["padded_to"], padded.plan["batch"]) == (MULTIPLE, 8)
    assert "padded_to" not in plain.plan
    assert len(list(empty_cache.rglob("*.json"))) == 1  # of the plain run: padding is tried on the lines of each run
    assert "not padded" not in str(padded)
    for found, wanted in zip(outputs(tmp_path / "p.jsonl"), outputs(tmp_path / "q.jsonl"), strict=True):
        assert found["text"] == wanted["text"] != ""
        assert found["score"] == pytest.approx(wanted["score"], rel=1e-4)


def test_the_model_is_given_few_widths_in_batches(reader: Reader, tmp_path: Path, monkeypatch: Any) -> None:
    from penstock._models.ort import OrtModel

    given: list[tuple[int, ...]] = []
    call = OrtModel._run

    def noting(self: OrtModel, batch: Any) -> list[Any]:
        given.append(batch.shape)
        return call(self, batch)

    monkeypatch.setattr(OrtModel, "_run", noting)
    run(reader(), tmp_path / "o.jsonl")
    of_run = given[-len(lines(20)) :]
    assert all(shape[2] % MULTIPLE == 0 for shape in of_run)
    assert max(shape[0] for shape in of_run) > 1


def test_padding_that_changes_answers_is_left_out_and_it_is_said(reader: Reader, tmp_path: Path) -> None:
    model = reader(centring=True)
    kept_apart = run(model, tmp_path / "p.jsonl")
    plain = run(model, tmp_path / "q.jsonl", spec=spec(pad=None))
    assert kept_apart.plan["padded_to"] is None
    assert re.search(r"padded in a batch \d+ of \d+ get other answers than alone \(first: {'text':", str(kept_apart))
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "q.jsonl").read_bytes()
    assert plain.plan["batch"] == 8


def test_unpadded_lines_of_different_widths_are_tried_in_no_larger_batch(reader: Reader, tmp_path: Path) -> None:
    report = run(reader(centring=True), tmp_path / "o.jsonl", batch="auto")
    assert {tried["batch"] for tried in report.plan["measurements"]} == {1}


def test_whoever_says_fast_gets_padding(reader: Reader, tmp_path: Path) -> None:
    model, fast = reader(centring=True), Batching(max_size=8, safety="fast")
    assert run(model, tmp_path / "p.jsonl", batch=fast).plan["padded_to"] == MULTIPLE
    run(model, tmp_path / "q.jsonl", batch=1, spec=spec(pad=None))
    assert outputs(tmp_path / "p.jsonl") != outputs(tmp_path / "q.jsonl")


@pytest.mark.parametrize("centring", [False, True])
@pytest.mark.parametrize("safety", ["exact", "fast"])
def test_a_resumed_job_does_as_it_began(reader: Reader, tmp_path: Path, centring: bool, safety: Any) -> None:
    model, batch = reader(centring), Batching(max_size=8, safety=safety)
    whole = run(model, tmp_path / "p.jsonl", batch=batch)
    run(model, tmp_path / "q.jsonl", batch=batch, limit=11)
    resumed = run(model, tmp_path / "q.jsonl", batch=8)  # what the job began with holds
    for key in ("padded_to", "batch", "safety"):
        assert resumed.plan.get(key) == whole.plan.get(key)
    assert ("why_not_padded" in resumed.plan) == (centring and safety == "exact")
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "q.jsonl").read_bytes()


def test_what_none_of_the_first_lines_needs_is_not_done_to_later_ones(reader: Reader, tmp_path: Path) -> None:
    alike = [line[:, :16] for line in lines(20) if line.shape[1] >= 16]
    report = run(reader(), tmp_path / "o.jsonl", items=[*alike, *lines(20)])
    assert report.plan["padded_to"] is None
    assert "none of the 16 tried would have been" in report.plan["why_not_padded"]


def test_a_real_reader_that_minds_is_kept_apart(
    models: Path, lines: Callable[[int], list[Any]], tmp_path: Path
) -> None:
    labels = tuple((models / "crnn_lite_keys.txt").read_text("utf-8").split("\n"))
    labels = labels[:5530]

    def given(pad: int | None) -> Spec:
        fields = InputSpec(keep_aspect_height=32, mean=(127.5,), std=(127.5,), pad_to_multiple_of=pad, pad_value=255)
        return Spec(fields, OutputSpec(task="ctc", activation="softmax", labels=labels))

    model, items = models / "crnn_lite_op.onnx", lines(6)
    report = run(model, tmp_path / "p.jsonl", items=items, spec=given(32))
    assert "get other answers than alone" in report.plan["why_not_padded"]
    run(model, tmp_path / "q.jsonl", items=items, spec=given(None))
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "q.jsonl").read_bytes()


def test_a_module_of_torch_is_tried_in_the_same_way(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Columns(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, centring: bool) -> None:
            super().__init__()
            self.centring = centring

        def forward(self, x: Any) -> Any:
            light = x.mean((1, 2))
            light = light - light.mean(1, keepdim=True) if self.centring else light
            return torch.stack([40 * light, torch.full_like(light, 20.0), 36 - 80 * light], -1)

    harmless = run(Columns(centring=False), tmp_path / "p.jsonl", runtime="auto")
    harmful = run(Columns(centring=True), tmp_path / "q.jsonl", runtime="auto")
    assert [report.plan["padded_to"] for report in (harmless, harmful)] == [MULTIPLE, None]


def test_a_callable_gets_what_its_spec_says(tmp_path: Path) -> None:
    widths: set[int] = set()

    def read(batch: Any) -> list[Any]:  # a callable is not tried: it sees each item once
        widths.add(batch.shape[3])
        return [np.zeros((4, 3), np.float32)] * len(batch)

    report = penstock.run(lines(20), read, spec=spec(), out=tmp_path / "o.jsonl")
    assert report.plan["padded_to"] == MULTIPLE
    assert widths
    assert all(width % MULTIPLE == 0 for width in widths)


def test_rows_that_are_merged_with_others_are_never_padded(reader: Reader, tmp_path: Path) -> None:
    pair = penstock.Ensemble([reader(), reader(centring=True)], combine="mean")
    report = run(pair, tmp_path / "p.jsonl")
    assert report.failed == 0
    assert all("padded_to" not in plan for plan in report.plan["models"].values())
    views = penstock.Augment(reader(), [penstock.View(), penstock.View()])
    assert "padded_to" not in run(views, tmp_path / "q.jsonl").plan


def test_each_of_several_models_is_padded_as_it_bears_it(reader: Reader, tmp_path: Path) -> None:
    report = run({"a": reader(), "b": reader(centring=True)}, tmp_path / "o.jsonl")
    assert {name: plan["padded_to"] for name, plan in report.plan["models"].items()} == {"a": MULTIPLE, "b": None}


def test_a_model_that_fails_on_padded_lines_is_left_alone() -> None:
    def fails(items: Any) -> Any:
        raise ItemError("no such width")

    padding = Padding(spec().input, lambda row: row, exact=True)
    found = padding.choices(fails, [np.zeros((8, 9, 1), np.uint8)], [1])
    assert found["padded_to"] is None
    assert "the model failed: no such width" in found["why_not_padded"]


@pytest.mark.parametrize(
    ("alone", "beside", "same"),
    [
        ({"text": "a", "score": 0.5}, {"text": "a", "score": 0.50001}, True),
        ({"text": "a", "score": 0.5}, {"text": "a", "score": 0.6}, False),
        ({"text": "a", "score": 0.5}, {"text": "b", "score": 0.5}, False),
        ({"top": [{"index": 1, "score": 0.5}]}, {"top": [{"index": 1, "score": 0.50001}]}, True),
        ({"top": [{"index": 1, "score": 0.5}]}, {"top": [{"index": 2, "score": 0.5}]}, False),
        ({"output": np.zeros(3)}, {"output": np.zeros(4)}, False),
    ],
)
def test_answers_are_compared_as_a_record_says_them(alone: Any, beside: Any, same: bool) -> None:
    padding = Padding(spec().input, lambda row: row, exact=True)
    found = padding.choices(lambda items: [beside], [np.zeros((8, 9, 1), np.uint8)], [alone])
    assert found["padded_to"] == (MULTIPLE if same else None)
