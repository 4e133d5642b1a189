"""Text lines rendered for the demo: the same seed gives the same lines, however many are asked for.

Only Pillow and NumPy are needed. The training script renders with this file too, so what the shipped recognisers were
trained on is what the demo shows them, with other seeds.
"""

from __future__ import annotations

import csv
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"
MARKS = "!\"#$%&'()*+,-./:;<=>?@[]_{}"
"""Punctuation of the charset; | ` ^ ~ and \\ are left out because the fonts draw them too much like other signs."""

CHARSET = " " + DIGITS + LETTERS.upper() + LETTERS + MARKS
HEIGHT = 32
MIN_CHARS = 5
MAX_CHARS = 40

SEEN_FONTS = (
    "AnonymousPro-Regular.ttf",
    "Caladea-Regular.ttf",
    "ClearSans-Regular.ttf",
    "CourierPrime-Regular.otf",
    "DejaVuSansMono.ttf",
    "DejaVuSerif.ttf",
    "FantasqueSansMono-Regular.otf",
    "Inconsolata.otf",
    "Oxygen-Sans.ttf",
    "RobotoSlab-Regular.otf",
)
UNSEEN_FONTS = ("GentiumBasic-Regular.ttf", "JetBrainsMono-Regular.ttf")
"""Never shown in training: the accuracy on these says what a font the models do not know costs."""

FontSet = Literal["seen", "unseen"]
Gray = npt.NDArray[np.uint8]
T = TypeVar("T")

_ONSETS = "b c d f g h j k l m n p qu r s t v w x y z bl br ch cl cr dr fl gr pl pr sh sl sp st str th tr wh".split()
_VOWELS = "a e i o u ai ea ee ie oo ou y".split()
_CODAS = ["", "", "", *"b ck d ff g l ll m n nd ng nt p r rd s ss st t x z".split()]
# Codes have none of 0 O o 1 I l, as vouchers have none: with no word or number around, nobody tells them apart.
_CODE_SIGNS = "".join(sign for sign in DIGITS + LETTERS.upper() if sign not in "01IO")
_WORDS = (
    "the of and to in is that for it was on are with as be at this have from or had by but some what there we can out "
    "other were all your when up use word how said each she which their time will way about many then them would like "
    "long make thing see him two has look more day could go come did my sound no most number who over know water than "
    "call first people may down side been now find any new work part take get place made live where after back little "
    "only round man year came show every good me give our under name very through just form much great think say help "
    "low line before turn cause same mean differ move right boy old too does tell sentence set three want air well also"
).split()


@dataclass(frozen=True, slots=True)
class _Wear:
    """What happens to a clean line: all of it is drawn from the line's own generator."""

    shear: float  # pixels to the side for one pixel down
    slope: float  # pixels down for one pixel to the right
    blur: float  # sigma in pixels
    noise: float  # sigma in grey levels
    paper: float  # grey level of the background
    ink: float  # grey level of the strokes
    light: float  # grey levels by which one end is brighter than the other

    @classmethod
    def draw(cls, rng: np.random.Generator, width: int) -> _Wear:
        steepest = min(math.tan(math.radians(1.5)), 4.0 / width)
        return cls(
            shear=float(rng.uniform(-0.15, 0.15)),
            slope=float(rng.uniform(-steepest, steepest)),
            blur=float(rng.uniform(0.0, 0.75)),
            noise=float(rng.uniform(0.0, 10.0)),
            paper=float(rng.uniform(190, 250)),
            ink=float(rng.uniform(0, 70)),
            light=float(rng.uniform(-20, 20)),
        )


def font_names(fonts: FontSet) -> tuple[str, ...]:
    """File names of the fonts the models were trained with ("seen") or of those kept from them ("unseen")."""
    return SEEN_FONTS if fonts == "seen" else UNSEEN_FONTS


@functools.cache
def load_font(name: str, text_height: int) -> ImageFont.FreeTypeFont:
    """The shipped font `name` at the size whose letters span `text_height` pixels from ascender to descender."""
    path = Path(__file__).with_name("fonts") / name
    # Basic layout: Raqm is not in every Pillow, and it would join "->" into one sign in the programmers' fonts.
    probe = ImageFont.truetype(path, 200, layout_engine=ImageFont.Layout.BASIC)
    _, top, _, bottom = probe.getbbox("ABCdfhgjpqy()")
    size = max(8, round(text_height * 200 / (bottom - top)))
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def make_text(rng: np.random.Generator) -> str:
    """A line of 5 to 40 characters of `CHARSET`: words, made-up words, numbers, dates, codes and punctuation."""
    target = int(rng.integers(MIN_CHARS, MAX_CHARS + 1))
    text = ""
    while len(text) < target:
        text += (" " if text else "") + _pick(rng, _TOKENS)(rng)
    text = text[:target].rstrip()
    return text + "".join(_pick(rng, LETTERS) for _ in range(MIN_CHARS - len(text)))


def render_line(text: str, font: ImageFont.FreeTypeFont, rng: np.random.Generator) -> Gray:
    """The line as grey levels, uint8 of (32, width): dark on light, skewed, blurred, unevenly lit and noisy."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text))
    margins = rng.integers(4, 11, size=2)
    wear = _Wear.draw(rng, right - left + int(margins.sum()))
    lean = math.ceil(abs(wear.shear) * HEIGHT / 2)  # the skew must not push the first or last letter out of the image
    size = (right - left + int(margins.sum()) + 2 * lean, HEIGHT)
    mask = Image.new("L", size, 0)
    drop = float(rng.uniform(-1, 1)) * max(0.0, (HEIGHT - (bottom - top)) / 2 - 3)
    origin = (int(margins[0]) + lean - left, (HEIGHT - (bottom - top)) / 2 - top + drop)
    ImageDraw.Draw(mask).text(origin, text, font=font, fill=255)
    return _wear_out(_skew(mask, wear), wear, rng)


def render_sample(seed: int, index: int, fonts: FontSet) -> tuple[str, Gray]:
    """Text and image of line `index` of the series `seed`: each line has its own generator, so any can be had alone."""
    rng = np.random.default_rng((seed, index))
    text = make_text(rng)
    font = load_font(_pick(rng, font_names(fonts)), int(rng.integers(22, 25)))
    return text, render_line(text, font, rng)


def samples(seed: int, count: int, fonts: FontSet) -> Iterator[tuple[str, Gray]]:
    """Text and image of the first `count` lines of the series `seed`, rendered as they are asked for."""
    return (render_sample(seed, index, fonts) for index in range(count))


def make_lines(folder: Path, count: int, seed: int, fonts: FontSet = "seen") -> dict[str, str]:
    """Write `count` lines as PNG files and `truth.csv` (columns path, text) into `folder`, made if need be.

    Returns the truth: path relative to `folder` (`0000.png`, ...) -> text. The same arguments give the same pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits = max(4, len(str(count - 1)))
    truth: dict[str, str] = {}
    for index, (text, gray) in enumerate(samples(seed, count, fonts)):
        name = f"{index:0{digits}d}.png"
        Image.fromarray(gray).save(folder / name, compress_level=1)
        truth[name] = text
    _write_truth(folder / "truth.csv", truth)
    return truth


def read_truth(folder: Path) -> dict[str, str]:
    """What `make_lines` wrote down for this folder: relative path -> text."""
    with (folder / "truth.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["text"] for row in csv.DictReader(file)}


def _write_truth(path: Path, truth: dict[str, str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "text"))
        writer.writerows(truth.items())


def _skew(mask: Image.Image, wear: _Wear) -> Image.Image:
    middle_x, middle_y = mask.width / 2, mask.height / 2
    matrix = (1.0, wear.shear, -wear.shear * middle_y, wear.slope, 1.0, -wear.slope * middle_x)
    return mask.transform(mask.size, Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)


def _wear_out(mask: Image.Image, wear: _Wear, rng: np.random.Generator) -> Gray:
    strokes = np.asarray(mask.filter(ImageFilter.GaussianBlur(wear.blur)), dtype=np.float32) / 255
    ramp = np.linspace(-wear.light / 2, wear.light / 2, mask.width, dtype=np.float32)
    gray = wear.paper + (wear.ink - wear.paper) * strokes + ramp
    gray += wear.noise * rng.standard_normal(gray.shape, dtype=np.float32)
    levels: Gray = np.clip(np.rint(gray), 0, 255).astype(np.uint8)
    return levels


def _pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _digits(rng: np.random.Generator, least: int, most: int) -> str:
    return "".join(_pick(rng, DIGITS) for _ in range(int(rng.integers(least, most + 1))))


def _case(rng: np.random.Generator, word: str) -> str:
    shape = rng.random()
    return word if shape < 0.6 else word.capitalize() if shape < 0.85 else word.upper()


def _word(rng: np.random.Generator) -> str:
    return _case(rng, _pick(rng, _WORDS))


def _made_up(rng: np.random.Generator) -> str:
    syllables = int(rng.integers(1, 4))
    return _case(rng, "".join(_pick(rng, p) for _ in range(syllables) for p in (_ONSETS, _VOWELS, _CODAS)))


def _marked(rng: np.random.Generator) -> str:
    word = _pick(rng, (_word, _made_up, _number))(rng)
    if rng.random() < 0.6:
        return word + _pick(rng, ".,:;!?%*")
    pair = _pick(rng, ("()", "[]", "{}", "<>", '""', "''", "__", "##"))
    return pair[0] + word + pair[1]


def _number(rng: np.random.Generator) -> str:
    whole = _digits(rng, 1, 5)
    form = _pick(rng, ("{}", "{}.{}", "{},{}", "-{}.{}", "+{}", "${}.{}", "#{}", "{}%"))
    return form.format(whole, _digits(rng, 1, 3))


def _date(rng: np.random.Generator) -> str:
    mark = _pick(rng, "-/.:")
    return mark.join(_digits(rng, 2, 2) for _ in range(int(rng.integers(2, 4))))


def _joined(rng: np.random.Generator) -> str:
    sides = (_pick(rng, (_word, _made_up, _code))(rng) for _ in range(2))
    return _pick(rng, "-/_@=&+*:.'<>").join(sides)


def _code(rng: np.random.Generator) -> str:
    signs = _CODE_SIGNS if rng.random() < 0.5 else _CODE_SIGNS + LETTERS.replace("l", "").replace("o", "")
    return "".join(_pick(rng, signs) for _ in range(int(rng.integers(2, 8))))


def _mark(rng: np.random.Generator) -> str:
    return _pick(rng, "-&+=*#@$%?!/<>")


_TOKENS: tuple[Callable[[np.random.Generator], str], ...] = (
    *((_word,) * 4),
    *((_made_up,) * 5),
    *((_marked,) * 4),
    *((_number,) * 3),
    *((_code,) * 4),
    *((_joined,) * 2),
    _date,
    _mark,
)
