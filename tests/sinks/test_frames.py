from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from penstock._sinks.frames import frames_in, pack, unpack, weight
from penstock.errors import ItemError


def test_a_row_comes_back_exactly() -> None:
    output: dict[Any, Any] = {
        "boxes": np.arange(8, dtype=">f4").reshape(2, 4),
        "none": np.zeros((0, 3), np.int8),
        "rows": [{"score": np.float32(0.1), "n": 2**70, "x": float("nan"), "flag": np.bool_(True)}, None, True, 0.5],
        "text": "é\n",
        "names": np.array(["a", "b"]),
        3: np.array([1, None], object),
        "": np.uint8(7),
    }
    id_, read = unpack(pack("d/é.jpg", output))
    assert id_ == "d/é.jpg"
    assert read["boxes"].tolist() == output["boxes"].tolist()
    assert (read["boxes"].dtype, read["none"].shape, read["none"].dtype) == (np.float32, (0, 3), np.int8)
    row = read["rows"][0]
    assert (type(row["score"]), row["score"], row["n"], str(row["x"])) == (np.float32, np.float32(0.1), 2**70, "nan")
    assert read["rows"][1:] == [None, True, 0.5]
    assert (read["text"], read["names"], read["3"], read[""]) == ("é\n", ["a", "b"], [1, None], 7)
    assert unpack(pack(5, np.array([1], np.int16)))[1].dtype == np.int16


def test_frames_lie_one_after_another() -> None:
    frames = [pack(i, {"a": np.full(i, i), "t": "x" * i}) for i in range(5)]
    assert list(frames_in(b"".join(frames))) == frames
    assert list(frames_in(b"")) == []


def test_weight_is_the_same_in_lists_and_arrays_of_any_dtype() -> None:
    rows: list[Any] = [
        [1, 2.0, True],
        np.zeros(3, np.uint8),
        np.zeros((3, 1)),
        [np.float32(1), 2, None, 3],
        {"a": [1, 2], "b": 3},
    ]
    assert {weight(pack(0, row)) for row in rows} == {12}
    assert weight(pack(0, ["é", "abc"])) == weight(pack(0, np.array(["é", "abc"]))) == 5


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"a": [b"x"]}, r"'i': output\['a'\]\[0\] is of type bytes"),
        ({(1, 2): 3}, r"output\['a key'\] is of type tuple"),
        ({1: 0, "1": 1}, r"two keys at output are '1'"),
        (np.complex64(1), "output is of type numpy complex64"),
        (np.array(["2020"], "M8[D]"), "numpy datetime64"),
        (np.longdouble(1), "numpy longdouble|numpy float"),
        ({"n": 10**5000}, "no form in a table"),
    ],
)
def test_what_a_table_has_no_form_for_is_an_item_error(output: Any, message: str) -> None:
    with pytest.raises(ItemError, match=message):
        pack("i", output)


def test_an_output_that_contains_itself_is_an_item_error() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(ItemError, match="contains itself"):
        pack("i", loop)


def test_lone_surrogates_are_escaped() -> None:
    assert unpack(pack("i", {"a\ud800": "b\udc80"}))[1] == {"a\\ud800": "b\\udc80"}
