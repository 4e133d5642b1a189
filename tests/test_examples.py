"""The examples run as a reader would run them, on little data, and their claims hold."""

from __future__ import annotations

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_the_vote_reads_better_than_either(tmp_path: Path) -> None:
    shares = runpy.run_path(str(EXAMPLES / "vote.py"))["main"](tmp_path, 200)
    assert min(shares.values()) > 0.9
    assert shares["vote"] >= max(shares["a"], shares["b"])
