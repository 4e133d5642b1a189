"""One training sample, for all entries of feed.py alike: a JPEG, a random crop to 224, a flip, colour jitter.

Decoded by simplejpeg, resized and coloured by OpenCV (one thread each), all of which release the interpreter lock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Draw = Callable[[float, float], float]
"""draw(low, high): a random number."""
SIDE, BATCH = 224, 64
JITTER = 0.4


def sample(path: str, draw: Draw) -> Array:
    """Return the augmented photo, RGB uint8 (224, 224, 3)."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)
    with open(path, "rb") as file:
        image = simplejpeg.decode_jpeg(file.read(), "RGB")
    top, left, height, width = crop(image.shape[0], image.shape[1], draw)
    image = cv2.resize(image[top : top + height, left : left + width], (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    if draw(0, 1) < 0.5:
        image = cv2.flip(image, 1)
    bright, contrast, colour = (draw(1 - JITTER, 1 + JITTER) for _ in range(3))
    mean = cv2.mean(image)
    image = cv2.convertScaleAbs(image, alpha=bright * contrast, beta=(1 - contrast) * bright * sum(mean[:3]) / 3)
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(image, colour, gray, 1 - colour, 0))


def crop(height: int, width: int, draw: Draw) -> tuple[int, int, int, int]:
    """Return a part of 8 to 100 % of the area, of a ratio of 3/4 to 4/3 (Szegedy et al. 2015): top, left, size."""
    for _ in range(10):
        area, ratio = height * width * draw(0.08, 1.0), math.exp(draw(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(draw(0, height - h + 1)), int(draw(0, width - w + 1)), h, w
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def keyed(row: tuple[str, int], number: int) -> tuple[Array, int]:
    """Return (photo, label), its random numbers drawn by its number: what the rivals have to do by hand."""
    path, label = row
    return sample(path, np.random.default_rng(number).uniform), label


def drawn(row: tuple[str, int]) -> tuple[Array, int]:
    """The same with penstock's random numbers."""
    import penstock

    path, label = row
    return sample(path, penstock.sample_rng().uniform), label


def rows(photos: str, n: int) -> list[tuple[str, int]]:
    """Return n (path, label): the photos again and again."""
    paths = sorted(str(path) for path in Path(photos).rglob("*.jpg"))
    labels = {name: i for i, name in enumerate(sorted({Path(path).parent.name for path in paths}))}
    return [(paths[i % len(paths)], labels[Path(paths[i % len(paths)]).parent.name]) for i in range(n)]


class Photos:
    """A map-style data set of them, as DataLoader, grain and torchdata take it."""

    def __init__(self, given: list[tuple[str, int]], *, tensors: bool = False) -> None:
        self.rows = given
        self.tensors = tensors

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        """Return one sample."""
        photo, label = keyed(self.rows[number], number)
        if not self.tensors:
            return photo, label
        import torch

        return torch.from_numpy(photo), label
