"""Small pictures as data URIs: decoded as for a model, encoded as WebP by Pillow."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

from penstock._decode import decode
from penstock._devices import cpu_budget
from penstock.errors import ItemError

PIXELS = 144 * 108
"""Of a thumbnail at most, whatever its shape: a line of text stays as wide as it must be to be read."""
LONGEST = 640
SHRUNK_TO = 108
QUALITY, METHOD = 50, 2
"""Of libwebp: 2.3 kB a photo in 2 ms; the slower methods save little at this size."""
HOPELESS = 64
"""Where so many files, from the first on, are no pictures, none of the others is opened."""


def thumbnails(paths: Sequence[str], most_bytes: int) -> dict[str, str]:
    """Return path -> data URI of the files that are pictures, of as many of the first as `most_bytes` of text take.

    None at all where Pillow is not installed: then nobody has decoded pictures here either.
    """
    if find_spec("PIL") is None:
        return {}
    found: dict[str, str] = {}
    nbytes = 0
    for tried, (path, uri) in enumerate(_made(paths), start=1):
        if uri is not None:
            found[path] = uri
            nbytes += len(uri)
        if nbytes > most_bytes or (tried == HOPELESS and not found):
            break
    return found


def _made(paths: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    threads = cpu_budget().threads
    with ThreadPoolExecutor(threads, thread_name_prefix="penstock-thumbnails") as pool:
        for some in _chunks(paths, 16 * threads):
            yield from zip(some, pool.map(thumbnail, some), strict=True)


def _chunks(paths: Sequence[str], n: int) -> Iterator[Sequence[str]]:
    """Yield runs of `n`: no more than that is in the making when no more is wanted."""
    return (paths[begin : begin + n] for begin in range(0, len(paths), n))


def size_of(width: int, height: int) -> tuple[int, int]:
    """Return the width and height of the thumbnail of a picture; a small one stays as it is."""
    scale = min(1.0, math.sqrt(PIXELS / (width * height)), LONGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def thumbnail(path: str) -> str | None:
    """Return the picture at `path` as a data URI, or None where it is none."""
    from PIL import Image

    try:
        image = Image.fromarray(decode(path, shrink_to=SHRUNK_TO))
    except ItemError:
        return None
    image = image.resize(size_of(*image.size), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=METHOD)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
