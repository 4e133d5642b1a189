"""Files -> pixels: every format as Pillow reads it, and a clear error for everything that is no picture."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from penstock._contracts import Item
from penstock._decode import IMAGE_SUFFIXES, decode, load, reading, tools
from penstock.errors import ItemError

DECODERS = ("auto", "pillow")


def photo(height: int = 61, width: int = 90) -> Image.Image:
    """Return something smooth with edges, that a JPEG keeps."""
    y, x = np.mgrid[:height, :width]
    channels = (x * 2 + y, x + y * 3, 40 * ((x // 20 + y // 15) % 5))
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def see_through(height: int = 61, width: int = 90) -> Image.Image:
    alpha = Image.fromarray(np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8))
    image = photo(height, width)
    image.putalpha(alpha)
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image.info.pop("transparency", None)  # or Pillow warns that it drops it
    return np.asarray(image.convert("RGB"))


def with_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


PALETTE = photo().quantize(16)
MOVED = photo().transpose(Image.Transpose.ROTATE_180)
PICTURES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(photo(), "JPEG"),
    "jpeg 4:4:4": lambda: encoded(photo(), "JPEG", subsampling=0, quality=95),
    "jpeg progressive": lambda: encoded(photo(), "JPEG", progressive=True),
    "jpeg stored as RGB": lambda: encoded(photo(), "JPEG", keep_rgb=True),
    "jpeg gray": lambda: encoded(photo().convert("L"), "JPEG"),
    "jpeg cmyk": lambda: encoded(photo().convert("CMYK"), "JPEG"),
    "jpeg several (mpo)": lambda: encoded(photo(), "MPO", save_all=True, append_images=[MOVED]),
    "png": lambda: encoded(photo(), "PNG"),
    "png gray": lambda: encoded(photo().convert("L"), "PNG"),
    "png gray alpha": lambda: encoded(see_through().convert("LA"), "PNG"),
    "png alpha": lambda: encoded(see_through(), "PNG"),
    "png palette": lambda: encoded(PALETTE, "PNG"),
    "png palette, one transparent": lambda: encoded(PALETTE, "PNG", transparency=3),
    "png palette, alpha": lambda: encoded(PALETTE, "PNG", transparency=bytes(range(0, 160, 10))),
    "png palette of 2 bits": lambda: encoded(photo().quantize(3), "PNG", bits=2),
    "png colour key": lambda: encoded(photo(), "PNG", transparency=(1, 2, 3)),
    "png 1 bit": lambda: encoded(photo().convert("1"), "PNG"),
    "png moving": lambda: encoded(photo(), "PNG", save_all=True, append_images=[MOVED]),
    "webp": lambda: encoded(photo(), "WEBP"),
    "webp lossless": lambda: encoded(photo(), "WEBP", lossless=True),
    "webp alpha": lambda: encoded(see_through(), "WEBP", quality=80),
    "webp alpha lossless": lambda: encoded(see_through(), "WEBP", lossless=True),
    "webp moving": lambda: encoded(photo(), "WEBP", save_all=True, append_images=[MOVED]),
    "bmp": lambda: encoded(photo(), "BMP"),
    "bmp palette": lambda: encoded(PALETTE, "BMP"),
    "bmp 1 bit": lambda: encoded(photo().convert("1"), "BMP"),
    "tiff": lambda: encoded(photo(), "TIFF"),
    "tiff lzw": lambda: encoded(photo(), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": lambda: encoded(photo(), "TIFF", compression="jpeg"),
    "tiff alpha": lambda: encoded(see_through(), "TIFF"),
    "tiff cmyk": lambda: encoded(photo().convert("CMYK"), "TIFF"),
    "tiff 1 bit": lambda: encoded(photo().convert("1"), "TIFF"),
    "gif": lambda: encoded(PALETTE, "GIF"),
    "gif transparent": lambda: encoded(PALETTE, "GIF", transparency=2),
    "gif moving": lambda: encoded(PALETTE, "GIF", save_all=True, append_images=[MOVED.quantize(16)]),
}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", PICTURES)
def test_decode_gives_pillows_pixels(name: str, decoder: str) -> None:
    data = PICTURES[name]()
    pixels = decode(data, decoder=decoder)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, by_pillow(data))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_decode_turns_by_exif(kind: str, orientation: int, decoder: str) -> None:
    data = encoded(photo(), kind, exif=with_exif(orientation))
    pixels = decode(data, decoder=decoder)
    assert pixels.shape == ((61, 90, 3) if orientation < 5 else (90, 61, 3))
    np.testing.assert_array_equal(pixels, by_pillow(data))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_decode_turns_by_xmp_where_exif_says_nothing(kind: str, decoder: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    options: dict[str, Any] = {"xmp": xmp}
    if kind == "PNG":
        from PIL.PngImagePlugin import PngInfo

        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
    data = encoded(photo(), kind, **options)
    assert by_pillow(data).shape == (90, 61, 3)
    np.testing.assert_array_equal(decode(data, decoder=decoder), by_pillow(data))


def test_decode_reads_real_photos_as_pillow(shared_data: Path) -> None:
    for path in sorted((shared_data / "photos" / "flowers").glob("*/*.jpg"))[::20]:
        np.testing.assert_array_equal(decode(path), by_pillow(path.read_bytes()))


def test_decode_adobe_inverted_cmyk(tmp_path: Path) -> None:
    """Photoshop writes CMYK inverted and says so in an Adobe segment; Pillow writes it so too."""
    data = PICTURES["jpeg cmyk"]()
    assert b"Adobe" in data
    difference = np.abs(decode(data).astype(int) - np.asarray(photo()))
    assert difference.mean() < 20  # inverted, it would be about 128


def test_decode_ycck() -> None:
    """A CMYK picture stored as YCCK (Adobe transform 2)."""
    data = bytearray(PICTURES["jpeg cmyk"]())
    place = data.index(b"Adobe") + 11
    data[place] = 2
    np.testing.assert_array_equal(decode(bytes(data)), by_pillow(bytes(data)))


def png_of_16_bits(values: np.ndarray) -> bytes:
    """Return a PNG of 16-bit samples (height, width, channels), written by hand."""
    height, width, channels = values.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">LLBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body)) for name, body in chunks
    )


@pytest.mark.parametrize(("decoder", "tolerance"), [("auto", 0), ("pillow", 1)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_decode_divides_16_bits_by_257(channels: int, decoder: str, tolerance: int) -> None:
    """Pillow alone keeps the upper byte of 16-bit colours, which is at most 1 off."""
    values = np.random.default_rng(channels).integers(0, 65536, (20, 30, channels)).astype(np.uint16)
    values[0, 0], values[0, 1] = 65535, 0
    wanted = np.round(values / 257).astype(int)
    wanted = np.repeat(wanted[..., :1], 3, axis=2) if channels < 3 else wanted[..., :3]
    pixels = decode(png_of_16_bits(values), decoder=decoder)
    assert np.abs(pixels - wanted).max() <= tolerance
    assert pixels[0, 0].tolist() == [255, 255, 255]


def test_decode_divides_gray_16_bits_by_257_without_opencv() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for data in (png_of_16_bits(values[..., None]), encoded(Image.fromarray(values), "TIFF")):
        np.testing.assert_array_equal(decode(data, decoder="pillow")[..., 1], np.round(values / 257))


def test_decode_refuses_samples_without_a_range() -> None:
    data = encoded(Image.fromarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)), "TIFF")
    with pytest.raises(ItemError, match=r"32-bit samples \(mode F\)"):
        decode(data)


def test_decode_keeps_alpha_where_asked() -> None:
    np.testing.assert_array_equal(decode(PICTURES["png alpha"](), alpha=True), np.asarray(see_through()))
    assert (decode(PICTURES["jpeg"](), alpha=True)[..., 3] == 255).all()
    gray = png_of_16_bits(np.full((2, 3, 1), 65535, np.uint16))
    assert (decode(gray, alpha=True) == 255).all()


def test_decode_takes_a_path_and_bytes_of_any_kind(tmp_path: Path) -> None:
    data = PICTURES["png"]()
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), memoryview(data)):
        assert decode(source).shape == (61, 90, 3)  # type: ignore[arg-type]
    with pytest.raises(ItemError, match="not int"):
        decode(5)  # type: ignore[arg-type]


def test_decode_goes_by_content_not_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "png.jpg"
    path.write_bytes(PICTURES["png"]())
    np.testing.assert_array_equal(decode(path), np.asarray(photo()))


# -- shrinking while decoding


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("shrink_to", "side"), [(None, 160), (81, 160), (80, 80), (40, 40), (20, 20), (1, 20)])
def test_decode_shrinks_a_jpeg_to_no_less_than_asked(shrink_to: int | None, side: int, decoder: str) -> None:
    data = encoded(photo(160, 240), "JPEG", quality=95)
    pixels = decode(data, decoder=decoder, shrink_to=shrink_to)
    assert pixels.shape == (side, side * 3 // 2, 3)
    wanted = np.asarray(photo(160, 240).resize((side * 3 // 2, side), Image.Resampling.BOX))
    assert np.abs(pixels.astype(int) - wanted).mean() < 6


def test_decode_shrinks_only_by_what_divides_both_sides() -> None:
    assert decode(encoded(photo(161, 240), "JPEG"), shrink_to=10).shape == (161, 240, 3)
    assert decode(encoded(photo(162, 240), "JPEG"), shrink_to=10).shape == (81, 120, 3)


def test_decode_never_shrinks_other_formats() -> None:
    assert decode(encoded(photo(160, 240), "PNG"), shrink_to=10).shape == (160, 240, 3)


# -- what is no picture


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(ItemError) as caught:
        decode(source, **options)
    return str(caught.value)


def test_decode_refuses_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.jpg"
    path.touch()
    assert refusal(path) == f"{path}: the file is empty (0 bytes)."


def test_decode_refuses_text(tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_text("not a photo at all")
    message = refusal(path)
    assert str(path) in message
    assert "its 18 bytes begin with b'not a photo '" in message


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["jpeg", "jpeg progressive", "png", "webp", "webp lossless", "gif", "tiff lzw", "bmp"])
def test_decode_refuses_what_is_cut_off(name: str, share: float, decoder: str, capfd: Any) -> None:
    data = PICTURES[name]()
    cut = data[: int(len(data) * share)]
    message = refusal(cut, decoder=decoder)
    assert f"{len(cut):,} bytes" in message
    assert capfd.readouterr().err == ""  # the C libraries write nothing behind our back


def test_decode_wants_the_end_marker_of_a_jpeg() -> None:
    assert "truncated" in refusal(PICTURES["jpeg"]()[:-2])


def test_decode_reads_a_png_that_lacks_only_what_follows_its_pixels() -> None:
    np.testing.assert_array_equal(decode(PICTURES["png"]()[:-12]), np.asarray(photo()))


@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_decode_ignores_what_follows_the_picture(name: str) -> None:
    data = PICTURES[name]()
    np.testing.assert_array_equal(decode(data + b"trailing bytes" * 100), by_pillow(data))


def test_decode_of_an_altered_png_is_refused_without_noise(capfd: Any) -> None:
    data = bytearray(PICTURES["png"]())
    data[len(data) // 2] ^= 0x55
    assert "PNG of" in refusal(bytes(data))
    assert capfd.readouterr().err == ""


def test_decode_of_a_png_with_a_wrong_profile_is_silent(capfd: Any) -> None:
    """Libpng complains to stderr about colour profiles; pixels do not need them."""
    data = encoded(photo().convert("L"), "PNG", icc_profile=srgb_profile())
    np.testing.assert_array_equal(decode(data), by_pillow(data))
    assert capfd.readouterr().err == ""


def srgb_profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_decode_refuses_a_bomb_before_it_takes_memory(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(photo(), kind)
    monkeypatch.setattr(tools, "MAX_PIXELS", 5_000)
    for module, name in ((Image.Image, "load"), (ImageFile.ImageFile, "load"), (tools, "fast_for")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("it was decoded"))
    for decoder in DECODERS:
        message = refusal(data, decoder=decoder)
        assert "90 x 61 = 5,490 pixels are more than the 5,000 allowed" in message


def test_decode_refuses_a_real_bomb() -> None:
    """A header of 60,000 x 60,000 pixels: 10 GB, if anybody believed it."""
    data = bytearray(PICTURES["png"]())
    data[16:24] = struct.pack(">LL", 60_000, 60_000)
    data[29:33] = struct.pack(">L", zlib.crc32(bytes(data[12:29])))
    assert "60,000 x 60,000 = 3,600,000,000 pixels" in refusal(bytes(data))


def test_decode_allows_large_photos_without_a_warning() -> None:
    """Pillow warns from 89 million pixels on; warnings are errors here."""
    data = encoded(Image.new("1", (10_000, 9_000)), "PNG")
    assert decode(data).shape == (9_000, 10_000, 3)


def test_decode_refuses_a_file_of_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PICTURES["png"]())
    monkeypatch.setattr(reading, "MAX_FILE_BYTES", 100)
    assert "bytes are more than the 100 allowed" in refusal(path)


def test_decode_refuses_what_is_no_file(tmp_path: Path) -> None:
    folder, pipe = tmp_path / "x.jpg", tmp_path / "pipe.jpg"
    folder.mkdir()
    os.mkfifo(pipe)
    assert "Is a directory (errno 21)" in refusal(folder)
    assert "a device, a pipe or a socket" in refusal(pipe)
    assert "it is not there (any more)" in refusal(tmp_path / "gone.jpg")
    assert "null" in refusal("a\0b.jpg")


def test_decode_says_that_it_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.open", denied)
    assert "it cannot be read: Permission denied (errno 13)" in refusal(tmp_path / "a.jpg")


def test_a_message_is_one_line_whatever_the_name(tmp_path: Path) -> None:
    for name in (b"new\nline.jpg", b"\xff\xfe.jpg", b"x" * 251 + b".jpg"):
        path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name)
        Path(path).touch()
        message = refusal(path)
        assert "\n" not in message
        message.encode()  # no lone surrogates


def item_of(path: Path) -> Item:
    return Item(path.name, str(path))


def test_load_records_the_original_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(photo(160, 240), "JPEG", exif=with_exif(6)))
    for decoder in DECODERS:
        item = item_of(path)
        assert load(item, decoder, shrink_to=40).shape == (60, 40, 3)
        assert item.size == (240, 160)
        assert item.note is None


def test_load_falls_back_and_says_so(tmp_path: Path, capfd: Any) -> None:
    """Bytes that belong to nothing: strict libjpeg-turbo refuses them; Pillow reads on, as every viewer does."""
    data = encoded(photo(400, 600), "JPEG")[:-2] + b"\0" * 10 + b"\xff\xd9"
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    item = item_of(path)
    np.testing.assert_array_equal(load(item), by_pillow(data))
    assert item.note is not None
    assert item.note.startswith("read by Pillow, as the fast decoder refused it: ")
    assert item.size == (400, 600)
    assert capfd.readouterr().err == ""


def test_load_wants_a_path() -> None:
    with pytest.raises(ItemError, match="item 7 has no path"):
        load(Item(7))


def test_suffixes_are_lower_case() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"} <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() for suffix in IMAGE_SUFFIXES)
