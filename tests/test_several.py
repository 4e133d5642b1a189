"""Several models on one read: an item is read once, and what one model cannot do costs its own half alone."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock import InputSpec, Spec, errors
from penstock._job import job_folder

WAIT_S = 20.0
BROKEN: set[int] = set()
"""Numbers that `square` fails on at present."""
ASKED: Counter[tuple[str, int]] = Counter()
"""How often each model was asked for each number."""


@pytest.fixture(autouse=True)
def nobody_was_asked() -> None:
    BROKEN.clear()
    ASKED.clear()


def double(batch: list[int]) -> list[int]:
    ASKED.update(("double", x) for x in batch)
    return [2 * x for x in batch]


def square(batch: list[int]) -> list[int]:
    ASKED.update(("square", x) for x in batch)
    if bad := BROKEN & set(batch):
        raise ValueError(f"cannot square {sorted(bad)}")
    return [x * x for x in batch]


MODELS = {"a": double, "b": square}


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def record(i: int, *, whole: bool = True) -> dict[str, Any]:
    return {"id": i, "output": {"a": 2 * i, "b": i * i if whole else None}}


@pytest.mark.parametrize("threads", ["auto", 3])
def test_one_record_an_item_with_an_answer_of_each_model(tmp_path: Path, threads: Any) -> None:
    out = tmp_path / "o.jsonl"
    report = penstock.run(range(300), MODELS, out=out, batch=4, threads=threads)
    assert lines(out) == [record(i) for i in range(300)]
    assert (report.done, report.failed, report.exit_code) == (300, 0, 0)
    assert set(report.plan["models"]) == {"a", "b"}
    assert set(ASKED.values()) == {1}


def test_an_item_is_read_once(tmp_path: Path) -> None:
    read: list[int] = []

    def stage(x: int) -> int:
        read.append(x)
        return x + 1

    penstock.run(range(50), MODELS, out=tmp_path / "o.jsonl", stages=[stage])
    assert sorted(read) == list(range(50))
    assert lines(tmp_path / "o.jsonl")[3] == {"id": 3, "output": {"a": 8, "b": 16}}


def test_a_failed_model_costs_its_half(tmp_path: Path) -> None:
    BROKEN.add(137)
    out = tmp_path / "o.jsonl"
    report = penstock.run(range(200), MODELS, out=out, batch=8)
    assert lines(out) == [record(i, whole=i != 137) for i in range(200)]
    assert (report.done, report.failed, report.exit_code) == (199, 1, 1)
    (failure,) = lines(job_folder(out) / "failures.jsonl")
    assert (failure["id"], failure["model"], failure["stage"], failure["attempts"]) == (137, "b", "model", 1)
    assert "cannot square [137]" in failure["message"]


@pytest.mark.parametrize("name", ["o.jsonl", "o.sqlite", "o.parquet", "folder"])
def test_a_retry_runs_the_missing_halves_only(tmp_path: Path, name: str) -> None:
    BROKEN.update({5, 60})
    out, whole = tmp_path / name, tmp_path / f"whole-{name}"
    penstock.run(range(100), MODELS, out=out, batch=4)
    again = penstock.run(range(100), MODELS, out=out, batch=4)  # leaves failures alone, and its rows where they are
    assert (again.done, again.failed, again.attempted) == (98, 2, 0)
    ASKED.clear()
    still = penstock.run(range(100), MODELS, out=out, batch=4, retry=True)
    assert still.failed == 2
    assert {f["attempts"] for f in still.failures} == {2}
    BROKEN.clear()
    report = penstock.run(range(100), MODELS, out=out, batch=4, retry=True)
    assert (report.done, report.failed, report.exit_code) == (100, 0, 0)
    assert {model for model, _ in ASKED} == {"square"}
    assert {x for _, x in ASKED} == {5, 60}
    assert not (job_folder(out) / "failures.jsonl").exists()
    penstock.run(range(100), MODELS, out=whole, batch=4)
    if name == "o.jsonl":
        assert out.read_bytes() == whole.read_bytes()


def test_arrays_of_the_half_that_was_done_are_kept_exactly(tmp_path: Path) -> None:
    import numpy as np

    def vector(batch: list[int]) -> list[Any]:
        ASKED.update(("vector", x) for x in batch)
        return [{"v": np.array([x, 0.1], np.float32)} for x in batch]

    out, models = tmp_path / "out", {"a": vector, "b": square}
    BROKEN.add(3)
    penstock.run(range(5), models, out=out)
    BROKEN.clear()
    penstock.run(range(5), models, out=out, retry=True)
    assert ASKED["vector", 3] == 1
    found = [np.load(out / f"{i}.npz") for i in (2, 3)]
    for i, arrays in zip((2, 3), found, strict=True):
        np.testing.assert_array_equal(arrays["a/v"], np.array([i, 0.1], np.float32))
    assert found[1]["a/v"].dtype == np.float32


def test_an_item_without_any_answer_has_no_record(tmp_path: Path) -> None:
    BROKEN.add(1)

    def broken_too(batch: list[int]) -> list[int]:
        if 1 in batch:
            raise OSError("no luck")
        return batch

    out = tmp_path / "o.jsonl"
    report = penstock.run(range(3), {"a": broken_too, "b": square}, out=out, batch=1)
    assert [row["id"] for row in lines(out)] == [0, 2]
    assert [(f["id"], f["model"], f["type"]) for f in report.failures] == [(1, "a", "OSError"), (1, "b", "ValueError")]


def test_an_item_that_cannot_be_read_fails_once(tmp_path: Path) -> None:
    def stage(x: int) -> int:
        if x == 2:
            raise OSError("unreadable")
        return x

    report = penstock.run(range(4), MODELS, out=tmp_path / "o.jsonl", stages=[stage])
    assert [(f["id"], f["model"], f["stage"]) for f in report.failures] == [(2, None, "stage")]
    assert ("double", 2) not in ASKED


def test_post_sees_whole_outputs_only(tmp_path: Path) -> None:
    BROKEN.add(2)

    def total(item: penstock.Item, output: dict[str, int]) -> int:
        return output["a"] + output["b"]

    penstock.run(range(4), MODELS, out=tmp_path / "o.jsonl", post=total)
    assert [row["output"] for row in lines(tmp_path / "o.jsonl")] == [0, 3, {"a": 4, "b": None}, 15]


def test_a_stuck_model_does_not_hold_the_other(tmp_path: Path) -> None:
    """Each has its own queue and workers: one goes on while the other is at its first item."""
    ahead, seen = threading.Event(), Counter[str]()

    def slow(batch: list[int]) -> list[int]:
        if not ahead.wait(WAIT_S):
            raise TimeoutError("the other model was held back")
        return batch

    def fast(batch: list[int]) -> list[int]:
        seen["fast"] += len(batch)
        if seen["fast"] >= 4:  # the window is narrow until the first items have come out
            ahead.set()
        return batch

    report = penstock.run(range(100), {"slow": slow, "fast": fast}, out=tmp_path / "o.jsonl", batch=1)
    assert (report.done, report.failed) == (100, 0)


def test_names_and_models_belong_to_the_job(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    penstock.run(range(3), MODELS, out=out)
    with pytest.raises(errors.LedgerError, match=r"model\.c"):
        penstock.run(range(3), {"a": double, "c": square}, out=out)
    with pytest.raises(errors.UsageError, match="under a name of its own"):
        penstock.run(range(3), {}, out=tmp_path / "p.jsonl")


def test_a_session_gives_dicts_and_names_the_model_that_failed() -> None:
    with penstock.Session(MODELS, batch=1) as session:
        assert list(session.map([1, 2])) == [{"a": 2, "b": 1}, {"a": 4, "b": 4}]
        BROKEN.add(3)
        with pytest.raises(errors.ItemError, match=r"model 'b' failed .* cannot square \[3\]"):
            list(session.map([2, 3]))


def test_model_files_share_one_decode_and_are_fused(tmp_path: Path, shared_data: Path) -> None:
    names = {"net": "mobilenet_v1_0.75_192_quant.onnx", "flowers": "flowers5_mobilenet_v2_head.onnx"}
    models = {name: shared_data / "models" / file for name, file in names.items()}
    photos = sorted(map(str, (shared_data / "photos" / "flowers").glob("*/*.jpg")))[::50]
    (tmp_path / "photos.csv").write_text("path\n" + "\n".join(photos))
    options: dict[str, Any] = {"preset": "inception", "runtime": "onnxruntime", "top_k": 2}
    both = penstock.run(tmp_path / "photos.csv", models, out=tmp_path / "both.jsonl", **options)
    assert (both.done, both.failed) == (10, 0)
    assert [step.items for step in both.stages if "decode" in step.name] == [10]
    assert len(both.plan["stages"]) == 1
    rows = lines(tmp_path / "both.jsonl")
    for name, model in models.items():
        penstock.run(tmp_path / "photos.csv", model, out=tmp_path / f"{name}.jsonl", **options)
        alone = [row["output"]["top"] for row in lines(tmp_path / f"{name}.jsonl")]
        for one, other in zip(alone, (row["output"][name]["top"] for row in rows), strict=True):
            assert [entry["index"] for entry in one] == [entry["index"] for entry in other]
            assert [entry["score"] for entry in one] == pytest.approx([entry["score"] for entry in other], abs=0.02)


def test_models_that_take_the_same_input_have_it_made_once(tmp_path: Path, shared_data: Path) -> None:
    file = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    other = shared_data / "models" / "mobilenet_v1_0.75_192_quant.onnx"  # takes smaller pictures
    photos = sorted(map(str, (shared_data / "photos" / "flowers").glob("*/*.jpg")))[::100]
    (tmp_path / "photos.csv").write_text("path\n" + "\n".join(photos))
    spec = Spec(InputSpec(size=(224, 224), resize="stretch", mean=(127.5,), std=(127.5,)))

    def prepared(name: str, models: dict[str, Any], **options: Any) -> dict[str, int]:
        report = penstock.run(tmp_path / "photos.csv", models, out=tmp_path / name, batch=1, **options)
        assert report.done == 5
        return {step.name: step.items for step in report.stages if "preprocess" in step.name}

    assert prepared("alike.jsonl", {"a": file, "b": file}, preset="inception") == {"preprocess": 5}
    for row in lines(tmp_path / "alike.jsonl"):
        assert row["output"]["a"] == row["output"]["b"]
    assert prepared("others.jsonl", {"a": file, "b": other}, preset="inception") == {
        "a: preprocess": 5,
        "b: preprocess": 5,
    }

    def writes(batch: Any) -> list[int]:
        for values in batch:
            values[...] = 0
        return [0] * len(batch)

    def last(batch: Any) -> list[float]:
        return [float(np.abs(values).max()) for values in batch]

    assert prepared("own.jsonl", {"writes": writes, "last": last}, spec=spec) == {
        "writes: preprocess": 5,
        "last: preprocess": 5,
    }
    assert all(row["output"]["last"] > 0 for row in lines(tmp_path / "own.jsonl"))
