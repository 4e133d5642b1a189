"""Keras 3 models as people have them: recognised, loaded from a `.keras` file, described for a job's fingerprint."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from penstock._models.modelfile import LOADING, refuse_lookalikes
from penstock._models.ports import Array, Dim
from penstock._models.source_hash import describe as describe_source
from penstock._models.source_hash import qualified_name
from penstock.errors import MissingDependency, ModelError, UsageError

BACKENDS = ("torch", "jax", "tensorflow")
_CONFIG = "config.json"
_NUMBER = re.compile(r"_\d+$")
_CUSTOM = re.compile(r"Could not locate (?:class|function) '([^']*)'")


def load(path: str | os.PathLike[str]) -> Any:
    """Return the model in a `.keras` file, for inference alone: no optimizer, and no code out of the file is run.

    Raises UsageError where there is no such file or Keras knows a class in it by no name, ModelError where the file is
    damaged, MissingDependency without Keras or its backend.
    """
    where = Path(path)
    read_config(where)  # says what is wrong with the file before two seconds go into importing a framework
    keras = import_keras()
    with LOADING:
        try:
            return keras.saving.load_model(where, compile=False, safe_mode=True)
        except Exception as error:
            raise _refused(where, error) from error


def import_keras() -> Any:
    """Return the package. Raises MissingDependency where it, or the backend it is set to, is not installed."""
    try:
        import keras
    except ImportError as error:
        raise _missing(error) from error
    return keras


def version() -> str:
    """Return the installed version of Keras."""
    return importlib.metadata.version("keras")


def backend() -> str:
    """Return the backend Keras runs on in this process: "torch", "jax" or "tensorflow"."""
    return str(import_keras().backend.backend())


def as_numpy(tensor: Any) -> Array:
    """Return a tensor of any backend as an array of the caller's own, bfloat16 (which numpy lacks) as float32."""
    # Not keras.ops.convert_to_numpy: on torch and TensorFlow it makes numpy 2.4 warn at every call.
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor
    array: Array = np.asarray(tensor.numpy() if hasattr(tensor, "numpy") else tensor)
    if array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    return array if array.flags.writeable else array.copy()


def input_shape(thing: Any) -> tuple[Dim, ...] | None:
    """Return the shape that a model or `.keras` file takes, batch first, or None where it declares none or several.

    A file is not loaded for it, and Keras is not imported.
    """
    if isinstance(thing, (str, os.PathLike)):
        config = read_config(Path(thing))
        shape = (config.get("build_config") or {}).get("input_shape") or _batch_shape(config)
    else:
        shape = getattr(thing, "input_shape", None)
    if not isinstance(shape, (list, tuple)) or not all(dim is None or isinstance(dim, int) for dim in shape):
        return None
    return tuple(shape)


def describe(thing: Any) -> dict[str, Any]:
    """Return the part of a job's fingerprint for a model or a `.keras` file: JSON values, the same in every process.

    A file is known by its sha256. An instance is known by the sha256 of its weights (shapes, dtypes, bytes, in the
    model's order) and of its architecture; names that Keras numbers by how many layers a process made are left out.
    """
    described = {"kind": "keras", "backend": backend()}
    if isinstance(thing, (str, os.PathLike)):
        config = read_config(Path(thing))
        with Path(thing).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return described | {"class": _class_in(config), "name": Path(thing).name, "sha256": digest}
    return described | {
        "class": qualified_name(type(thing)),
        "weights": _weights_digest(thing),
        "architecture": _architecture_digest(thing),
    }


def read_config(path: Path) -> dict[str, Any]:
    """Return the architecture in a `.keras` file, as Keras wrote it. Raises UsageError or ModelError with the path."""
    try:
        with path.open("rb") as file:
            refuse_lookalikes(path, file.read(512))
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read(_CONFIG))
    except FileNotFoundError:
        raise UsageError(f"model {str(path)!r} does not exist. Check the path, seen from {os.getcwd()!r}.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UsageError(f"model {str(path)!r} cannot be read: {error.strerror}. Give the .keras file.") from error
    except (zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise ModelError(
            f"model {str(path)!r} ({path.stat().st_size} bytes) is no whole .keras file: {error}. If it was cut short, "
            "copy it again; if it is of another kind, load it with Keras and write it with model.save('name.keras')."
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"model {str(path)!r} is no .keras file: its {_CONFIG} holds no architecture. Save it again.")
    return config


def _refused(path: Path, error: Exception) -> UsageError | ModelError:
    said = " ".join(line.strip() for line in str(error).splitlines()[:4] if line.strip())
    if unknown := _CUSTOM.search(str(error)):
        return UsageError(
            f"model {str(path)!r} uses {unknown[1]!r}, which Keras does not know in this process. Import the module "
            "that registers it (@keras.saving.register_keras_serializable()) before penstock runs, or load the model "
            "yourself, with custom_objects=, and give the instance as the model."
        )
    if "safe_mode" in str(error) or "unsafe" in str(error).lower():
        return UsageError(
            f"model {str(path)!r} carries Python code (a Lambda layer), which is not run out of a file: {said[:300]} "
            "If you trust it, load it with keras.saving.load_model(path, safe_mode=False) and give the instance."
        )
    return ModelError(
        f"model {str(path)!r} could not be loaded by Keras on {backend()}: {said[:500]} "
        "If the file is damaged, get it again; if it was saved by a newer Keras, update yours."
    )


def _missing(error: ImportError) -> MissingDependency:
    if importlib.util.find_spec("keras") is None:
        return MissingDependency.of("keras", "keras", "running Keras models")
    here = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
    return MissingDependency(
        f"Keras could not be imported: {error}. Its backend is KERAS_BACKEND={os.environ.get('KERAS_BACKEND')!r} "
        f"(where that is not set: ~/.keras/keras.json, else tensorflow); installed here: {', '.join(here) or 'none'}. "
        "Install the backend, or set KERAS_BACKEND to one that is installed before Python starts."
    )


def _batch_shape(config: dict[str, Any]) -> Any:
    """Return the shape of the one input layer of a saved functional or sequential model, or None."""
    layers = (config.get("config") or {}).get("layers") or []
    shapes = [
        (layer.get("config") or {}).get("batch_shape") for layer in layers if layer.get("class_name") == "InputLayer"
    ]
    return shapes[0] if len(shapes) == 1 else None


def _class_in(config: dict[str, Any]) -> str:
    return f"{config.get('module')}.{config.get('class_name')}"


def _weights_digest(model: Any) -> str:
    digest = hashlib.sha256()
    for weight in model.weights:
        values = as_numpy(weight.value)
        digest.update(f"{weight.dtype} {values.shape}\0".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def _architecture_digest(model: Any) -> str:
    """Return the sha256 of the architecture, and of the source of a class of the user's own."""
    try:
        config = import_keras().saving.serialize_keras_object(model)
    except NotImplementedError:  # a class without get_config: its source and weights say what it is
        config = {}
    parts = [json.dumps(_canonical(config), sort_keys=True, default=qualified_name)]
    if type(model).__module__.partition(".")[0] != "keras":
        parts.append(json.dumps(describe_source(type(model)), sort_keys=True))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _canonical(config: Any) -> Any:
    """Return an architecture without what differs from process to process: addresses, numbered names, training."""
    numbers = {name: f"#{place}" for place, name in enumerate(dict.fromkeys(_names(config)))}

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: cleaned(part) for key, part in value.items() if key not in ("shared_object_id", "compile_config")
            }
        if isinstance(value, (list, tuple)):
            return [cleaned(part) for part in value]
        return numbers.get(value, value) if isinstance(value, str) else value

    return cleaned(config)


def _names(config: Any) -> Iterator[str]:
    """Yield the names that Keras numbered itself ("dense_3" for a Dense), in the order of the architecture."""
    if isinstance(config, dict):
        inner, kind = config.get("config"), str(config.get("class_name", "")).lower()
        name = inner.get("name") if isinstance(inner, dict) else None
        if isinstance(name, str) and _NUMBER.sub("", name).replace("_", "") == kind:
            yield name
        for part in config.values():
            yield from _names(part)
    elif isinstance(config, (list, tuple)):
        for part in config:
            yield from _names(part)
