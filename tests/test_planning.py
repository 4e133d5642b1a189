"""Planning: measured on real items, kept for the run, and no function of the user's called."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock import _planning as module
from penstock._ceilings import limit_of
from penstock._cli import main
from penstock._models import choose, race, remembered
from penstock._planning import plan
from penstock._request import Request
from penstock.errors import UsageError


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Measure for moments only; return where what is thrown away lies meanwhile."""
    for heat in ("FIRST", "WITH_BATCHES", "FINAL"):
        monkeypatch.setattr(race, heat, race.Heat(0.0, 1, 0.0, 9))
    monkeypatch.setattr(module, "CEILINGS_S", 0.0)
    monkeypatch.setattr(module, "WARM_S", 0.05)
    monkeypatch.setattr(module, "RUN_S", 0.2)
    (tmp_path / "own").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def model(shared_data: Path) -> str:
    pytest.importorskip("onnxruntime")
    return str(shared_data / "models" / "flowers5_mobilenet_v2_head.onnx")


@pytest.fixture
def photos(shared_data: Path) -> str:
    return str(shared_data / "photos" / "flowers" / "daisy")


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was not to be called")


def test_a_plan_of_photos(model: str, photos: str, short: Path) -> None:
    made = plan(photos, Request(model=model, preset="inception", runtime="onnxruntime"))
    assert list(made.ceilings) == ["decode", "preprocess", "model", "postprocess", "write"]
    assert made.limit_per_s == limit_of(made.ceilings)
    assert made.expected_per_s is not None
    assert made.expected_per_s > 0
    assert made.items == len(list(Path(photos).glob("*.jpg")))
    assert [tried["verdict"] for tried in made.measurements].count("chosen") == 1
    assert made.unmeasured == []
    assert list(short.iterdir()) == []  # what it wrote is gone


def test_a_plan_of_pictures_in_memory(model: str) -> None:
    """Their ids are positions, which what is written has."""
    pictures = [np.full((300, 240 + i, 3), 9 * i, np.uint8) for i in range(5)]
    made = plan((picture for picture in pictures), Request(model=model, preset="inception", runtime="onnxruntime"))
    assert made.expected_per_s is not None
    made = plan(_Listed(pictures), Request(model=model, preset="inception", runtime="onnxruntime"))
    assert (made.items, made.looked_at) == (5, 5)
    assert "write" in made.ceilings
    assert made.expected_per_s is not None


class _Listed(list[Any]):
    """A list that is no list of paths."""


def test_the_run_begins_with_what_was_planned(
    model: str, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(photos, Request(model=model, preset="inception", runtime="onnxruntime"))
    monkeypatch.setattr(choose, "race", refuse)
    report = penstock.run(photos, model, preset="inception", runtime="onnxruntime", limit=4, out=tmp_path / "o.jsonl")
    assert {name: report.plan[name] for name in ("runtime", "settings", "batch")} == {
        name: made.choices[name] for name in ("runtime", "settings", "batch")
    }


def test_a_plan_is_measured_anew(model: str, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "recall", refuse)
    assert plan(photos, Request(model=model, preset="inception", runtime="onnxruntime"), 8).items == 8


def test_functions_of_the_users_are_not_called() -> None:
    made = plan(range(50), Request(model=refuse, stages=[refuse], post=refuse))
    assert (made.items, made.expected_per_s, made.limit_per_s) == (50, None, None)
    assert made.unmeasured == ["refuse", "model", "refuse", "write"]


def test_several_models_are_run_together(model: str, photos: str) -> None:
    models = {"a": model, "b": model}
    made = plan(photos, Request(model=models, preset="inception", runtime="onnxruntime", batch=1))
    assert list(made.ceilings) == ["decode", "preprocess"]  # which the two share
    assert "a: model" in made.unmeasured
    assert made.expected_per_s is not None
    assert {tried["model"] for tried in made.measurements} == {"a", "b"}


def test_from_python() -> None:
    made = penstock.plan(range(9), refuse, limit=5, batch=2)
    assert (made.items, made.choices["batch"]) == (5, 2)
    for wrong in ({"out": "o.jsonl"}, {"recall": False}):
        with pytest.raises(UsageError, match=f"has no option {next(iter(wrong))}"):
            penstock.plan(range(9), refuse, **wrong)


def test_nothing_to_measure_on() -> None:
    with pytest.raises(UsageError, match="limit=0"):
        plan(range(3), Request(model=refuse), 0)
    with pytest.raises(UsageError, match="has no items"):
        plan([], Request(model=refuse))


def test_the_command(model: str, photos: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", photos, "--model", model, "--preset", "inception", "--runtime", "onnxruntime", "--batch", "1"]
    assert main([*arguments, "--limit", "6", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["items"], values["choices"]["batch"]) == (6, 1)
    assert main([*arguments, "--limit", "6"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("items/s", "decode", "limit", "expected", "chosen", "memory", "6 items"))
    assert main(["plan", "absent/", "--model", model]) == 2
    assert "'absent/' does not exist" in capsys.readouterr().err
