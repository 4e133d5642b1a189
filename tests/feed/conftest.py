"""What the tests of feeds share."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module `feed_sets`, which worker processes can then import, too."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1]))
    return importlib.import_module("feed_sets")


def plain(batch: Any) -> Any:
    """Return a batch as something that can be compared: the bytes of its arrays."""
    if isinstance(batch, np.ndarray):
        return (batch.shape, str(batch.dtype), batch.tobytes())
    if isinstance(batch, dict):
        return {key: plain(value) for key, value in batch.items()}
    return [plain(part) for part in batch] if isinstance(batch, list | tuple) else batch


@pytest.fixture
def as_plain() -> Any:
    """Return the function `plain`, for test modules cannot import from here."""
    return plain
