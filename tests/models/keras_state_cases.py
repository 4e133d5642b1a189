"""What a call of a Keras model writes to, on the backend that KERAS_BACKEND names; see keras_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from penstock._models.keras_model import KerasModel

BACKEND = keras.backend.backend()
ON_TORCH = BACKEND == "torch"
# Keras's own: its variables do not know how numpy 2 asks for arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
ITEMS = [np.full((6, 6, 3), value, np.float32) for value in range(3)]


class Remembers(layers.Layer):  # type: ignore[misc]
    """Stores its input on itself and reads it again behind another layer: wrong as soon as two threads call it."""

    def __init__(self, inner: Any = None) -> None:
        super().__init__()
        self.inner = inner or layers.Dense(3)

    def call(self, batch: Any) -> Any:
        self.last = batch
        return self.inner(batch) + self.last


class Caches(layers.Layer):  # type: ignore[misc]
    """Keeps a factor for each number of rows it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.factors: dict[int, float] = {}

    def call(self, batch: Any) -> Any:
        return batch * self.factors.setdefault(len(batch) if ON_TORCH else 1, 2.0)


class Whole(keras.Model):  # type: ignore[misc]
    """A model of the user's own that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.calls = layers.Dense(2), 0

    def call(self, batch: Any) -> Any:
        self.calls += 1
        return self.dense(batch)


def ready(net: Any, batch: int = 4) -> KerasModel:
    model = KerasModel(net)
    model.warm(ITEMS, batch)
    return model


def sequence(*parts: Any) -> Any:
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((6, 6, 3)), *parts])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: sequence(Remembers()), "last"),
        (lambda: sequence(sequence(layers.Dense(3), Remembers()), layers.Flatten()), "last"),
        (lambda: sequence(Caches()), "factors"),
        (Whole, "calls"),
    ],
    ids=["layer", "nested", "container", "model"],
)
def test_a_call_that_writes_to_an_attribute_is_found_where_python_runs(make: Callable[[], Any], name: str) -> None:
    model = ready(make())
    if not ON_TORCH:  # a compiled program runs no Python, so it writes nothing
        assert (model.how, model.concurrency) == ("compiled", "concurrent"), model.why
        return
    assert model.concurrency == "one_at_a_time"
    assert f".{name}" in f".{model.why.partition('(')[2]}"
    assert "would mix up their items" in model.why


def inception() -> Any:
    given = keras.Input((6, 6, 3))
    left, right = layers.Conv2D(4, 1)(given), layers.DepthwiseConv2D(3, padding="same")(given)
    both = layers.Concatenate()([left, layers.BatchNormalization()(right)])
    return keras.Model(given, {"a": layers.Flatten()(both), "b": layers.GlobalMaxPooling2D()(both)})


HARMLESS: dict[str, Callable[[], Any]] = {
    "functional": inception,
    "recurrent": lambda: sequence(layers.Reshape((36, 3)), layers.Bidirectional(layers.LSTM(4)), layers.Dense(2)),
    "attention": lambda: sequence(layers.Reshape((36, 3)), layers.LayerNormalization(), layers.GRU(4, unroll=False)),
    "regularised": lambda: sequence(
        layers.Conv2D(2, 3, kernel_regularizer="l2", activity_regularizer="l2"), layers.SpatialDropout2D(0.5)
    ),
    "noise": lambda: sequence(layers.GaussianNoise(1.0), layers.Dropout(0.5), layers.Flatten()),
    "nested": lambda: sequence(sequence(layers.Conv2D(4, 3), sequence_of_channels(), layers.Flatten())),
}


def sequence_of_channels() -> Any:
    return keras.Sequential([keras.Input((4, 4, 4)), layers.Dense(4), layers.ReLU()])


@pytest.mark.parametrize("make", HARMLESS.values(), ids=HARMLESS)
def test_what_writes_nothing_is_shared(make: Callable[[], Any]) -> None:
    model = ready(make())
    assert model.concurrency == "concurrent", model.why


def test_a_compiled_and_trained_model_is_shared() -> None:
    net = sequence(layers.Flatten(), layers.Dense(2))
    net.compile(optimizer="adam", loss="mse", metrics=["mae"])
    net.fit(np.stack(ITEMS), np.zeros((3, 2), np.float32), verbose=0)
    assert ready(net).concurrency == "concurrent"


def test_a_module_of_torch_inside_is_looked_into() -> None:
    if not ON_TORCH:  # torch's modules live in Keras on torch only
        return
    import torch

    class Inner(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            self.seen = x
            return x * 2

    class Wrapping(layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def call(self, batch: Any) -> Any:
            return self.inner(batch)

    model = ready(sequence(Wrapping()))
    assert model.concurrency == "one_at_a_time"
    assert "seen" in model.why
