"""Which way up a picture is: the orientation in its EXIF or XMP data, and how to turn the pixels.

The values 1 to 8 are those of the EXIF tag 0x0112 (CIPA DC-008-2023, 4.6.5.1.6). Where EXIF has none, the XMP property
`tiff:Orientation` counts, as in Pillow.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
"""uint8, (height, width, channels)."""

_ORIENTATION = 0x0112
# Type of a tag -> how its value is written: BYTE, SHORT, LONG. Cameras use SHORT; some editors write the others.
_FORMATS = {1: "B", 3: "H", 4: "L"}
_XMP = re.compile(rb'tiff:Orientation(?:=["\']|>)([0-9])')


def orientation_of(exif: bytes | None, xmp: bytes | None) -> int:
    """Return the orientation 1 to 8; 1 (upright) where neither says one, or says it in a way nobody understands."""
    value = None if exif is None else _in_exif(exif.removeprefix(b"Exif\0\0"))
    if value is None and xmp is not None and (match := _XMP.search(xmp)):
        value = int(match[1])
    return value if value is not None and 1 <= value <= 8 else 1


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Return `pixels` upright and contiguous; the same array where nothing is to do."""
    if orientation == 1:
        return pixels
    channels = pixels.shape[2]
    # Moved as whole pixels: byte by byte, a transposed photo takes three times as long.
    whole = np.ascontiguousarray(pixels).view(np.dtype((np.void, channels)))[..., 0]
    if orientation >= 5:
        whole = whole.T
    if orientation in (3, 4, 7, 8):
        whole = whole[::-1]
    if orientation in (2, 3, 6, 7):
        whole = whole[:, ::-1]
    return np.ascontiguousarray(whole).view(np.uint8).reshape(*whole.shape, channels)


def _in_exif(exif: bytes) -> int | None:
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return None
    try:
        (first,) = struct.unpack_from(order + "L", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, first)
        for place in range(count):
            tag, kind = struct.unpack_from(order + "HH", exif, first + 2 + 12 * place)
            if tag == _ORIENTATION and kind in _FORMATS:
                return int(struct.unpack_from(order + _FORMATS[kind], exif, first + 10 + 12 * place)[0])
    except struct.error:  # cut short: what is not there says nothing
        return None
    return None
