"""Scaling equals Pillow's within 2/255 on average for every photo, whichever way it was computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from penstock._decode import decode
from penstock._preprocess.geometry import Axis
from penstock._preprocess.resample import choose_resample
from penstock._spec import InputSpec
from penstock.errors import ItemError, MissingDependency

BILINEAR = InputSpec()
RATIOS = (0.4, 0.8, 1.0, 1.03, 1.08, 1.2, 1.46, 1.9, 2.0, 2.7, 3.99, 4.1, 6.0, 7.9, 8.1, 20.0)


def by_pillow(pixels: np.ndarray, rows: Axis, columns: Axis, kind: Image.Resampling) -> np.ndarray:
    whole = np.asarray(Image.fromarray(pixels).resize((columns.scaled, rows.scaled), kind))
    return whole[rows.first : rows.first + rows.length, columns.first : columns.first + columns.length].astype(int)


def whole(source: int, scaled: int) -> Axis:
    return Axis(source, scaled, 0, scaled)


def pattern(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = 127 + 60 * np.sin(x / 9) + 60 * np.cos(y / 13)
    return np.stack((waves, x * 255 / width, 255 * ((x // 31 + y // 23) % 2)), axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(shared_data: Path) -> list[np.ndarray]:
    """Return one of ten photos, and the five on which scaling is hardest."""
    paths = sorted((shared_data / "photos" / "flowers").glob("*/*.jpg"))
    hard = ("134372449", "3711892138", "129019877", "2863863372", "14698136411")
    return [decode(path) for i, path in enumerate(paths) if i % 10 == 0 or path.name.startswith(hard)]


@pytest.mark.parametrize("ratio", RATIOS)
def test_photos_are_scaled_as_by_pillow(photos: list[np.ndarray], ratio: float) -> None:
    scale = choose_resample(BILINEAR)
    worst = 0.0
    for pixels in photos:
        rows, columns = (whole(side, max(1, round(side / ratio))) for side in pixels.shape[:2])
        wanted = by_pillow(pixels, rows, columns, Image.Resampling.BILINEAR)
        worst = max(worst, np.abs(scale(pixels, rows, columns) - wanted).mean())
    assert worst <= 2


def test_lines_of_text_are_scaled_as_by_pillow(shared_data: Path) -> None:
    scale = choose_resample(BILINEAR)
    for path in sorted((shared_data / "lines").glob("*/*.png")):
        pixels = decode(path)
        rows, columns = whole(pixels.shape[0], 32), whole(pixels.shape[1], pixels.shape[1] * 32 // pixels.shape[0])
        wanted = by_pillow(pixels, rows, columns, Image.Resampling.BILINEAR)
        assert np.abs(scale(pixels, rows, columns) - wanted).mean() <= 2, path


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 300), st.integers(1, 300), st.data())
def test_any_part_of_any_scaling_has_its_shape_and_place(h: int, w: int, sh: int, sw: int, data: Any) -> None:
    def part(source: int, scaled: int) -> Axis:
        first = data.draw(st.integers(0, scaled - 1))
        return Axis(source, scaled, first, data.draw(st.integers(1, scaled - first)))

    pixels, rows, columns = pattern(h, w), part(h, sh), part(w, sw)
    found = choose_resample(BILINEAR)(pixels, rows, columns)
    assert found.shape == (rows.length, columns.length, 3)
    wanted = by_pillow(pixels, rows, columns, Image.Resampling.BILINEAR)
    # Single pixels of a pattern may differ more than a photo's mean; a part in the wrong place differs by 40.
    assert np.abs(found - wanted).mean() <= 12


def test_a_crop_is_the_part_of_the_whole(photos: list[np.ndarray]) -> None:
    scale = choose_resample(BILINEAR)
    for pixels in photos[:12]:
        for short in (256, 219, 73):
            sides = [short * side // min(pixels.shape[:2]) for side in pixels.shape[:2]]
            kept = int(short * 0.875)
            rows, columns = (
                Axis(source, side, (side - kept) // 2, kept) for source, side in zip(pixels.shape, sides, strict=False)
            )
            wanted = by_pillow(pixels, rows, columns, Image.Resampling.BILINEAR)
            assert np.abs(scale(pixels, rows, columns) - wanted).mean() <= 2


def test_bicubic_is_pillows_own(photos: list[np.ndarray]) -> None:
    for pixels in photos[:6]:
        for ratio in (0.7, 1.3, 2, 4.4):
            rows, columns = (whole(side, round(side / ratio)) for side in pixels.shape[:2])
            found = choose_resample(InputSpec(interpolation="bicubic"))(pixels, rows, columns)
            assert np.abs(found - by_pillow(pixels, rows, columns, Image.Resampling.BICUBIC)).mean() <= 0.3


def weights(axis: Axis) -> np.ndarray:
    """Return how much each pixel of the picture counts in each scaled one: the share of it that is covered."""
    begin = np.arange(axis.scaled)[:, None] * axis.ratio
    pixel = np.arange(axis.source)
    covered = np.minimum(begin + axis.ratio, pixel + 1) - np.maximum(begin, pixel)
    return np.asarray(np.maximum(covered, 0) / axis.ratio)


def test_area_is_the_mean_of_what_a_pixel_covers() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)
    rows, columns = Axis(90, 40, 5, 30), Axis(130, 51, 7, 20)
    found = choose_resample(InputSpec(interpolation="area"))(pixels, rows, columns)
    wanted = np.einsum("yh,hwc,xw->yxc", weights(rows), pixels.astype(float), weights(columns))[5:35, 7:27]
    assert np.abs(found - wanted).max() <= 1


def test_without_antialias_it_is_opencvs_own() -> None:
    import cv2

    pixels, rows, columns = pattern(90, 130), Axis(90, 40, 5, 30), Axis(130, 50, 7, 20)
    for name, mode in (("bilinear", cv2.INTER_LINEAR), ("bicubic", cv2.INTER_CUBIC)):
        spec = InputSpec(interpolation=name, antialias=False)  # type: ignore[arg-type]
        wanted = cv2.resize(pixels, (50, 40), interpolation=mode)[5:35, 7:27]
        np.testing.assert_array_equal(choose_resample(spec)(pixels, rows, columns), wanted)


def test_one_side_up_and_one_down_is_left_to_pillow() -> None:
    pixels, rows, columns = pattern(50, 300), whole(50, 100), whole(300, 100)
    found = choose_resample(BILINEAR)(pixels, rows, columns)
    assert np.abs(found - by_pillow(pixels, rows, columns, Image.Resampling.BILINEAR)).max() <= 1


def test_alpha_does_not_bleed_into_colour() -> None:
    """Pillow scales RGBA premultiplied: what cannot be seen does not colour what can."""
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, :2] = (200, 100, 50, 255)
    pixels[:, 2:] = (0, 255, 0, 0)
    found = choose_resample(InputSpec(color="rgba"))(pixels, whole(4, 2), whole(4, 3))
    assert np.abs(found[0, 1, :3].astype(int) - (200, 100, 50)).max() <= 2


def test_a_sliver_is_cropped_without_computing_the_rest() -> None:
    pixels = pattern(1, 5000)
    rows, columns = Axis(1, 256, 16, 224), Axis(5000, 1_280_000, 639_888, 224)
    assert choose_resample(BILINEAR)(pixels, rows, columns).shape == (224, 224, 3)
    with pytest.raises(ItemError, match="would be scaled to 1,280,000 x 256 before it is cropped"):
        choose_resample(InputSpec(interpolation="area"))(pixels, rows, columns)


def test_without_opencv_pillow_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock._preprocess.resample.opencv", lambda: None)
    pixels, rows, columns = pattern(90, 130), Axis(90, 40, 5, 30), Axis(130, 50, 7, 20)
    found = choose_resample(BILINEAR)(pixels, rows, columns)
    assert np.abs(found - by_pillow(pixels, rows, columns, Image.Resampling.BILINEAR)).mean() <= 0.5
    for spec, name in ((InputSpec(antialias=False), "antialias=false"), (InputSpec(interpolation="area"), "area")):
        with pytest.raises(MissingDependency, match=rf"{name} needs .*penstock\[images\]"):
            choose_resample(spec)
