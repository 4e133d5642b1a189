"""What the user gave as a data set."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from penstock._feed.data import data_of
from penstock._feed.packed import Packed
from penstock._feed.sharing import Sharing


def test_a_table_gives_its_rows_with_their_path(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
    (tmp_path / "table.csv").write_text("path,label\na.jpg,3\nb.jpg,cat\n")
    data = data_of(str(tmp_path / "table.csv"), None, shuffle=True)
    assert [row["label"] for row in data.indexed[0]] == ["3", "cat"]
    assert [Path(row["path"]).name for row in data.indexed[0]] == ["a.jpg", "b.jpg"]


def test_a_long_list_is_packed() -> None:
    rows = [(f"{k}.jpg", k) for k in range(5000)]
    data = data_of(rows, None, shuffle=True)
    assert isinstance(data.indexed[0], Packed)
    assert data.indexed[0][4999] == ("4999.jpg", 4999)


def test_an_iterable_of_torch_is_read_though_it_has_getitem() -> None:
    torch = pytest.importorskip("torch")

    class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc, name-defined]
        def __iter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204
            return iter(range(3))

        def __len__(self) -> int:
            return 3

    assert data_of(Stream(), None, shuffle=False).iterable is not None


def test_turns_are_those_of_the_largest_feed() -> None:
    sharing, entered = Sharing(), threading.Semaphore(0)
    release = threading.Event()

    def work() -> None:
        with sharing.turn():
            entered.release()
            release.wait(20)

    with sharing.feed(2), sharing.feed(1):
        both = sharing.max_bytes()
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert entered.acquire(timeout=20)
        assert entered.acquire(timeout=20)
        assert not entered.acquire(timeout=0.05)
        release.set()
        assert entered.acquire(timeout=20)
        for thread in threads:
            thread.join(20)
    with sharing.feed(1):
        assert sharing.max_bytes() // 2 == pytest.approx(both, rel=0.2)
