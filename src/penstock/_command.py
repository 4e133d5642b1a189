"""What `penstock retry` needs of a job that was begun earlier, as JSON values in its ledger."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from penstock._options import Limits, Torch
from penstock._request import Request


def stored(source: Any, request: Request, kept: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the arguments of a run with absolute paths, or None where it holds functions or an iterable."""
    if request.stages or request.post is not None or source == "-" or not isinstance(source, (str, Path)):
        return None
    names = request.model.keys() if isinstance(request.model, Mapping) else ()
    try:
        model, spec, labels = (_plain(value, names) for value in (request.model, request.spec, request.labels))
    except TypeError:
        return None
    return {
        "source": str(Path(source).absolute()),
        "model": model,
        "spec": spec,
        "preset": request.preset,
        "labels": labels,
        "top_k": request.top_k,
        "batch": request.batching.max_size,
        "threads": request.threads,
        "runtime": request.runtime,
        "precision": request.precision,
        "device": request.device if isinstance(request.device, str) else list(request.device),
        "replicas": request.replicas,
        **kept,
    }


def restored(command: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that `stored` stored."""
    arguments = dict(command)
    limits = Limits(item_timeout_s=arguments.pop("item_timeout_s"))
    return {**arguments, "model": _model_of(command["model"]), "limits": limits}


def _plain(value: Any, names: Collection[str]) -> Any:
    """Return a path, a torch model of paths, or one of these for each model. Raises TypeError for anything else."""
    if isinstance(value, Mapping) and all(name in names for name in value):
        return {name: _plain(part, ()) for name, part in value.items()}
    if isinstance(value, Torch):
        if callable(value.factory):
            raise TypeError(type(value.factory).__name__)
        return {"torch": {**asdict(value), "source": _plain(value.source, ())}}
    return None if value is None else os.fspath(Path(value).absolute())


def _model_of(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("torch"), dict):
        return Torch(**value["torch"])
    return {name: _model_of(part) for name, part in value.items()}
