"""Class activation maps of a torch net from eight views of each picture: four scales, each plain and mirrored.

python examples/class_activation.py [FOLDER]      # a few seconds; the maps are FOLDER/maps/NAME.png.npz

The net is fully convolutional: its output is a map (classes, H/4, W/4), larger for a larger view. Each view's map is
turned back and brought to one size before they are merged; `post` brings the result to the picture's own size.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

import penstock

CLASSES = 3
VIEWS = [penstock.View(scale=scale, flip=flip) for scale in (0.5, 1.0, 1.5, 2.0) for flip in (False, True)]
SPEC = {"input": {"size": [64, 64], "resize": "stretch", "mean": 127.5, "std": 127.5}, "output": {"task": "raw"}}


def make_net() -> torch.nn.Module:
    """Return a small fully convolutional net; in real life: one with trained weights."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 5, stride=2, padding=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, CLASSES, 1),
    )


def as_large_as_the_picture(item: penstock.Item, output: dict[str, Any]) -> dict[str, Any]:
    """Return the map (classes, height, width) of the original picture, scaled to 0..1 for each class."""
    height, width = item.size or (64, 64)
    maps = np.stack([cv2.resize(plane, (width, height)) for plane in np.maximum(output["output"], 0)])
    return {"cam": maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-6)}


def draw(folder: Path, count: int = 6) -> None:
    """Draw pictures of a bright disc; each second one is the mirror image of the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    for i in range(0, count, 2):
        picture = rng.integers(0, 60, (96, 128, 3), np.uint8)
        centre = [int(x) for x in rng.integers(24, 72, 2)]
        cv2.circle(picture, centre, 16, [int(x) for x in rng.integers(120, 255, 3)], -1)
        Image.fromarray(picture).save(folder / f"{i}.png")
        Image.fromarray(picture[:, ::-1]).save(folder / f"{i + 1}.png")


def main(folder: Path) -> penstock.Report:
    """Draw pictures into `folder`/pictures and write their maps to `folder`/maps."""
    draw(folder / "pictures")
    model = penstock.Augment(make_net(), VIEWS, merge="mean")
    return penstock.run(
        folder / "pictures", model, spec=SPEC, post=as_large_as_the_picture, out=folder / "maps", fresh=True
    )


if __name__ == "__main__":
    print(main(Path(sys.argv[1] if len(sys.argv) > 1 else "cam")))
