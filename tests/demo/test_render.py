"""The demo's lines: what a seed promises, what the charset holds, what a folder is written with."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the demo renders with Pillow")

from PIL import Image, ImageFont

from penstock._demo import render

FONTS = Path(render.__file__).with_name("fonts")
MODELS = Path(render.__file__).with_name("models")


def lines(seed: int, count: int, fonts: render.FontSet = "seen") -> list[tuple[str, render.Gray]]:
    return list(render.samples(seed, count, fonts))


def test_a_seed_repeats_texts_and_pixels() -> None:
    for (text, gray), (again, pixels) in zip(lines(7, 12), lines(7, 12), strict=True):
        assert text == again
        assert np.array_equal(gray, pixels)


def test_another_seed_gives_other_lines() -> None:
    assert not {text for text, _ in lines(7, 50)} & {text for text, _ in lines(8, 50)}


def test_a_line_does_not_depend_on_those_before_it() -> None:
    text, gray = render.render_sample(7, 11, "seen")
    assert text == lines(7, 12)[11][0]
    assert np.array_equal(gray, lines(7, 12)[11][1])


def test_lines_are_gray_32_high_and_of_many_widths() -> None:
    shapes = [gray.shape for _, gray in lines(3, 200)]
    assert {height for height, _ in shapes} == {render.HEIGHT}
    assert len({width for _, width in shapes}) > 100
    assert max(width for _, width in shapes) > 4 * min(width for _, width in shapes)
    assert {gray.dtype for _, gray in lines(3, 5)} == {np.dtype(np.uint8)}


def test_texts_have_5_to_40_characters_of_the_charset() -> None:
    texts = [render.make_text(np.random.default_rng((4, index))) for index in range(3_000)]
    lengths = {len(text) for text in texts}
    assert min(lengths) == render.MIN_CHARS == 5
    assert max(lengths) == render.MAX_CHARS == 40
    assert set("".join(texts)) == set(render.CHARSET), "every character of the charset is met, and no other"
    assert [text for text in texts if text != text.strip() or "  " in text] == []


def test_the_charset_has_80_characters_or_more_and_is_the_alphabet_of_the_models() -> None:
    assert len(set(render.CHARSET)) == len(render.CHARSET) >= 80
    assert set(string.ascii_letters + string.digits) < set(render.CHARSET)
    alphabet = (MODELS / "alphabet.txt").read_text(encoding="utf-8")
    assert alphabet == "".join(f"{char}\n" for char in render.CHARSET)


def test_unseen_fonts_are_none_of_the_seen() -> None:
    seen, unseen = set(render.font_names("seen")), set(render.font_names("unseen"))
    assert len(seen) >= 8
    assert len(unseen) == 2
    families = [{ImageFont.truetype(FONTS / name, 20).getname()[0] for name in names} for names in (seen, unseen)]
    assert not families[0] & families[1]


def test_every_font_is_shipped_and_in_the_table_of_licences() -> None:
    files = {path.name for path in FONTS.iterdir() if path.suffix in (".ttf", ".otf")}
    assert files == {*render.SEEN_FONTS, *render.UNSEEN_FONTS}
    table = (FONTS / "README.md").read_text(encoding="utf-8")
    assert [name for name in files if f"| `{name}` |" not in table] == []
    assert sum((FONTS / name).stat().st_size for name in files) < 3_500_000


@pytest.mark.parametrize("name", [*render.SEEN_FONTS, *render.UNSEEN_FONTS])
def test_a_font_draws_every_character_differently(name: str) -> None:
    font = render.load_font(name, 24)
    missing = bytes(font.getmask("\U0010fffe"))
    shapes = {char: (font.getlength(char), font.getbbox(char), bytes(font.getmask(char))) for char in render.CHARSET}
    assert len(set(shapes.values())) == len(render.CHARSET)
    assert [char for char in render.CHARSET.strip() if bytes(font.getmask(char)) == missing] == []


def test_the_first_and_last_letter_stay_inside_the_image() -> None:
    """Most of a line is paper, so its median is; a stroke cut at the side would make that column much darker."""
    for text, gray in lines(5, 300):
        sides = np.stack([gray[:, 0], gray[:, -1]]).mean(axis=1)
        assert (sides > np.median(gray) - 30).all(), text


@pytest.mark.parametrize("fonts", ["seen", "unseen"])
def test_a_folder_holds_the_lines_and_their_truth(tmp_path: Path, fonts: render.FontSet) -> None:
    truth = render.make_lines(tmp_path / "new" / "lines", 15, 9, fonts)
    assert list(truth) == [f"{index:04d}.png" for index in range(15)]
    assert render.read_truth(tmp_path / "new" / "lines") == truth
    for (name, text), (expected, gray) in zip(truth.items(), lines(9, 15, fonts), strict=True):
        assert text == expected
        with Image.open(tmp_path / "new" / "lines" / name) as image:
            assert np.array_equal(np.asarray(image), gray)


def test_a_longer_folder_begins_like_a_shorter_one(tmp_path: Path) -> None:
    short = render.make_lines(tmp_path / "short", 3, 2)
    long = render.make_lines(tmp_path / "long", 6, 2)
    assert list(long.items())[:3] == list(short.items())
    assert (tmp_path / "long" / "0002.png").read_bytes() == (tmp_path / "short" / "0002.png").read_bytes()


def test_truth_keeps_quotes_commas_and_equal_signs(tmp_path: Path) -> None:
    truth = render.make_lines(tmp_path, 200, 6)
    assert any('"' in text for text in truth.values())
    assert any("," in text for text in truth.values())
    assert render.read_truth(tmp_path) == truth
