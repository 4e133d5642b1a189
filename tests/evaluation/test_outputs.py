from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock._evaluation.outputs import model_names, open_output, single_name
from penstock.errors import LedgerError, UsageError


def same(batch: list[Any]) -> list[Any]:
    return batch


@pytest.mark.parametrize(
    ("fingerprint", "several", "single"),
    [
        ({"model": {"kind": "onnx", "name": "flowers.v2.onnx", "sha256": "f"}}, None, "flowers.v2"),
        ({"model": {"kind": "keras", "name": "net.keras", "sha256": "f", "class": "C"}}, None, "net"),
        ({"model": {"kind": "torch", "name": "torchvision.ResNet", "weights": "f"}}, None, "model"),
        ({"model": {"kind": "callable", "name": "m.f", "source": "f"}}, None, "model"),
        ({"model": {"a": {"kind": "onnx"}, "b": {"kind": "onnx"}}}, ("a", "b"), "model"),
        ({"model": {"kind": {"kind": "onnx"}, "sha256": {"kind": "onnx"}}}, ("kind", "sha256"), "model"),
        ({"model": {"0": {"kind": "onnx"}}, "combine": "mean"}, None, "model"),
    ],
)
def test_how_models_are_called(fingerprint: dict[str, Any], several: Any, single: str) -> None:
    assert model_names(fingerprint) == several
    assert single_name(fingerprint) == single


def test_relative_paths_begin_where_the_run_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    penstock.run(range(2), same, out="out.jsonl")
    monkeypatch.chdir(os.sep)
    assert open_output(tmp_path / "out.jsonl").working_folder == tmp_path


def test_an_ensemble_is_one_model(tmp_path: Path) -> None:
    penstock.run(iter("xy"), penstock.Ensemble([same, same], combine="vote"), out=tmp_path / "out.jsonl")
    output = open_output(tmp_path / "out.jsonl")
    answers = [answer for entry in output.entries() for answer in output.answers(entry)]
    assert (output.models, answers) == (("model",), [("model", "x"), ("model", "y")])


def test_a_post_that_makes_one_of_several_is_refused(tmp_path: Path) -> None:
    models = {"a": same, "b": same}
    penstock.run(iter("xy"), models, post=lambda item, output: output["a"], out=tmp_path / "out.jsonl")
    output = open_output(tmp_path / "out.jsonl")
    with pytest.raises(UsageError, match="the output for 0 is not one for each of the models a, b: the function post="):
        _ = [list(output.answers(entry)) for entry in output.entries()]


def test_where_nothing_was_run_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"out\.jsonl has no ledger .*: nothing was run into it"):
        open_output(tmp_path / "out.jsonl")


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl.penstock").mkdir()
    (tmp_path / "out.jsonl.penstock" / "ledger.sqlite").write_bytes(b"this is none")
    with pytest.raises(LedgerError, match=r"ledger\.sqlite is damaged, or no ledger"):
        open_output(tmp_path / "out.jsonl")
