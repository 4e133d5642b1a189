"""What goes wrong in a model while it runs, as a user meets it: it costs the items it must cost, and no others."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock import Batching, errors

N, CULPRIT = 300, 137


def outputs(path: Path) -> dict[int, Any]:
    return {row["id"]: row["output"] for row in map(json.loads, path.read_text("utf-8").splitlines())}


def rows(n: int) -> list[Any]:
    return [np.full(3, value, np.float32) for value in range(n)]


def others(n: int = N) -> list[int]:
    return [i for i in range(n) if i != CULPRIT]


# ---- a call that raises


def test_a_function_that_raises_on_one_item_loses_that_item(tmp_path: Path) -> None:
    answered: Counter[int] = Counter()

    def model(batch: list[int]) -> list[int]:
        if CULPRIT in batch:
            raise ValueError("not this one")
        answered.update(batch)
        return [-x for x in batch]

    report = penstock.run(range(N), model, out=tmp_path / "o.jsonl", batch=16)
    assert [(f["id"], f["stage"], f["type"]) for f in report.failures] == [(CULPRIT, "model", "ValueError")]
    assert outputs(tmp_path / "o.jsonl") == {i: -i for i in others()}
    assert answered == dict.fromkeys(others(), 1)  # bisecting asks for an item again only where its batch failed


def test_a_module_that_raises_on_one_item_loses_that_item(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Picky(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            if (x == CULPRIT).any():
                raise ValueError("not this one")
            return x * 2

    report = penstock.run(rows(N), Picky(), out=tmp_path / "o.jsonl", batch=8)
    assert (report.done, report.plan["batch"]) == (N - 1, 8)
    (failure,) = report.failures
    assert (failure["id"], failure["stage"], failure["model"]) == (CULPRIT, "model", "Picky")
    assert "not this one" in failure["message"]
    assert outputs(tmp_path / "o.jsonl") == {i: {"output": [2 * i] * 3} for i in others()}


# ---- a wrong number of rows


def test_a_function_that_drops_a_row_loses_the_item_it_drops_it_for(tmp_path: Path) -> None:
    def model(batch: list[int]) -> list[int]:
        return [x for x in batch if x != CULPRIT]

    report = penstock.run(range(N), model, out=tmp_path / "o.jsonl", batch=16)
    (failure,) = report.failures
    assert failure["id"] == CULPRIT
    assert "expected 1 rows, got 0" in failure["message"]
    assert outputs(tmp_path / "o.jsonl") == {i: i for i in others()}


def test_a_module_that_answers_batches_with_too_few_rows_gets_items_one_by_one(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Forgets(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x[: max(1, len(x) - 1)]

    report = penstock.run(rows(20), Forgets(), out=tmp_path / "o.jsonl", batch=4)
    assert (report.done, report.plan["batch"]) == (20, 1)
    assert "expected 4 rows, got 3" in report.plan["why_batch"]
    with pytest.raises(errors.ModelError, match=r"failed in batches of 4: .*expected 4 rows, got 3"):
        penstock.run(rows(20), Forgets(), out=tmp_path / "p.jsonl", batch=Batching(max_size=4, safety="fast"))


# ---- out of memory


@pytest.mark.parametrize("batch", [8, "auto"])
def test_a_module_without_memory_for_more_than_five_settles_below(tmp_path: Path, batch: Any) -> None:
    torch = pytest.importorskip("torch")
    sizes: list[int] = []

    class Heavy(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            if len(x) > 5:
                raise RuntimeError(f"CUDA out of memory. Tried to allocate {len(x)} GiB")
            sizes.append(len(x))
            return -x

    report = penstock.run(rows(100), Heavy(), out=tmp_path / "o.jsonl", batch=batch)
    assert (report.done, report.failed) == (100, 0)
    assert outputs(tmp_path / "o.jsonl") == {i: {"output": [-i] * 3} for i in range(100)}
    if batch == 8:  # asked for: it is split, not given up
        assert report.plan["batch"] == 8
        assert set(report.plan["memory_ceilings"].values()) <= {4, 5}
    else:
        assert report.plan["batch"] <= 5
        assert any("memory" in tried["verdict"] for tried in report.plan["measurements"])


def test_items_of_a_function_without_memory_are_each_answered_once(tmp_path: Path) -> None:
    answered: Counter[int] = Counter()

    def model(batch: list[int]) -> list[int]:
        if len(batch) > 5:
            raise MemoryError(f"no room for {len(batch)}")
        answered.update(batch)
        return batch

    report = penstock.run(range(N), model, out=tmp_path / "o.jsonl", batch=32)
    assert (report.done, report.failed) == (N, 0)
    assert answered == dict.fromkeys(range(N), 1)
    assert set(report.plan["memory_ceilings"].values()) <= {4, 5}
