from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from penstock._decode.exif import orientation_of, turned

SHORT, BYTE, LONG, ASCII = 3, 1, 4, 2


def exif(value: int, kind: int = SHORT, order: str = "<", tags: int = 2) -> bytes:
    """Return an EXIF block whose last tag is the orientation."""
    fields = {SHORT: "Hxx", BYTE: "Bxxx", LONG: "L", ASCII: "L"}[kind]
    entries = [struct.pack(order + "HHLL", 0x0100 + i, LONG, 1, 7) for i in range(tags - 1)]
    entries.append(struct.pack(order + "HHL" + fields, 0x0112, kind, 1, value))
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "LH", 8, tags) + b"".join(entries) + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [SHORT, BYTE, LONG])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_orientation_of_reads_both_byte_orders_and_all_types(order: str, kind: int, prefix: bytes) -> None:
    for value in range(1, 9):
        assert orientation_of(prefix + exif(value, kind, order), None) == value


def test_orientation_of_takes_nonsense_for_upright() -> None:
    for nonsense in (exif(0), exif(9), exif(6, ASCII), b"", b"II*\0", exif(6)[:20], b"XX" + exif(6)[2:]):
        assert orientation_of(nonsense, None) == 1


def test_orientation_of_prefers_exif_to_xmp() -> None:
    assert orientation_of(None, b'<a tiff:Orientation="8"/>') == 8
    assert orientation_of(None, b"<tiff:Orientation>3</tiff:Orientation>") == 3
    assert orientation_of(exif(6), b'<a tiff:Orientation="8"/>') == 6
    assert orientation_of(exif(6)[:20], b'<a tiff:Orientation="8"/>') == 8
    assert orientation_of(None, b"nothing") == 1


@given(st.binary(max_size=60))
def test_orientation_of_never_raises(block: bytes) -> None:
    assert orientation_of(b"II*\0" + block, block) in range(1, 9)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_turned_does_what_pillow_does(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    assert turned(pixels, 1) is pixels
    for orientation in range(2, 9):
        planes = []
        for channel in range(channels):
            image = Image.fromarray(pixels[..., channel])
            image.getexif()[0x0112] = orientation
            planes.append(np.asarray(ImageOps.exif_transpose(image)))
        found = turned(pixels, orientation)
        np.testing.assert_array_equal(found, np.stack(planes, axis=2))
        assert found.flags.c_contiguous
