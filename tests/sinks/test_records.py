from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._contracts import Item
from penstock._sinks.records import Nulls, key_text, record, split_arrays, to_json, to_text
from penstock.errors import ItemError


def as_json(output: Any, id_: int | str = "a.jpg") -> str:
    return to_json(record(Item(id_), output), Nulls()).decode()


def test_a_record_as_the_readme_has_it() -> None:
    top = [{"index": np.int64(0), "label": "daisy", "score": np.float32(0.93)}]
    assert as_json({"top": top}, "daisy/1.jpg") == (
        '{"id": "daisy/1.jpg", "output": {"top": [{"index": 0, "label": "daisy", "score": 0.93}]}}'
    )
    assert to_json(record(0, 2), Nulls()) == b'{"id": 0, "output": 2}'


def test_numpy_becomes_plain() -> None:
    output = {
        "a": np.arange(4).reshape(2, 2),
        "b": np.bool_(False),
        "c": (np.array([0.1], np.float32), np.uint8(3)),
        "é": "ü\n",
    }
    assert (
        as_json(output)
        == '{"id": "a.jpg", "output": {"a": [[0, 1], [2, 3]], "b": false, "c": [[0.1], 3], "é": "ü\\n"}}'
    )


def test_nan_and_infinities_are_null_and_counted_by_every_thread() -> None:
    nulls = Nulls()
    output = {
        "a": float("nan"),
        "b": np.array([1, np.inf, -np.inf], np.float32),
        "c": [np.float64("nan"), np.float16("nan")],
    }
    assert json.loads(to_text(output, "x", nulls)) == {"a": None, "b": [1, None, None], "c": [None, None]}
    assert nulls.value == 5
    threads = [threading.Thread(target=lambda: [to_text(output, "x", nulls) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert nulls.value == 5 * 201


def test_keys_become_texts() -> None:
    output = {True: "c", 2.5: "b", None: "d", np.int64(7): "e", np.float32(0.1): "f"}
    expected = {"true": "c", "2.5": "b", "null": "d", "7": "e", "0.1": "f"}
    assert json.loads(as_json(output))["output"] == expected
    assert [key_text(key) for key in (np.bool_(True), 1, "x", (1,), np.datetime64("2020"))] == [
        *("true", "1", "x", None, None)
    ]


def test_two_keys_with_one_text_are_refused() -> None:
    with pytest.raises(ItemError, match=r"'a.jpg': output\['k'\] has two keys that are '1'"):
        as_json({"k": {np.int64(1): 0, "1": 1}})


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"boxes": [1, {2}]}, r"'a\.jpg': output\['boxes'\]\[1\] is of type set"),
        (b"x", r"output is of type bytes"),
        ({"a": object()}, r"output\['a'\] is of type object"),
        ([np.complex64(1)], r"output\[0\] is of type numpy complex64"),
        ({(1, 2): 3}, r"a key of output is of type tuple"),
        (np.array([{1}], object), r"output\[0\] is of type set"),
        ({"n": 10**5000}, r"no JSON form"),
    ],
)
def test_what_json_has_no_form_for_is_an_item_error_with_its_place(output: Any, message: str) -> None:
    with pytest.raises(ItemError, match=message):
        as_json(output)


def test_an_output_that_contains_itself_is_an_item_error() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ItemError, match="contains itself"):
        as_json(loop)


def test_lone_surrogates_come_back() -> None:
    text = 'a\ud800b\udcff"\\'
    assert json.loads(to_json(record(Item("é\ud800"), {"t\udc80": text}), Nulls())) == {
        "id": "é\ud800",
        "output": {"t\udc80": text},
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_any_json_value_comes_back_on_one_line(output: Any) -> None:
    line = as_json(output)
    assert "\n" not in line
    assert json.loads(line) == {"id": "a.jpg", "output": output}


def test_split_arrays_refers_to_them_by_path() -> None:
    boxes, mask = np.zeros((2, 4), np.float32), np.ones(3, np.bool_)
    output = {"boxes": boxes, "heads": [{"a/b%": mask}], "score": np.float32(1), "names": np.array([None, "x"], object)}
    tree, arrays = split_arrays(output)
    assert arrays == {"boxes": boxes, "heads/0/a%2Fb%25": mask}
    assert arrays["boxes"] is boxes
    assert tree == {
        "boxes": {"array": "boxes", "dtype": "<f4", "shape": [2, 4]},
        "heads": [{"a/b%": {"array": "heads/0/a%2Fb%25", "dtype": "|b1", "shape": [3]}}],
        "score": np.float32(1),
        "names": output["names"],
    }
    assert split_arrays(mask)[1] == {"output": mask}
    assert split_arrays({"n": 1}) == ({"n": 1}, {})
