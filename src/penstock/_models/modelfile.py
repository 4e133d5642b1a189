"""A model file on disk: its bytes, what lies beside it, and its hash for the job's fingerprint."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.errors import ModelError, UsageError

LOADING = threading.RLock()
"""Held while a model is built: ONNX Runtime's session creation is not safe from several threads.

Reentrant, because a user's `load` may load models of ours.
"""

# A StringStringEntryProto with key "location" (onnx.proto, TensorProto.external_data); its value names the file.
_LOCATION = re.compile(rb"\n\x08location\x12([\x00-\x7f])", re.DOTALL)
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The bytes of a `.onnx` file and where they came from."""

    path: Path
    data: bytes

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ModelFile:
        """Read the file. Raises UsageError where there is none, ModelError where it plainly is no model."""
        where = Path(path)
        try:
            data = where.read_bytes()
        except FileNotFoundError:
            raise UsageError(
                f"model {str(where)!r} does not exist. Check the path, seen from {os.getcwd()!r}."
            ) from None
        except (IsADirectoryError, PermissionError) as error:
            raise UsageError(f"model {str(where)!r} cannot be read: {error.strerror}. Give the .onnx file.") from error
        refuse_lookalikes(where, data)
        return cls(where, data)

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    @property
    def quantised(self) -> bool:
        """Whether the graph holds quantised tensors (read off the bytes, so that it needs no package)."""
        return b"DequantizeLinear" in self.data or b"QuantizeLinear" in self.data

    def external(self) -> list[Path]:
        """Return the files beside the model that hold its weights, sorted; [] where they are inside."""
        names = set()
        for match in _LOCATION.finditer(self.data):
            end = match.end() + match.group(1)[0]
            names.add(self.data[match.end() : end].decode("utf-8", "replace"))
        return sorted(self.path.parent / name for name in names)

    @property
    def weights_bytes(self) -> int:
        """Bytes of the file and of what lies beside it: the weights, and little else."""
        return len(self.data) + sum(path.stat().st_size for path in self.external())

    def describe(self) -> dict[str, Any]:
        """Return what belongs into a job's fingerprint: the file's name, and the sha256 of it and its weights."""
        digest = hashlib.sha256(self.data)
        for path in self.external():
            digest.update(_digest_of(path, self.path))
        return {"kind": "onnx", "name": self.path.name, "sha256": digest.hexdigest()}


def refused(path: Path, runtime: str, error: BaseException) -> ModelError:
    """Return the error for a file that `runtime` could not load."""
    said = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    return ModelError(
        f"model {str(path)!r} could not be loaded by {runtime}: {said} "
        "If the file is truncated or of another kind, get it again; if an operator is unknown, update the runtime."
    )


def refuse_lookalikes(path: Path, data: bytes) -> None:
    """Raise ModelError where the (first) bytes of a file plainly are no model's, saying what they are."""
    if not data:
        raise ModelError(f"model {str(path)!r} is empty (0 bytes). Copy or download it again.")
    if data.startswith(b"version https://git-lfs"):
        raise ModelError(f"model {str(path)!r} is a Git LFS pointer, not the model. Run: git lfs pull")
    if data.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        raise ModelError(f"model {str(path)!r} is a web page, not a model. Download the file itself.")


def _digest_of(path: Path, model: Path) -> bytes:
    try:
        return bytes.fromhex(sha256_of(path))
    except FileNotFoundError:
        raise ModelError(f"model {str(model)!r} keeps its weights in {path.name!r}, which is not beside it.") from None


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex, without holding them all."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
