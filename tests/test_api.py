"""`run` with callables: records, resume, refusals, budgets, retry, audit."""

from __future__ import annotations

import functools
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock import errors
from penstock._job import job_folder


def double(batch: list[int]) -> list[int]:
    return [2 * x for x in batch]


def double_unless_seven(batch: list[int]) -> list[int]:
    if 7 in batch:
        raise ValueError("seven is bad")
    return [2 * x for x in batch]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def file_size(path: str) -> int:
    return os.stat(path).st_size


def same(batch: list[Any]) -> list[Any]:
    return batch


def photos(folder: Path, **sizes: int) -> Path:
    """Make files with the suffix of pictures; a first stage that takes the path reads them."""
    folder.mkdir(exist_ok=True)
    for name, size in sizes.items():
        (folder / f"{name}.jpg").write_bytes(b"x" * size)
    return folder


def test_records_in_input_order(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    report = penstock.run(range(1000), double, out=out, batch=7, threads=4)
    assert lines(out) == [{"id": i, "output": 2 * i} for i in range(1000)]
    assert (report.planned, report.done, report.failed, report.skipped) == (1000, 1000, 0, 0)
    assert report.exit_code == 0
    assert "1,000 items: 1,000 done, 0 failed" in str(report)
    assert report.plan["window"] >= 1


def test_generator_of_unknown_length(tmp_path: Path) -> None:
    report = penstock.run((x for x in range(100)), double, out=tmp_path / "o.jsonl")
    assert (report.planned, report.done) == (100, 100)


def test_no_items(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    report = penstock.run([], double, out=out)
    assert (report.planned, report.exit_code) == (0, 0)
    assert out.read_bytes() == b""


def test_batches_are_cut_by_position(tmp_path: Path) -> None:
    seen: list[list[int]] = []
    lock = threading.Lock()

    def model(batch: list[int]) -> list[int]:
        with lock:
            seen.append(batch)
        return batch

    penstock.run(range(50), model, out=tmp_path / "o.jsonl", batch=8, threads=3)
    assert sorted(seen) == [list(range(i, min(50, i + 8))) for i in range(0, 50, 8)]


def test_one_bad_item_costs_that_item(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    report = penstock.run(range(20), double_unless_seven, out=out, batch=8)
    assert [row["id"] for row in lines(out)] == [i for i in range(20) if i != 7]
    assert (report.done, report.failed, report.exit_code) == (19, 1, 1)
    (failure,) = lines(job_folder(out) / "failures.jsonl")
    assert failure["id"] == 7
    assert failure["stage"] == "model"
    assert failure["type"] == "ValueError"
    assert "seven is bad" in failure["message"]
    assert failure["attempts"] == 1
    assert dict(report.failures[0]) == failure


def test_failures_are_left_alone_and_retried_on_request(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    bad = {3, 11}
    seen: list[int] = []

    class Model:
        version = "1"

        def predict(self, batch: list[int]) -> list[int]:
            seen.extend(batch)
            if bad & set(batch):
                raise ValueError(batch)
            return batch

    penstock.run(range(20), Model(), out=out, batch=1)
    seen.clear()
    report = penstock.run(range(20), Model(), out=out, batch=1)
    assert seen == []
    assert report.failed == 2
    bad.discard(3)
    report = penstock.run(range(20), Model(), out=out, batch=1, retry=True)
    assert sorted(set(seen)) == [3, 11]
    assert (report.done, report.failed) == (19, 1)
    assert [row["id"] for row in lines(out)] == [i for i in range(20) if i != 11]  # rewritten in input order
    (failure,) = lines(job_folder(out) / "failures.jsonl")
    assert (failure["id"], failure["attempts"]) == (11, 2)


def test_second_run_does_nothing(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    calls: list[int] = []

    class Model:
        version = "1"

        def predict(self, batch: list[int]) -> list[int]:
            calls.append(len(batch))
            return batch

    penstock.run(range(30), Model(), out=out)
    first = out.read_bytes()
    calls.clear()
    report = penstock.run(range(30), Model(), out=out)
    assert calls == []
    assert out.read_bytes() == first
    assert (report.planned, report.done, report.attempted) == (30, 30, 0)


def test_more_items_are_added(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    penstock.run(range(30), double, out=out, limit=12)
    report = penstock.run(range(30), double, out=out)
    assert (report.done, report.attempted) == (30, 18)
    assert [row["id"] for row in lines(out)] == list(range(30))


def test_folder_changed_new_and_vanished(tmp_path: Path) -> None:
    source, out = photos(tmp_path / "photos", a=1, b=2, c=3), tmp_path / "o.jsonl"
    seen: list[str] = []

    def size(path: str) -> int:
        seen.append(Path(path).name)
        return os.stat(path).st_size

    penstock.run(source, same, out=out, stages=[size])
    assert lines(out) == [{"id": f"{n}.jpg", "output": i} for i, n in enumerate("abc", start=1)]
    seen.clear()
    (source / "a.jpg").unlink()
    photos(source, b=20, bb=5)
    report = penstock.run(source, same, out=out, stages=[size])
    assert sorted(seen) == ["b.jpg", "bb.jpg"]
    assert (report.planned, report.done, report.vanished) == (3, 3, 1)
    assert lines(out) == [
        {"id": "a.jpg", "output": 1},  # its result is kept though the file is gone
        {"id": "b.jpg", "output": 20},
        {"id": "bb.jpg", "output": 5},
        {"id": "c.jpg", "output": 3},
    ]


def test_out_inside_the_source(tmp_path: Path) -> None:
    source = photos(tmp_path / "photos", a=1, b=2)
    for _ in range(2):
        report = penstock.run(source, same, out=source / "results", stages=[file_size])
        assert (report.planned, report.done) == (2, 2)
    assert json.loads((source / "results" / "a.jpg.json").read_text()) == {"id": "a.jpg", "output": 1}


def test_post_gets_the_item(tmp_path: Path) -> None:
    source, out = photos(tmp_path / "photos", a=1, b=2), tmp_path / "o.jsonl"
    post = penstock.Workers(lambda item, output: [item.id, Path(item.path).name, output], 2)
    penstock.run(source, same, out=out, stages=[penstock.Workers(file_size, 2)], post=post)
    assert [row["output"] for row in lines(out)] == [["a.jpg", "a.jpg", 1], ["b.jpg", "b.jpg", 2]]
    penstock.run((c for c in "xy"), same, out=tmp_path / "p.jsonl", post=lambda item, output: [item.id, output])
    assert [row["output"] for row in lines(tmp_path / "p.jsonl")] == [[0, "x"], [1, "y"]]


def test_another_job_is_refused_with_what_differs(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    penstock.run(range(5), double, out=out)
    with pytest.raises(errors.LedgerError, match=r"model\.name: .*double.* then, .*same.* now"):
        penstock.run(range(5), same, out=out)
    penstock.run(range(5), same, out=out, fresh=True)
    assert [row["output"] for row in lines(out)] == list(range(5))


def test_file_that_is_not_ours_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    out.write_text("precious")
    with pytest.raises(errors.LedgerError, match="not an output of penstock"):
        penstock.run(range(5), double, out=out)
    assert out.read_text() == "precious"


def test_second_process_is_refused_by_name(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    messages: list[str] = []

    def model(batch: list[int]) -> list[int]:
        try:
            penstock.run(range(5), double, out=out)
        except errors.LedgerError as error:
            messages.append(str(error))
        return batch

    penstock.run(range(1), model, out=out)
    assert len(messages) == 1
    assert f"process {os.getpid()}" in messages[0]


@pytest.mark.parametrize(("allowed", "stops"), [(2, True), ("20%", True), (30, False), ("90%", False)])
def test_failure_budget(tmp_path: Path, allowed: int | str, stops: bool) -> None:
    def odd_fails(batch: list[int]) -> list[int]:
        if batch[0] % 2:
            raise ValueError(f"odd: {batch[0]}")
        return batch

    call: Callable[[], penstock.Report] = lambda: penstock.run(
        range(60), odd_fails, out=tmp_path / "o.jsonl", batch=1, max_failures=allowed
    )
    if not stops:
        assert call().failed == 30
        return
    with pytest.raises(errors.StageError, match="odd: 1") as raised:
        call()
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(("allowed", "stops"), [("20%", True), ("50%", False)])
def test_a_share_of_an_iterable_without_a_length_is_told_at_the_end(tmp_path: Path, allowed: str, stops: bool) -> None:
    def odd_fails(value: int) -> int:
        if value % 2:
            raise ValueError(f"odd: {value}")
        return value

    source, out = (i for i in range(60)), tmp_path / "o.jsonl"
    call = functools.partial(penstock.run, source, double, out=out, stages=[odd_fails], max_failures=allowed)
    if not stops:
        assert call().failed == 30
        return
    with pytest.raises(errors.StageError, match="30 of 60 items failed, more than the 12"):
        call()


def test_first_fifty_all_fail(tmp_path: Path) -> None:
    def broken(batch: list[int]) -> list[int]:
        raise OSError("no such weights")

    with pytest.raises(errors.StageError, match="items all failed"):
        penstock.run(range(100_000), broken, out=tmp_path / "o.jsonl")


def test_source_that_raises_keeps_what_was_done(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"

    def source() -> Any:
        yield from range(10)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        penstock.run(source(), double, out=out, batch=1)
    assert [row["id"] for row in lines(out)] == list(range(10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 3}, "is no model"),
        ({"model": "absent.onnx"}, "does not exist"),
        ({"model": double, "threads": 0}, "threads=0"),
        ({"model": double, "batch": 0}, "max_size=0"),
        ({"model": double, "device": "cuda:0"}, "device='cuda:0'"),
        ({"model": double, "max_failures": "many"}, "max_failures='many'"),
        ({"model": double, "stages": [3]}, "neither a function nor"),
        ({"model": double, "runtime": "openvino"}, "a callable decides that itself"),
        ({"model": double, "labels": ["a"]}, "labels"),
    ],
)
def test_refusals_come_before_any_work(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.UsageError, match=message) as raised:
        penstock.run(range(5), out=tmp_path / "o.jsonl", **arguments)
    assert raised.value.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_wrong_number_of_rows_is_a_failure_of_those_items(tmp_path: Path) -> None:
    report = penstock.run(range(4), lambda batch: batch[1:], out=tmp_path / "o.jsonl")
    assert report.failed == 4
    assert "got 0" in report.failures[0]["message"]


@pytest.mark.parametrize("positional", [True, False])
def test_a_lower_limit_is_no_loss(tmp_path: Path, positional: bool) -> None:
    paths = []
    for i in range(20):
        paths.append(tmp_path / f"{i:02}.jpg")
        paths[-1].write_bytes(b"x" * i)
    source, out = range(20) if positional else paths, tmp_path / "o.jsonl"
    stages = [] if positional else [lambda path: Path(path).stat().st_size]
    call: Any = functools.partial(penstock.run, source, double, out=out, stages=stages)
    assert call().done == 20
    report = call(limit=5)
    assert (report.planned, report.done, report.attempted, report.vanished, report.beyond_limit) == (5, 5, 0, 0, 15)
    assert "15 beyond the limit" in str(report)
    report = call()
    assert (report.planned, report.done, report.attempted, report.beyond_limit) == (20, 20, 0, 0)
    assert len(lines(out)) == 20


def test_an_iterable_that_has_become_shorter(tmp_path: Path) -> None:
    assert penstock.run(range(20), double, out=tmp_path / "o.jsonl").done == 20
    report = penstock.run(range(5), double, out=tmp_path / "o.jsonl")
    assert (report.planned, report.done, report.vanished) == (5, 5, 15)


def test_items_that_were_asked_again_are_counted_in_the_report(tmp_path: Path) -> None:
    """A function that gives too few rows for larger batches would succeed in silence, one item at a time."""

    def two_at_most(batch: list[int]) -> list[int]:
        return batch[:2]

    report = penstock.run(range(64), two_at_most, out=tmp_path / "o.jsonl", batch=8)
    assert (report.done, report.failed) == (64, 0)
    ((what, n),) = report.notes.items()
    assert n == 64
    assert what.startswith("asked again in smaller batches, as stage 'model' failed on theirs (first: ItemError: ")
    assert "expected 8 rows, got 2" in what
    assert "64 asked again" in str(report)


def test_a_batch_that_was_halved_for_its_culprit_is_counted_once(tmp_path: Path) -> None:
    def picky(batch: list[int]) -> list[int]:
        if 13 in batch:
            raise ValueError("13 brings bad luck")
        return batch

    report = penstock.run(range(64), {"a": picky, "b": double}, out=tmp_path / "o.jsonl", batch=8)
    assert report.failed == 1
    assert list(report.notes.values()) == [8]
