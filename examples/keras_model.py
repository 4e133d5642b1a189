"""A Keras model over a folder of pictures: which colour is in front? Nothing is trained, so every answer is known.

Run: pip install 'penstock[keras]' torch; KERAS_BACKEND=torch python examples/keras_model.py (or jax, or tensorflow).
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import keras
import numpy as np
from PIL import Image

import penstock

COLORS = ("red", "green", "blue")
SPEC = penstock.Spec(
    penstock.InputSpec(size=(32, 32), resize="stretch", mean=(127.5,), std=(127.5,), layout="NHWC"),
    penstock.OutputSpec(task="classify", activation="none", labels=COLORS, top_k=1),
)


def render(folder: Path, n: int) -> None:
    """Write `n` pictures of noise in `folder`, each with more of one colour, which is the first word of its name."""
    random = np.random.default_rng(0)
    folder.mkdir()
    for i in range(n):
        pixels = random.integers(0, 160, (48, 64, 3), np.uint8)
        pixels[..., i % 3] += 90
        Image.fromarray(pixels).save(folder / f"{COLORS[i % 3]}_{i:03}.png")


def save_model(path: Path) -> None:
    """Save a network that weighs the mean of each channel."""
    net = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
    )
    net.layers[-1].set_weights([10 * np.eye(3), np.zeros(3)])
    net.save(path)


def main() -> None:
    """Render, save, run, and compare the answers with the names."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, model, out = (Path(scratch) / name for name in ("pictures", "color.keras", "colors.jsonl"))
        render(folder, 60)
        save_model(model)
        report = penstock.run(folder, model, spec=SPEC, out=out)
        print(report)
        records = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
        right = sum(r["output"]["top"][0]["label"] == r["id"].split("_")[0] for r in records)
        print(f"{right} of {len(records)} colours named rightly, on the {keras.backend.backend()} backend of Keras")


if __name__ == "__main__":
    main()
