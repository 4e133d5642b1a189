from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock._decode import decode
from penstock._models.normalise import normalised
from penstock._postprocess import make as make_output
from penstock._preprocess import make, shrink_to, turns_with
from penstock._spec import InputSpec, find_spec, resolve
from penstock.errors import ItemError, SpecError

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
AS_IS = {"size": (40, 60), "resize": "stretch"}
FREE_WIDTH = {"size": None, "keep_aspect_height": 16, "resize": None}


def spec(**fields: Any) -> InputSpec:
    return InputSpec(**(AS_IS | fields))


def test_the_pixels_stay_bytes() -> None:
    found = make(spec(mean=5, std=2))(PIXELS)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, PIXELS)


def test_colours() -> None:
    np.testing.assert_array_equal(make(spec(color="bgr"))(PIXELS), PIXELS[..., ::-1])
    gray = make(spec(color="gray"))(PIXELS)
    np.testing.assert_array_equal(gray[..., 0], np.asarray(Image.fromarray(PIXELS).convert("L")))
    assert gray.shape == (40, 60, 1)
    clear = np.dstack([PIXELS, PIXELS[..., 0]])
    np.testing.assert_array_equal(make(spec(color="rgba"))(clear), clear)


def test_a_photo_of_the_size_of_the_crop_is_scaled_all_the_same() -> None:
    cropped = InputSpec(size=(40, 40), resize="short_side", short_side=46, crop="center")
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:3] = 255
    found = make(cropped)(pixels)
    assert found.shape == (40, 40, 3)
    assert found[1].max() < 255  # what was the edge lies outside


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "fields",
    [
        {"size": (20, 20)},
        {"size": (20, 30)},
        {"size": (24, 24), "resize": "pad"},
        {"size": (24, 24), "resize": "short_side", "short_side": 28, "crop": "center"},
        FREE_WIDTH,
        {"size": None, "resize": "short_side", "short_side": 16},
    ],
)
def test_turned_behind_the_preparation_a_picture_is_what_it_is_turned_before(
    fields: dict[str, Any], quarters: int
) -> None:
    smooth = np.linspace(0, 255, 40 * 60 * 3).reshape(40, 60, 3).astype(np.uint8)
    wanted = spec(**fields)
    before = make(wanted)(np.ascontiguousarray(np.rot90(smooth, quarters)))
    behind = np.rot90(make(wanted)(smooth), quarters)
    assert turns_with(wanted, smooth.shape, quarter=quarters % 2 == 1) == (before.shape == behind.shape)
    if before.shape == behind.shape:
        assert np.abs(before.astype(int) - behind).max() <= 12  # half a pixel, where the margins are odd


def test_what_is_filled_up_on_one_side_is_turned_before() -> None:
    assert not turns_with(spec(**FREE_WIDTH, pad_to_multiple_of=32), (40, 60, 3), quarter=False)


def test_pad_fills_with_its_value() -> None:
    found = make(InputSpec(size=(50, 50), resize="pad", pad_value=114))(PIXELS)
    assert found.shape == (50, 50, 3)
    assert (found[:8] == 114).all()
    assert (found[-9:] == 114).all()
    assert (found[9:41] != 114).any()


def test_free_width() -> None:
    lines = make(InputSpec(keep_aspect_height=32))
    assert lines(PIXELS).shape == (32, 48, 3)
    assert lines(PIXELS[:, :1]).shape == (32, 1, 3)


def test_a_free_width_is_filled_up_on_the_right() -> None:
    plain = make(InputSpec(keep_aspect_height=32))(PIXELS)
    found = make(InputSpec(keep_aspect_height=32, pad_to_multiple_of=20, pad_value=114))(PIXELS)
    assert found.shape == (32, 60, 3)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found[:, :48], plain)
    assert (found[:, 48:] == 114).all()
    np.testing.assert_array_equal(make(InputSpec(keep_aspect_height=32, pad_to_multiple_of=24))(PIXELS), plain)


@pytest.mark.parametrize(
    "wrong", [PIXELS[0], PIXELS[..., :1], PIXELS.astype(np.float32), PIXELS[:0], PIXELS.tolist(), "a.jpg"]
)
def test_what_is_no_picture_is_an_item_error(wrong: Any) -> None:
    with pytest.raises(ItemError, match=r"a picture is (a )?uint8"):
        make(spec())(wrong)


def test_an_open_size_is_refused_before_any_item() -> None:
    with pytest.raises(SpecError, match="needs a size"):
        make(InputSpec(resize="stretch"))


def test_shrink_to_follows_the_largest_side_wanted() -> None:
    assert shrink_to(find_spec(None, preset="imagenet").input) == 743  # 2.9 * 256
    assert shrink_to(InputSpec(size=(100, 300), resize="pad")) == 870
    assert shrink_to(InputSpec(keep_aspect_height=32)) == 93
    assert shrink_to(InputSpec()) is None
    assert shrink_to(spec(antialias=False)) is None


@pytest.mark.parametrize(("side", "larger"), [(224, 8), (96, 4), (40, 1)])
def test_photos_shrunk_while_decoding_stay_within_tolerance(shared_data: Path, side: int, larger: int) -> None:
    """The photos, some as large as a camera writes them, against Pillow on the whole of them."""
    given = resolve(find_spec(None, preset="inception"), (None, 3, side, side)).input
    prepare, least = make(given), shrink_to(given)
    shrunk = 0
    for path in sorted((shared_data / "photos" / "flowers").glob("*/*.jpg"))[::60]:
        image = Image.open(path).convert("RGB")
        large = image.resize([length * larger // 8 * 8 for length in image.size], Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        large.save(buffer, "JPEG", quality=90)
        for decoder in ("auto", "pillow"):
            pixels = decode(buffer.getvalue(), decoder=decoder, shrink_to=least)
            shrunk += pixels.shape[0] < large.height
            wanted = by_pillow(buffer.getvalue(), given.short_side, side)
            assert np.abs(prepare(pixels) - wanted).mean() <= 2
    assert shrunk >= 6


def by_pillow(data: bytes, short: Any, side: int) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = (short * length // min(image.size) for length in image.size)
    left, top = round((width - side) / 2), round((height - side) / 2)
    image = image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    return np.asarray(image).astype(int)


# -- real models: what a photo is worth in the end


def session(path: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_flowers_are_recognised(shared_data: Path) -> None:
    model = session(shared_data / "models" / "flowers5_mobilenet_v2_head.onnx")
    names = ["daisy", "dandelion", "roses", "sunflowers", "tulips"]
    spec = resolve(find_spec(None, preset="inception", labels=names), model.get_inputs()[0].shape)
    prepare, output, least = make(spec.input), make_output(spec.output), shrink_to(spec.input)
    right = 0
    for path in sorted((shared_data / "photos" / "flowers").glob("*/*.jpg")):
        pixels = prepare(decode(path, shrink_to=least))
        row = model.run(None, {model.get_inputs()[0].name: normalised(pixels[None], spec.input, "float32")})[0][0]
        right += output(row)["top"][0]["label"] == path.parent.name
    assert 443 <= right <= 449


def test_lines_are_read(shared_data: Path) -> None:
    model = session(shared_data / "models" / "crnn_lite_op.onnx")
    tables = {
        "input": {"keep_aspect_height": 32, "mean": 127.5, "std": 127.5},
        "output": {
            "task": "ctc",
            "labels": str(shared_data / "models" / "crnn_lite_keys.txt"),
            "activation": "softmax",
        },
    }
    spec = resolve(find_spec(None, spec=tables), model.get_inputs()[0].shape)
    prepare, output = make(spec.input), make_output(spec.output)
    errors = letters = 0
    for path in sorted((shared_data / "lines").glob("*/*.png")):
        values = normalised(prepare(decode(path))[None], spec.input, "float32")
        row = model.run(None, {model.get_inputs()[0].name: values})[0][0]
        found = output(row)["text"].replace(" ", "")
        wanted = path.with_name(path.name.replace(".bin.png", ".gt.txt")).read_text("utf-8").strip().replace(" ", "")
        errors += edits(found, wanted)
        letters += len(wanted)
    assert errors / letters <= 0.045


def edits(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]
