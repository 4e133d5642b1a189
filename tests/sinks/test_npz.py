from __future__ import annotations

import io
import time
from typing import Any

import numpy as np
import pytest

from penstock._sinks.npz import npz_bytes

ARRAYS: dict[str, Any] = {
    "boxes": np.arange(8, dtype=">f4").reshape(2, 4),
    "heads/0": np.zeros((0, 3), np.int8),
    "é": np.array(["a", "bc"]),
    "scalar": np.array(1.5, np.float16),
    "order": np.asfortranarray(np.eye(3)),
}


def test_arrays_come_back_exactly() -> None:
    loaded = np.load(io.BytesIO(npz_bytes(ARRAYS)), allow_pickle=False)
    assert sorted(loaded) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].shape == array.shape


def test_the_bytes_do_not_depend_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = npz_bytes(ARRAYS)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    monkeypatch.setattr(time, "localtime", lambda *_: time.struct_time((2033, 5, 18, 3, 33, 20, 2, 138, 0)))
    assert npz_bytes(ARRAYS) == before


def test_objects_are_never_pickled() -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        npz_bytes({"a": np.array([{}], object)})
