"""What is shown of an output, of whatever kind it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from penstock._page.answers import MOST_TOP, Answer, answer_of, answers_of, number, short

TOP = {"top": [{"index": 3, "label": "daisy", "score": 0.75}, {"index": 1, "score": 0.25}]}


def test_classes() -> None:
    assert answer_of(TOP) == Answer("daisy", 0.75, (("daisy", 0.75), ("1", 0.25)))


def test_of_many_classes_the_best_few() -> None:
    entries = [{"index": i, "score": 1 / (i + 1)} for i in range(20)]
    assert len(answer_of({"top": entries}).top) == MOST_TOP


def test_text() -> None:
    assert answer_of({"text": "Hello <b>", "score": 0.5}) == Answer("Hello <b>", 0.5)
    assert answer_of({"text": "", "score": math.nan}) == Answer("", None)


def test_a_label_of_a_function() -> None:
    assert answer_of({"label": "cats", "score": 0.5}) == Answer("cats", 0.5)
    assert answers_of({"a": {"label": "cats"}, "b": {"label": "dogs"}}).keys() == {"a", "b"}


def test_several_models_and_one_that_failed() -> None:
    answers = answers_of({"a": TOP, "b": {"text": "x", "score": 1}, "c": None})
    assert {name: answer.prediction for name, answer in answers.items()} == {"a": "daisy", "b": "x"}


def test_one_model_with_a_dict_is_no_several() -> None:
    assert answers_of({"brightness": 1.0}) == {"": Answer("brightness: 1")}
    assert answers_of(TOP).keys() == {""}
    assert answers_of(None) == {}


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (3, "3"),
        (np.float32(0.1), "0.1"),
        ("a", "a"),
        (None, "None"),
        ([1, 2.5], "[1, 2.5]"),
        (list(range(1000)), "1,000 values"),
        (np.zeros((2, 512), np.float32), "float32 array, 2 x 512"),
        ({"array": "e", "dtype": "<f4", "shape": [512]}, "float32 array, 512"),
        ({"embedding": np.zeros(512)}, "embedding: float64 array, 512"),
        ({str(i): i for i in range(9)}, "0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5 …"),
        ({"top": []}, "top: []"),
        ({"top": [1, 2]}, "top: [1, 2]"),
    ],
)
def test_anything_else_in_a_few_words(output: Any, text: str) -> None:
    assert short(output) == text
    assert answer_of(output).prediction == text


def test_numbers() -> None:
    assert (number(True), number("1"), number(math.inf), number(np.int8(2))) == (None, None, None, 2.0)
