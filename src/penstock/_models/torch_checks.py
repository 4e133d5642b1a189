"""May a module be called by several threads at once? Found out on a few real items, before the run."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from penstock._contracts import Predict
from penstock._models.agreement import compare
from penstock._models.checking import Truth
from penstock._models.drill import in_batches, same_shape, side_by_side
from penstock._models.torch_files import MODULE, torch_module
from penstock._models.torch_model import TorchModel
from penstock._models.torch_net import Net
from penstock._models.torch_state import snapshot_of, some
from penstock._spec import InputSpec
from penstock.errors import ItemError, PenstockError

LOOKED_AT = 4
"""Items that the checks run: two different ones would do, if no shape were seldom."""
MEET_S = 1.0
"""Longest wait of one thread for the other at a leaf; where they take different ways, they go on alone."""


def why_alone(net: Net, spec: InputSpec | None, truth: Truth) -> str | None:
    """Return why only one thread at a time may call the net, or None where several may at once.

    Two checks. A forward must write to nothing that the module holds: parameters, buffers, attributes (in containers
    and plain objects too); what is built on the first call counts where items may differ in shape, for then it may be
    built again. And two threads that run different items leaf by leaf in lock-step must get the answers of one.
    """
    if net.compiled:
        return "torch.compile is not safe to call from several threads"
    items = truth.items[:LOOKED_AT]
    written = _written(net, spec, items)
    if written:
        return f"its forward writes to itself ({some(written)}): calls at the same time would mix up their items"
    return _mixed_up(net, spec, truth)


def _written(net: Net, spec: InputSpec | None, items: Sequence[Any]) -> list[str]:
    fixed = spec is not None and spec.size is not None
    before = snapshot_of(net)
    with TorchModel(net, spec, {"concurrency": "one_at_a_time"}).worker() as predict:
        predict(items[:1])
        warm = snapshot_of(net)
        first = before.changed(warm)
        if first and not (fixed and same_shape(items)):
            return first
        found: set[str] = set()
        for batch in (items[-1:], items[:2], items[:1]):  # another item, another batch size, and back
            try:
                predict(batch)
            except ItemError:
                if len(batch) == 1:
                    raise
                continue  # no batches for this one; that is found out, and said, where batches are tried
            found.update(warm.changed(snapshot_of(net)))
    return sorted(found)


def _mixed_up(net: Net, spec: InputSpec | None, truth: Truth) -> str | None:
    """Return what two threads in lock-step get wrong, or None."""
    model, items = TorchModel(net, spec), truth.items[:LOOKED_AT]
    orders = (list(range(len(items))), list(reversed(range(len(items)))))

    def job(predict: Predict, place: int) -> list[Any]:
        return in_batches(predict, [items[at] for at in orders[place]], 1)

    try:
        with _in_step(net):
            answers = side_by_side(model, 2, job)
    except PenstockError as error:
        return f"called by two threads at once it failed ({error})"
    expected = [truth.rows[at] for order in orders for at in order]
    agreement = compare([row for rows in answers for row in rows], expected)
    if agreement.within(net.precision):
        return None
    return f"called by two threads at once it answers otherwise ({agreement})"


@contextmanager
def _in_step(net: Net) -> Iterator[None]:
    """Make two threads wait for each other before and behind every leaf of a module; other kinds know no hooks."""
    barrier = threading.Barrier(2)

    def meet(*_: Any) -> None:
        try:
            barrier.wait(MEET_S)
        except threading.BrokenBarrierError:
            return  # the other one took another way, or is done: from here on each goes alone

    handles = []
    for leaf in _leaves(net):
        handles += [leaf.register_forward_pre_hook(meet), leaf.register_forward_hook(meet)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _leaves(net: Net) -> list[Any]:
    if net.kind != MODULE:
        return []
    script = torch_module().jit.ScriptModule
    return [part for part in net.module.modules() if not (list(part.children()) or isinstance(part, script))]
