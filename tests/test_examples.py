"""The examples run as a reader would run them, on little data, and their claims hold."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
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
