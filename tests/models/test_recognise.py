"""What kind of model was given, told without importing its framework."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock._models.recognise import is_torch_module, torch_of
from penstock._options import Torch
from penstock.errors import UsageError


@pytest.mark.parametrize("name", ["a.pt", "a.PTH", "b/c.ts", "d.pt2"])
def test_files_are_known_by_their_suffix(name: str) -> None:
    assert torch_of(name, "auto") == Torch(name)
    assert torch_of(Path(name), "cpu") == Torch(Path(name), device="cpu")


@pytest.mark.parametrize("thing", ["a.onnx", "a", 3, None, len, print])
def test_anything_else_is_none_of_torchs(thing: Any) -> None:
    assert torch_of(thing, "auto") is None


def test_a_module_is_known_and_its_class_is_not() -> None:
    nn = pytest.importorskip("torch").nn
    module = nn.Linear(2, 3)
    assert is_torch_module(module)
    assert not is_torch_module(nn.Linear)
    found = torch_of(module, "cpu")
    assert found is not None
    assert found.source is module


def test_torch_is_not_imported_to_tell() -> None:
    code = (
        "import sys; from penstock._models.recognise import torch_of; torch_of(len, 'auto'); torch_of('a.pt', 'auto')"
    )
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50, env={"PYTHONPATH": ":".join(sys.path)})


def test_devices_must_not_contradict() -> None:
    assert torch_of(Torch("a.pt", device="cuda:1"), "auto") == Torch("a.pt", device="cuda:1")
    assert torch_of(Torch("a.pt"), "cuda") == Torch("a.pt", device="cuda")
    with pytest.raises(UsageError, match=r"device='cpu' and Torch\(device='cuda:1'\)"):
        torch_of(Torch("a.pt", device="cuda:1"), "cpu")


def test_a_source_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Torch\(source=3\): give an nn.Module, or the path"):
        torch_of(Torch(3), "auto")
