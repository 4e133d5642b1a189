from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from penstock._evaluation.answers import Answer, answer_of


@pytest.mark.parametrize(
    ("output", "answer"),
    [
        (
            {"top": [{"index": 3, "label": "cat", "score": 0.7}, {"index": 0, "label": "dog", "score": 0.2}]},
            Answer("classes", ("cat", "dog"), ("3", "0"), 0.7),
        ),
        ({"top": [{"index": np.int64(-1), "score": np.float32(0.5)}]}, Answer("classes", (), ("-1",), 0.5)),
        ({"top": [{"label": "cat"}, {"index": 2, "label": "dog"}]}, Answer("classes", ("cat", "dog"), (), None)),
        ({"top": [{"index": 1, "label": "cat"}, {"index": 2}]}, Answer("classes", (), ("1", "2"), None)),
        ({"text": "AB 12", "score": 0.9}, Answer("text", ("AB 12",), (), 0.9)),
        ({"text": ""}, Answer("text", ("",), (), None)),
        ({"label": "cat", "score": math.nan}, Answer("classes", ("cat",), (), None)),
        ({"label": 7, "score": True}, Answer("classes", (), ("7",), None)),
        ("cat", Answer("value", ("cat",))),
        (np.int32(4), Answer("value", (), ("4",))),
        ("lone \ud800", Answer("value", ("lone \\ud800",))),
    ],
)
def test_what_an_output_says(output: Any, answer: Answer) -> None:
    assert answer_of(output) == answer


@pytest.mark.parametrize(
    "output",
    [
        *(None, True, 1.5, [], ["cat"], {}, {"text": 3}, {"label": True}, {"embedding": [0.1]}),
        *({"top": []}, {"top": "cat"}, {"top": [{"score": 1.0}]}, {"top": [{"index": 1.0}]}),
    ],
)
def test_what_could_be_neither_right_nor_wrong_is_no_answer(output: Any) -> None:
    assert answer_of(output) is None
