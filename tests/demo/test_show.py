"""The demo reaches its goal, and says so when it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock._demo import show


@pytest.mark.parametrize(
    ("read", "truth", "expected"),
    [("", "abc", 3), ("abc", "abc", 0), ("abd", "abc", 1), ("kitten", "sitting", 3), ("abc", "", 3)],
)
def test_edits(read: str, truth: str, expected: int) -> None:
    assert show.edits(read, truth) == expected


def test_demo_reads_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(show, "LINES", 200)
    assert show.demo(tmp_path) == 0
    assert "200 items: 200 done, 0 failed" in capsys.readouterr().out
    monkeypatch.setattr(show, "GOAL", 1.01)
    assert show.demo(tmp_path) == 1
