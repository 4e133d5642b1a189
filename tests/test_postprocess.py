from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from penstock._postprocess import make
from penstock._spec import OutputSpec
from penstock.errors import ItemError, SpecError

ABC = ("a", "b", "c")


def classify(**fields: Any) -> Any:
    return make(OutputSpec(**({"task": "classify", "activation": "none"} | fields)))


def ctc(**fields: Any) -> Any:
    return make(OutputSpec(**({"task": "ctc", "labels": ABC} | fields)))


def path(*symbols: int, count: int = 4, peak: float = 1.0) -> np.ndarray:
    """Return scores (time, symbols) whose best path is `symbols`."""
    scores = np.zeros((len(symbols), count), np.float32)
    scores[np.arange(len(symbols)), symbols] = peak
    return scores


# -- classify


def test_classify_lists_the_best_first_with_index_label_and_score() -> None:
    row = np.array([0.25, 0.5, 0.125], np.float32)
    assert classify(labels=ABC, index_offset=-1, top_k=2)(row) == {
        "top": [{"index": 0, "label": "b", "score": 0.5}, {"index": -1, "label": "a", "score": 0.25}]
    }
    assert classify()(row)["top"][0] == {"index": 1, "score": 0.5}
    assert len(classify(top_k=99)(row)["top"]) == 3


def test_classify_takes_a_dict_of_one_and_axes_of_one() -> None:
    row = np.arange(3, dtype=np.float16).reshape(3, 1, 1)
    assert [entry["index"] for entry in classify()({"prob": row})["top"]] == [2, 1, 0]


@given(hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(width=32, allow_nan=True)), st.integers(1, 50))
def test_classify_agrees_with_a_stable_sort(row: np.ndarray, top_k: int) -> None:
    top = classify(top_k=top_k)(row)["top"]
    order = sorted(range(row.size), key=lambda i: (math.isnan(row[i]), -float(row[i]) if row[i] == row[i] else 0, i))
    assert [entry["index"] for entry in top] == order[:top_k]
    assert [np.float32(entry["score"]).tobytes() for entry in top if entry["score"] == entry["score"]] == [
        row[i].tobytes() for i in order[:top_k] if row[i] == row[i]
    ]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float64])
def test_classify_takes_any_numbers(dtype: Any) -> None:
    assert [entry["index"] for entry in classify(top_k=3)(np.array([1, 5, 2, 5, 0], dtype))["top"]] == [1, 3, 2]


def test_softmax_is_stable_and_sums_to_one() -> None:
    row = np.array([1000, 999, -1000], np.float32)
    scores = [entry["score"] for entry in classify(activation="softmax")(row)["top"]]
    np.testing.assert_allclose(scores, [1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0], atol=1e-7)
    assert sum(scores) == pytest.approx(1, abs=1e-6)


def test_scores_have_the_digits_of_their_precision() -> None:
    assert classify()(np.array([0.1], np.float32))["top"][0]["score"] == 0.1
    assert json.dumps(classify(activation="softmax")(np.zeros(3, np.float32))["top"][0]["score"]) == "0.33333334"
    assert classify()(np.array([1 / 3]))["top"][0]["score"] == 1 / 3


def test_nan_and_infinity_crash_nothing() -> None:
    top = classify()(np.array([1, np.nan, 3, -np.inf, np.inf], np.float32))["top"]
    assert [entry["index"] for entry in top] == [4, 2, 0, 3, 1]
    for row in ([np.nan, 1], [np.inf, 1], [-np.inf, -np.inf]):
        scores = [entry["score"] for entry in classify(activation="softmax")(np.array(row, np.float32))["top"]]
        assert all(isinstance(score, float) for score in scores)
    assert classify()(np.full(9, np.nan))["top"][0]["index"] == 0


def test_what_does_not_fit_is_refused() -> None:
    for row, words in (
        (np.zeros(4), "there are 3 labels for the 4 classes"),
        (np.zeros((2, 3)), r"one score for each class; the model gives \(2, 3\)"),
        ({"a": np.zeros(3), "b": np.zeros(3)}, "wants one output, the model gives 2: a, b"),
    ):
        with pytest.raises(SpecError, match=words):
            classify(labels=ABC)(row)
    for empty in (np.zeros(0), np.array(["a"]), [None]):
        with pytest.raises(ItemError, match="wants numbers"):
            classify()(empty)


# -- ctc


@pytest.mark.parametrize(
    ("symbols", "text"),
    [
        ([1, 2, 3], "abc"),
        ([1, 1, 2, 2, 2], "ab"),
        ([1, 0, 1], "aa"),
        ([0, 0, 3, 0], "c"),
        ([0, 0], ""),
        ([3], "c"),
    ],
)
def test_ctc_drops_repeats_and_blanks(symbols: list[int], text: str) -> None:
    assert ctc()(path(*symbols))["text"] == text


def test_ctc_with_the_blank_elsewhere() -> None:
    assert ctc(blank=3)(path(0, 3, 0, 1, 2))["text"] == "aabc"
    assert ctc(blank=-1)(path(0, 3, 0, 1, 2))["text"] == "aabc"
    assert ctc(labels=("", *ABC))(path(1, 0, 2))["text"] == "ab"
    assert ctc(labels=("a", "", "b", "c"), blank=1)(path(0, 1, 2))["text"] == "ab"
    assert ctc(labels=(*ABC, "unused"))(path(1, 2, 3))["text"] == "abc"
    assert ctc(labels=("x", "x", *ABC), index_offset=1)(path(1, 2, 3))["text"] == "abc"


def test_ctc_keeps_blanks_that_are_labels() -> None:
    assert ctc(labels=("a", " ", "b"))(path(1, 2, 3))["text"] == "a b"


def test_ctc_score_is_the_mean_of_what_was_kept() -> None:
    scores = path(1, 1, 0, 2, peak=0.9)
    scores[1, 1], scores[3, 2] = 0.3, 0.5
    assert ctc()(scores)["score"] == pytest.approx((0.9 + 0.5) / 2)
    assert ctc()(path(0, 0, peak=0.75))["score"] == 0.75  # nothing kept: of the blanks


def test_ctc_softmax_turns_logits_into_probabilities() -> None:
    logits = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32) * 3
    powers = np.exp(logits.astype(np.float64))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    found, wanted = ctc(activation="softmax")(logits), ctc()(probabilities)
    assert found["text"] == wanted["text"]
    assert found["score"] == pytest.approx(wanted["score"], rel=1e-6)


def test_ctc_takes_a_stray_axis_of_one() -> None:
    for shape in ((1, 3, 4), (3, 1, 4)):
        assert ctc()(path(1, 0, 2).reshape(shape))["text"] == "ab"


def test_ctc_with_nan_crashes_nothing() -> None:
    for activation in (None, "softmax"):
        found = ctc(activation=activation)(np.full((3, 4), np.nan, np.float32))
        assert math.isnan(found["score"])
        assert math.isfinite(ctc(activation=activation)(path(1, 2))["score"])
    assert ctc(activation="softmax")(np.full((3, 4), np.inf, np.float32))["text"] == ""


def test_ctc_refuses_labels_that_do_not_fit() -> None:
    for fields, words in (
        ({"labels": ("a", "b")}, r"1 of the 4 symbols .* no label, the first at row 3: there are 2 labels, blank=0"),
        ({"blank": 9}, "blank=9, and the model gives 4 symbols"),
        ({"blank": 1}, "the blank is row 1 of 4, amid the symbols"),
        ({"index_offset": 1}, r"row r means labels\[r \+ 1\]"),
    ):
        with pytest.raises(SpecError, match=words):
            ctc(**fields)(path(1, 2))
    with pytest.raises(SpecError, match=r"scores \(time, symbols\); the model gives \(4,\)"):
        ctc()(np.zeros(4))


# -- embed and raw


def test_embed_gives_a_vector() -> None:
    found = make(OutputSpec(task="embed"))(np.ones((3, 1, 1), np.float16))["embedding"]
    assert (found.shape, found.dtype) == ((3,), np.float16)
    with pytest.raises(SpecError, match="wants one output"):
        make(OutputSpec(task="embed"))({"a": np.ones(1), "b": np.ones(1)})


def test_raw_gives_the_arrays_as_they_are() -> None:
    row = np.ones((2, 3))
    assert make(OutputSpec())(row)["output"] is row
    found = make(OutputSpec())({"boxes": row, "scores": row})
    assert list(found) == ["boxes", "scores"]
    assert found["boxes"] is row
