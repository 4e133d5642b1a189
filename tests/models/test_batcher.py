from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._models.batcher import Batcher
from penstock._models.ports import Port, Ports
from penstock.errors import ItemError, ModelError


def ports(given: Any, *outputs: Any) -> Ports:
    named = tuple(Port(f"out{i}", shape, "float32") for i, shape in enumerate(outputs))
    return Ports((Port("x", given, "float32"),), named)


class Recorder:
    """A model that doubles its input and remembers the batches it saw."""

    def __init__(self, batch: int | None = None) -> None:
        self.batch = batch
        self.sizes: list[int] = []

    def __call__(self, array: Any) -> list[Any]:
        if self.batch is not None and len(array) != self.batch:
            raise RuntimeError(f"got {len(array)}, wanted {self.batch}")
        self.sizes.append(len(array))
        return [array * 2]


def item(value: float, width: int = 3) -> Any:
    return np.full((width,), value, np.float32)


def test_a_list_is_one_batch() -> None:
    run = Recorder()
    rows = Batcher("m", ports(("N", 3), ("N", 3))).predict(run, [item(i) for i in range(5)])
    assert [row[0] for row in rows] == [0, 2, 4, 6, 8]
    assert run.sizes == [5]


def test_a_fixed_batch_of_one_is_fed_one_by_one() -> None:
    run = Recorder(batch=1)
    batcher = Batcher("m", ports((1, 3), (1, 3)))
    assert [row[0] for row in batcher.predict(run, [item(i) for i in range(3)])] == [0, 2, 4]
    assert run.sizes == [1, 1, 1]
    assert batcher.size == 1


def test_a_fixed_batch_of_four_is_filled_and_the_filling_dropped() -> None:
    run = Recorder(batch=4)
    rows = Batcher("m", ports((4, 3), (4, 3))).predict(run, [item(i) for i in range(6)])
    assert [row[0] for row in rows] == [0, 2, 4, 6, 8, 10]
    assert run.sizes == [4, 4]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_shapes_are_run_apart_and_put_back_in_order(widths: list[int]) -> None:
    run = Recorder()
    rows = Batcher("m", ports(("N", "W"), ("N", "W"))).predict(run, [item(i, w) for i, w in enumerate(widths)])
    assert [(row[0], len(row)) for row in rows] == [(2 * i, w) for i, w in enumerate(widths)]
    assert len(run.sizes) == len(set(widths))


def test_undeclared_rows_are_found_by_running_one_item_twice() -> None:
    batcher = Batcher("m", ports((None, 3), (None, 3)))
    assert len(batcher.predict(Recorder(), [item(1), item(2)])) == 2
    assert batcher.size is None


def test_a_table_of_all_detections_is_not_cut() -> None:
    def detect(array: Any) -> list[Any]:
        return [np.repeat(array, 3, axis=0)]  # three detections for each item

    batcher = Batcher("m", ports((None, 3), (None, 3)))
    rows = batcher.predict(detect, [item(1), item(2)])
    assert [row.shape for row in rows] == [(3, 3), (3, 3)]
    assert [row[0, 0] for row in rows] == [1, 2]
    assert batcher.size == 1


def test_a_batch_axis_in_name_only_is_run_one_by_one() -> None:
    batcher = Batcher("m", ports((None, 3), (None, 3)))
    assert [row[0] for row in batcher.predict(Recorder(batch=1), [item(1), item(2)])] == [2, 4]
    assert batcher.size == 1


def test_several_outputs_become_a_dict_of_rows() -> None:
    batcher = Batcher("m", ports(("N", 3), ("N", 3), ("N",)))
    rows = batcher.predict(lambda array: [array * 2, array.sum(axis=1)], [item(1), item(2)])
    assert [sorted(row) for row in rows] == [["out0", "out1"]] * 2
    assert rows[1]["out1"] == 6


def test_fewer_rows_than_items_is_an_error_with_both_numbers() -> None:
    batcher = Batcher("m", ports(("N", 3), ("N", 3)))
    with pytest.raises(ModelError, match=r"expected 3 rows in output 'out0', got 2"):
        batcher.predict(lambda array: [array[:-1]], [item(i) for i in range(3)])


def test_a_runtimes_error_names_model_and_shape() -> None:
    def broken(_: Any) -> list[Any]:
        raise RuntimeError("kernel failed\nat node 7")

    with pytest.raises(ItemError, match=r"m failed on float32 \(1, 3\): kernel failed at node 7"):
        Batcher("m", ports(("N", 3), ("N", 3))).predict(broken, [item(1)])


def test_no_items_no_rows() -> None:
    assert Batcher("m", ports(("N", 3), ("N", 3))).predict(Recorder(), []) == []


def test_what_is_no_array_is_refused() -> None:
    with pytest.raises(ItemError, match="no array of numbers"):
        Batcher("m", ports(("N", 3), ("N", 3))).predict(Recorder(), [{"a": 1}])
