"""Small pictures: small, upright, and no more of them than a page can hold."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._page import thumbnails as module
from penstock._page.thumbnails import HOPELESS, LONGEST, PIXELS, size_of, thumbnail, thumbnails

image = pytest.importorskip("PIL.Image")


@pytest.fixture
def photo(tmp_path: Path) -> str:
    path = tmp_path / "a.jpg"
    image.effect_noise((640, 480), 60).convert("RGB").save(path)
    return str(path)


def test_a_thumbnail_keeps_its_shape(photo: str) -> None:
    uri = thumbnail(photo)
    assert uri is not None
    assert uri.startswith("data:image/webp;base64,")
    small = image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert small.size == (144, 108)
    assert len(uri) < 12_000


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_a_thumbnail_is_small_whatever_the_shape(width: int, height: int) -> None:
    size = size_of(width, height)
    assert size[0] * size[1] <= PIXELS * 1.1
    assert min(size) >= 1
    assert max(size) <= min(LONGEST, max(width, height))


def test_a_line_of_text_stays_wide_enough_to_be_read() -> None:
    assert size_of(480, 32) == (480, 32)
    assert size_of(1200, 32) == (640, 17)


def test_what_is_no_picture_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    assert thumbnail(str(tmp_path / "a.jpg")) is None
    assert thumbnail(str(tmp_path / "gone.jpg")) is None


def test_as_many_as_there_is_room_for(photo: str, tmp_path: Path) -> None:
    paths = [photo, str(tmp_path / "gone.jpg")]
    for n in range(30):
        path = tmp_path / f"{n}.png"
        image.new("RGB", (20, 20), (n, 0, 0)).save(path)
        paths.append(str(path))
    assert thumbnails(paths, 10**6).keys() == set(paths) - {paths[1]}
    assert thumbnails(paths, 1).keys() == {photo}


def test_files_that_are_no_pictures_are_not_all_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(module, "thumbnail", opened.append)
    assert thumbnails([f"{n}.txt" for n in range(5000)], 10**6) == {}
    assert HOPELESS <= len(opened) < 1000
