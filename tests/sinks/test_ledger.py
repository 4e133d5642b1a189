"""The ledger: plans merged with what was done, outcomes committed together or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock._contracts import Failure, Item
from penstock._sinks.ledger import Ledger, Outcome, write_failures
from penstock.errors import LedgerError


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def item(name: str, mtime_ns: int = 1) -> Item:
    return Item(name, path=f"/photos/{name}", stamp=(100, mtime_ns))


def finish(ledger: Ledger, *positions: int, failed: tuple[int, ...] = ()) -> None:
    """Record positions as done, `failed` ones as failed; places in the order given."""
    pairs = dict(ledger.pending(retry=False))
    with ledger.transaction():
        ledger.record(
            [
                Outcome(p, pairs[p], (Failure("decode", "ValueError", "bad", attempts=1),), None)
                if p in failed
                else Outcome(p, pairs[p], (), i)
                for i, p in enumerate(positions)
            ]
        )


def pending(ledger: Ledger, *, retry: bool = False) -> list[str]:
    return [str(i.id) for _, i in ledger.pending(retry=retry)]


def test_same_listing_changes_nothing(ledger: Ledger) -> None:
    items = [item("a.jpg"), item("b.jpg"), item("c.jpg")]
    assert ledger.sync(items) is False
    finish(ledger, 0, 1, failed=(1,))
    assert ledger.sync(items) is False
    assert pending(ledger) == ["c.jpg"]
    assert pending(ledger, retry=True) == ["b.jpg"]
    assert ledger.counts().done == 1


def test_items_survive_with_path_stamp_and_columns(ledger: Ledger) -> None:
    odd = Item("a%FF.jpg", path="/photos/a\udcff.jpg", row={"truth": "é", "n": 3}, stamp=(7, 8))
    ledger.sync([odd])
    assert [i for _, i in ledger.pending(retry=False)] == [odd]


def test_changed_new_and_vanished(ledger: Ledger) -> None:
    ledger.sync([item("a"), item("b"), item("c"), item("d")])
    finish(ledger, 0, 1, 2, 3, failed=(3,))
    assert ledger.sync([item("a"), item("aa"), item("c", mtime_ns=2), item("d")]) is True
    assert pending(ledger) == ["aa", "c"]  # new, changed; a stays done, d stays failed
    counts = ledger.counts()
    assert (counts.planned, counts.done, counts.failed, counts.vanished) == (4, 1, 1, 1)
    assert [f["id"] for f in ledger.failures()] == ["d"]
    assert list(ledger.places(by_input=True)) == [1, 0]  # b, which vanished, comes first; then a


def test_of_what_lies_beyond_a_limit_only_what_was_done_has_vanished(ledger: Ledger) -> None:
    ledger.sync([item("a"), item("b"), item("c"), item("d")])
    finish(ledger, 0, 2, 3, failed=(3,))
    counts = ledger.counts(2)
    assert (counts.planned, counts.done, counts.failed, counts.vanished) == (2, 1, 0, 1)


def test_mended_item_is_done_by_a_run_and_by_a_retry(ledger: Ledger) -> None:
    ledger.sync([item("a"), item("b")])
    finish(ledger, 0, 1, failed=(0,))
    ledger.sync([item("a", mtime_ns=2), item("b")])
    assert pending(ledger) == pending(ledger, retry=True) == ["a"]
    assert ledger.count_retries() == 1
    assert ledger.counts().failed == 0
    assert list(ledger.failures()) == []


def test_vanished_item_comes_back_done(ledger: Ledger) -> None:
    ledger.sync([item("a"), item("b")])
    finish(ledger, 0, 1)
    ledger.sync([item("b")])
    assert ledger.counts().vanished == 1
    ledger.sync([item("a"), item("b")])
    counts = ledger.counts()
    assert (counts.planned, counts.done, counts.vanished) == (2, 2, 0)


def test_transaction_is_all_or_nothing(ledger: Ledger) -> None:
    ledger.sync([item("a")])

    def write_and_fail() -> None:
        with ledger.transaction():
            ledger.record([Outcome(0, item("a"), (), 0)])
            ledger.put("sink", {"rows": 1})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()
    assert ledger.counts().done == 0
    assert ledger.get("sink") is None


def test_retried_item_loses_its_failure(ledger: Ledger) -> None:
    ledger.sync([item("a")])
    finish(ledger, 0, failed=(0,))
    assert ledger.attempts() == {(0, None): 1}
    with ledger.transaction():
        ledger.record([Outcome(0, item("a"), (), 0)])
    assert list(ledger.failures()) == []
    assert ledger.counts().done == 1


def test_positional_outcomes_and_holes(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.record([Outcome(p, p, (), p) for p in range(5)])
    assert ledger.contiguous() == 5
    with ledger.transaction():
        ledger.record([Outcome(7, 7, (), 5)])
    assert ledger.contiguous() is None
    assert list(ledger.settled()) == [0, 1, 2, 3, 4, 7]


def test_renumber_gives_places_of_a_rewrite(ledger: Ledger) -> None:
    ledger.sync([item("a"), item("b"), item("c")])
    finish(ledger, 2, 0, 1)
    assert list(ledger.places(by_input=True)) == [1, 2, 0]
    ledger.renumber(by_input=True)
    assert list(ledger.places(by_input=True)) == [0, 1, 2]


def test_other_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE x (y)")
    db.close()
    with pytest.raises(LedgerError, match="version 99"):
        Ledger(path)


def test_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(LedgerError, match="damaged, or no ledger of penstock"):
        Ledger(path)


def test_failures_file(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    ledger.sync([item("a\nb.jpg"), item("b.jpg")])
    finish(ledger, 0, 1, failed=(0, 1))
    write_failures(ledger, path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == ["a\nb.jpg", "b.jpg"]
    assert set(rows[0]) == {"id", "stage", "model", "type", "message", "attempts"}
    with ledger.transaction():
        ledger.record([Outcome(0, 0, (), 0), Outcome(1, 1, (), 1)])
    write_failures(ledger, path)
    assert not path.exists()


NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=NAMES, after=NAMES, changed=st.sets(st.sampled_from("abcdefgh")), settled=st.data())
def test_sync_keeps_exactly_what_is_unchanged(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[str],
    after: list[str],
    changed: set[str],
    settled: st.DataObject,
) -> None:
    done = settled.draw(st.sets(st.sampled_from(before))) if before else set()
    with Ledger(tmp_path_factory.mktemp("job") / "ledger.sqlite") as ledger:
        ledger.sync([item(name) for name in before])
        finish(ledger, *[i for i, name in enumerate(before) if name in done])
        ledger.sync([item(name, 2 if name in changed else 1) for name in after])
        kept = {name for name in after if name in done and name not in changed}
        assert set(pending(ledger)) == set(after) - kept
        counts = ledger.counts()
        assert (counts.planned, counts.done) == (len(after), len(kept))
        assert counts.vanished == len(done - set(after))
        assert pending(ledger) == [name for name in after if name not in kept]
