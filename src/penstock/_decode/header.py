"""What the first bytes of a picture say: its format, its size before any pixel is decoded, its orientation.

Read here for the formats that a fast decoder takes, without a library: JPEG (ITU-T T.81, annex B), PNG (W3C PNG, third
edition, section 5) and WebP (RFC 9649). Of the others only the format is known, and Pillow reads the rest.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from penstock._decode.exif import orientation_of

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
_NEEDED = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_XMP_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_SOF_HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive: what every libjpeg decodes
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment


@dataclass(frozen=True, slots=True)
class Header:
    """The format of a picture, its stored size in pixels, and its orientation (1 to 8)."""

    format: str
    height: int
    width: int
    orientation: int
    depth: int
    """Bits of a sample."""
    quick: bool
    """Whether the fast decoder of this format gives the same pixels as Pillow."""


def sniff(data: bytes) -> str | None:
    """Return the format that the first bytes of `data` show, or None for none of those known here."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for magic, name in _MAGIC if data.startswith(magic)), None)


def read_header(data: bytes, kind: str) -> Header | None:
    """Return the header of a sound JPEG, PNG or WebP; None leaves the picture to Pillow, its header included."""
    read = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp}.get(kind)
    if read is None:
        return None
    try:
        return read(data)
    except (struct.error, IndexError):  # it ends within its header
        return None


def _jpeg(data: bytes) -> Header | None:
    exif = xmp = None
    for marker, start, stop in _jpeg_segments(data):
        if marker == 0xE1 and exif is None and data.startswith(b"Exif\0\0", start):
            exif = data[start:stop]
        elif marker == 0xE1 and xmp is None and data.startswith(_XMP_JPEG, start):
            xmp = data[start:stop]
        elif marker in _SOF:
            depth, height, width, components = struct.unpack_from(">BHHB", data, start)
            quick = marker in _SOF_HUFFMAN and depth == 8 and components in (1, 3)
            return Header("JPEG", height, width, orientation_of(exif, xmp), depth, quick) if height and width else None
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, stop) of the segments up to the first scan."""
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill bytes may stand before a marker
            place += 1
        elif marker in _ALONE:
            place += 2
        elif marker in (0xD9, 0xDA):
            return
        else:
            (length,) = struct.unpack_from(">H", data, place + 2)
            yield marker, place + 4, place + 2 + length
            place += 2 + length


def _png(data: bytes) -> Header | None:
    chunks = list(_png_chunks(data))
    names = [name for name, _, _ in chunks]
    if not names or names[0] != b"IHDR" or names[-1] != b"IEND":
        return None  # torn or altered: libpng would write about it to stderr, Pillow raises
    width, height, depth = struct.unpack_from(">LLB", data, chunks[0][1])
    texts = [data[start:stop] for name, start, stop in chunks if name in (b"tEXt", b"zTXt", b"iTXt")]
    if any(text.startswith((b"Raw profile type exif", b"XML:com.adobe.xmp")) for text in texts):
        return None  # may hold the orientation, compressed
    exif = next((data[start:stop] for name, start, stop in chunks if name == b"eXIf"), None)
    return Header("PNG", height, width, orientation_of(exif, None), depth, quick=b"acTL" not in names)


def bare_png(data: bytes) -> bytes:
    """Return a sound PNG without what its pixels do not need: libpng writes to stderr what it dislikes in the rest."""
    needed = [data[start - 8 : stop + 4] for name, start, stop in _png_chunks(data) if name in _NEEDED]
    return b"".join((data[:8], *needed))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, stop) of the chunks up to IEND; ends early at one that is cut or whose checksum is wrong."""
    place = 8
    view = memoryview(data)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">L", data, place)
        start, stop = place + 8, place + 8 + length
        if stop + 4 > len(data) or zlib.crc32(view[place + 4 : stop]) != struct.unpack_from(">L", data, stop)[0]:
            return
        name = data[place + 4 : start]
        yield name, start, stop
        if name == b"IEND":
            return
        place = stop + 4


def _webp(data: bytes) -> Header | None:
    if len(data) < max(32, 8 + struct.unpack_from("<L", data, 4)[0]):
        return None  # cut off
    first = data[12:16]
    if first == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        return Header("WEBP", height, width, 1, 8, quick=True)
    if first == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<L", data, 21)
        return Header("WEBP", (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1, 1, 8, quick=True)
    if first != b"VP8X":
        return None
    width, height = (int.from_bytes(data[place : place + 3], "little") + 1 for place in (24, 27))
    chunks = dict(_webp_chunks(data))
    moves = bool(data[20] & 0x02)
    orientation = orientation_of(chunks.get(b"EXIF"), chunks.get(b"XMP "))
    return Header("WEBP", height, width, orientation, 8, quick=not moves)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name, content) of the chunks that may hold an orientation."""
    place = 12
    while place + 8 <= len(data):
        (length,) = struct.unpack_from("<L", data, place + 4)
        name = data[place : place + 4]
        if name in (b"EXIF", b"XMP "):
            yield name, data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2
