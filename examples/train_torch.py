"""Train a small torch net on photos; kill it whenever you like: the same command goes on, with the same loss.

python examples/train_torch.py FOLDER [--photos PHOTOS] [--steps 24]   # FOLDER/loss.txt has a line for each step

Each folder below PHOTOS is a class; without PHOTOS, pictures are drawn. Weights, optimizer and the feed's state go into
one checkpoint, put in the place of the last one by rename; the losses of the steps behind it are written again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

import penstock

SIDE, BATCH, SAVE_EVERY = 48, 16, 5


def sample(path: str) -> tuple[torch.Tensor, int]:
    """Return a random crop of a photo, mirrored at random, and its class: the place of its folder among the others."""
    rng = penstock.sample_rng()
    photo = penstock.decode(path)
    side = int(min(photo.shape[:2]) * rng.uniform(0.5, 1.0))
    top, left = (int(rng.integers(0, size - side + 1)) for size in photo.shape[:2])
    crop = cv2.resize(photo[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    label = sorted(os.listdir(Path(path).parents[1])).index(Path(path).parent.name)
    return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1), np.float32) / 127.5 - 1), label


def make_net(classes: int) -> torch.nn.Module:
    """Return a small convolutional net."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for i, o in ((3, 16), (16, 32), (32, 64)):
        layers += [torch.nn.Conv2d(i, o, 3, stride=2, padding=1), torch.nn.BatchNorm2d(o), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(64, classes))


class Run:
    """A net in training, with where it is."""

    def __init__(self, folder: Path, photos: Path, feed: penstock.Feed) -> None:
        """Go on from the checkpoint in `folder`, if there is one."""
        self.folder = folder
        self.feed = feed
        self.net = make_net(len(os.listdir(photos)))
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.02, momentum=0.9)
        self.losses: list[str] = []
        if (path := folder / "checkpoint.pt").exists():
            state = torch.load(path, weights_only=True)
            self.net.load_state_dict(state["net"])
            self.optimizer.load_state_dict(state["optimizer"])
            feed.load_state_dict(state["feed"])
            self.losses = state["losses"]

    def step(self, batch: Any) -> None:
        """Train on one batch."""
        photos, labels = batch
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.net(photos), labels)
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item().hex())

    def save(self) -> None:
        """Write a checkpoint and the losses, each put in its place by rename: a kill leaves the old or the new one."""
        state = {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "feed": self.feed.state_dict(),
            "losses": self.losses,
        }
        torch.save(state, self.folder / "checkpoint.new")
        os.replace(self.folder / "checkpoint.new", self.folder / "checkpoint.pt")
        (self.folder / "loss.new").write_text("".join(f"{loss}\n" for loss in self.losses))
        os.replace(self.folder / "loss.new", self.folder / "loss.txt")


def draw(folder: Path) -> None:
    """Draw pictures of two classes: bright discs and dark ones."""
    rng = np.random.default_rng(1)
    for i in range(80):
        picture = rng.integers(90, 160, (64, 80, 3), np.uint8)
        cv2.circle(picture, (40, 32), 20, (230,) * 3 if i % 2 else (20,) * 3, -1)
        path = folder / ("bright" if i % 2 else "dark") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)


def main(folder: Path, photos: Path | None, steps: int) -> float:
    """Train for `steps` steps in all; return the mean loss of the last ten."""
    torch.use_deterministic_algorithms(True)
    folder.mkdir(parents=True, exist_ok=True)
    if photos is None:
        photos = folder / "photos"
        if not photos.exists():
            draw(photos)
    with penstock.Feed(str(photos), BATCH, transform=sample, seed=1, drop_last=True) as feed:
        run = Run(folder, photos, feed)
        while len(run.losses) < steps:
            for batch in feed:
                run.step(batch)
                done = len(run.losses) == steps
                if done or len(run.losses) % SAVE_EVERY == 0:
                    run.save()
                if done:
                    break
        print(feed.why(), file=sys.stderr)
    return float(np.mean([float.fromhex(loss) for loss in run.losses[-10:]]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--steps", type=int, default=24)
    given = parser.parse_args()
    print(f"mean loss of the last ten steps: {main(given.folder, given.photos, given.steps):.4f}")
