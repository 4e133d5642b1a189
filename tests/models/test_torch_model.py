"""Torch's adapter: answers of a plain loop, whatever the items, outputs and threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock._models.normalise import normalised
from penstock._models.torch_model import TorchModel
from penstock._models.torch_net import load_net
from penstock._options import Torch
from penstock._spec import InputSpec
from penstock.errors import Closed, ItemError

torch = pytest.importorskip("torch")
Module: Any = torch.nn.Module

SPEC = InputSpec(mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0))
Pictures = Callable[..., list[Any]]


def model_of(source: Any, spec: InputSpec | None = None, **options: Any) -> TorchModel:
    settings = options.pop("settings", None)
    return TorchModel(load_net(Torch(source, device="cpu", **options)), spec, settings)


def predict(model: TorchModel, items: list[Any]) -> list[Any]:
    with model.worker() as run:
        return list(run(items))


def plain(module: Any, item: Any, spec: InputSpec) -> Any:
    """Return what a plain torch program makes of one picture."""
    with torch.no_grad():
        return module(torch.from_numpy(normalised(item[None], spec, "float32")))[0].numpy()


class Function(Module):  # type: ignore[misc]
    """A module around a function."""

    def __init__(self, fn: Callable[[Any], Any]) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Any) -> Any:
        return self.fn(x)


class Sees(Function):
    """Notes what a function finds in its input, and gives the input back."""

    def __init__(self, look: Callable[[Any], Any]) -> None:
        super().__init__(look)
        self.seen: list[Any] = []

    def forward(self, x: Any) -> Any:
        self.seen.append(self.fn(x))
        return x


@pytest.mark.parametrize("options", [{}, {"channels_last": True}])
def test_pictures_of_all_shapes_are_normalised_on_the_device(
    nets: Any, pictures: Pictures, options: dict[str, Any]
) -> None:
    items = [*pictures(3), *pictures(2, 40, 24), pictures(4)[3]]
    items.insert(1, items.pop())
    rows = predict(model_of(nets.make(), SPEC, **options), items)
    for item, row in zip(items, rows, strict=True):
        np.testing.assert_allclose(row, plain(nets.make(), item, SPEC), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        (SPEC, torch.float32),
        (InputSpec(mean=(1.0,), std=(2.0,), layout="NHWC"), torch.float32),
        (InputSpec(dtype="uint8"), torch.uint8),
        (InputSpec(dtype="uint8", layout="NHWC"), torch.uint8),
    ],
)
def test_the_input_is_what_the_spec_says(pictures: Pictures, spec: InputSpec, dtype: Any) -> None:
    items = pictures(2)
    for channels_last in (False, True):
        rows = predict(model_of(Function(lambda x: x), spec, channels_last=channels_last), items)
        wanted = normalised(np.stack(items), spec, str(dtype).removeprefix("torch."))
        np.testing.assert_array_equal(np.stack(rows), wanted)
        assert rows[0].dtype == wanted.dtype


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_memory_format_is_as_asked(pictures: Pictures, channels_last: bool) -> None:
    form = torch.channels_last if channels_last else torch.contiguous_format
    options = {"channels_last": channels_last}
    for spec, items in ((SPEC, pictures(2)), (None, [np.zeros((3, 4, 5), np.float32)] * 2)):
        model = model_of(Sees(lambda x: x.is_contiguous(memory_format=form)), spec, **options)
        predict(model, items)
        assert model._open_net().module.seen == [True]  # on a copy, where it was changed


def test_ready_arrays_and_tensors_go_in_as_they_are() -> None:
    model = model_of(Function(lambda x: x))
    items = [
        np.array([1, 2], np.float64),
        torch.tensor([3.0, 4.0]),
        np.array([5, 6], np.int32),
        [7, 8],
        np.array([9, 10], np.float16),
        11.5,
    ]
    rows = predict(model, items)
    assert [row.tolist() for row in rows] == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], 11.5]
    assert [row.dtype.name for row in rows] == ["float32", "float32", "int32", "int64", "float32", "float32"]


def test_a_read_only_item_does_not_matter() -> None:
    item = np.array([1, 2], np.float32)
    item.flags.writeable = False
    assert predict(model_of(Function(lambda x: x + 1)), [item])[0].tolist() == [2, 3]


@pytest.mark.parametrize("item", ["text", object(), None, {"a": 1}])
def test_what_is_no_array_is_an_items_error(item: Any) -> None:
    with pytest.raises(ItemError, match="takes arrays of numbers"):
        predict(model_of(Function(lambda x: x)), [item])


def test_a_picture_that_is_none_is_an_items_error(nets: Any) -> None:
    with pytest.raises(ItemError, match=r"uint8 pictures \(H, W, 3\); got float32 \(3, 4\)"):
        predict(model_of(nets.make(), SPEC), [np.zeros((3, 4), np.float32)])


@pytest.mark.parametrize(
    ("answer", "row"),
    [
        (lambda x: x[:, 0], 1.0),
        (lambda x: (x,), [1, 2]),
        (lambda x: (x, x[:, 1]), {"output0": [1, 2], "output1": 2}),
        (lambda x: [x, x], {"output0": [1, 2], "output1": [1, 2]}),
        (lambda x: OrderedDict(logits=x, loss=None), {"logits": [1, 2]}),
    ],
)
def test_outputs_become_rows(answer: Callable[[Any], Any], row: Any) -> None:
    (found,) = predict(model_of(Function(answer)), [np.array([1, 2], np.float32)])
    assert ({key: value.tolist() for key, value in found.items()} if isinstance(row, dict) else found.tolist()) == row


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: x[:1], r"Function: expected 2 rows, got 1 \(shape \(1, 3\)\)"),
        (lambda x: {"a": x, "b": x.mean()}, r"Function\['b'\]: expected 2 rows, got a single number"),
        (lambda x: x.tolist(), "answered with a list that holds a list"),
        (lambda _: None, "answered with a NoneType that holds a NoneType"),
        (lambda _: {}, "answered with a dict of nothing"),
        (lambda x: x @ x, r"failed on torch.float32 \(2, 3\): RuntimeError: mat1 and mat2"),
    ],
)
def test_wrong_answers_are_items_errors_with_numbers(answer: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(ItemError, match=said):
        predict(model_of(Function(answer)), [np.zeros(3, np.float32)] * 2)


def test_rows_have_memory_of_their_own() -> None:
    buffer = torch.zeros(1, 2)
    model = model_of(Function(buffer.copy_))
    with model.worker() as run:
        first = run([np.array([1, 2], np.float32)])[0]
        run([np.array([3, 4], np.float32)])
    assert first.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("options", "inside"),
    [({"dtype": "bfloat16"}, torch.bfloat16), ({"dtype": "float16"}, torch.float16), ({}, torch.float32)],
)
def test_a_lowered_dtype_is_of_weights_and_input(options: dict[str, Any], inside: Any) -> None:
    seen = Sees(lambda x: x.dtype)
    model = model_of(torch.nn.Sequential(torch.nn.Linear(2, 2), seen), **options)
    (row,) = predict(model, [np.array([1, 2], np.float32)])
    assert model._open_net().module[1].seen == [inside]
    assert row.dtype == (np.float16 if inside is torch.float16 else np.float32)


def test_autocast_is_entered_in_every_thread() -> None:
    model = model_of(torch.nn.Linear(2, 2), autocast="bfloat16")
    with model.worker() as run, torch.autocast("cpu", enabled=False), ThreadPoolExecutor(1) as pool:
        exact = run([np.array([1 / 3, 1], np.float32)])[0]
        (other,) = pool.submit(predict, model, [np.array([1 / 3, 1], np.float32)]).result(30)
    assert not np.array_equal(exact, other)
    np.testing.assert_allclose(exact, other, rtol=0.02, atol=0.02)


def test_each_thread_is_set_up_and_leaves_no_trace() -> None:
    module = Sees(lambda _: (torch.is_inference_mode_enabled(), torch.get_num_threads()))
    before = torch.get_num_threads()
    model = model_of(module, settings={"intra_threads": 3})
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: predict(model, [np.array([1], np.float32)]), range(4)))
    predict(model, [np.array([1], np.float32)])
    assert set(module.seen) == {(True, 3)}
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()


def test_a_fresh_thread_keeps_what_it_was_told_whatever_another_one_is_told() -> None:
    """A thread's first question to torch would set it to what any thread was told last."""
    module = Sees(lambda _: torch.get_num_threads())
    model = model_of(module, settings={"intra_threads": 3})
    told, go = threading.Event(), threading.Event()

    def work() -> None:
        with model.worker() as run:
            told.set()
            assert go.wait(20)
            run([np.array([1], np.float32)])

    thread = threading.Thread(target=work)
    thread.start()
    assert told.wait(20)
    torch.set_num_threads(torch.get_num_threads())  # another thread is told something else
    go.set()
    thread.join(20)
    assert module.seen == [3]


def test_one_at_a_time_means_one_at_a_time() -> None:
    met: list[bool] = []
    meeting = threading.Barrier(2)

    def meet(x: Any) -> Any:
        try:
            meeting.wait(0.3)
            met.append(True)
        except threading.BrokenBarrierError:
            meeting.reset()
        return x

    for concurrency, expected in (("one_at_a_time", []), ("concurrent", [True, True])):
        met.clear()
        meeting.reset()
        model = model_of(Function(meet), settings={"concurrency": concurrency})
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda value, model=model: predict(model, [np.float32(value)]), [1, 2]))
        assert met == expected


def test_a_fixed_batch_is_fed_and_cut(nets: Any, pictures: Pictures, tmp_path: Path) -> None:
    model = model_of(nets.save_export(nets.make(), tmp_path / "fixed.pt2", batch=4), SPEC)
    assert model.batch_size == 4
    items = pictures(6)
    rows = predict(model, items)
    assert len(rows) == 6
    for item, row in zip(items, rows, strict=True):
        np.testing.assert_allclose(row, plain(nets.make(), item, SPEC), rtol=0, atol=1e-6)


def test_closed_is_closed_and_the_net_with_it(nets: Any, pictures: Pictures) -> None:
    net = load_net(Torch(nets.make().train(), device="cpu"))
    model = TorchModel(net, SPEC)
    model.close_net = net.close
    with model.worker() as run:
        model.close()
        model.close()
        with pytest.raises(Closed):
            run(pictures(1))
    with pytest.raises(Closed), model.worker():
        pass
    assert net.module is None
    assert "closed" in repr(model)
