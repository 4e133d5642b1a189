"""Small nets that the tests name as a factory would be named, and files of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn


class SmallNet(nn.Module):  # type: ignore[misc]
    """Two convolutions and a line: (N, 3, H, W) -> (N, 5)."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, stride=2)
        self.norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, stride=2)
        self.relu = nn.ReLU()
        self.head = nn.Linear(width, 5)

    def forward(self, x: Any) -> Any:
        """Return one row of 5 numbers for each picture."""
        x = self.relu(self.norm(self.first(x)))
        return self.head(self.relu(self.second(x)).mean((2, 3)))


class Remembers(SmallNet):
    """Stores its input on itself and reads it again behind another layer: wrong as soon as two threads call it."""

    def forward(self, x: Any) -> Any:
        """Return what SmallNet does, plus the mean of the input."""
        self.last = x.mean((1, 2, 3))
        return super().forward(x) + self.last[:, None]


def make() -> SmallNet:
    """Return a net whose numbers are always the same."""
    torch.manual_seed(7)
    net = SmallNet()
    net.eval()
    return net


def make_wide() -> SmallNet:
    """Return a net of other shapes."""
    return SmallNet(16)


def make_remembering() -> Remembers:
    """Return a net that stores its input on itself."""
    torch.manual_seed(7)
    net = Remembers()
    net.eval()
    return net


def make_broken() -> SmallNet:
    """Raise."""
    raise RuntimeError("no net today")


def make_number() -> int:
    """Return what is no module."""
    return 3


def save_script(module: Any, path: Path, side: int = 32) -> Path:
    """Save a module as TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates what it still reads
        torch.jit.save(torch.jit.trace(module, torch.zeros(2, 3, side, side)), str(path))
    return path


def save_export(module: Any, path: Path, side: int = 32, batch: int | None = None) -> Path:
    """Save a module as an exported program, for any batch and picture size or for fixed ones."""
    shapes = None if batch else (dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (torch.zeros(batch or 2, 3, side, side),), dynamic_shapes=shapes)
        torch.export.save(program, str(path))
    return path


def save_state(module: Any, path: Path) -> Path:
    """Save a module's state dict."""
    torch.save(module.state_dict(), path)
    return path
