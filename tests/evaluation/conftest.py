"""Jobs made for the tests: real runs over small files, each of which holds the output that the model gives for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import penstock

MakeJob = Callable[..., Path]


def same(batch: list[Any]) -> list[Any]:
    return batch


def part(name: str) -> Callable[[list[Any]], list[Any]]:
    """Return a model that gives its part of what an item holds; it fails on `None`."""

    def predict(batch: list[Any]) -> list[Any]:
        if any(value[name] is None for value in batch):
            raise ValueError(f"{name} cannot do this")
        return [value[name] for value in batch]

    return predict


def held(path: str) -> Any:
    """Return what a file holds; one that is no JSON fails."""
    return json.loads(Path(path).read_bytes())


@pytest.fixture
def make_job(tmp_path: Path) -> MakeJob:
    """Return a function that runs a job: id -> output, or bytes that cannot be read, to an output of some kind."""

    def make(outputs: Mapping[str, Any], out: str = "out.jsonl", models: tuple[str, ...] = (), **options: Any) -> Path:
        source = tmp_path / f"items-{out.replace('.', '-')}"
        for id_, output in outputs.items():
            path = source / id_
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(output if isinstance(output, bytes) else json.dumps(output).encode())
        model = {name: part(name) for name in models} if models else same
        penstock.run(source, model, out=tmp_path / out, stages=[held], **options)
        return tmp_path / out

    return make


def top(*labels: str, score: float = 0.9) -> dict[str, Any]:
    """Return the output of a classifier that knows the classes a to e, the best first."""
    names = "abcde"
    entries = [{"index": names.index(label), "label": label} for label in labels]
    return {"top": [{**entry, "score": score / (place + 1)} for place, entry in enumerate(entries)]}


@pytest.fixture(name="top")
def top_fixture() -> Callable[..., dict[str, Any]]:
    return top
