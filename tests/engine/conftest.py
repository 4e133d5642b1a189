"""What the tests of worker processes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from penstock._engine.child import Duty
from penstock._engine.processes import Apart, Order, plain
from penstock._engine.slots import Purse


@pytest.fixture
def apart() -> Callable[..., Apart]:
    """Return what makes a process for a function, outside of a pipeline; enter it to start it."""

    def make(fn: Callable[..., Any], *, call: str = "each", purse: Purse | None = None) -> Apart:
        order = Order.of(Duty("work", plain(fn), call), fn, 1)
        return Apart(order, purse or Purse(1 << 30))

    return make
