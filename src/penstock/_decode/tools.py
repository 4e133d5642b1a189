"""The installed decoders, and how each is called. All of them release the interpreter while they decode.

JPEG goes to simplejpeg (libjpeg-turbo) in its strict mode, sound PNG and WebP to OpenCV, everything else, and what
these refuse, to Pillow. OpenCV decodes no JPEG here: it decodes broken ones too and tells nobody but stderr, and for
sound ones Pillow is as fast.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock._decode.exif import Pixels, turned
from penstock._decode.header import Header, bare_png
from penstock.errors import ItemError, MissingDependency, UsageError

DECODERS = ("auto", "simplejpeg", "opencv", "pillow")
MAX_PIXELS = 178_956_970
"""Pictures of more are refused before memory is taken for them: Pillow's own limit."""
_FROM_16_BITS = 257  # 65535 / 255
_FAST = ("simplejpeg", "opencv")


@dataclass(frozen=True, slots=True)
class Tools:
    """The fast decoders in use; None where not installed, or not asked for."""

    simplejpeg: Any
    cv2: Any


def choose_decoder(decoder: str = "auto") -> str:
    """Return the decoders that `decoder` means on this machine, with versions: "simplejpeg 1.9.0+pillow 13.0.0".

    Raises UsageError for an unknown name, MissingDependency for one that is not installed.
    """
    import PIL

    tools = find_tools(decoder)
    named = (("simplejpeg", tools.simplejpeg), ("opencv", tools.cv2), ("pillow", PIL))
    return "+".join(f"{name} {module.__version__}" for name, module in named if module is not None)


_LOADING = threading.Lock()
"""One thread at a time imports: to another one OpenCV looks broken while it is half imported."""


def find_tools(decoder: str) -> Tools:
    """Return the modules that `decoder` names: "auto" all that are installed, "pillow" none beyond Pillow.

    Raises UsageError for an unknown name, MissingDependency for one that is not installed.
    """
    with _LOADING:
        return _found(decoder)


@functools.cache
def _found(decoder: str) -> Tools:
    if decoder not in DECODERS:
        raise UsageError(f"decoder={decoder!r} is not known; use one of {', '.join(DECODERS)}.")
    if importlib.util.find_spec("PIL") is None:
        raise MissingDependency.of("pillow", "images", "reading pictures")
    return Tools(*(_import(name, decoder) for name in _FAST))


def _import(name: str, decoder: str) -> Any:
    if decoder not in ("auto", name):
        return None
    if name == "opencv":
        loaded = _opencv()
    else:
        loaded = importlib.import_module(name) if importlib.util.find_spec(name) is not None else None
    if loaded is None and decoder == name:
        raise MissingDependency.of(name, "images", f"decoder={decoder!r}")
    return loaded


def opencv() -> Any:
    """Return OpenCV's module, None where it is not installed."""
    with _LOADING:
        return _opencv()


@functools.cache
def _opencv() -> Any:
    if importlib.util.find_spec("cv2") is None:
        return None
    import cv2

    cv2.setNumThreads(1)  # the cores belong to the workers: OpenCV's own threads would fight them
    return cv2


def check_size(height: int, width: int) -> None:
    """Raise ItemError where a picture of this size is too large to be decoded, or has no pixels."""
    if height < 1 or width < 1:
        raise ItemError(f"it says it is {width} x {height} pixels")
    if height * width > MAX_PIXELS:
        raise ItemError(
            f"{width:,} x {height:,} = {width * height:,} pixels are more than the {MAX_PIXELS:,} allowed "
            "(a decompression bomb?); shrink it, or decode it in a stage of your own"
        )


def factor_for(height: int, width: int, shrink_to: int | None) -> int:
    """Return by how much (1, 2, 4, 8) a JPEG may be shrunk while decoding: its short side keeps >= `shrink_to` pixels.

    Only by what divides both sides: the last row and column of a shrunk JPEG reach beyond the photo otherwise, and the
    whole picture would be shifted by up to half a pixel.
    """
    if shrink_to is None:
        return 1
    fitting = (f for f in (8, 4, 2) if height % f == 0 and width % f == 0 and min(height, width) // f >= shrink_to)
    return next(fitting, 1)


def fast_for(tools: Tools, header: Header) -> Callable[[bytes, Header, int | None], Pixels] | None:
    """Return the fast decoder for this picture, or None where there is none."""
    if not header.quick:
        return None
    if header.format == "JPEG":
        return None if tools.simplejpeg is None else functools.partial(_by_simplejpeg, tools.simplejpeg)
    return None if tools.cv2 is None else functools.partial(_by_opencv, tools.cv2)


def _by_simplejpeg(simplejpeg: Any, data: bytes, header: Header, shrink_to: int | None) -> Pixels:
    factor = factor_for(header.height, header.width, shrink_to)
    least = (0, 0) if factor == 1 else (header.height // factor, header.width // factor)
    pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=least[0], min_width=least[1])
    return turned(pixels, header.orientation)


def _by_opencv(cv2: Any, data: bytes, header: Header, shrink_to: int | None) -> Pixels:  # noqa: ARG001 - one signature
    wide = header.depth == 16
    flags = cv2.IMREAD_UNCHANGED if wide else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        bare = bare_png(data) if header.format == "PNG" else data
        found = cv2.imdecode(np.frombuffer(bare, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(str(error)) from error
    if found is None:
        raise ValueError("OpenCV cannot decode it")
    if wide:
        found = from_16_bits(found)
        found = np.repeat(found[..., None], 3, axis=2) if found.ndim == 2 else found[..., :3]
    return turned(cv2.cvtColor(found, cv2.COLOR_BGR2RGB), header.orientation)


def from_16_bits(values: Any) -> Pixels:
    """Return 16-bit samples as 8-bit ones: 65535 becomes 255, rounded to the nearest."""
    narrow: Pixels = ((values.astype(np.uint32) + _FROM_16_BITS // 2) // _FROM_16_BITS).astype(np.uint8)
    return narrow


def by_pillow(
    data: bytes, kind: str, header: Header | None, shrink_to: int | None, mode: str
) -> tuple[Pixels, int, int]:
    """Return the pixels in `mode` ("RGB" or "RGBA"), and the original height and width, upright.

    Raises what Pillow raises where it cannot read them, ItemError for what has no meaning in 8 bits.
    """
    from PIL import ImageOps

    image = _opened(data, kind)
    width, height = image.size
    check_size(height, width)
    if kind == "JPEG" and (factor := factor_for(height, width, shrink_to)) > 1:
        image.draft(None, (width // factor, height // factor))
    image.load()
    upright = ImageOps.exif_transpose(image) if header is None else image
    pixels = _converted(upright, kind, mode)
    if header is not None:
        pixels = turned(pixels, header.orientation)
    if (pixels.shape[0] >= pixels.shape[1]) != (height >= width):
        height, width = width, height
    return pixels, height, width


def _opened(data: bytes, kind: str) -> Any:
    # The plugin itself and not Image.open: that one warns of large photos that are allowed here.
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    opener: Callable[..., Any] = {
        "BMP": BmpImagePlugin.BmpImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
    }[kind]
    return opener(io.BytesIO(data))


def _converted(image: Any, kind: str, mode: str) -> Pixels:
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PNG"):  # older Pillows call 16-bit PNGs "I"
        gray = from_16_bits(np.asarray(image))
        return np.dstack([gray, gray, gray] if mode == "RGB" else [gray, gray, gray, np.full_like(gray, 255)])
    if image.mode in ("I", "F"):
        raise ItemError(
            f"its 32-bit samples (mode {image.mode}) have no range that is known; convert it to 8 or 16 bits"
        )
    if mode == "RGB":
        image.info.pop("transparency", None)  # it is dropped, as said; Pillow would warn that it does so
    return np.array(image if image.mode == mode else image.convert(mode))
