from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from penstock._spec import InputSpec, OutputSpec, Spec
from penstock.errors import SpecError


def test_lists_and_single_numbers_take_their_form() -> None:
    spec = InputSpec(size=[2, 3], resize="stretch", mean=[1, 2, 3], std=2)  # type: ignore[arg-type]
    assert spec == InputSpec(size=(2, 3), resize="stretch", mean=(1.0, 2.0, 3.0), std=(2.0,))
    assert OutputSpec(task="classify", labels=["a", " b "]).labels == ("a", " b ")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": [224]}, "size=[224]: give [height, width]"),
        ({"size": [0, 5]}, "two whole numbers >= 1"),
        ({"size": [True, 5]}, "two whole numbers >= 1"),
        ({"size": 224}, "size=224"),
        ({"resize": "fit"}, 'resize=\'fit\' is not known; use one of "short_side", "stretch", "pad"'),
        ({"crop": "left"}, "crop='left'"),
        ({"interpolation": "nearest"}, "interpolation='nearest'"),
        ({"color": "RGB"}, 'use one of "rgb", "bgr", "gray", "rgba"'),
        ({"layout": "CHW"}, "layout='CHW'"),
        ({"dtype": "float64"}, "dtype='float64'"),
        ({"antialias": 1}, "antialias=1: give true or false"),
        ({"pad_value": 256}, "pad_value=256: give a whole number from 0 to 255"),
        ({"keep_aspect_height": 0}, "keep_aspect_height=0: give a whole number >= 1"),
        ({"mean": [1, 2], "std": 1}, "one for each of the 3 channels"),
        ({"mean": "0.5", "std": 1}, "mean='0.5'"),
        ({"mean": float("nan"), "std": 1}, "mean=nan"),
        ({"mean": 0, "std": [1, 0, 1]}, "holds a zero"),
        ({"color": "gray", "mean": [1, 2, 3], "std": 1}, "each of the 1 channels"),
        ({"dtype": "uint8", "mean": 128, "std": 1}, 'dtype="uint8" takes the pixels as they are'),
        ({"keep_aspect_height": 32, "size": [32, 100]}, "leave out size"),
        ({"keep_aspect_height": 32, "resize": "pad"}, "leave out resize"),
        ({"keep_aspect_height": 32, "pad_to_multiple_of": 1}, "pad_to_multiple_of=1: give a whole number >= 2"),
        ({"pad_to_multiple_of": 32, "resize": "pad", "size": [8, 8]}, "the width that keep_aspect_height leaves free"),
        ({"short_side": 256}, 'short_side belongs to resize="short_side"; resize is None'),
        ({"crop": "center", "resize": "pad"}, "crop belongs to"),
        ({"resize": "short_side"}, "short_side=None: give a whole number >= 1"),
        ({"resize": "short_side", "short_side": "256"}, "short_side='256': give pixels, or"),
        ({"resize": "short_side", "short_side": "size/0"}, 'a share as in "size/0.875"'),
        ({"resize": "short_side", "short_side": "size/0.875"}, 'with crop="center"'),
        ({"resize": "short_side", "short_side": 9, "size": [8, 8]}, 'need crop="center" too'),
        (
            {"resize": "short_side", "short_side": 9, "size": [8, 10], "crop": "center"},
            "short_side=9 is less than size",
        ),
        ({"interpolation": "area", "antialias": False}, "leave out antialias=false"),
    ],
)
def test_input_refuses_what_contradicts_itself(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        InputSpec(**fields)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"task": "detect"}, 'use one of "classify", "ctc", "embed", "raw"'),
        ({"task": "classify", "activation": "sigmoid"}, 'use one of "none", "softmax"'),
        ({"top_k": 0}, "top_k=0: give a whole number >= 1"),
        ({"top_k": 2.0}, "top_k=2.0"),
        ({"blank": -2}, "blank=-2: give a whole number >= -1"),
        ({"index_offset": "1"}, "index_offset='1': give a whole number"),
        ({"task": "classify", "labels": []}, "give a list of strings"),
        ({"task": "classify", "labels": ["a", 1]}, "labels hold 1, which is no string"),
        ({"task": "raw", "labels": ["a"]}, 'labels has no meaning for task="raw"'),
        ({"task": "embed", "activation": "softmax"}, 'activation has no meaning for task="embed"'),
    ],
)
def test_output_refuses_what_contradicts_itself(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        OutputSpec(**fields)
    assert words in str(caught.value)


def test_spec_refuses_what_is_no_spec() -> None:
    with pytest.raises(SpecError, match="takes an InputSpec, not dict"):
        Spec({"size": [1, 1]})  # type: ignore[arg-type]


def test_to_dict_is_json_and_says_every_field_and_the_labels_by_hash() -> None:
    def digest(*labels: str) -> Any:
        spec = Spec(InputSpec(mean=(1.0,), std=(2.0,)), OutputSpec(task="classify", activation="none", labels=labels))
        found = spec.to_dict()
        assert json.loads(json.dumps(found)) == found
        return found["output"]["labels"]

    assert digest("a", "b")["count"] == 2
    assert len({digest(*labels)["sha256"] for labels in (("a", "b"), ("b", "a"), ("ab",), ("a\nb",), ("a", "b "))}) == 5
    found = Spec(InputSpec(size=(4, 5), resize="pad")).to_dict()
    assert found["input"]["size"] == [4, 5]
    assert set(found["input"]) == {field.name for field in dataclasses.fields(InputSpec)}
    assert set(found["output"]) == {field.name for field in dataclasses.fields(OutputSpec)}
