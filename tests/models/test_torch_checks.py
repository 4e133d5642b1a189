"""Modules that two threads must not call at once are found, and those that they may are left alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._models import torch_checks
from penstock._models.checking import Truth, truth_by
from penstock._models.torch_checks import why_alone
from penstock._models.torch_model import TorchModel
from penstock._models.torch_net import Net, load_net
from penstock._options import Torch
from penstock._spec import InputSpec

torch = pytest.importorskip("torch")
Module: Any = torch.nn.Module

SPEC = InputSpec(size=(32, 32), resize="stretch", mean=(120.0,), std=(60.0,))
Pictures = Callable[..., list[Any]]


def truth_of(net: Net, spec: InputSpec | None, items: list[Any]) -> Truth:
    with TorchModel(net, spec).worker() as predict:
        return truth_by(predict, items, "one thread")


def why(source: Any, items: list[Any], spec: InputSpec | None = SPEC) -> str | None:
    # The truth is another copy's: a check starts with a module that was never called.
    net, other = (load_net(Torch(source if isinstance(source, Path) else source(), device="cpu")) for _ in range(2))
    return why_alone(net, spec, truth_of(other, spec, items))


class Cached(Module):  # type: ignore[misc]
    """Keeps a grid for the last shape it saw."""

    def __init__(self, by_batch: bool) -> None:
        super().__init__()
        self.by_batch = by_batch
        self.shape: Any = None

    def forward(self, x: Any) -> Any:
        shape = tuple(x.shape if self.by_batch else x.shape[1:])
        if shape != self.shape:
            self.shape, self.grid = shape, torch.ones(shape[-1])
        return x @ self.grid


class Hidden(Module):  # type: ignore[misc]
    """Keeps its input where no look at its attributes finds it."""

    def __init__(self) -> None:
        super().__init__()
        held: list[Any] = []

        def keep(x: Any) -> None:
            held[:] = [x]

        self.keep: Callable[[Any], None] = keep
        self.kept: Callable[[], Any] = lambda: held[0]
        self.leaf = torch.nn.Identity()

    def forward(self, x: Any) -> Any:
        self.keep(x)
        return self.leaf(x) + self.kept()


def test_a_plain_net_may_be_shared(nets: Any, pictures: Pictures) -> None:
    assert why(nets.make, pictures(6)) is None


def test_a_net_that_stores_its_input_is_named_with_what_it_writes(nets: Any, pictures: Pictures) -> None:
    assert why(nets.make_remembering, pictures(6)) == (
        "its forward writes to itself (last): calls at the same time would mix up their items"
    )


def test_state_that_no_look_finds_is_found_by_two_threads_in_lock_step() -> None:
    items = [np.full(3, value, np.float32) for value in range(4)]
    said = why(Hidden, items, None)
    assert said is not None
    assert said.startswith("called by two threads at once it answers otherwise (over 8 rows")


def test_without_the_lock_step_it_would_not_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the test: threads that do not wait for each other hardly ever meet inside so small a net."""
    monkeypatch.setattr(torch_checks, "_leaves", lambda _: [])
    items = [np.full(3, value, np.float32) for value in range(2)]
    assert why(Hidden, items, None) is None


def test_a_cache_that_is_built_once_is_no_obstacle_where_the_size_is_fixed(pictures: Pictures) -> None:
    assert why(lambda: Cached(by_batch=False), pictures(4)) is None


def test_a_cache_by_batch_size_is_one(pictures: Pictures) -> None:
    said = why(lambda: Cached(by_batch=True), pictures(4))
    assert said is not None
    assert "grid, shape" in said


def test_a_cache_is_one_where_items_may_have_other_shapes() -> None:
    said = why(lambda: Cached(by_batch=False), [np.zeros((2, 5), np.float32)] * 3, None)
    assert said is not None
    assert "grid" in said


def test_a_net_that_fails_under_two_threads_is_not_shared() -> None:
    inside = threading.Lock()

    class Guarded(Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.leaf = torch.nn.Identity()

        def forward(self, x: Any) -> Any:
            if not inside.acquire(blocking=False):
                raise RuntimeError("somebody is inside")
            try:
                return self.leaf(x)
            finally:
                inside.release()

    said = why(Guarded, [np.zeros(3, np.float32)] * 2, None)
    assert said is not None
    assert "called by two threads at once it failed" in said
    assert "somebody is inside" in said


def test_threads_that_take_different_ways_do_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_checks, "MEET_S", 0.05)

    class Forks(Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.leaf = torch.nn.Identity()

        def forward(self, x: Any) -> Any:
            for _ in range(int(x.sum())):
                x = self.leaf(x)
            return x

    assert why(Forks, [np.array([n], np.float32) for n in (0, 7, 2)], None) is None


def test_the_hooks_are_gone_afterwards(nets: Any, pictures: Pictures) -> None:
    module, items = nets.make(), pictures(3)
    net = load_net(Torch(module, device="cpu"))
    assert why_alone(net, SPEC, truth_of(net, SPEC, items)) is None
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_compiled_modules_are_called_by_one_thread(
    nets: Any, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    inside, in_place = torch.nn.Sequential(torch.compile(nets.make())), nets.make()
    in_place.compile(backend="eager")
    users = [Torch(module) for module in (torch.compile(nets.make()), inside, in_place)]
    for options in (Torch(nets.make(), compile=True), *users):
        net = load_net(replace(options, device="cpu"))
        said = why_alone(net, SPEC, truth_of(net.plain(), SPEC, pictures(2)))
        assert said is not None
        assert "torch.compile" in said


def test_programs_run_concurrently_without_hooks(nets: Any, pictures: Pictures, tmp_path: Path) -> None:
    paths = [nets.save_script(nets.make(), tmp_path / "s.pt"), nets.save_export(nets.make(), tmp_path / "e.pt2")]
    assert [why(path, pictures(3)) for path in paths] == [None, None]


def test_an_exported_program_that_writes_to_a_buffer_is_found(tmp_path: Path) -> None:
    class Counts(Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Any) -> Any:
            self.calls.add_(1)
            return x * 2

    torch.export.save(torch.export.export(Counts(), (torch.zeros(1, 3),)), tmp_path / "c.pt2")
    said = why(tmp_path / "c.pt2", [np.zeros(3, np.float32)] * 2, None)
    assert said is not None
    assert "calls" in said
