from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from penstock._sinks import spool
from penstock._sinks.frames import pack
from penstock._sinks.spool import Spool

if TYPE_CHECKING:
    import pytest


def test_it_goes_back_to_what_was_committed(tmp_path: Path) -> None:
    frames = [pack(i, {"x": np.full(i, i)}) for i in range(6)]
    first = Spool(tmp_path / "s")
    for frame in frames[:4]:
        first.add(frame)
    first.flush()
    first.sync()
    nbytes = first.nbytes
    first.add(frames[4])
    first.flush()
    first.close()
    again = Spool(tmp_path / "s")
    assert again.cut_off(nbytes)
    assert again.frames == frames[:4]
    again.add(frames[5])
    again.flush()
    again.close()
    assert (tmp_path / "s").read_bytes() == b"".join([*frames[:4], frames[5]])
    short = Spool(tmp_path / "s")
    assert not short.cut_off(10**6)
    short.close()


def test_it_is_full_by_rows_or_by_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "PART_ROWS", 3)
    monkeypatch.setattr(spool, "PART_WEIGHT", 100)
    light, heavy = Spool(tmp_path / "a"), Spool(tmp_path / "b")
    full = []
    for i in range(3):
        light.add(pack(i, 1))
        full.append(light.full)
    assert full == [False, False, True]
    heavy.add(pack(0, np.zeros(24)))
    assert not heavy.full
    heavy.add(pack(0, 1))
    assert heavy.full
    light.close()
    heavy.close()
