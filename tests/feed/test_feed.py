"""The same batches whatever feeds them: bit by bit, over workers, kinds, stops and resumes."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import penstock
from penstock import Feed
from penstock.errors import UsageError

N, SIZE, EPOCHS = 50, 8, 2
WAYS = [(0, "thread"), (1, "thread"), (2, "thread"), (4, "thread"), (1, "process"), (2, "process"), (4, "process")]
pytestmark = pytest.mark.usefixtures("no_child_left")


def make(sets: Any, workers: int, kind: Any, **options: Any) -> Feed:
    options = {"seed": 3, "transform": sets.noise, "collate": sets.stacked, **options}
    return Feed(sets.Squares(N, noisy=True), SIZE, workers=workers, kind=kind if workers else "auto", **options)


def taken(feed: Feed, as_plain: Callable[[Any], Any], epochs: int = EPOCHS) -> list[Any]:
    return [as_plain(batch) for _ in range(epochs) for batch in feed]


@pytest.fixture
def reference(sets: Any, as_plain: Any) -> list[Any]:
    with make(sets, 0, "thread") as feed:
        return taken(feed, as_plain)


@pytest.mark.parametrize(("workers", "kind"), WAYS)
def test_batches_are_equal_bit_by_bit(sets: Any, as_plain: Any, reference: list[Any], workers: int, kind: str) -> None:
    with make(sets, workers, kind) as feed:
        assert taken(feed, as_plain) == reference
    assert len(reference) == EPOCHS * 7
    assert reference[0] != reference[7]


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_random_numbers_are_of_an_item_in_an_epoch_and_of_a_batch(sets: Any, kind: Any) -> None:
    """Each item draws other numbers than all others, and others in the next epoch; so does each batch in `collate`."""
    drawn, lots = [], []
    with make(sets, 1, kind, transform=None) as feed:
        for _ in range(EPOCHS):
            for batch in feed:
                drawn += [float(row[0] - k) for row, k in zip(batch["x"], batch["k"], strict=True)]
                lots.append(batch["lot"])
    assert len({round(number, 9) for number in drawn}) == EPOCHS * N
    assert len(set(lots)) == len(lots) == EPOCHS * 7


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_resumed_at_any_step_with_any_workers_the_rest_is_the_same(
    sets: Any, as_plain: Any, reference: list[Any], kind: str
) -> None:
    """Stopped and gone on with at every step of two epochs, each time by other workers."""
    for step in range(len(reference)):
        with make(sets, step % 3, "thread") as feed:
            stream = _endless(feed)
            for _ in range(step):
                next(stream)
            state = json.loads(json.dumps(feed.state_dict()))
        assert len(json.dumps(state)) < 400
        if kind == "process" and step % 5:
            continue  # a process takes its time to start
        with make(sets, 1 + step % 2, kind) as feed:
            feed.load_state_dict(state)
            rest = taken(feed, as_plain, EPOCHS - step // 7) if step % 7 or step == 0 else _rest(feed, as_plain, step)
        assert rest == reference[step:]


def _rest(feed: Feed, as_plain: Any, step: int) -> list[Any]:
    """Return what is left where the state is at the end of an epoch: an empty rest, then whole epochs."""
    assert list(feed) == []
    return taken(feed, as_plain, EPOCHS - step // 7)


def _endless(feed: Feed) -> Iterator[Any]:
    while True:
        yield from feed


@settings(max_examples=25)
@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=3),
    st.booleans(),
)
def test_each_item_once_over_other_world_sizes(n: int, size: int, runs: list[tuple[int, int]], order: bool) -> None:
    """Each rank takes some batches, all stop, and others go on: the rest of the epoch is exact."""
    seen: list[int] = []
    states: list[Any] = []
    for world, steps in [*runs, (2, 1000)]:
        feeds = [
            Feed(list(range(n)), size, rank=rank, world_size=world, workers=1, kind="thread", order=order)
            for rank in range(world)
        ]
        for rank, feed in enumerate(feeds):
            with feed:
                if states:
                    feed.load_state_dict(states)
                for _, batch in zip(range(steps + rank % 2), feed, strict=False):
                    seen.extend(batch.tolist())
        if steps < 1000:
            states = [feed.state_dict() for feed in feeds]
            if len({state["epoch"] for state in states}) > 1:
                return  # a rank without a batch of its own is an epoch ahead: such states are refused
            if states[0]["epoch"]:
                break
    assert sorted(seen) == list(range(n))


def test_without_order_each_item_comes_once_also_when_resumed(sets: Any) -> None:
    gate = threading.Event()

    def slow_first(sample: tuple[Any, int]) -> int:
        if sample[1] == first:
            assert gate.wait(20)
        return sample[1]

    with Feed(sets.Squares(40), 4, workers=0) as plain:
        first = int(next(iter(plain))[1][0])
    with Feed(sets.Squares(40), 4, transform=slow_first, order=False, workers=2, kind="thread") as feed:
        stream = iter(feed)
        seen = [next(stream).tolist() for _ in range(4)]
        state = feed.state_dict()
        gate.set()
    assert first not in list(chain(*seen))
    assert (state["mark"], state["beyond"]) == (0, [[1, 5]])
    with Feed(sets.Squares(40), 4, transform=last, workers=2, kind="thread") as feed:
        feed.load_state_dict(state)
        rest = [batch.tolist() for batch in feed]
    assert sorted(chain(*seen, *rest)) == list(range(40))
    assert rest[0][0] == first


def last(sample: tuple[Any, int]) -> int:
    return sample[1]


def test_a_broken_loop_goes_on_and_an_epoch_begins_anew(sets: Any) -> None:
    with Feed(sets.Squares(40), 4, workers=2, kind="thread") as feed:
        whole = [batch[1].tolist() for batch in feed.epoch(1)]
        for batch in feed.epoch(1):
            assert batch[1].tolist() == whole[0]
            break
        assert [batch[1].tolist() for batch in feed] == whole[1:]
        assert feed.state_dict()["epoch"] == 2
        assert [batch[1].tolist() for batch in feed.epoch(1)] == whole


def test_steps_count_over_all_epochs(sets: Any) -> None:
    with Feed(sets.Squares(20), 6, workers=1, kind="thread") as feed:
        two = [batch[1].tolist() for _ in range(2) for batch in feed]
        assert len(feed) == 4
        assert [batch[1].tolist() for batch in feed.steps(0, 8)] == two
        assert [batch[1].tolist() for batch in feed.steps(3, 6)] == two[3:6]
        assert [batch[1].tolist() for batch in feed.steps(6, 7)] == two[6:7]
        with pytest.raises(UsageError, match="steps"):
            feed.steps(5, 3)


@pytest.mark.parametrize("drop_last", [False, True])
def test_ranks_share_an_epoch(drop_last: bool) -> None:
    feeds = [Feed(range(50), 8, rank=rank, world_size=3, workers=0, drop_last=drop_last) for rank in range(3)]
    got = [[batch.tolist() for batch in feed] for feed in feeds]
    assert [len(feed) for feed in feeds] == [len(batches) for batches in got] == ([2, 2, 2] if drop_last else [3, 2, 2])
    items = [item for batches in got for batch in batches for item in batch]
    assert len(set(items)) == len(items) == (48 if drop_last else 50)
    with Feed(range(50), 8, workers=0) as alone:
        batches = [batch.tolist() for batch in alone]
    assert got[1] == batches[1 : 6 if drop_last else 7 : 3]


@pytest.mark.parametrize(("workers", "kind"), [(0, "auto"), (1, "thread"), (1, "process")])
def test_arrays_begin_on_a_cache_line(sets: Any, workers: int, kind: Any) -> None:
    with Feed(sets.Squares(30), 7, workers=workers, kind=kind) as feed:
        assert all(array.ctypes.data % 64 == 0 for batch in feed for array in batch)


def test_shuffle_false_keeps_the_order() -> None:
    with Feed(range(10), 4, shuffle=False, workers=0) as feed:
        assert [batch.tolist() for batch in feed] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_several_data_sets_in_shares() -> None:
    feed = Feed([list(range(30)), list(range(100, 110))], 5, weights=[4, 1], workers=0)
    batches = [batch.tolist() for batch in feed]
    assert [sum(item >= 100 for item in batch) for batch in batches] == [1] * 8
    assert {item for batch in batches for item in batch if item < 100} == set(range(30))


def test_an_iterable_is_read_from_the_front_and_resumed_by_reading() -> None:
    with Feed((k * k for k in range(10)), 4, shuffle=False, workers=2) as feed:
        stream = iter(feed)
        assert next(stream).tolist() == [0, 1, 4, 9]
        state = feed.state_dict()
        with pytest.raises(TypeError, match="iterable"):
            len(feed)
    with Feed([k * k for k in range(10)].__iter__(), 4, shuffle=False, workers=1) as feed:
        feed.load_state_dict(state)
        assert [batch.tolist() for batch in feed] == [[16, 25, 36, 49], [64, 81]]


def test_an_iterable_that_can_be_read_once_only_is_not_taken_for_an_empty_epoch() -> None:
    with Feed(iter(range(5)), 2, shuffle=False, workers=0) as feed:
        assert len(list(feed)) == 3
        with pytest.raises(UsageError, match="read once only"):
            list(feed)


def test_ranks_share_an_iterable() -> None:
    class Numbers:
        def __iter__(self) -> Iterator[int]:
            return iter(range(22))

    got = [
        [b.tolist() for b in Feed(Numbers(), 4, shuffle=False, rank=rank, world_size=2, workers=0)] for rank in range(2)
    ]
    assert got == [[[0, 1, 2, 3], [8, 9, 10, 11], [16, 17, 18, 19]], [[4, 5, 6, 7], [12, 13, 14, 15], [20, 21]]]


def test_a_torch_data_set_unchanged() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.data import TensorDataset

    images, labels = torch.arange(60.0).reshape(20, 3), torch.arange(20)
    kind: Any
    for workers, kind in ((0, "auto"), (2, "thread"), (1, "process")):
        with Feed(TensorDataset(images, labels), 8, workers=workers, kind=kind) as feed:
            for x, y in feed:
                assert isinstance(x, torch.Tensor)
                assert torch.equal(x, images[y])


def test_a_list_of_paths_with_a_transform(tmp_path: Path, shared_data: Path) -> None:
    paths = sorted(map(str, shared_data.rglob("*.jpg")))[:6]
    with Feed(paths, 3, transform=corner, workers=2) as feed:
        batches = list(feed)
    assert [batch.shape for batch in batches] == [(3, 8, 8, 3)] * 2
    assert batches[0].dtype == np.uint8
    with Feed(str(Path(paths[0]).parent), 3, transform=corner, workers=2) as feed:
        assert next(iter(feed)).shape == (3, 8, 8, 3)


def corner(path: str) -> Any:
    return penstock.decode(path)[:8, :8]


def test_tensors_where_a_device_is_named() -> None:
    torch = pytest.importorskip("torch")
    with Feed(range(4), 2, device="cpu", workers=0) as feed:
        assert all(isinstance(batch, torch.Tensor) for batch in feed)


def test_two_feeds_side_by_side_share_the_workers_turns() -> None:
    at_once, most = Counter[str](), []
    lock = threading.Lock()

    def watched(value: int) -> int:
        with lock:
            at_once["n"] += 1
            most.append(at_once["n"])
        found = sum(range(2000)) * 0 + value
        with lock:
            at_once["n"] -= 1
        return found

    with Feed(range(400), 4, transform=watched) as a, Feed(range(400), 4, transform=watched) as b:
        assert sorted(x for pair in zip(a, b, strict=True) for batch in pair for x in batch.tolist()) == sorted(
            [*range(400)] * 2
        )
        assert max(most) <= max(a.plan["workers"], b.plan["workers"], 2)  # two at the look at the first samples


@pytest.mark.parametrize(
    ("arguments", "options", "why"),
    [
        ((range(3), 0), {}, "batch_size=0"),
        ((range(3), True), {}, "batch_size=True"),
        ((range(3), 2), {"workers": -1}, "workers=-1"),
        ((range(3), 2), {"kind": "fork"}, "kind='fork'"),
        ((range(3), 2), {"workers": 0, "kind": "process"}, "workers=0"),
        ((range(3), 2), {"rank": 1}, "give both"),
        ((range(3), 2), {"rank": 2, "world_size": 2}, "count from 0"),
        ((range(3), 2), {"on_error": "ignore"}, "on_error='ignore'"),
        ((range(3), 2), {"max_failures": "many"}, "max_failures='many'"),
        ((range(3), 2), {"prefetch_bytes": 0}, "prefetch_bytes=0"),
        (([], 2), {}, "empty"),
        ((5, 2), {}, "dataset=5"),
        (({1: 2}, 2), {}, "dataset="),
        ((iter([1]), 2), {}, "shuffle=False"),
        ((iter([1]), 2), {"shuffle": False, "drop_last": True, "rank": 0, "world_size": 2}, "drop_last"),
        (([1, 2], 2), {"weights": [1, 2]}, "weights="),
        (("no/such/folder", 2), {}, "no/such/folder"),
        ((range(3), 2), {"device": "tpu"}, "device='tpu'"),
        ((range(3), 2), {"seed": -1}, "seed=-1"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(arguments: Any, options: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Feed(*arguments, **options)


def test_a_rank_that_nobody_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="WORLD_SIZE is 4"):
        Feed(range(3), 2)
    assert len(Feed(range(8), 2, rank=1, world_size=4)) == 1


def test_steps_without_a_sample_are_passed_over(sets: Any) -> None:
    with Feed(sets.Faulty(3, dict.fromkeys(range(3), "raise")), 2, workers=0, max_failures=None) as feed:
        assert list(feed.steps(0, 3)) == []
        assert len(feed.failures) == 2  # of the epoch that the last step is in
        assert feed.state_dict()["epoch"] == 1


@pytest.mark.parametrize("order", [False, True])
@pytest.mark.parametrize("stop", [3, 7, 9])
def test_a_state_amid_steps_goes_on_over_epochs(sets: Any, order: bool, stop: int) -> None:
    options: dict[str, Any] = {"workers": 1, "kind": "thread", "order": order}
    with Feed(sets.Squares(20), 6, workers=0) as feed:
        whole = [batch[1].tolist() for batch in feed.steps(0, 10)]
    with Feed(sets.Squares(20), 6, **options) as feed:
        head = [batch[1].tolist() for _, batch in zip(range(stop), feed.steps(0, 10), strict=False)]
        state = feed.state_dict()
    with Feed(sets.Squares(20), 6, **options) as feed:
        feed.load_state_dict(state)
        assert head + [batch[1].tolist() for batch in feed.steps(stop, 10)] == whole
