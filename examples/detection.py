"""A sample function for a detector in the manner of CenterNet: heat maps, offsets and sizes, drawn where objects are.

python examples/detection.py      # a few seconds: 200 pictures with up to 12 boxes each, some of them broken

What such functions do badly elsewhere: more objects than there is room for end the worker, a bad file ends all of them,
and every worker draws the same random numbers. Here the sample says how many objects it has, a bad item is left out by
name, and random numbers belong to the item. Gaussian of Law and Deng 2018 (CornerNet), targets of Zhou et al. 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import penstock

CLASSES, SIDE, STRIDE, MOST = 3, 128, 4, 8


@dataclass(frozen=True)
class Scene:
    """A picture to be drawn, with boxes (left, top, right, bottom, class)."""

    seed: int
    boxes: tuple[tuple[float, float, float, float, int], ...]


class Scenes:
    """A data set of scenes; number 13 has a box that ends before it begins."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(0)
        self.scenes = [Scene(i, tuple(self._box(rng) for _ in range(rng.integers(1, 13)))) for i in range(n)]
        if n > 13:
            self.scenes[13] = Scene(13, ((40.0, 40.0, 20.0, 60.0, 0),))

    @staticmethod
    def _box(rng: np.random.Generator) -> tuple[float, float, float, float, int]:
        left, top = rng.uniform(0, SIDE - 24, 2)
        width, height = rng.uniform(8, 24, 2)
        return float(left), float(top), float(left + width), float(top + height), int(rng.integers(CLASSES))

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.scenes)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Return picture and targets of one scene, mirrored and recoloured at random."""
        scene, rng = self.scenes[number], penstock.sample_rng()
        picture = np.random.default_rng(scene.seed).integers(0, 90, (SIDE, SIDE, 3), np.uint8)
        boxes = np.array(scene.boxes, np.float32).reshape(-1, 5)
        if (boxes[:, :2] >= boxes[:, 2:4]).any():
            raise ValueError(f"scene {number} has a box without an area: {scene.boxes}")
        for left, top, right, bottom, kind in boxes:
            picture[int(top) : int(bottom), int(left) : int(right), int(kind)] = 200
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
            boxes[:, [0, 2]] = SIDE - boxes[:, [2, 0]]
        jittered = np.clip(picture * rng.uniform(0.8, 1.2, 3), 0, 255).astype(np.uint8)
        return {"picture": jittered, **targets(boxes)}


def targets(boxes: Any) -> dict[str, Any]:
    """Return what the net is to say: heat (classes, H, W), and for up to MOST objects place, offset, size, mask."""
    size = SIDE // STRIDE
    heat = np.zeros((CLASSES, size, size), np.float32)
    places, mask = np.zeros(MOST, np.int64), np.zeros(MOST, np.float32)
    offsets, sizes = np.zeros((MOST, 2), np.float32), np.zeros((MOST, 2), np.float32)
    largest = boxes[np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind="stable")]
    for i, (left, top, right, bottom, kind) in enumerate(largest[:MOST]):
        centre = np.array([left + right, top + bottom]) / 2 / STRIDE
        x, y = np.minimum(centre.astype(np.int64), size - 1)
        extent = np.array([right - left, bottom - top]) / STRIDE
        draw(heat[int(kind)], int(x), int(y), max(1.0, float(extent.min()) / 3))
        places[i], mask[i] = y * size + x, 1.0
        offsets[i], sizes[i] = centre - (x, y), extent
    return {"heat": heat, "place": places, "offset": offsets, "size": sizes, "mask": mask, "objects": len(boxes)}


def draw(heat: Any, x: int, y: int, radius: float) -> None:
    """Draw a Gaussian with its peak, exactly 1, at (x, y); where two meet, the larger counts."""
    rows, columns = np.ogrid[: heat.shape[0], : heat.shape[1]]
    sigma = radius / 3
    np.maximum(heat, np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)), out=heat)


def main(workers: int, kind: Any) -> tuple[list[Any], list[str]]:
    """Return the batches of an epoch, and what was left out."""
    with penstock.Feed(Scenes(200), 16, workers=workers, kind=kind) as feed:
        return list(feed), [str(bad) for bad in feed.failures]


if __name__ == "__main__":
    batches, left_out = main(2, "thread")
    objects = sum(int(batch["objects"].sum()) for batch in batches)
    peaks = sum(int((batch["heat"] == 1).sum()) for batch in batches)
    samples = sum(len(batch["picture"]) for batch in batches)
    print(f"{samples} samples, {objects} objects, {peaks} peaks; left out: {left_out}")
