"""What benchmarks reach into penstock for is there: they run seldom, and would break unseen."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_a_run_goes_on_without_each_part_of_its_telemetry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("_overhead_telemetry")
    for changes in module.VARIANTS.values():
        with module.changed(changes):
            assert module.run(2000, tmp_path)["ns"] > 0
