"""What keras_file promises, on the backend that KERAS_BACKEND names; `test_keras_model.py` runs it once for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from penstock._models.keras_file import describe, input_shape, load
from penstock._models.keras_model import KerasModel
from penstock._models.recognise import is_keras
from penstock.errors import ModelError, UsageError

# Keras's own: its variables do not know how numpy 2 asks for arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def small_net(activation: str = "relu") -> Any:
    keras.utils.set_random_seed(7)
    return keras.Sequential([keras.Input((6,)), layers.Dense(4, activation=activation), layers.Dense(2)])


def test_a_file_is_loaded_and_answers_as_what_was_saved(tmp_path: Path) -> None:
    net, items = small_net(), [np.full(6, value, np.float32) for value in range(3)]
    net.compile(optimizer="adam", loss="mse")
    net.save(tmp_path / "small.keras")
    model = KerasModel(tmp_path / "small.keras")
    model.warm(items, batch=4)
    with model.worker() as predict:
        rows = predict(items)
    assert np.allclose(rows, keras.ops.convert_to_numpy(net(np.stack(items), training=False)), atol=1e-5)
    assert model.name == "small"
    assert input_shape(tmp_path / "small.keras") == input_shape(net) == (None, 6)
    assert model.describe() == describe(tmp_path / "small.keras")
    assert model.describe()["class"] == "keras.Sequential"
    assert model.describe()["name"] == "small.keras"


def test_files_that_are_no_models_are_refused_by_path(tmp_path: Path) -> None:
    small_net().save(tmp_path / "whole.keras")
    whole = (tmp_path / "whole.keras").read_bytes()
    for name, data, said in [
        ("cut.keras", whole[: len(whole) // 2], "no whole .keras file"),
        ("text.keras", b"hello", "no whole .keras file"),
        ("empty.keras", b"", "0 bytes"),
        ("lfs.keras", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("flipped.keras", flipped(whole), "get it again"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=name) as caught:
            KerasModel(tmp_path / name)
        assert said in str(caught.value)
    with pytest.raises(UsageError, match=r"none\.keras' does not exist"):
        KerasModel(tmp_path / "none.keras")
    with pytest.raises(UsageError, match=r"cannot be read: Is a directory"):
        load(tmp_path)


def flipped(data: bytes) -> bytes:
    """Return a zip archive with some of the weights' bytes inverted: its directory is whole, its content is not."""
    middle = data.index(b"HDF")
    return data[:middle] + bytes(255 - byte for byte in data[middle : middle + 64]) + data[middle + 64 :]


def test_a_class_that_nobody_registered_is_named(tmp_path: Path) -> None:
    class Mine(layers.Layer):  # type: ignore[misc]
        def call(self, batch: Any) -> Any:
            return batch

    keras.Sequential([keras.Input((2,)), Mine()]).save(tmp_path / "mine.keras")
    with pytest.raises(UsageError, match=r"mine\.keras' uses 'Mine'.*register_keras_serializable"):
        KerasModel(tmp_path / "mine.keras")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    net = keras.Sequential([keras.Input((2,)), layers.Lambda(lambda x: x + 1)])
    net.save(tmp_path / "code.keras")
    with pytest.raises(UsageError, match=r"code\.keras' carries Python code.*safe_mode=False"):
        KerasModel(tmp_path / "code.keras")


def test_the_fingerprint_tells_models_apart_and_no_two_builds_of_one() -> None:
    net = small_net()
    described = describe(net)
    assert is_keras(net)
    assert not is_keras(net.layers)
    assert described["kind"] == "keras"
    assert described["backend"] == keras.backend.backend()
    assert describe(small_net()) == described  # its layers have other numbers in their names
    assert describe(small_net(activation="tanh"))["architecture"] != described["architecture"]
    net.layers[0].bias.assign(net.layers[0].bias + 1)
    assert describe(net)["weights"] != described["weights"]
    assert describe(net)["architecture"] == described["architecture"]
    net.compile(optimizer="sgd", loss="mse")
    assert describe(net)["architecture"] == described["architecture"]
