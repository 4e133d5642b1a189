"""A forward that writes to its module is seen, wherever it writes; one that does not, is not."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from penstock._models.torch_net import Net, load_net
from penstock._models.torch_state import snapshot_of
from penstock._options import Torch

torch = pytest.importorskip("torch")
Module: Any = torch.nn.Module


class Writer(Module):  # type: ignore[misc]
    """Holds things of every kind, and writes to one of them."""

    def __init__(self, write: Callable[[Any], Any]) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)
        self.register_buffer("steps", torch.zeros(1))
        self.register_buffer("hidden", torch.zeros(2), persistent=False)
        self.count, self.nan, self.nothing = 0, float("nan"), None
        self.cache: dict[str, Any] = {"a": [1, {"b": (2, 3)}]}
        self.array = np.zeros(3)
        self.tensors = [torch.zeros(2)]
        self.settings = SimpleNamespace(scale=1.0, last=None)
        self.write = write

    def forward(self, x: Any) -> Any:
        self.write(self)
        return self.inner(x)


def written(write: Callable[[Any], Any]) -> list[str]:
    net: Net = load_net(Torch(Writer(write), device="cpu"))
    with torch.inference_mode():
        before = snapshot_of(net)
        net.module(torch.ones(1, 2))
        return before.changed(snapshot_of(net))


WRITES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda m: setattr(m, "count", m.count + 1), "count"),
    (lambda m: setattr(m, "last", torch.ones(2)), "last"),
    (lambda m: setattr(m.inner, "seen", True), "inner.seen"),
    (lambda m: setattr(m, "hidden", torch.zeros(2)), "hidden"),
    (lambda m: delattr(m, "nothing"), "nothing"),
    (lambda m: m.steps.add_(1), "steps"),
    (lambda m: m.inner.weight.mul_(1), "inner.weight"),
    (lambda m: m.tensors[0].add_(1), "tensors"),
    (lambda m: m.cache["a"][1].update(c=4), "cache"),
    (lambda m: m.cache.update({"a": [1, {"b": (2, 3)}]}), "cache"),
    (lambda m: m.array.__setitem__(0, 1), "array"),
    (lambda m: setattr(m.settings, "last", "x"), "settings"),
    (lambda m: m.train(), "training"),
]


@pytest.mark.parametrize(("write", "name"), WRITES)
def test_a_write_is_seen_and_named(write: Callable[[Any], Any], name: str) -> None:
    assert name in written(write)


@pytest.mark.parametrize("read", [lambda _: None, lambda m: m.cache["a"], lambda m: m.inner(torch.ones(1, 2))])
def test_reading_is_no_writing(read: Callable[[Any], Any]) -> None:
    assert written(read) == []


def test_a_buffer_made_in_inference_mode_is_compared_by_content() -> None:
    net = load_net(Torch(Writer(lambda m: m.steps.add_(1)), device="cpu"))
    with torch.inference_mode():
        net.module.register_buffer("steps", torch.zeros(1))
        before, same = snapshot_of(net), snapshot_of(net)
        net.module(torch.ones(1, 2))
        assert before.changed(same) == []
        assert before.changed(snapshot_of(net)) == ["steps"]


def test_what_is_replaced_is_seen_though_it_has_the_old_ones_place_in_memory() -> None:
    def replace(module: Any) -> None:
        module.settings.last = None
        module.settings.last = object()

    net = load_net(Torch(Writer(replace), device="cpu"))
    net.module(torch.ones(1, 2))
    for _ in range(20):
        before = snapshot_of(net)
        net.module(torch.ones(1, 2))
        assert before.changed(snapshot_of(net)) == ["settings"]
