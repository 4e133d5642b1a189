"""Train a Keras 3 model on JAX from a Feed; kill it whenever you like: the same command goes on, with the same loss.

KERAS_BACKEND=jax python examples/train_keras.py FOLDER [--steps 30]   # half a minute; works on the other backends too

Batches are numpy arrays; the backend takes their memory as it is, through DLPack. A checkpoint is a Keras file (weights
and optimizer) and a JSON file that names it, with the feed's state; the JSON file is put in its place by rename, last.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import penstock

COLOURS = np.array([[220, 40, 40], [40, 200, 60], [50, 70, 220]], np.float32)
ITEMS, BATCH, SAVE_EVERY = 240, 16, 4


def sample(number: int) -> tuple[Any, int]:
    """Return a noisy patch of one of three colours, and which one: the noise is the item's own."""
    rng = penstock.sample_rng()
    label = number % len(COLOURS)
    patch = COLOURS[label] + rng.normal(0, 60, (8, 8, 3))
    return (patch / 255).astype(np.float32), label


def make_model() -> Any:
    """Return a small model, the same every time."""
    keras.utils.set_random_seed(7)
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(8, 3, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(len(COLOURS)),
    ]
    model = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.02), loss=loss)
    return model


def handed_over(batch: list[Any]) -> list[Any]:
    """Return arrays as the backend's own, over the same memory where it takes it."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return [jax.dlpack.from_dlpack(array) for array in batch]
    if backend == "tensorflow":
        import tensorflow as tf

        return [tf.experimental.dlpack.from_dlpack(array.__dlpack__()) for array in batch]
    import torch

    return [torch.from_dlpack(array) for array in batch]


def save(folder: Path, model: Any, feed: penstock.Feed, losses: list[str]) -> None:
    """Write a checkpoint; a kill leaves the one before, or this one."""
    name = f"step-{len(losses)}.keras"
    model.save(folder / name)
    state = {"model": name, "feed": feed.state_dict(), "losses": losses}
    (folder / "checkpoint.new").write_text(json.dumps(state))
    os.replace(folder / "checkpoint.new", folder / "checkpoint.json")
    for old in folder.glob("step-*.keras"):
        if old.name != name:
            old.unlink()


def main(folder: Path, steps: int) -> list[float]:
    """Train up to `steps`, from the checkpoint on if there is one; return the losses."""
    folder.mkdir(parents=True, exist_ok=True)
    with penstock.Feed(range(ITEMS), BATCH, transform=sample) as feed:
        losses: list[str] = []
        if (path := folder / "checkpoint.json").exists():
            state = json.loads(path.read_text())
            model, losses = keras.models.load_model(folder / state["model"]), state["losses"]
            feed.load_state_dict(state["feed"])
        else:
            model = make_model()
        for batch in feed.steps(len(losses), steps):
            losses.append(float(model.train_on_batch(*handed_over(batch))).hex())
            if len(losses) == steps or len(losses) % SAVE_EVERY == 0:
                save(folder, model, feed, losses)
    return [float.fromhex(loss) for loss in losses]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    found = main(given.folder, given.steps)
    print(f"loss {found[0]:.3f} -> {found[-1]:.3f} on the {keras.backend.backend()} backend")
