"""Headers are read from any bytes: right where they are sound, None where they are not, and never an exception."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from penstock._decode.header import bare_png, read_header, sniff
from penstock._decode.reading import decode
from penstock.errors import ItemError


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(3).integers(0, 256, (19, 34, 3), np.uint8)
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6
SOUND = {
    ("JPEG", 1): encoded("JPEG"),
    ("JPEG", 6): encoded("JPEG", exif=EXIF, progressive=True, comment=b"c"),
    ("PNG", 1): encoded("PNG"),
    ("PNG", 6): encoded("PNG", exif=EXIF),
    ("WEBP", 1): encoded("WEBP"),
    ("WEBP", 6): encoded("WEBP", exif=EXIF, lossless=True),
}
LOSSLESS = encoded("WEBP", lossless=True)


@pytest.mark.parametrize(("kind", "orientation"), SOUND)
def test_read_header_of_sound_files(kind: str, orientation: int) -> None:
    data = SOUND[kind, orientation]
    assert sniff(data) == kind
    header = read_header(data, kind)
    assert header is not None
    assert (header.height, header.width, header.orientation) == (19, 34, orientation)
    assert (header.depth, header.quick) == (8, True)


def test_read_header_of_a_lossless_webp() -> None:
    header = read_header(LOSSLESS, "WEBP")
    assert header is not None
    assert (header.height, header.width) == (19, 34)


def test_read_header_skips_fill_bytes() -> None:
    data = SOUND["JPEG", 1]
    header = read_header(data[:2] + b"\xff\xff" + data[2:], "JPEG")
    assert header is not None
    assert header.width == 34


def test_quick_is_only_what_the_fast_decoders_do_as_pillow_does() -> None:
    cmyk = io.BytesIO()
    Image.new("CMYK", (9, 9)).save(cmyk, "JPEG")
    moving = encoded("PNG", save_all=True, append_images=[Image.new("RGB", (34, 19))])
    moving_webp = encoded("WEBP", save_all=True, append_images=[Image.new("RGB", (34, 19))])
    for data, kind in ((cmyk.getvalue(), "JPEG"), (moving, "PNG"), (moving_webp, "WEBP")):
        header = read_header(data, kind)
        assert header is not None
        assert not header.quick


def test_sniff_knows_six_formats_and_no_other() -> None:
    for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        assert sniff(encoded(kind)) == kind
    for other in (b"", b"RIFF1234WAVE", b"%PDF-1.7", b"<svg/>", encoded("PPM"), encoded("ICO")):
        assert sniff(other) is None


def test_bare_png_keeps_the_pixels_and_nothing_else() -> None:
    bare = bare_png(encoded("PNG", exif=EXIF, dpi=(72, 72)))
    assert b"eXIf" not in bare
    assert b"pHYs" not in bare
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(bare))), decode(SOUND["PNG", 1]))


@given(st.sampled_from(sorted(SOUND)), st.data())
@settings(max_examples=150)
def test_damaged_files_give_pixels_or_an_item_error(which: tuple[str, int], data: Any) -> None:
    damaged = bytearray(SOUND[which])
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(damaged) - 1, 200)))] = data.draw(st.integers(0, 255))
    whole = bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    with contextlib.suppress(ItemError):
        assert decode(whole).ndim == 3
