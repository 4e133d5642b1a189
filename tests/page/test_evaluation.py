"""What a page shows of an evaluation: all of a small one, the telling part of a large one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from penstock._page.evaluation import MOST_CLASSES, MOST_PAIRS, MOST_WORST, items_in, shown, summary_in


def model(n: int, **values: Any) -> dict[str, Any]:
    """Return n classes of which class i is taken i times for the next one."""
    confusion = [[9 if c == r else r if c == (r + 1) % n else 0 for c in range(n)] for r in range(n)]
    return {"labels": [f"c{i}" for i in range(n)], "confusion": confusion, **values}


def test_a_few_classes_are_all_there() -> None:
    found = shown(model(3))
    assert found["labels"] == ["c0", "c1", "c2"]
    assert found["pairs"] == [["c2", "c0", 2], ["c1", "c2", 1]]
    assert "all_labels" not in found


def test_of_many_classes_those_that_are_confused_most() -> None:
    found = shown(model(1000, worst=[{"id": n} for n in range(100)]))
    assert found["all_labels"] == 1000
    assert found["labels"] == [f"c{i}" for i in range(1000 - MOST_CLASSES, 1000)]
    assert found["confusion"][0][:2] == [9, 1000 - MOST_CLASSES]
    assert found["pairs"][0] == ["c999", "c0", 999]
    assert (len(found["pairs"]), len(found["worst"])) == (MOST_PAIRS, MOST_WORST)


def test_text_has_no_matrix() -> None:
    found = shown({"kind": "text", "cer": 0.04, "labels": None, "confusion": None, "worst": None})
    assert (found["pairs"], found["worst"], found["cer"]) == ([], [], 0.04)


def test_a_job_without_one(tmp_path: Path) -> None:
    assert summary_in(tmp_path) is None
    assert list(items_in(tmp_path)) == []


def test_lines_that_are_whole(tmp_path: Path) -> None:
    (tmp_path / "evaluation.jsonl").write_text('{"id": 1}\n{"id": 2}\n{"id"')
    assert list(items_in(tmp_path)) == [{"id": 1}, {"id": 2}]
    (tmp_path / "evaluation.json").write_text(json.dumps({"truth": "t", "models": {"m": model(2)}}))
    summary = summary_in(tmp_path)
    assert summary is not None
    assert summary["models"]["m"]["pairs"] == [["c1", "c0", 1]]
