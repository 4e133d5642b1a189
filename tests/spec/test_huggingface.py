from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from penstock._spec.fields import InputSpec, OutputSpec
from penstock._spec.huggingface import read_huggingface
from penstock.errors import SpecError

VIT = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 0.00392156862745098,
    "size": {"height": 224, "width": 224},
}
RESNET = {
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": {"shortest_edge": 256},
    "crop_pct": None,
}


def written(folder: Path, config: Any, model: Any = None) -> Path:
    path = folder / "preprocessor_config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    if model is not None:
        (folder / "config.json").write_text(json.dumps(model))
    return path


def refusal(folder: Path, config: Any, model: Any = None) -> str:
    with pytest.raises(SpecError) as caught:
        read_huggingface(written(folder, config, model))
    return str(caught.value)


def test_a_vision_transformer(tmp_path: Path) -> None:
    spec = read_huggingface(written(tmp_path, VIT))
    assert spec.input == InputSpec(size=(224, 224), resize="stretch", mean=(127.5,) * 3, std=(127.5,) * 3)
    assert spec.output == OutputSpec()


def test_a_short_side_with_a_crop(tmp_path: Path) -> None:
    assert read_huggingface(written(tmp_path, RESNET)).input == InputSpec(
        size=(224, 224),
        resize="short_side",
        short_side=256,
        crop="center",
        interpolation="bicubic",
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    )
    assert read_huggingface(written(tmp_path, RESNET | {"crop_size": 192})).input.size == (192, 192)


def test_parts_that_are_switched_off(tmp_path: Path) -> None:
    found = read_huggingface(written(tmp_path, VIT | {"do_normalize": False})).input
    assert (found.mean, found.std) == ((0.0,), (255.0,))
    found = read_huggingface(written(tmp_path, VIT | {"do_rescale": False})).input
    assert (found.mean, found.std) == ((0.5,) * 3, (0.5,) * 3)
    found = read_huggingface(written(tmp_path, VIT | {"do_resize": False, "data_format": "channels_last"})).input
    assert (found.size, found.resize, found.layout) == (None, None, "NHWC")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"do_pad": True}, "do_pad=True cannot be honoured"),
        ({"crop_pct": 0.875}, "crop_pct=0.875 cannot be honoured"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"resample": 0}, "resample=0 cannot be honoured"),
        ({"resample": None}, "resample is missing"),
        ({"size": 224}, "a square or a short side, by class"),
        ({"size": {"longest_edge": 224}}, "longest_edge"),
        ({"image_mean": None}, "image_mean is missing (do_normalize)"),
        ({"image_std": ["a"]}, "image_std=['a']: give numbers"),
        ({"image_std": [0, 0, 0]}, "holds a zero"),
        ({"rescale_factor": 0}, "rescale_factor=0: it must be a number > 0"),
        ({"data_format": "CHW"}, "data_format='CHW'"),
        ({"do_resize": False, "do_center_crop": True}, "do_center_crop without do_resize"),
        ({"do_center_crop": True, "crop_size": 200}, "do_center_crop after a resize"),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True}, "crop_size is missing"),
        ({"size": {"shortest_edge": 9}, "do_center_crop": True, "crop_size": {"width": 9}}, "size=[None, 9]"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    message = refusal(tmp_path, VIT | changes)
    assert words in message
    assert "preprocessor_config.json: " in message


def test_broken_files_are_refused(tmp_path: Path) -> None:
    assert "is no JSON" in refusal(tmp_path, "{")
    assert "holds list" in refusal(tmp_path, [])
    with pytest.raises(SpecError, match="cannot be read"):
        read_huggingface(tmp_path / "none.json")


def test_an_image_classifier_brings_its_labels(tmp_path: Path) -> None:
    model = {"architectures": ["ViTForImageClassification"], "id2label": {"1": "dog", "0": "cat"}}
    output = read_huggingface(written(tmp_path, VIT, model)).output
    assert output == OutputSpec(task="classify", activation="softmax", labels=("cat", "dog"))
    assert read_huggingface(written(tmp_path, VIT, model | {"architectures": ["ViTModel"]})).output == OutputSpec()
    assert "id2label does not number" in refusal(tmp_path, VIT, model | {"id2label": {"1": "dog"}})
    assert "id2label does not number" in refusal(tmp_path, VIT, model | {"id2label": {"zero": "dog"}})
