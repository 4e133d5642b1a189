"""The examples run as a reader would run them, on little data, and their claims hold."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_the_vote_reads_better_than_either(tmp_path: Path) -> None:
    shares = runpy.run_path(str(EXAMPLES / "vote.py"))["main"](tmp_path, 200)
    assert min(shares.values()) > 0.9
    assert shares["vote"] >= max(shares["a"], shares["b"])


def test_a_map_lies_where_the_picture_does(tmp_path: Path) -> None:
    """Mirrored pictures have mirrored maps: exactly so, for every view has its mirror image among the views."""
    pytest.importorskip("torch")
    report = runpy.run_path(str(EXAMPLES / "class_activation.py"))["main"](tmp_path)
    assert (report.done, report.failed) == (6, 0)
    for i in (0, 2, 4):
        plain, mirrored = (np.load(tmp_path / "maps" / f"{k}.png.npz")["cam"] for k in (i, i + 1))
        assert plain.shape == (3, 96, 128)
        assert np.ptp(plain) > 0.5
        np.testing.assert_allclose(mirrored, plain[..., ::-1], atol=2e-2)


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_a_keras_model_on_every_backend(backend: str) -> None:
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(EXAMPLES.parent / "src")}
    command = [sys.executable, str(EXAMPLES / "keras_model.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert f"60 of 60 colours named rightly, on the {backend} backend" in done.stdout, done.stderr[-2000:]


def train(script: str, folder: Path, *more: str, backend: str = "jax", killed_at: int | None = None) -> list[str]:
    """Train in a process, killed when it has saved step `killed_at`; return the losses that were saved."""
    command = [sys.executable, str(EXAMPLES / script), str(folder), *more]
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent / "src"), "KERAS_BACKEND": backend}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        if killed_at is None:
            _, said = run.communicate(timeout=100)
            assert run.returncode == 0, said[-2000:]
        else:
            deadline = time.monotonic() + 100
            while len(saved(folder)) < killed_at:
                assert run.poll() is None, run.stderr.read() if run.stderr else ""
                assert time.monotonic() < deadline
                os.sched_yield()
            run.kill()
    return saved(folder)


def saved(folder: Path) -> list[str]:
    if (path := folder / "loss.txt").exists():
        return path.read_text().split()
    return list(json.loads(path.read_text())["losses"]) if (path := folder / "checkpoint.json").exists() else []


@pytest.mark.timeout(120)
def test_a_torch_training_that_is_killed_goes_on_with_the_same_loss(tmp_path: Path, shared_data: Path) -> None:
    """On real photos: bit by bit, over the end of an epoch (31 steps)."""
    pytest.importorskip("torch")
    photos = ("--photos", str(shared_data / "photos" / "flowers"), "--steps", "40")
    whole = train("train_torch.py", tmp_path / "whole", *photos)
    assert len(whole) == 40
    cut = train("train_torch.py", tmp_path / "cut", *photos, killed_at=10)
    assert cut == whole[: len(cut)]
    assert len(cut) < 40
    assert train("train_torch.py", tmp_path / "cut", *photos) == whole
    assert float.fromhex(whole[0]) > float.fromhex(whole[-1])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_a_keras_training_that_is_killed_goes_on_with_the_same_loss(tmp_path: Path, backend: str) -> None:
    """Bit by bit, over the end of an epoch (15 steps)."""
    whole = train("train_keras.py", tmp_path / "whole", backend=backend)
    assert len(whole) == 30
    cut = train("train_keras.py", tmp_path / "cut", backend=backend, killed_at=4)
    assert cut == whole[: len(cut)]
    assert train("train_keras.py", tmp_path / "cut", backend=backend) == whole
    assert float.fromhex(whole[0]) > float.fromhex(whole[-1])


def test_detection_targets_are_the_same_whoever_makes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    detection = importlib.import_module("detection")
    found = [detection.main(workers, kind) for workers, kind in ((0, "auto"), (2, "thread"), (2, "process"))]
    for batches, left_out in found:
        assert left_out == found[0][1]
        assert len(left_out) == 1
        assert "item 13: ValueError: scene 13 has a box without an area" in left_out[0]
        for batch, reference in zip(batches, found[0][0], strict=True):
            assert batch.keys() == reference.keys()
            assert all(np.array_equal(batch[key], reference[key]) for key in batch)
    batches = found[0][0]
    assert sum(len(batch["picture"]) for batch in batches) == 199
    peaks = sum(int((batch["heat"] == 1).sum()) for batch in batches)
    assert 0.9 < peaks / sum(int(batch["mask"].sum()) for batch in batches) <= 1.0  # two objects may share a place
    assert max(int(batch["objects"].max()) for batch in batches) > detection.MOST
