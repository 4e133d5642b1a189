"""How a torch model is called: chosen by measurement among what is right, stored, and taken up again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from penstock._models import choose as choose_module
from penstock._models import torch_choose
from penstock._models.choose import Chosen, Wanted
from penstock._models.race import Lap, Result
from penstock._models.torch_net import TorchSource
from penstock._options import Torch
from penstock._spec import InputSpec
from penstock.errors import LedgerError, ModelError, UsageError

torch = pytest.importorskip("torch")
Module: Any = torch.nn.Module

SPEC = InputSpec(size=(32, 32), resize="stretch", mean=(120.0,), std=(60.0,))
Pictures = Callable[..., list[Any]]
WAYS = {("concurrent", 1, 1), ("one_at_a_time", 2, 1), ("one_at_a_time", 1, 2)}


def choose_torch(options: Torch, spec: InputSpec | None, items: list[Any], wanted: Wanted) -> Chosen:
    return torch_choose.choose_torch(TorchSource(options), spec, items, wanted)


def load_torch_as(
    options: Torch, spec: InputSpec | None, choices: dict[str, Any], items: list[Any], threads: int
) -> Chosen:
    return torch_choose.load_torch_as(TorchSource(options), spec, choices, items, threads)


def rows(chosen: Chosen, items: list[Any]) -> list[Any]:
    with chosen.model.worker() as predict:
        return list(predict(items))


def test_a_choice_is_measured_right_and_stored(nets: Any, pictures: Pictures) -> None:
    items = pictures(8)
    chosen = choose_torch(Torch(nets.make(), device="cpu"), SPEC, items, Wanted(2))
    json.dumps([chosen.choices, chosen.measurements])
    settings = chosen.choices["settings"]
    assert chosen.choices["runtime"] == "torch"
    assert {(settings["concurrency"], settings["intra_threads"], settings.get("copies", 1))} <= WAYS
    assert chosen.model.concurrency == settings["concurrency"]
    assert chosen.agreement is not None
    assert chosen.agreement.max_rel <= 1e-4
    tried = [m["settings"] for m in chosen.measurements]
    assert {(one["concurrency"], one["intra_threads"], one.get("copies", 1)) for one in tried} == WAYS
    assert {m["batch"] for m in chosen.measurements} == {1, 2, 4, 8}
    assert [m["verdict"] for m in chosen.measurements].count("chosen") == 1
    chosen.model.close()


def test_a_resumed_job_gets_exactly_the_stored_choice(nets: Any, pictures: Pictures) -> None:
    items = pictures(4)
    first = choose_torch(Torch(nets.make(), device="cpu"), SPEC, items, Wanted(2, batch=3))
    other = {"settings": {**first.choices["settings"], "concurrency": "one_at_a_time", "intra_threads": 2}, "batch": 5}
    stored = json.loads(json.dumps({**first.choices, **other}))
    again = load_torch_as(Torch(nets.make()), SPEC, stored, items, 2)
    assert again.choices == stored
    assert again.batch_size == 5
    assert again.model.concurrency == "one_at_a_time"
    assert again.measurements == []


def test_what_differs_from_the_stored_choice_is_refused(nets: Any, pictures: Pictures) -> None:
    items = pictures(2)
    stored = choose_torch(Torch(nets.make(), device="cpu"), SPEC, items, Wanted(1, batch=1)).choices
    with pytest.raises(LedgerError, match="begun on device 'cpu', and device='cuda:0' is asked"):
        load_torch_as(Torch(nets.make(), device="cuda:0"), SPEC, stored, items, 1)
    with pytest.raises(UsageError, match=r"begun with torch 1\.0"):
        load_torch_as(Torch(nets.make()), SPEC, {**stored, "version": "1.0"}, items, 1)
    with pytest.raises(LedgerError, match="begun with other code of Remembers"):
        load_torch_as(Torch(nets.make_remembering()), SPEC, stored, items, 1)


def test_a_net_that_writes_to_itself_is_called_by_one_thread_and_the_plan_says_why(
    nets: Any, pictures: Pictures
) -> None:
    chosen = choose_torch(Torch(nets.make_remembering(), device="cpu"), SPEC, pictures(4), Wanted(2, replicas=1))
    assert chosen.model.concurrency == "one_at_a_time"
    assert chosen.choices["settings"]["intra_threads"] == 2
    assert "copies" not in str(chosen.measurements)
    assert "writes to itself (last)" in chosen.choices["settings"]["why"]
    stored = json.loads(json.dumps(chosen.choices))
    again = load_torch_as(Torch(nets.make_remembering()), SPEC, stored, pictures(4), 2)
    assert again.choices == stored


class Normalises(Module):  # type: ignore[misc]
    """Normalises over the batch: an item's answer depends on its neighbours."""

    def forward(self, x: Any) -> Any:
        return x - x.mean(0)


def test_a_batch_whose_answers_differ_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The race is planted, so that the wrong batch is the fastest."""

    def planted(laps: list[Lap], *_: Any, **__: Any) -> Result:
        larger = [Lap(lap.candidate, lap.model, 4) for lap in laps]
        from penstock._models.drill import Pace

        for lap in (*laps, *larger):
            lap.paces.append(Pace(lap.batch, lap.batch))
        return Result([*larger, *laps], "wall")

    monkeypatch.setattr(choose_module, "race", planted)
    items = [np.array([value, 1], np.float32) for value in range(6)]
    chosen = choose_torch(Torch(Normalises(), device="cpu"), None, items, Wanted(2))
    assert chosen.batch_size == 1
    refused = [m for m in chosen.measurements if m["verdict"].startswith("refused")]
    assert {m["batch"] for m in refused} == {4}


def test_a_batch_that_was_asked_for_and_is_wrong_gives_way_to_single_items() -> None:
    items = [np.array([value, 1], np.float32) for value in range(6)]
    chosen = choose_torch(Torch(Normalises(), device="cpu"), None, items, Wanted(2, batch=4))
    assert (chosen.batch_size, chosen.choices["asked_batch"]) == (1, 4)
    assert "in batches of 4 they get other answers than alone" in chosen.choices["why_batch"]


def test_random_answers_cannot_be_compared() -> None:
    class Dropped(Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return torch.nn.functional.dropout(x, 0.5, training=True)

    chosen = choose_torch(Torch(Dropped(), device="cpu"), None, [np.ones(100, np.float32)] * 4, Wanted(2))
    assert (chosen.batch_size, chosen.model.concurrency) == (1, "one_at_a_time")
    assert "differ from call to call" in chosen.choices["settings"]["why"]
    again = load_torch_as(Torch(Dropped()), None, chosen.choices, [np.ones(100, np.float32)] * 4, 2)
    assert again.choices == chosen.choices


def test_lowered_precision_is_compared_with_float32(nets: Any, pictures: Pictures) -> None:
    for options in (Torch(nets.make(), dtype="bfloat16"), Torch(nets.make(), autocast="bfloat16")):
        chosen = choose_torch(replace(options, device="cpu"), SPEC, pictures(4), Wanted(1, batch=2))
        assert chosen.choices["precision"] == "bf16"
        assert chosen.agreement is not None
        assert 0 < chosen.agreement.max_rel < 0.1


def test_without_items_there_is_nothing_to_measure(nets: Any) -> None:
    chosen = choose_torch(Torch(nets.make(), device="cpu"), SPEC, [], Wanted(2))
    assert (chosen.batch_size, chosen.agreement, chosen.measurements) == (1, None, [])
    assert chosen.model.concurrency == "one_at_a_time"


def test_a_module_that_runs_nothing_leaves_nothing_behind(nets: Any) -> None:
    module = nets.make().train()
    with pytest.raises(ModelError, match="ran none of the first 2 items"):
        choose_torch(Torch(module, device="cpu"), None, [np.zeros(3, np.float32)] * 2, Wanted(2))
    assert module.training


def test_closing_the_chosen_model_gives_the_module_back(nets: Any, pictures: Pictures) -> None:
    module = nets.make().train()
    chosen = choose_torch(Torch(module, device="cpu"), SPEC, pictures(3), Wanted(1, batch=1))
    assert not module.training
    chosen.model.close()
    assert module.training


def test_a_compiled_net_answers_as_the_plain_one(
    nets: Any, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a C++ compiler: tracing, guards and threads are the same, and generated code is torch's own business.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    items = pictures(3)
    torch_ = Torch(nets.make(), device="cpu", compile=True)
    chosen = choose_torch(torch_, SPEC, items, Wanted(2, batch=1))
    plain = choose_torch(replace(torch_, compile=False), SPEC, items, Wanted(1, batch=1))
    for row, expected in zip(rows(chosen, items), rows(plain, items), strict=True):
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-6)
    assert "torch.compile" in chosen.choices["settings"]["why"]


def test_what_is_compiled_after_the_seal_is_counted(
    nets: Any, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager", dynamic=False))
    items = pictures(8)
    chosen = choose_torch(Torch(nets.make(), device="cpu", compile=True), SPEC, items, Wanted(2, batch=4))
    model: Any = chosen.model
    rows(chosen, items[:4])
    assert model.compiles_after_seal == 0  # in another thread too: nothing is compiled again for it
    rows(chosen, items[:3])
    assert model.compiles_after_seal == 1
    rows(chosen, items[:3])
    assert model.compiles_after_seal == 1
    model.close()


def test_a_net_that_is_not_compiled_counts_nothing(nets: Any, pictures: Pictures) -> None:
    chosen = choose_torch(Torch(nets.make(), device="cpu"), SPEC, pictures(2), Wanted(1, batch=1))
    model: Any = chosen.model
    rows(chosen, pictures(2))
    assert model.compiles_after_seal == 0
    model.close()
