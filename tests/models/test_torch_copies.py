"""A copy of a torch net for each thread: tried where nobody said how many, never where the net remembers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import penstock
from penstock._models import choose as choose_module
from penstock._models import torch_copies
from penstock._models.checking import Truth
from penstock._models.choose import Wanted
from penstock._models.drill import Pace
from penstock._models.race import Lap, Result
from penstock._models.torch_choose import choose_torch
from penstock._models.torch_copies import Copies, remembers
from penstock._models.torch_model import TorchModel
from penstock._models.torch_net import TorchSource
from penstock._options import Torch
from penstock._spec import InputSpec
from penstock.errors import Closed, ModelError, UsageError

torch = pytest.importorskip("torch")
Module: Any = torch.nn.Module
Pictures = Callable[..., list[Any]]
SPEC = InputSpec(size=(32, 32), resize="stretch", mean=(120.0,), std=(60.0,))


class Drifts(Module):  # type: ignore[misc]
    """Moves a little with all that it is asked: less than a comparison within a tolerance would notice."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = torch.zeros(1)

    def forward(self, x: Any) -> Any:
        self.moved += 1e-6
        return x.mean((2, 3)) + self.moved


class NeverCopied(Module):  # type: ignore[misc]
    """Writes to itself, and cannot be copied."""

    def forward(self, x: Any) -> Any:
        self.last = x.mean((2, 3))
        return self.last

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("there is one of me")


def net_of(module: Any) -> Any:
    return TorchSource(Torch(module.eval(), device="cpu")).load()


def truth(pictures: Sequence[Any]) -> Truth:
    return Truth(list(pictures), [], "")


@pytest.fixture
def copies_win(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the race be won by the copies, where there are any."""

    def planted(laps: list[Lap], *_: Any, **__: Any) -> Result:
        for lap in laps:
            lap.paces.append(Pace(1.0, 1.0))
        return Result(sorted(laps, key=lambda lap: "copies" not in lap.candidate.settings), "wall")

    monkeypatch.setattr(choose_module, "race", planted)


def test_what_was_asked_before_counts_or_does_not(nets: Any, pictures: Pictures) -> None:
    items = pictures(4)
    assert not remembers(net_of(nets.make_remembering()), SPEC, truth(items))  # what it keeps is of the last call alone
    assert not remembers(net_of(nets.make()), SPEC, truth(items))
    assert remembers(net_of(Drifts()), SPEC, truth(items))


def test_two_threads_have_a_copy_each_and_the_first_is_given_back(nets: Any, pictures: Pictures) -> None:
    items = pictures(2)
    first = TorchModel(net_of(nets.make_remembering()), SPEC, {"concurrency": "one_at_a_time"})
    copies = Copies(first, 2)
    with copies.worker() as one, copies.worker() as other:
        assert repr(copies._replicas).count(": 1") == 2
        np.testing.assert_array_equal(one(items), other(items))
    assert copies.alone() is first
    with first.worker() as predict:
        assert len(predict(items)) == 2
    copies.close()
    with pytest.raises(Closed), first.worker():
        pass


def test_copies_that_would_fill_the_memory_are_not_made(nets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_copies, "memory_available", lambda: 10_000)
    first = TorchModel(net_of(nets.make()), SPEC)
    with pytest.raises(UsageError, match=r"3 copies of SmallNet take .* more, of .* left"):
        Copies(first, 3)
    with first.worker():
        pass  # still open


@pytest.mark.usefixtures("copies_win")
def test_a_net_that_writes_to_itself_gets_a_copy_for_each_thread(nets: Any, tmp_path: Path) -> None:
    pictures = [np.full((32, 32, 3), value, np.uint8) for value in range(0, 250, 5)]
    plain = TorchModel(net_of(nets.make_remembering()), None, {"concurrency": "one_at_a_time"})
    with plain.worker() as predict:
        expected = [predict([picture.transpose(2, 0, 1).astype(np.float32)])[0] for picture in pictures]
    arrays = [picture.transpose(2, 0, 1).astype(np.float32) for picture in pictures]
    out = tmp_path / "o.jsonl"
    report = penstock.run(arrays, nets.make_remembering(), out=out, threads=2, batch=1)
    assert [plan["copies"] for plan in report.plan["memory"]] == [2]
    assert report.plan["settings"]["copies"] == 2
    found = [json.loads(line)["output"]["output"] for line in out.read_text().splitlines()]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.usefixtures("copies_win")
@pytest.mark.parametrize(
    ("module", "wanted"),
    [(Drifts(), Wanted(2)), (None, Wanted(1)), (None, Wanted(2, replicas=1)), (None, Wanted(2, replicas=2))],
    ids=["remembers", "one thread", "one replica asked for", "two replicas asked for"],
)
def test_copies_are_not_tried_where_they_may_not_be(nets: Any, pictures: Pictures, module: Any, wanted: Wanted) -> None:
    source = TorchSource(Torch((module or nets.make()).eval(), device="cpu"))
    chosen = choose_torch(source, SPEC, pictures(4), wanted)
    assert "copies" not in json.dumps(chosen.measurements)
    assert "copies" not in chosen.choices["settings"]


def test_a_net_that_cannot_be_copied_runs_and_the_plan_says_so(pictures: Pictures) -> None:
    with pytest.raises(ModelError, match="there is one of me"):
        remembers(net_of(NeverCopied()), SPEC, truth(pictures(2)))
    chosen = choose_torch(TorchSource(Torch(NeverCopied().eval(), device="cpu")), SPEC, pictures(2), Wanted(2))
    assert chosen.choices["settings"]["concurrency"] == "one_at_a_time"
    (said,) = [one["verdict"] for one in chosen.measurements if "copies" in one["settings"]]
    assert "could not be copied" in said


@pytest.mark.usefixtures("copies_win")
def test_a_resumed_job_has_its_copies_again(nets: Any, tmp_path: Path) -> None:
    arrays = [np.full((3, 32, 32), value, np.float32) for value in range(40)]
    out = tmp_path / "o.jsonl"
    penstock.run(arrays, nets.make_remembering(), out=out, threads=2, batch=1, limit=20)
    report = penstock.run(arrays, nets.make_remembering(), out=out, threads=2, batch=1)
    assert (report.done, report.attempted) == (40, 20)
    assert [plan["copies"] for plan in report.plan["memory"]] == [2]
