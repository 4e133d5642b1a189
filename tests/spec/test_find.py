from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock._spec import InputSpec, OutputSpec, Spec, find_spec, spec_beside
from penstock._spec.tables import read_toml
from penstock.errors import SpecError

RAW = "[input]\nmean = 0\nstd = 255\n"


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(SpecError) as caught:
        find_spec(*args, **options)
    return str(caught.value)


def test_nothing_said_is_refused_with_a_spec_to_paste(tmp_path: Path) -> None:
    message = refusal(tmp_path / "net.onnx")
    for words in ("net.onnx", "net.toml", "preprocessor_config.json", 'preset="imagenet"', 'preset="inception"'):
        assert words in message
    toml = tmp_path / "net.toml"
    toml.write_text(message[message.index("[input]") :])
    (tmp_path / "labels.txt").write_text("a\nb\n")
    assert find_spec(tmp_path / "net.onnx") == read_toml(toml)  # what it says to write can be read
    assert "write a file" in refusal(None)


def test_the_order_is_spec_preset_toml_huggingface(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"do_resize": False, "image_mean": 0, "image_std": 1})
    )
    assert spec_beside(model) == tmp_path / "preprocessor_config.json"
    assert find_spec(model).input.std == (255.0,)
    (tmp_path / "net.toml").write_text("[input]\nmean = 1\nstd = 2\n")
    assert spec_beside(model) == tmp_path / "net.toml"
    assert find_spec(model).input.std == (2.0,)
    assert find_spec(model, preset="imagenet").input.short_side == 256
    other = tmp_path / "other.toml"
    other.write_text("[input]\nmean = 1\nstd = 3\n")
    assert find_spec(model, spec=other).input.std == (3.0,)
    assert find_spec(model, spec=tmp_path / "preprocessor_config.json").input.std == (255.0,)
    assert find_spec(model, spec={"input": {"mean": 0, "std": 4}}).input.std == (4.0,)
    given = Spec(InputSpec(mean=(0.0,), std=(5.0,)))
    assert find_spec(model, spec=given) is given
    assert spec_beside(tmp_path / "sub" / "net.onnx") is None


def test_presets() -> None:
    imagenet, inception = find_spec(None, preset="imagenet"), find_spec(None, preset="inception")
    assert imagenet.input == InputSpec(
        size=(224, 224),
        resize="short_side",
        short_side=256,
        crop="center",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    )
    assert imagenet.output == OutputSpec(task="classify", activation="none")
    assert (inception.input.mean, inception.input.std, inception.input.size) == ((128.0,), (128.0,), None)
    assert "preset='resnet' is not known; use one of imagenet, inception" in refusal(None, preset="resnet")
    assert "both given" in refusal(None, spec={}, preset="imagenet")


def test_labels_and_top_k_replace_those_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n")
    for labels in (tmp_path / "names.txt", str(tmp_path / "names.txt"), ["a", "b"]):
        output = find_spec(None, preset="imagenet", labels=labels, top_k=2).output
        assert (output.labels, output.top_k) == (("a", "b"), 2)
    raw = {"input": {"mean": 0, "std": 1}}
    assert 'labels has no meaning for task="raw"' in refusal(None, spec=raw, labels=["a"])
    assert 'top_k=2 has a meaning for task="classify" alone' in refusal(None, spec=raw, top_k=2)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"input": {}}, "does not say how to normalise"),
        ({"input": {"mean": 0, "std": 1, "size": [8, 8]}}, "gives a size but not how to get there"),
        ({"input": {"mean": 0, "std": 1}, "output": {"task": "classify"}}, "needs a softmax"),
        ({"input": {"mean": 0, "std": 1}, "output": {"task": "ctc"}}, "no symbols"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(tables: dict[str, Any], words: str) -> None:
    assert words in refusal(None, spec=tables)


def test_normalisation_may_be_said_by_half_or_not_at_all_for_bytes() -> None:
    assert find_spec(None, spec={"input": {"std": 255}}).input.mean == ()
    assert find_spec(None, spec={"input": {"dtype": "uint8"}}).input.std == ()


def test_a_spec_of_another_kind_is_refused() -> None:
    assert "give a Spec, a dict of tables, or the path" in refusal(None, spec=5)
