"""Choosing and checking: real runtimes on real photos, and wrong candidates planted among them."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._models import candidates as candidates_module
from penstock._models import graph, ov, race
from penstock._models.candidates import Candidate
from penstock._models.checking import check, reference, truth_of
from penstock._models.choose import Chosen, Wanted, choose, load_as
from penstock._models.drill import Pace
from penstock._models.ort import OrtModel
from penstock._spec import InputSpec
from penstock.errors import MissingDependency, ModelError, UsageError

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

NAME, SIDE = "mobilenet_v1_0.75_192_quant", 192
Photos = Callable[[int, int], list[Any]]


@pytest.fixture(autouse=True)
def short_heats(monkeypatch: pytest.MonkeyPatch) -> None:
    """One short slot a heat: who is faster is not asked here."""
    for heat in ("FIRST", "WITH_BATCHES", "FINAL"):
        monkeypatch.setattr(race, heat, race.Heat(0.0, 1, 0.0, 9))
    monkeypatch.setattr(race, "HOPELESS", 0.0)


@pytest.fixture
def job(models: Path, photos: Photos, specs: dict[str, InputSpec]) -> tuple[Path, InputSpec, list[Any]]:
    return models / f"{NAME}.onnx", specs[NAME], photos(5, SIDE)


class Wrong(OrtModel):
    """A compiled model that answers wrongly in every worker but the first, and only when it is drawn so."""

    runtime = "openvino"
    entered = 0

    @contextmanager
    def worker(self) -> Iterator[Any]:
        Wrong.entered += 1
        faulty = Wrong.entered > 1
        with super().worker() as predict:
            yield lambda items: [np.roll(row, 1) if faulty else row for row in predict(items)]


@pytest.fixture
def wrong_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a wrong model in OpenVINO's place."""
    load = Candidate.load

    def planted(self: Candidate, path: Any, spec: Any) -> Any:
        return load(self, path, spec) if self.runtime == "onnxruntime" else Wrong(path, spec)

    Wrong.entered = 0
    monkeypatch.setattr(Candidate, "load", planted)


def closing(chosen: Chosen) -> Chosen:
    chosen.model.close()
    return chosen


def test_the_reference_is_plain(job: Any) -> None:
    path, spec, items = job
    with reference(path, spec) as predict:
        rows = predict(items)
    with OrtModel(path, spec, settings={"in_graph": False}).worker() as predict:
        for row, truth in zip(rows, predict(items), strict=True):
            np.testing.assert_array_equal(row, truth)


def test_auto_keeps_something_right_and_says_what_it_tried(job: Any) -> None:
    path, spec, items = job
    chosen = closing(choose(path, spec, items, Wanted(threads=2)))
    assert chosen.agreement is not None
    assert chosen.agreement.max_rel <= 1e-4
    assert chosen.agreement.argmax_equal == 1.0
    verdicts = [each["verdict"] for each in chosen.measurements]
    assert verdicts.count("chosen") == 1
    assert verdicts[0] == "chosen"
    assert {each["runtime"] for each in chosen.measurements} == {"onnxruntime", "openvino"}
    assert {each["batch"] for each in chosen.measurements} == {1, 2, 4, 8}
    assert "onnxruntime" in chosen.reference
    json.dumps([chosen.choices, chosen.measurements])  # they are stored with the job


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_runtime_chosen_by_hand_is_kept_and_checked(job: Any, runtime: str) -> None:
    path, spec, items = job
    chosen = closing(choose(path, spec, items, Wanted(threads=2, runtime=runtime, batch=3)))
    assert chosen.choices["runtime"] == runtime
    assert chosen.batch_size == 3
    assert {each["runtime"] for each in chosen.measurements} == {runtime}
    assert {each["batch"] for each in chosen.measurements} == {3}
    assert not any("fixed_batch" in each["settings"] for each in chosen.measurements)  # a part of one may come alone
    assert chosen.agreement is not None
    assert chosen.agreement.n == 10  # all items by both threads


@pytest.mark.usefixtures("wrong_openvino")
def test_a_wrong_candidate_is_left_out_by_auto(job: Any) -> None:
    path, spec, items = job
    chosen = closing(choose(path, spec, items, Wanted(threads=2)))
    assert chosen.choices["runtime"] == "onnxruntime"
    refused = [each for each in chosen.measurements if each["verdict"].startswith("refused")]
    assert {each["runtime"] for each in refused} == {"openvino"}
    assert all(each["max_rel"] > 0.1 for each in refused)


@pytest.mark.usefixtures("wrong_openvino")
def test_a_wrong_runtime_chosen_by_hand_is_refused_by_name_with_numbers(job: Any) -> None:
    path, spec, items = job
    with pytest.raises(ModelError) as caught:
        choose(path, spec, items, Wanted(threads=2, runtime="openvino"))
    message = str(caught.value)
    for part in (path.name, "openvino f32", "largest relative difference", "argmax equal on", "Try another runtime"):
        assert part in message


@pytest.mark.usefixtures("wrong_openvino")
def test_a_wrong_compile_is_refused_on_resume_too(job: Any) -> None:
    path, spec, items = job
    choices = {"runtime": "openvino", "precision": "f32", "settings": {}, "batch": 1}
    version = ov.version()
    with pytest.raises(ModelError, match="openvino f32"):
        load_as(path, spec, choices | {"version": version}, items, 2)


def test_every_worker_is_checked(job: Any) -> None:
    path, spec, items = job
    truth = truth_of(path, spec, items)
    Wrong.entered = 0
    agreement = check(Wrong(path, spec), truth, threads=2)
    assert agreement.n == 10
    assert not agreement.within("f32")
    Wrong.entered = 0
    assert check(Wrong(path, spec), truth, threads=1).within("f32")


def test_openvinos_real_fault_is_caught_whenever_it_strikes(job: Any) -> None:
    """Two streams on unfolded quantised weights: wrong in most compiles of 2026.4.1, right in the others."""
    path, spec, items = job
    truth = truth_of(path, spec, items)
    candidate = Candidate("openvino", settings={"streams": 2, "threads": 2, "fold": False})
    for _ in range(3):
        model = candidate.load(path, spec)
        agreement = check(model, truth, 2)
        rows_right = agreement.argmax_equal > 0.9
        assert agreement.within("f32") == rows_right
        model.close()


def test_folded_weights_are_right_in_every_compile(job: Any) -> None:
    path, spec, items = job
    truth = truth_of(path, spec, items)
    candidate = Candidate("openvino", settings={"streams": 2, "threads": 2, "fold": True})
    for _ in range(5):
        model = candidate.load(path, spec)
        assert check(model, truth, 2).within("f32")
        model.close()


def test_a_candidate_that_is_wrong_in_larger_batches_alone_is_used_at_a_smaller_one(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WrongInBatches(OrtModel):
        @contextmanager
        def worker(self) -> Iterator[Any]:
            with super().worker() as predict:
                yield lambda items: [row * math.nan for row in predict(items)] if len(items) > 1 else predict(items)

    path, spec, items = job
    load = Candidate.load
    monkeypatch.setattr(
        Candidate,
        "load",
        lambda self, p, s: WrongInBatches(p, s) if self.settings.get("in_graph") else load(self, p, s),
    )
    ranks = {1: 100.0, 2: 900.0, 4: 900.0, 8: 900.0}
    monkeypatch.setattr(race, "pace", lambda model, items, threads, batch, *_: Pace(ranks[batch], ranks[batch]))
    chosen = closing(choose(path, spec, items, Wanted(threads=2, runtime="onnxruntime")))
    assert chosen.batch_size == 1
    assert sum(each["verdict"].startswith("refused") for each in chosen.measurements) >= 3


def test_what_was_chosen_is_loaded_again_exactly(job: Any) -> None:
    path, spec, items = job
    chosen = closing(choose(path, spec, items, Wanted(threads=2)))
    choices = json.loads(json.dumps(chosen.choices))
    again = load_as(path, spec, choices, items, 2)
    assert again.choices == chosen.choices
    model: Any = again.model
    assert model.settings | choices["settings"] == model.settings
    assert again.batch_size == chosen.batch_size
    with again.model.worker() as predict:
        assert len(predict(items)) == 5
    again.model.close()


def test_a_choice_that_is_no_longer_installed_is_refused_by_name(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, spec, items = job
    choices = {"runtime": "openvino", "precision": "f32", "settings": {"fold": True}, "batch": 1}
    with pytest.raises(UsageError, match=r"openvino 1\.0; 20.* is installed"):
        load_as(path, spec, choices | {"version": "1.0"}, items, 2)
    monkeypatch.setattr(graph, "available", lambda: False)
    with pytest.raises(MissingDependency, match=r"penstock\[onnx\]"):
        load_as(path, spec, choices | {"version": ov.version()}, items, 2)
    monkeypatch.setattr(candidates_module, "RUNTIMES", ("onnxruntime",))
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UsageError, match=r"openvino 1\.0, which is not installed.*--fresh"):
        load_as(path, spec, choices | {"version": "1.0"}, items, 2)


def test_openvino_alone_is_its_own_reference(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, spec, items = job
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    chosen = closing(choose(path, spec, items, Wanted(threads=2)))
    assert chosen.choices["runtime"] == "openvino"
    assert "openvino" in chosen.reference


def test_onnx_runtime_alone_and_without_onnx(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, spec, items = job
    for name in ("openvino", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)
    chosen = closing(choose(path, spec, items, Wanted(threads=2)))
    assert chosen.choices["runtime"] == "onnxruntime"
    model: Any = chosen.model
    assert model.normalises == "numpy"


def test_a_lower_precision_reports_its_agreement(job: Any) -> None:
    openvino = pytest.importorskip("openvino")
    path, spec, items = job
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(UsageError, match="bf16"):
            choose(path, spec, items, Wanted(threads=2, precision="bf16"))
        return
    chosen = closing(choose(path, spec, items, Wanted(threads=2, precision="bf16")))
    assert chosen.agreement is not None
    assert 1e-4 < chosen.agreement.max_rel < 1
    assert chosen.choices["precision"] == "bf16"


def test_a_fixed_batch_model(models: Path, photos: Photos, specs: dict[str, InputSpec]) -> None:
    name = "squeezenet10_fp16_winml"
    chosen = closing(choose(models / f"{name}.onnx", specs[name], photos(4, 224), Wanted(threads=2)))
    assert chosen.batch_size == 1


def test_a_free_width_model(models: Path, lines: Callable[[int], list[Any]], specs: dict[str, InputSpec]) -> None:
    wanted = Wanted(threads=2, runtime="onnxruntime")
    chosen = closing(choose(models / "crnn_lite_op.onnx", specs["crnn_lite_op"], lines(4), wanted))
    assert chosen.batch_size == 1
    assert chosen.agreement is not None


def test_bad_items_among_the_samples_are_left_out(job: Any, photos: Photos) -> None:
    path, spec, items = job
    truth = truth_of(path, spec, [photos(1, 64)[0], *items])
    assert len(truth.items) == len(truth.rows) == 5


def test_items_that_all_fail_are_said_before_any_work(job: Any, photos: Photos) -> None:
    path, spec, _ = job
    with pytest.raises(ModelError, match=r"none of the first 3 items: .*\(1, 3, 64, 64\)"):
        choose(path, spec, photos(3, 64), Wanted(threads=2))


def test_without_any_item_the_reference_itself_is_given(job: Any) -> None:
    path, spec, _ = job
    chosen = closing(choose(path, spec, [], Wanted(threads=2, runtime="openvino")))
    assert chosen.agreement is None
    model: Any = chosen.model
    assert model.settings["in_graph"] is False
    assert closing(load_as(path, spec, chosen.choices, [], 2)).agreement is None


def test_a_corrupt_model_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"this is no model at all")
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        choose(path, None, [np.zeros(3)], Wanted(threads=1))


def test_what_is_not_chosen_is_closed(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, spec, items = job
    loaded: list[Any] = []
    load = Candidate.load

    def kept(self: Candidate, p: Any, s: Any) -> Any:
        loaded.append(load(self, p, s))
        return loaded[-1]

    monkeypatch.setattr(Candidate, "load", kept)
    chosen = choose(path, spec, items, Wanted(threads=2))
    assert [model for model in loaded if "closed" not in repr(model)] == [chosen.model]
    chosen.model.close()
