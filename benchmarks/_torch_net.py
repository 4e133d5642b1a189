"""MobileNetV2 in torch as torchvision has it, with weights drawn from a seed: nothing is downloaded.

Source: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, table 2.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from _photos import Array

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride of the first."""
CLASSES = 1000


def convolution(given: int, gives: int, side: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution with its normalisation."""
    layer = nn.Conv2d(given, gives, side, stride, side // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(gives))


class Block(nn.Module):
    """An inverted residual."""

    def __init__(self, given: int, gives: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = given * expansion
        wider = [convolution(given, wide, 1), nn.ReLU6()] if expansion > 1 else []
        deep = [convolution(wide, wide, 3, stride, groups=wide), nn.ReLU6()]
        self.layers = nn.Sequential(*wider, *deep, convolution(wide, gives, 1))
        self.adds = stride == 1 and given == gives

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, gives, H / stride, W / stride)."""
        y: torch.Tensor = self.layers(x)
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    """(N, 3, 224, 224) -> (N, 1000)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(3, 32, 3, 2), nn.ReLU6()]
        channels = 32
        for expansion, gives, blocks, stride in STAGES:
            for number in range(blocks):
                layers.append(Block(channels, gives, expansion, stride if number == 0 else 1))
                channels = gives
        self.features = nn.Sequential(*layers, convolution(channels, 1280, 1), nn.ReLU6())
        self.head = nn.Linear(1280, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the numbers of the classes."""
        scores: torch.Tensor = self.head(self.features(x).mean((2, 3)))
        return scores


def make() -> MobileNetV2:
    """Return the net, in eval mode: the same weights on every call."""
    torch.manual_seed(0)
    net = MobileNetV2()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    nn.init.normal_(net.head.weight, std=0.1)
    return net.eval()


def predictor(net: nn.Module, intra: int) -> Callable[[Array], Array]:
    """Return `predict(batch) -> rows` for any number of threads, with `intra` of torch's inside each call."""
    told: set[int] = set()

    def predict(batch: Array) -> Array:
        if (here := threading.get_ident()) not in told:
            told.add(here)
            torch.get_num_threads()  # a first question sets it to what any thread said last: asked before it is told
            torch.set_num_threads(intra)
        with torch.inference_mode():
            return np.asarray(net(torch.from_numpy(batch)).numpy())

    predict(np.zeros((1, 3, 224, 224), np.float32))
    return predict
