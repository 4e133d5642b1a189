"""All that a page shows of a job: right for a job of any kind, of any state, and small for one of any size."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock._job import job_folder
from penstock._page import gallery as module
from penstock._page.gather import page_data
from penstock._page.html import page
from penstock.errors import LedgerError, UsageError

pytest.importorskip("PIL.Image")


def by_id(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in data["gallery"]["items"]}


def test_a_job_with_pictures_and_truth(job: Path) -> None:
    data = page_data(job)
    assert data["name"] == "flowers.jsonl"
    assert data["run"]["ended"] == "complete"
    assert [(cause["stage"], cause["count"]) for cause in data["failures"]] == [("model", 3), ("decode", 1)]
    assert all(example["picture"].startswith("data:image/webp") for example in data["failures"][0]["examples"])
    assert data["evaluation"]["models"]["classify"]["pairs"][0][2] > 0
    items = by_id(data)
    assert len(items) == data["gallery"]["total"] == 90
    prediction, score, right, top = items["daisy/00.jpg"]["answers"][0]
    assert (prediction, right, items["daisy/00.jpg"]["truth"]) == ("roses", False, "daisy")
    assert top[0] == ["roses", score]
    assert all(item["picture"] for item in items.values())


def test_paths_are_found_from_anywhere(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    penstock.run("daisy", lambda batch: [len(one) for one in batch], out=tmp_path / "o.jsonl")
    monkeypatch.chdir(tmp_path)
    assert all("picture" in item for item in page_data(Path("o.jsonl"))["gallery"]["items"])


def test_a_file_that_is_gone_has_no_picture(photos: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes((photos / "daisy" / "00.jpg").read_bytes())
    penstock.run(tmp_path, lambda batch: [len(one) for one in batch], out=tmp_path / "o.jsonl")
    os.remove(tmp_path / "b.jpg")
    items = by_id(page_data(tmp_path / "o.jsonl"))
    assert {id_ for id_, item in items.items() if "picture" in item} == {"a.jpg"}


def test_items_without_files_and_several_models(tmp_path: Path) -> None:
    def picky(batch: list[int]) -> list[dict[str, Any]]:
        if 3 in batch:
            raise ValueError("three")
        return [{"text": f"p{n}"} for n in batch]

    models = {"plain": lambda batch: [{"text": f"t{n}", "score": 0.5} for n in batch], "picky": picky}
    penstock.run(range(20), models, out=tmp_path / "o", batch=1)
    data = page_data(tmp_path / "o")
    assert data["gallery"]["models"] == ["picky", "plain"]
    items = by_id(data)
    assert items["2"]["answers"] == [["p2", None, None, []], ["t2", 0.5, None, []]]
    assert items["3"]["answers"] == [None, ["t3", 0.5, None, []]]
    assert [(cause["model"], cause["count"]) for cause in data["failures"]] == [("picky", 1)]
    json.dumps(page(data))


def test_a_job_without_a_record(job: Path, tmp_path: Path) -> None:
    penstock.run(range(20), lambda batch: batch, out=tmp_path / "o.jsonl")
    (tmp_path / "o.jsonl.penstock" / "report.json").unlink()
    run = page_data(tmp_path / "o.jsonl")["run"]
    assert (run["planned"], run["done"], run["failed"], run["skipped"]) == (20, 20, 0, 0)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    penstock.run(range(20), lambda batch: batch, out=tmp_path / "o.jsonl")
    (tmp_path / "o.jsonl.penstock" / "report.json").write_text("{")
    with pytest.raises(LedgerError, match=r"report\.json is damaged"):
        page_data(tmp_path / "o.jsonl")


def test_no_job(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing was run into it"):
        page_data(tmp_path / "o.jsonl")


def test_of_many_results_the_wrong_the_uncertain_and_some_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SHOWN", 40)
    out = tmp_path / "o.jsonl"
    penstock.run(range(1000), lambda batch: [_answer(n) for n in batch], out=out)
    lines = [
        {"id": n, "truth": "b", "answers": {"m": {"prediction": "a", "score": 0.9, "right": n != 777}}}
        for n in range(1000)
    ]
    folder = job_folder(out)
    (folder / "evaluation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = module.gallery(out, worst=[555])
    ids = [int(item["id"]) for item in found.items]
    assert found.total == 1000
    assert len(ids) == 40
    assert {555, 777, *range(300, 310)} <= set(ids)
    rest = [n for n in ids if not 300 <= n < 310]
    assert min(rest) < 100
    assert max(rest) > 750
    assert ids == sorted(ids)
    assert found.items[found.order[0]]["id"] == "777"


def _answer(n: int) -> dict[str, Any]:
    return {"top": [{"index": 0, "label": "a", "score": 0.1 if 300 <= n < 310 else 0.9}]}


def test_a_page_of_a_thousand_photos_is_below_five_megabytes(tmp_path: Path, shared_data: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    real = sorted((shared_data / "photos" / "flowers").rglob("*.jpg"))
    for n in range(1000):
        (photos / f"{n}.jpg").symlink_to(real[n % len(real)])
    penstock.run(photos, lambda batch: [float(one.mean()) for one in batch], out=tmp_path / "o.jsonl")
    data = page_data(tmp_path / "o.jsonl")
    assert sum("picture" in item for item in data["gallery"]["items"]) >= 990
    assert len(page(data).encode()) < 5_000_000
