"""What KerasModel promises, on the backend that KERAS_BACKEND names: one backend fits into a process.

`test_keras_model.py` runs this file once for each backend. By itself: KERAS_BACKEND=jax pytest, and this path.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import pytest
from keras import layers

from penstock._models.keras_model import KerasModel
from penstock._models.normalise import normalised
from penstock._spec import InputSpec
from penstock.errors import Closed, ItemError, ModelError, UsageError

Array = np.ndarray[Any, Any]
BACKEND = keras.backend.backend()
COMPILES = BACKEND != "torch"
THREADS, CALLS, BATCH = 8, 200, 4
# Keras's own: its variables do not know how numpy 2 asks for arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
SPEC = InputSpec(size=(12, 16), resize="stretch", mean=(127.5,), std=(64.0,), layout="NHWC")


def small_net(width: int | None = 16, activation: str = "relu") -> Any:
    keras.utils.set_random_seed(7)
    return keras.Sequential(
        [
            keras.Input((12, width, 3)),
            layers.Conv2D(6, 3, activation=activation),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax"),
        ]
    )


def pictures(n: int, width: int = 16) -> list[Array]:
    random = np.random.default_rng(3)
    return [random.integers(0, 256, (12, width, 3), np.uint8) for _ in range(n)]


def floats(n: int, width: int = 16) -> list[Array]:
    return [picture.astype(np.float32) / 100 for picture in pictures(n, width)]


def plain(net: Any, batch: Any) -> Array:
    answer: Array = keras.ops.convert_to_numpy(net(np.asarray(batch), training=False))
    return answer


def predict(model: KerasModel, items: Sequence[Any]) -> list[Any]:
    with model.worker() as run:
        return list(run(items))


def ready(thing: Any, samples: Sequence[Any], batch: int = BATCH, spec: InputSpec | None = None) -> KerasModel:
    model = KerasModel(thing, spec)
    model.warm(samples, batch)
    return model


def close_to(rows: Sequence[Any], truth: Any) -> bool:
    return np.allclose(np.stack(rows), truth, rtol=1e-4, atol=1e-5)


# ---- answers


def test_arrays_get_the_answers_of_plain_keras() -> None:
    net, items = small_net(), floats(7)
    model = ready(net, items)
    truth = plain(net, items)
    for n in (1, 3, 4, 7):
        assert close_to(predict(model, items[:n]), truth[:n])
    assert model.how == ("compiled" if COMPILES else "plain"), model.why
    assert predict(model, []) == []


def test_pictures_are_normalised_as_the_spec_says() -> None:
    net, items = small_net(), pictures(5)
    model = ready(net, items, spec=SPEC)
    truth = plain(net, normalised(np.stack(items), SPEC, "float32"))
    assert close_to(predict(model, items), truth)
    assert not close_to(predict(model, items), plain(net, np.stack(items).astype(np.float32)))
    with pytest.raises(ItemError, match="uint8 pictures"):
        predict(model, floats(1))


def test_items_of_different_shapes_come_back_in_order() -> None:
    net = small_net(width=None)
    items = [floats(6, width)[place] for place, width in enumerate((16, 20, 16, 24, 20, 16))]
    rows = predict(ready(net, items), items)
    for item, row in zip(items, rows, strict=True):
        assert close_to([row], plain(net, item[None]))


def test_several_outputs_are_rows_by_name() -> None:
    given = keras.Input((4,))
    head, tail = layers.Dense(3, name="head")(given), layers.Dense(2, name="tail")(given)
    items = [np.full(4, value, np.float32) for value in range(3)]
    by_list = predict(ready(keras.Model(given, [head, tail]), items), items)
    by_dict = predict(ready(keras.Model(given, {"b": head, "a": {"c": tail}}), items), items)
    twice = predict(ready(keras.Model(given, [head, head]), items), items)
    assert [sorted(row) for row in (by_list[0], by_dict[0], twice[0])] == [
        ["head", "tail"],
        ["a/c", "b"],
        ["output_0", "output_1"],
    ]
    assert by_list[2]["head"].shape == (3,)
    assert close_to([row["tail"] for row in by_list], [row["a/c"] for row in by_dict])


def test_rows_belong_to_the_caller() -> None:
    row = predict(ready(small_net(), floats(1)), floats(1))[0]
    row += 1  # a post function may write to what it is given
    assert row.dtype == np.float32


def test_a_model_that_takes_no_training_argument_and_was_never_built() -> None:
    class Doubler(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, batch: Any) -> Any:
            return self.dense(batch) * 2

    net, items = Doubler(), [np.arange(4, dtype=np.float64), np.ones(4)]
    rows = predict(KerasModel(net), items)  # not warmed either: it is built in a worker thread
    batch = np.stack(items).astype(np.float32)
    assert close_to(rows, plain(net, batch))
    net.compile(optimizer="sgd", loss="mse")
    net.fit(batch, np.zeros((2, 3), np.float32), verbose=0)
    assert not close_to(rows, plain(net, batch))


def test_items_may_be_read_only() -> None:
    items = floats(2)
    for item in items:
        item.flags.writeable = False
    model = KerasModel(small_net())
    assert np.allclose(predict(model, items[:1])[0], predict(model, items)[0], atol=1e-5)


def test_lower_precision_gives_float32_rows() -> None:
    keras.utils.set_random_seed(1)
    net = keras.Sequential([keras.Input((8,)), layers.Dense(3, dtype="mixed_bfloat16")])
    model = ready(net, [np.ones(8, np.float32)])
    row = predict(model, [np.ones(8, np.float32)])[0]
    assert row.dtype == np.float32
    assert model.how == ("compiled" if COMPILES else "plain"), model.why


def test_a_model_that_insists_on_its_batch_gets_it() -> None:
    given = keras.Input(batch_shape=(3, 4))
    net = keras.Model(given, layers.Dense(2)(given))
    items = [np.full(4, value, np.float32) for value in range(5)]
    model = ready(net, items)
    truth = np.concatenate([plain(net, items[:3]), plain(net, [*items[3:], items[4]])[:2]])
    assert close_to(predict(model, items), truth)
    assert model.batch_size == 3


def test_an_output_that_has_no_row_for_each_item_is_the_items_own() -> None:
    given = keras.Input((4, 3))
    net = keras.Model(given, layers.Lambda(lambda x: keras.ops.reshape(x, (-1, 3)), output_shape=(3,))(given))
    items = [np.full((4, 3), value, np.float32) for value in range(3)]
    model = ready(net, items)
    assert [row.tolist() for row in predict(model, items)] == [item.tolist() for item in items]
    assert model.batch_size == 1


# ---- threads


def test_eight_threads_answer_as_one() -> None:
    net, items = small_net(), pictures(BATCH + 3)
    model = ready(net, items, spec=SPEC)
    parts = [items[place % 4 : place % 4 + 1 + place % BATCH] for place in range(16)]
    serial = [predict(model, part) for part in parts]
    with Crew(model) as crew:
        crew.each(lambda run, place: run(items[:BATCH]))
        before = process_threads()
        answers = crew.each(lambda run, place: [run(parts[(place + call) % 16]) for call in range(CALLS)])
        assert process_threads() == before
    for place, rows in enumerate(answers):
        for call, found in enumerate(rows):
            assert np.array_equal(np.stack(found), np.stack(serial[(place + call) % 16]))
    assert model.compiles_after_seal == 0
    assert model.concurrency == "concurrent"


def test_the_model_is_usable_afterwards() -> None:
    net, items = small_net(), floats(4)
    truth = plain(net, items)
    model = ready(net, items)
    with Crew(model) as crew:
        crew.each(lambda run, place: run(items))
    model.close()
    assert np.array_equal(plain(net, items), truth)
    assert np.allclose(net.predict(np.stack(items), verbose=0), truth, atol=1e-5)
    net.compile(optimizer="sgd", loss="mse")
    net.fit(np.stack(items), np.zeros((4, 5), np.float32), verbose=0)
    assert not np.allclose(plain(net, items), truth, atol=1e-6)


def test_each_worker_enters_what_its_thread_needs() -> None:
    seen: list[bool] = []

    class Spy(layers.Layer):  # type: ignore[misc]
        def call(self, batch: Any) -> Any:
            if BACKEND == "torch":
                import torch

                seen.append(torch.is_inference_mode_enabled() and torch.get_num_threads() == 1)
            return batch

    model = ready(keras.Sequential([keras.Input((2,)), Spy()]), [np.ones(2, np.float32)], batch=1)
    seen.clear()
    with Crew(model) as crew:
        crew.each(lambda run, place: run([np.ones(2, np.float32)]))
    assert seen == ([True] * THREADS if BACKEND == "torch" else [])


def test_a_model_that_changes_itself_is_called_one_at_a_time() -> None:
    class Counter(layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, batch: Any) -> Any:
            self.calls.assign(self.calls + 1)
            return batch + self.calls

    model = ready(keras.Sequential([keras.Input((1,)), Counter()]), [np.zeros(1, np.float32)], batch=1)
    assert (model.concurrency, model.how) == ("one_at_a_time", "plain")
    assert "changes the model's variables" in model.why
    with Crew(model) as crew:
        answers = crew.each(lambda run, place: [float(run([np.zeros(1, np.float32)])[0][0]) for _ in range(50)])
    counts = sorted(count for rows in answers for count in rows)
    assert len(set(counts)) == len(counts)


# ---- compiled programs


def test_what_cannot_be_compiled_is_called_plainly() -> None:
    class Picky(layers.Layer):  # type: ignore[misc]
        def call(self, batch: Any) -> Any:
            return batch * 2 if float(keras.ops.max(batch)) > 1 else batch

        def compute_output_spec(self, batch: Any) -> Any:
            return keras.KerasTensor(batch.shape, batch.dtype)

    net = keras.Sequential([keras.Input((2,)), Picky()])
    items = [np.full(2, value, np.float32) for value in (0.5, 3)]
    model = ready(net, items)
    assert (model.how, model.concurrency) == ("plain", "concurrent")
    assert "could not compile" in model.why if COMPILES else "nothing to compile" in model.why
    assert [predict(model, [item])[0].tolist() for item in items] == [[0.5, 0.5], [6, 6]]
    assert model.compiles_after_seal == (None if COMPILES else 0)


def test_programs_that_answer_otherwise_are_not_used() -> None:
    class Fickle(layers.Layer):  # type: ignore[misc]
        def call(self, batch: Any) -> Any:
            self.calls = getattr(self, "calls", 0) + 1
            return batch + self.calls

    model = ready(keras.Sequential([keras.Input((1,)), Fickle()]), [np.zeros(1, np.float32)], batch=1)
    assert model.how == "plain"
    if COMPILES:
        assert "answers otherwise" in model.why


def test_compiles_after_the_seal_are_counted() -> None:
    model = ready(small_net(width=None), [*floats(3), *floats(1, 20)])
    for n in (1, 2, 3, 4):  # every batch size that can come of this one
        predict(model, floats(n))
        predict(model, floats(n, 20))
    assert model.compiles_after_seal == 0
    predict(model, floats(4, 32))
    predict(model, floats(3, 32))
    assert model.compiles_after_seal == (1 if BACKEND == "jax" else 0)


def test_a_sample_that_fails_is_passed_over_unless_all_do() -> None:
    model = KerasModel(small_net())
    with pytest.raises(ModelError, match=r"all of 1 sample items.*'keras_tensor.*' float32 \(\?, 12, 16, 3\)"):
        model.warm([np.zeros((3, 3), np.float32)])
    model.warm([np.zeros((3, 3), np.float32), *floats(1)])
    assert len(predict(model, floats(2))) == 2
    with pytest.raises(ItemError, match="takes"):
        predict(model, [np.zeros((3, 3), np.float32)])


# ---- what it refuses


def test_several_inputs_and_inputs_that_are_no_numbers_are_refused() -> None:
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    with pytest.raises(UsageError, match=r"2 inputs \('left'.*'right'"):
        KerasModel(keras.Model([left, right], layers.Add()([left, right])))
    words = keras.Input((2,), dtype="string")
    with pytest.raises(UsageError, match="no numbers"):
        KerasModel(keras.Model(words, words))


def test_a_closed_model_says_so() -> None:
    model = ready(small_net(), floats(1))
    with model.worker() as run:
        model.close()
        model.close()
        with pytest.raises(Closed, match="was closed"):
            run(floats(1))
    assert "closed" in repr(model)


# ---- fakes


class Crew:
    """Eight threads that enter the model once, as the engine's workers do."""

    def __init__(self, model: KerasModel) -> None:
        self._model = model
        self._pool = ThreadPoolExecutor(THREADS, initializer=self._enter)
        self._local = threading.local()
        self._start = threading.Barrier(THREADS)

    def _enter(self) -> None:
        self._local.scope = self._model.worker()
        self._local.run = self._local.scope.__enter__()

    def __enter__(self) -> Self:
        self.each(lambda run, place: None)
        return self

    def __exit__(self, *error: object) -> None:
        self.each(lambda run, place: self._local.scope.__exit__(None, None, None))
        self._pool.shutdown()

    def each(self, job: Callable[[Any, int], Any]) -> list[Any]:
        """Return what `job(predict, place)` gives in each thread; all start together."""

        def work(place: int) -> Any:
            self._start.wait(30)
            return job(self._local.run, place)

        return [future.result(50) for future in [self._pool.submit(work, place) for place in range(THREADS)]]


def process_threads() -> int:
    """Return how many threads the operating system counts; 0 where it does not tell."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else 0
