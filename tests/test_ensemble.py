"""One answer of several models: means of numbers before they are interpreted, votes of what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import penstock
from penstock._ensemble import mean_of, vote_of
from penstock._postprocess import activation_of, make
from penstock._spec import OutputSpec
from penstock.errors import ItemError, UsageError

rows = arrays(np.float32, (2, 3), elements=st.floats(-1e6, 1e6, width=32))


@given(st.lists(rows, min_size=1, max_size=4))
def test_the_mean_is_numpys(given_rows: list[Any]) -> None:
    found = mean_of(given_rows)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.mean(given_rows, axis=0, dtype=np.float64).astype(np.float32))
    assert mean_of([{"x": row} for row in given_rows])["x"].tolist() == found.tolist()


def test_the_mean_of_numbers_is_a_number() -> None:
    assert mean_of([1, 2]) == 1.5
    assert type(mean_of([1.0, 2.0])) is float


@pytest.mark.parametrize(
    "bad", [[np.zeros(2), np.zeros(3)], ["a", "b"], [{"x": 1}, {"y": 1}], [{"x": 1}, 1], [1, np.zeros(2)]]
)
def test_no_mean_of_what_does_not_match(bad: list[Any]) -> None:
    with pytest.raises(ItemError, match=r"(of|from) every model"):
        mean_of(bad)


def text(says: str, score: float) -> dict[str, Any]:
    return {"text": says, "score": score}


def test_the_text_that_most_gave_wins_with_its_best_score() -> None:
    assert vote_of([text("a", 0.2), text("b", 0.9), text("a", 0.3)]) == {"text": "a", "score": 0.3, "votes": 2}


def test_a_tie_goes_to_the_better_score_then_to_the_earlier() -> None:
    assert vote_of([text("a", 0.2), text("b", 0.9)])["text"] == "b"
    assert vote_of([text("a", 0.5), text("b", 0.5)])["text"] == "a"


def test_classes_and_plain_values_vote() -> None:
    tops = [{"top": [{"index": i, "score": 0.5}]} for i in (3, 1, 3)]
    assert vote_of(tops)["top"][0]["index"] == 3
    assert vote_of(["x", "y", "y"]) == "y"
    with pytest.raises(ItemError, match="wants a text, a class or a plain value"):
        vote_of([[1], [2]])


@pytest.mark.parametrize("task", ["classify", "ctc"])
def test_scores_first_then_the_same_answer(task: Any) -> None:
    row = np.random.default_rng(0).normal(0, 3, (5, 4) if task == "ctc" else (4,)).astype(np.float32)
    labels = ("a", "b", "c") if task == "ctc" else None
    activate = activation_of(OutputSpec(task=task, activation="softmax", labels=labels))
    assert activate is not None
    direct = make(OutputSpec(task=task, activation="softmax", labels=labels))(row)
    again = make(OutputSpec(task=task, activation="none", labels=labels))(activate(row))
    if task == "ctc":
        assert again["text"] == direct["text"]
        assert again["score"] == pytest.approx(direct["score"], rel=1e-6)
    else:
        assert [t["index"] for t in again["top"]] == [t["index"] for t in direct["top"]]
        assert [t["score"] for t in again["top"]] == pytest.approx([t["score"] for t in direct["top"]])
    assert activation_of(OutputSpec(task="raw")) is None


def double(batch: list[int]) -> list[int]:
    return [2 * x for x in batch]


def same(batch: list[int]) -> list[int]:
    return list(batch)


def bad_at_three(batch: list[int]) -> list[int]:
    if 3 in batch:
        raise ValueError("three")
    return list(batch)


def outputs(path: Path) -> list[Any]:
    return [json.loads(line)["output"] for line in path.read_text().splitlines()]


def test_a_run_with_each_way_of_combining(tmp_path: Path) -> None:
    for name, combine, wanted in (
        ("mean", "mean", [1.5 * x for x in range(20)]),
        ("vote", "vote", list(range(20))),
        ("own", max, [2 * x for x in range(20)]),
    ):
        models = penstock.Ensemble([double, same, same] if name == "vote" else [double, same], combine=combine)  # type: ignore[arg-type]
        report = penstock.run(range(20), models, out=tmp_path / f"{name}.jsonl", batch=3)
        assert report.done == 20
        assert outputs(tmp_path / f"{name}.jsonl") == wanted


def test_an_item_that_one_model_fails_on_has_no_answer(tmp_path: Path) -> None:
    ensemble = penstock.Ensemble({"good": same, "bad": bad_at_three})
    report = penstock.run(range(5), ensemble, out=tmp_path / "o.jsonl", batch=2)
    assert (report.done, report.failed) == (4, 1)
    assert "model 'bad' failed in stage 'model': ValueError: three" in report.failures[0]["message"]


def test_another_way_of_combining_is_another_job(tmp_path: Path) -> None:
    penstock.run(range(3), penstock.Ensemble([double, same]), out=tmp_path / "o.jsonl")
    with pytest.raises(penstock.errors.LedgerError, match="combine"):
        penstock.run(range(3), penstock.Ensemble([double, same], combine="vote"), out=tmp_path / "o.jsonl")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([double],), "two models or more"), (([double, same], "median"), 'give "mean", "vote" or a function')],
)
def test_what_is_no_ensemble_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        penstock.Ensemble(*arguments)


def test_the_mean_of_a_net_with_itself_is_its_own_answer(tmp_path: Path, shared_data: Path) -> None:
    pairs = [shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"] * 2
    photos = sorted(map(str, (shared_data / "photos" / "flowers").glob("*/*.jpg")))[::100]
    options: dict[str, Any] = {"preset": "inception", "runtime": "onnxruntime", "batch": 1, "top_k": 5}
    penstock.run(photos, penstock.Ensemble(pairs), out=tmp_path / "mean.jsonl", **options)
    penstock.run(photos, pairs[0], out=tmp_path / "one.jsonl", **options)
    for mean, one in zip(outputs(tmp_path / "mean.jsonl"), outputs(tmp_path / "one.jsonl"), strict=True):
        assert [top["index"] for top in mean["top"]] == [top["index"] for top in one["top"]]
        assert [top["score"] for top in mean["top"]] == pytest.approx([top["score"] for top in one["top"]], rel=1e-5)
