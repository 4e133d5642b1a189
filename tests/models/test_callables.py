from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest

from penstock._models.callables import CallableModel, rows_of
from penstock._spec import InputSpec
from penstock.errors import Closed, ItemError, ModelError, UsageError


def double(batch: list[Any]) -> list[Any]:
    return [2 * value for value in batch]


class Net:
    """Counts what happens to it."""

    events: ClassVar[list[str]] = []

    def load(self, device: str) -> None:
        self.events.append(f"load {device}")

    def predict(self, batch: list[Any]) -> list[Any]:
        return [value + 1 for value in batch]

    def close(self) -> None:
        self.events.append("close")


@pytest.fixture(autouse=True)
def no_events() -> None:
    Net.events.clear()


def predict(model: CallableModel, items: list[Any]) -> list[Any]:
    with model.worker() as run:
        return list(run(items))


def test_a_function_gets_a_list_and_its_rows_are_kept() -> None:
    model = CallableModel(double)
    assert predict(model, [1, "a"]) == [2, "aa"]
    assert model.name == "double"
    assert model.concurrency == "one_at_a_time"


def test_a_class_is_made_loaded_once_and_closed() -> None:
    model = CallableModel(Net, device="cpu")
    assert Net.events == []
    assert predict(model, [1, 2]) == [2, 3]
    assert predict(model, [1]) == [2]
    model.close()
    model.close()
    assert Net.events == ["load cpu", "close"]


def test_an_instance_that_was_not_loaded_here_is_not_closed_here() -> None:
    class Mine:
        closed = False

        def predict(self, batch: list[Any]) -> list[Any]:
            return batch

        def close(self) -> None:
            self.closed = True

    mine = Mine()
    model = CallableModel(mine)
    predict(model, [1])
    model.close()
    assert not mine.closed


def test_an_object_that_is_called() -> None:
    class Called:
        def __call__(self, batch: list[Any]) -> Any:
            return np.asarray(batch) * 3

    assert predict(CallableModel(Called()), [1, 2]) == [3, 6]


def test_with_a_spec_the_batch_is_one_array_for_each_shape() -> None:
    seen: list[tuple[int, ...]] = []

    def shape(batch: Any) -> Any:
        seen.append(batch.shape)
        assert batch.dtype == np.float32
        return batch.mean(axis=(1, 2, 3))

    pictures = [np.full((2, width, 3), 10 * width, np.uint8) for width in (4, 6, 4)]
    model = CallableModel(shape, spec=InputSpec(mean=(10.0,), std=(10.0,)))
    assert predict(model, pictures) == [3, 5, 3]
    assert seen == [(2, 3, 2, 4), (1, 3, 2, 6)]


def test_a_dict_of_columns_becomes_a_dict_for_each_item() -> None:
    rows = rows_of({"a": [1, 2], "b": np.asarray([[3], [4]])}, 2, "m")
    assert [row["a"] for row in rows] == [1, 2]
    assert [list(row["b"]) for row in rows] == [[3], [4]]


def test_what_offers_an_array_is_taken_as_one() -> None:
    class Tensor:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.asarray([5, 6])

    assert rows_of(Tensor(), 2, "m") == [5, 6]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([1], "expected 3 rows, got 1"),
        ((1, 2, 3, 4), "expected 3 rows, got 4"),
        (np.zeros((2, 3)), "expected 3 rows, got 2"),
        ({"a": [1, 2, 3], "b": [1]}, r"m\['b'\]: expected 3 rows, got 1"),
        ({}, "got an empty dict"),
        (None, "got NoneType"),
        (np.float32(1), "got float32"),
        ("abc", "got str"),
        ({1, 2, 3}, "got set"),
        ((value for value in (1, 2, 3)), "got generator"),
    ],
)
def test_a_wrong_answer_is_refused_with_both_numbers(answer: Any, says: str) -> None:
    with pytest.raises(ItemError, match=says):
        rows_of(answer, 3, "m")


def test_one_at_a_time_means_one_at_a_time() -> None:
    met: list[bool] = []
    meeting = threading.Barrier(2)

    def meet(batch: list[Any]) -> list[Any]:
        try:
            meeting.wait(0.3)
            met.append(True)
        except threading.BrokenBarrierError:
            meeting.reset()
        return batch

    model = CallableModel(meet)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda value: predict(model, [value]), [1, 2])) == [[1], [2]]
    assert not met, "two threads were inside at once"


def test_concurrent_lets_them_in_together() -> None:
    meeting = threading.Barrier(2)

    def meet(batch: list[Any]) -> list[Any]:
        meeting.wait(10)
        return batch

    model = CallableModel(meet, concurrency="concurrent")
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda value: predict(model, [value]), [1, 2])) == [[1], [2]]


def test_the_objects_own_word_counts_most() -> None:
    class OneThread(Net):
        concurrency = "one_thread"

    model = CallableModel(OneThread, concurrency="concurrent")
    assert model.concurrency == "one_thread"
    assert predict(model, [1]) == [2]
    with ThreadPoolExecutor(1) as pool, pytest.raises(ModelError, match="called from a second thread"):
        pool.submit(predict, model, [1]).result(10)


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(UsageError, match="concurrency='many'"):
        CallableModel(double, concurrency="many")


def test_loading_happens_once_whoever_comes_first() -> None:
    model = CallableModel(Net, concurrency="concurrent")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda value: predict(model, [value])[0], range(8))) == list(range(1, 9))
    assert Net.events == ["load cpu"]


def test_a_load_that_loads_models_of_ours_does_not_wait_for_itself() -> None:
    class Outer:
        def load(self, device: str) -> None:
            self.inner = CallableModel(double)
            with self.inner.worker() as self.run:
                pass

        def predict(self, batch: list[Any]) -> list[Any]:
            return list(self.run(batch))

    assert predict(CallableModel(Outer), [4]) == [8]


def test_a_load_that_fails_names_the_model() -> None:
    class Broken:
        def load(self, device: str) -> None:
            raise OSError("no weights")

        def predict(self, batch: list[Any]) -> list[Any]:
            return batch

    with pytest.raises(ModelError, match="model Broken could not be loaded: OSError: no weights"):
        predict(CallableModel(Broken, name="Broken"), [1])


def test_the_functions_own_error_passes() -> None:
    def divide(batch: list[Any]) -> list[Any]:
        return [1 / value for value in batch]

    with pytest.raises(ZeroDivisionError):
        predict(CallableModel(divide), [0])


@pytest.mark.parametrize("thing", [3, "text", None, object(), dict])
def test_what_is_no_model_is_refused(thing: Any) -> None:
    with pytest.raises(UsageError, match="is no model"):
        CallableModel(thing)


def test_a_class_that_needs_arguments_is_refused() -> None:
    class Needy(Net):
        def __init__(self, path: str) -> None: ...

    with pytest.raises(UsageError, match="Needy needs arguments"):
        CallableModel(Needy)


def test_closed_is_closed() -> None:
    model = CallableModel(double)
    with model.worker() as run:
        model.close()
        with pytest.raises(Closed):
            run([1])
    with pytest.raises(Closed), model.worker():
        pass


def test_the_description_is_of_what_was_given() -> None:
    assert CallableModel(Net, name="other").describe()["name"].endswith("Net")
    assert CallableModel(Net).describe() == CallableModel(Net()).describe()
