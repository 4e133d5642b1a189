"""Decoded pictures -> the numbers that a model takes, as its spec says."""

from __future__ import annotations

from penstock._preprocess.prepare import filled, make, shrink_to, turns_with

__all__ = ["filled", "make", "shrink_to", "turns_with"]
