"""Choices that are kept: for what they hold, that they are read as they were written or not at all, and what for."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock._models import choose, race, remembered
from penstock._models.choose import Wanted
from penstock._models.remembered import folder, keep, key_of, kinds_of, recall
from penstock.errors import ModelError

CHOICES = {"runtime": "onnxruntime", "batch": 4, "settings": {"threads": 2}}
TRIED = [{"verdict": "chosen", "items_per_s": 12.5}]
ITEM = np.zeros((2, 3), np.uint8)
Key = dict[str, Any]


def key(model: str = "m", items: Any = (ITEM,), devices: Any = ("cpu",), **wanted: Any) -> Key:
    return key_of({"sha256": model}, None, Wanted(**{"threads": 2, **wanted}), devices, items)


def entry_of(folder: Path) -> Path:
    (path,) = (folder / "penstock" / "choices").iterdir()
    return path


def test_what_is_kept_is_recalled_and_can_be_read_by_people(empty_cache: Path) -> None:
    assert recall(key()) is None
    path = keep(key(), CHOICES, TRIED)
    assert path == entry_of(empty_cache)  # nothing else is left there
    found = recall(key())
    assert found is not None
    assert (found.choices, found.measurements, found.made[:2]) == (CHOICES, TRIED, "20")
    written = json.loads(path.read_text())
    assert (written["choices"], written["key"]["model"]) == (CHOICES, {"sha256": "m"})
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "other",
    [
        {"model": "n"},
        {"threads": 3},
        {"runtime": "openvino"},
        {"precision": "bf16"},
        {"batch": 8},
        {"exact": False},
        {"replicas": 2},
        {"devices": ("cuda",)},
        {"items": (np.zeros((2, 4), np.uint8),)},
        {"items": (np.zeros((2, 3), np.float32),)},
    ],
    ids=str,
)
def test_a_choice_holds_for_what_it_was_made_for(other: dict[str, Any]) -> None:
    keep(key(), CHOICES, TRIED)
    assert recall(key(**other)) is None


def test_a_choice_holds_for_its_cpu_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(key(), CHOICES, TRIED)
    assert {"numpy", "onnxruntime"} & key()["versions"].keys()
    with monkeypatch.context() as patch:
        patch.setattr(remembered, "cpu_name", lambda: "another")
        assert recall(key()) is None
    with monkeypatch.context() as patch:
        patch.setattr(remembered, "_version", lambda name: "another")
        assert recall(key()) is None
    assert recall(key()) is not None


def test_kinds_of_items() -> None:
    lines = [np.zeros((32, width, 3), np.uint8) for width in (100, 200, 100)]
    assert kinds_of(lines) == [{"dtype": "uint8", "shape": [32, None, 3]}]
    assert kinds_of([lines[0], lines[2]]) == [{"dtype": "uint8", "shape": [32, 100, 3]}]
    assert kinds_of([lines[0], np.float32(1)]) == [
        {"dtype": "float32", "shape": []},
        {"dtype": "uint8", "shape": [32, 100, 3]},
    ]


def planted(text: str) -> Callable[[Path], Any]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (planted(""), "Expecting value"),
        (planted("[1, 2]"), "no JSON object"),
        (planted("{}"), "it was changed"),
        (planted("[" * 100_000), "recursion"),
        (planted(" " * (remembered.MOST_BYTES + 1)), "too large"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "decode"),
        (lambda path: path.write_bytes(path.read_bytes()[:-10]), "Unterminated"),
        (lambda path: path.write_text(path.read_text().replace('"batch": 4', '"batch": 8')), "it was changed"),
    ],
)
def test_what_is_damaged_is_told_of_and_made_anew(
    damage: Callable[[Path], Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = keep(key(), CHOICES, TRIED)
    assert path is not None
    damage(path)
    with caplog.at_level(logging.WARNING, "penstock"):
        assert recall(key()) is None
    assert said in caplog.text
    assert str(path) in caplog.text
    keep(key(), CHOICES, TRIED)
    assert recall(key()) is not None


def test_an_entry_of_something_else_is_not_taken(caplog: pytest.LogCaptureFixture) -> None:
    one, other = keep(key(), CHOICES, TRIED), keep(key("n"), CHOICES, TRIED)
    assert one is not None
    assert other is not None
    other.replace(one)
    assert recall(key()) is None
    assert "belongs to something else" in caplog.text


def test_where_nothing_can_be_written_nothing_is_kept(empty_cache: Path) -> None:
    empty_cache.write_text("a file where the folder should be")
    assert keep(key(), CHOICES, TRIED) is None
    assert recall(key()) is None


def test_a_write_that_fails_leaves_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert keep(key(), CHOICES, TRIED) is None
    assert list((empty_cache / "penstock" / "choices").iterdir()) == []


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder() == tmp_path / "penstock" / "choices"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert folder() == tmp_path / "home" / ".cache" / "penstock" / "choices"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert folder() == tmp_path / "home" / "Library" / "Caches" / "penstock" / "choices"

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert folder() is None
    assert keep(key(), CHOICES, TRIED) is None


# ---- in runs


@pytest.fixture
def run(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., penstock.Report]:
    """Return a run of six photos through a real model; its races are short."""
    pytest.importorskip("onnxruntime")
    for heat in ("FIRST", "WITH_BATCHES", "FINAL"):
        monkeypatch.setattr(race, heat, race.Heat(0.0, 1, 0.0, 9))
    photos = sorted((shared_data / "photos" / "flowers").rglob("*.jpg"))[:6]
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    options: dict[str, Any] = {"preset": "inception", "runtime": "onnxruntime"}
    return lambda out, **changes: penstock.run(photos, model, out=tmp_path / out, **{**options, **changes})


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("it was measured again")


def plan_of(report: penstock.Report) -> dict[str, Any]:
    return {name: report.plan[name] for name in ("runtime", "settings", "batch")}


def test_the_second_run_measures_nothing_and_answers_the_same(
    run: Callable[..., penstock.Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("a.jsonl")
    monkeypatch.setattr(choose, "race", refuse)
    second = run("b.jsonl")
    assert plan_of(second) == plan_of(first)
    assert second.plan["agreement"].startswith("over ")  # it was checked on its own items all the same
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    told = [{name: value for name, value in tried.items() if name != "made"} for tried in second.plan["measurements"]]
    assert told == first.plan["measurements"]
    with pytest.raises(AssertionError, match="measured again"):
        run("c.jsonl", batch=2)


def test_a_kept_choice_that_is_wrong_is_made_anew(
    run: Callable[..., penstock.Report], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = run("a.jsonl")

    def wrong(*_: Any) -> Any:
        raise ModelError("wrong answers")

    monkeypatch.setattr(choose, "load_as", wrong)
    assert run("b.jsonl").plan["runtime"] == first.plan["runtime"]
    assert "does not hold any more, and is made anew: wrong answers" in caplog.text


def test_a_job_goes_on_with_its_own_choice(
    run: Callable[..., penstock.Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was chosen meanwhile for others does not change it."""
    first = run("a.jsonl", limit=3)
    kept = remembered.Kept({**first.plan, "batch": 99}, [], "")
    monkeypatch.setattr(remembered, "recall", lambda _: kept)
    assert plan_of(run("a.jsonl")) == plan_of(first)


def test_for_a_function_nothing_is_kept(tmp_path: Path, empty_cache: Path) -> None:
    penstock.run(range(10), lambda batch: batch, out=tmp_path / "o.jsonl")
    assert not empty_cache.exists()


def test_a_key_is_of_json_values() -> None:
    made = key_of({"kind": "onnx"}, penstock.InputSpec(size=(2, 2)), Wanted(2), ["cpu"], [])
    assert json.loads(json.dumps(made)) == made
    assert set(made["asked"]) == {"devices", *(field.name for field in dataclasses.fields(Wanted))} - {"padding"}


def test_the_choice_for_a_torch_module_is_made_anew(empty_cache: Path, tmp_path: Path) -> None:
    """Two modules may differ in an attribute alone, and so in whether threads may share them."""
    torch = pytest.importorskip("torch")
    arrays = [np.full((3, 8, 8), value, np.float32) for value in range(8)]
    penstock.run(arrays, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2)), out=tmp_path / "t.jsonl")
    assert not list(empty_cache.rglob("*.json"))
