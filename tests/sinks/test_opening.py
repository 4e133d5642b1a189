from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from penstock._sinks.folder import JsonFolder
from penstock._sinks.jsonl import JsonLines
from penstock._sinks.opening import open_sink
from penstock._sinks.parquet import ParquetParts
from penstock._sinks.sqlite import SqliteTable
from penstock.errors import MissingDependency, UsageError


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("results", JsonFolder),
        ("results/", JsonFolder),
        (".hidden", JsonFolder),
        ("r.jsonl", JsonLines),
        ("r.JSONL", JsonLines),
        ("r.sqlite", SqliteTable),
    ],
)
def test_the_name_chooses(tmp_path: Path, name: str, kind: type) -> None:
    assert type(open_sink(Path(tmp_path / name), tmp_path / "job")) is kind
    assert list(tmp_path.iterdir()) == []


def test_parquet_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    assert type(open_sink(tmp_path / "r.parquet", tmp_path)) is ParquetParts
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"penstock\[parquet\]"):
        open_sink(tmp_path / "r.parquet", tmp_path)


@pytest.mark.parametrize("name", ["r.csv", "r.json", "results.v2"])
def test_another_suffix_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match=r"without a suffix.*\.jsonl, \.parquet or \.sqlite"):
        open_sink(Path(name), Path("job"))
