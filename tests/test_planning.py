"""Planning: measured on real items, kept for the run, and no function of the user's called."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import penstock
from penstock import _planning as module
from penstock._ceilings import limit_of
from penstock._ceilings import trials as real_trials
from penstock._cli import main
from penstock._engine.step import Stage
from penstock._models import choose, race, remembered
from penstock._planning import plan, spread
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
    assert made.kept
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


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ((100.0, 120.0, 90.0, 110.0), True),
        ((100.0, 120.0, 90.0, 101.0), False),
        ((100.0, 120.0, 110.0, 115.0), False),
        ((100.0, 104.0), False),
    ],
)
def test_a_model_has_threads_of_its_own_where_that_is_faster_twice(
    model: str, photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: tuple[float, ...], chosen: bool
) -> None:
    """What short runs give is said here; that they are made of the right stages is looked at."""
    given, shapes = iter(rates), list[list[str]]()

    def short_run(stages: Sequence[Stage], *_: Any) -> float:
        shapes.append([stage.name for stage in stages])
        return next(given)

    monkeypatch.setattr(module, "_short_run", short_run)
    monkeypatch.setattr(module, "LONGEST_S", 1000.0)  # on a slow machine, too
    how: dict[str, Any] = {"preset": "inception", "runtime": "onnxruntime", "threads": 2}
    made = plan(photos, Request(model=model, **how))
    fused, apart = ["decode+preprocess+model+postprocess+write"], ["decode+preprocess", "model", "postprocess+write"]
    assert shapes == [fused, apart, fused, apart][: len(rates)]
    assert made.shapes == {"fused": 100.0, "separate": rates[1]}
    assert made.expected_per_s == (110.0 if chosen else 100.0)
    assert list(made.stages) == (apart if chosen else fused)
    assert ("not surely better" in str(made)) is not chosen
    report = penstock.run(photos, model, **how, limit=4, out=tmp_path / "o.jsonl")
    assert list(report.plan["stages"]) == (apart if chosen else fused)


@pytest.mark.parametrize("spare", [0, 1])
def test_another_shape_is_tried_only_while_there_is_time(
    model: str, photos: str, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    """Time for no further run, or for one and no second look."""
    given = iter((100.0, 120.0, 90.0, 110.0))
    monkeypatch.setattr(module, "_short_run", lambda *_: next(given))
    monkeypatch.setattr(module, "_fits", lambda runs, _: runs <= spare)
    made = plan(photos, Request(model=model, preset="inception", runtime="onnxruntime", threads=2))
    assert next(given) == (120.0, 90.0)[spare]
    assert made.expected_per_s == 100.0
    assert len(made.stages) == 1


def test_no_run_fits_that_would_end_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 100.0)
    last = 100.0 + module.WARM_S + module.RUN_S
    assert (module._fits(1, last), module._fits(1, last - 0.01), module._fits(2, last)) == (True, False, False)


def test_a_plan_that_took_long_tries_no_other_shape(model: str, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter((100.0, 120.0))
    monkeypatch.setattr(module, "_short_run", lambda *_: next(given))
    monkeypatch.setattr(module, "LONGEST_S", 0.0)
    plan(photos, Request(model=model, preset="inception", runtime="onnxruntime", threads=2))
    assert next(given) == 120.0


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
    shared, own = ["decode", "preprocess", "fork"], ["model", "postprocess"]
    each = [f"{name}: {step}" for name in models for step in own]
    assert list(made.ceilings) == [*shared, *each, "join", "write"]
    assert (made.unmeasured, made.timed) == ([], [])
    assert made.limit_per_s == limit_of(made.ceilings)
    assert made.expected_per_s is not None
    assert {tried["model"] for tried in made.measurements} == {"a", "b"}
    assert (len(made.memory), made.kept) == (2, True)


def test_models_with_inputs_of_their_own(model: str, photos: str) -> None:
    """Each is measured on what was prepared for it, again and again."""
    how: dict[str, Any] = {"runtime": "onnxruntime", "batch": 1, "preset": {"a": "inception", "b": "imagenet"}}
    made = plan(photos, Request(model={"a": model, "b": model}, **how))
    assert "b: preprocess" in made.ceilings
    assert made.unmeasured == []


@pytest.mark.parametrize("combine", ["mean", "vote", sum])
def test_an_ensemble(model: str, photos: str, combine: Any) -> None:
    ensemble = penstock.Ensemble([model, model], combine=combine)
    made = plan(photos, Request(model=ensemble, preset="inception", runtime="onnxruntime", batch=1))
    assert {"1: model", "2: model", "join"} <= made.ceilings.keys()
    assert ("combine" in made.ceilings) is isinstance(combine, str)
    assert (made.limit_per_s is None) is not isinstance(combine, str)


def test_a_model_that_one_thread_calls(photos: str, nets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it did when it was chosen is its ceiling, and what comes behind it is measured too."""
    request = Request(model=nets.make_remembering(), preset="imagenet")
    made = plan(photos, request)
    (chosen,) = (tried for tried in made.measurements if tried["verdict"] == "chosen")
    assert made.ceilings["model"] == chosen["items_per_s"]
    assert {"decode", "preprocess", "postprocess", "write"} <= made.ceilings.keys()
    assert (made.timed, made.unmeasured) == (["model"], [])
    assert not made.kept  # whether threads may share it is found out anew by each run
    assert made.limit_per_s == limit_of(made.ceilings)
    assert made.expected_per_s is not None

    monkeypatch.setattr(module, "cpu_budget", lambda: _Budget(made.cpus + 1))
    made = plan(photos, request)  # chosen for fewer threads than this machine has
    assert made.unmeasured == ["model"]
    assert made.limit_per_s is None


class _Budget:
    """A CPU budget of some threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads


@given(st.integers(0, 400), st.integers(1, 9))
def test_items_from_all_over(count: int, n: int) -> None:
    kept, counted = spread(range(count), n)
    assert counted == count
    assert kept == list(range(0, count, kept[1] if len(kept) > 1 else max(1, count)))
    assert len(kept) == count if count < 2 * n else n <= len(kept) < 2 * n


def test_it_is_measured_on_items_from_all_over(model: str, photos: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones of a folder may be of one kind; the model is chosen on them, for the run does so."""
    seen: list[list[str]] = []

    def trials(parts: Any, entries: Any, *, positional: bool) -> Any:
        seen.append([entry.id for entry in entries])
        return real_trials(parts, entries, positional=positional)

    monkeypatch.setattr(module, "trials", trials)
    monkeypatch.setattr(module, "SPREAD", 16)
    made = plan(photos, Request(model=model, preset="inception", runtime="onnxruntime"))
    names = sorted(path.name for path in Path(photos).glob("*.jpg"))
    assert seen == [names[::4][:16]]
    assert made.items == len(names)
    monkeypatch.setattr(module, "MOST_LISTED", 20)
    paths = [str(Path(photos, name)) for name in names]
    assert plan(paths, Request(model=model, preset="inception", runtime="onnxruntime")).items == len(names)
    assert seen[1] == paths[:16]


def test_the_short_run_counts_from_arrival_to_arrival() -> None:
    before, after = module._Pace(4, 10.0, 0.5, 3.0), module._Pace(24, 12.5, 1.5, 7.0)
    assert after.since(before, 2, 2) == pytest.approx(20 / 2.0)  # half a second of each of two CPUs was had by others
    assert replace(after, used_s=8.0).since(before, 3, 2) == pytest.approx(
        20 / 2.5
    )  # its threads waited for each other
    assert before.since(before, 2, 2) == 0.0


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
    arguments[3:4] = [f"one={model}", "--model", f"two={model}"]
    assert main([*arguments, "--limit", "6"]) == 0
    text = capsys.readouterr().out
    assert all(row in text for row in ("one: model  ", "two: model  ", "two: onnxruntime f32", "limit", "expected"))
