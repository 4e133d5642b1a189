from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from penstock._models.modelfile import ModelFile
from penstock.errors import ModelError, UsageError


def test_the_description_is_name_and_hash_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"weights")
    file = ModelFile.read(path)
    assert file.name == "net"
    assert file.describe() == {
        "kind": "onnx",
        "name": "net.onnx",
        "sha256": hashlib.sha256(b"weights").hexdigest(),
    }


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>", "web page"),
    ],
)
def test_what_is_plainly_no_model_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=says) as caught:
        ModelFile.read(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.onnx' does not exist"):
        ModelFile.read(tmp_path / "nothing.onnx")
    with pytest.raises(UsageError, match="Is a directory"):
        ModelFile.read(tmp_path)


@pytest.fixture
def external(build: Callable[..., bytes], tmp_path: Path) -> Path:
    """Return a model whose weights lie in `weights.bin` beside it."""
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = {"w": np.arange(4096, dtype=np.float32).reshape(64, 64)}
    data = build([node], {"x": ("float32", ["N", 64])}, {"y": ("float32", ["N", 64])}, weights)
    path = tmp_path / "big.onnx"
    model = onnx.load_model_from_string(data)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_weights_beside_the_model_count_in_its_hash(external: Path) -> None:
    before = ModelFile.read(external).describe()
    assert ModelFile.read(external).external() == [external.parent / "weights.bin"]
    weights = bytearray((external.parent / "weights.bin").read_bytes())
    weights[0] ^= 1
    (external.parent / "weights.bin").write_bytes(bytes(weights))
    assert ModelFile.read(external).describe()["sha256"] != before["sha256"]


def test_missing_weights_are_named(external: Path) -> None:
    (external.parent / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights\.bin', which is not beside it"):
        ModelFile.read(external).describe()


def test_quantised_is_read_off_the_bytes(models: Path) -> None:
    assert ModelFile.read(models / "mobilenet_v2_1.0_224_quant.onnx").quantised
    assert not ModelFile.read(models / "squeezenet10_fp16_winml.onnx").quantised
