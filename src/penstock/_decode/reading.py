"""From an item to its pixels: read the file, look at its header, decode, and say clearly what went wrong."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from penstock._contracts import Item
from penstock._decode.exif import Pixels
from penstock._decode.header import Header, read_header, sniff
from penstock._decode.tools import Tools, by_pillow, check_size, fast_for, find_tools
from penstock.errors import ItemError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Suffixes, in lower case, of the files that are taken for pictures when a folder is listed."""
MAX_FILE_BYTES = 1 << 30
"""Files of more are refused before they are read."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Decoded pixels, the (height, width) of the original, upright, and what was unusual about it."""

    pixels: Pixels
    size: tuple[int, int]
    note: str | None = None


def decode(
    source: str | bytes | os.PathLike[str],
    *,
    decoder: str = "auto",
    shrink_to: int | None = None,
    alpha: bool = False,
) -> Pixels:
    """Return a picture, upright, as uint8 (height, width, 3) in RGB; with `alpha`, (height, width, 4) in RGBA.

    JPEG, PNG, WebP, BMP, TIFF and GIF (the first frame), whatever the file is named. The pixels are those of Pillow's
    `ImageOps.exif_transpose(image).convert("RGB")`, whichever decoder ran, except that 16-bit samples are divided by
    257 (65535 becomes 255). A file that is cut off is refused unless all its pixels are there: a PNG may lack what
    follows them; a JPEG must have its end marker.

    Args:
        source: a path, or the bytes of a file.
        decoder: "auto" (the fastest installed), "simplejpeg", "opencv" or "pillow". Each leaves to Pillow what it
            cannot do, or refuses to.
        shrink_to: a JPEG may come out at 1/2, 1/4 or 1/8 of its size, its short side not below this many pixels.
        alpha: keep the transparency.

    Raises:
        ItemError: it cannot be read or decoded, or has more than 178,956,970 pixels or 1 GiB.
        UsageError: an unknown decoder. MissingDependency: one that is not installed.
    """
    tools = find_tools(decoder)
    if isinstance(source, (str, os.PathLike)):
        return _picture(_read(os.fspath(source)), _shown(os.fspath(source)), tools, shrink_to, alpha).pixels
    if not isinstance(source, (bytes, bytearray, memoryview)):
        raise ItemError(f"a picture is a path or the bytes of a file, not {type(source).__name__}.")
    return _picture(bytes(source), f"{len(source):,} bytes", tools, shrink_to, alpha).pixels


def load(item: Item, decoder: str = "auto", shrink_to: int | None = None, *, alpha: bool = False) -> Pixels:
    """Return the picture at `item.path` as `decode` does; sets `item.size`, and `item.note` where it was unusual.

    Raises ItemError, as `decode` does, and where the item has no path.
    """
    if item.path is None:
        raise ItemError(f"item {item.id!r} has no path to read a picture from.")
    picture = _picture(_read(item.path), _shown(item.path), find_tools(decoder), shrink_to, alpha)
    item.size, item.note = picture.size, picture.note
    return picture.pixels


def _shown(path: str) -> str:
    """Return `path` as messages show it: in one line, whatever bytes it is made of."""
    return repr(path)[1:-1]


def _read(path: str) -> bytes:
    """Return the bytes of the file at `path`. Raises ItemError where it is none, or too large, or cannot be read."""
    name = _shown(path)
    try:
        # Not blocking: a named pipe without a writer would hold the worker for good.
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ItemError(f"{name}: it is a device, a pipe or a socket, not a file.")
            if status.st_size > MAX_FILE_BYTES:
                raise ItemError(f"{name}: {status.st_size:,} bytes are more than the {MAX_FILE_BYTES:,} allowed.")
            return file.readall()
    except FileNotFoundError as error:
        raise ItemError(f"{name}: it is not there (any more). {error.strerror} (errno {error.errno}).") from error
    except (OSError, ValueError) as error:
        reason = f"{error.strerror} (errno {error.errno})" if isinstance(error, OSError) else str(error)
        raise ItemError(f"{name}: it cannot be read: {reason}.") from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _picture(data: bytes, name: str, tools: Tools, shrink_to: int | None, alpha: bool) -> Picture:
    if not data:
        raise ItemError(f"{name}: the file is empty (0 bytes).")
    kind = sniff(data)
    if kind is None:
        raise ItemError(
            f"{name}: it is no picture that is known here (JPEG, PNG, WebP, BMP, TIFF, GIF): its {len(data):,} bytes "
            f"begin with {data[:12]!r}."
        )
    try:
        return _decoded(data, kind, tools, shrink_to, alpha)
    except MemoryError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ItemError(f"{name}: {kind} of {len(data):,} bytes: {reason}.") from error


def _decoded(data: bytes, kind: str, tools: Tools, shrink_to: int | None, alpha: bool) -> Picture:
    header = read_header(data, kind)
    note = None
    if header is not None:
        check_size(header.height, header.width)
        fast = None if alpha else fast_for(tools, header)
        if fast is not None:
            try:
                return Picture(fast(data, header, shrink_to), _upright(header))
            except ValueError as error:
                note = f"read by Pillow, as the fast decoder refused it: {error}"
    pixels, height, width = by_pillow(data, kind, header, shrink_to, "RGBA" if alpha else "RGB")
    return Picture(pixels, (height, width), note)


def _upright(header: Header) -> tuple[int, int]:
    sides = (header.height, header.width)
    return sides if header.orientation < 5 else sides[::-1]
