from __future__ import annotations

from pathlib import Path

import pytest

from penstock._evaluation.result import Mistake
from penstock._evaluation.sheet import Sheet, Verdict
from penstock.errors import SinkError, UsageError

TABLE = Path("t.csv")


def verdict(prediction: str, *, right: bool, weight: float | None = None) -> Verdict:
    return Verdict(prediction, weight, right, weight)


def test_every_item_that_is_not_judged_has_one_reason() -> None:
    with Sheet() as sheet:
        sheet.add_truths(TABLE, [("line 2", "gone.jpg", "x"), ("line 3", "a.jpg", "x"), ("line 4", "7", "x")])
        for id_, truth, failed in (("a.jpg", "x", False), ("b.jpg", None, True), ("c.jpg", "x", True), (7, "x", False)):
            sheet.add_item(id_, truth, failed=failed)
        sheet.add_item("d.jpg", "x", failed=False)
        number, truth = sheet.item("a.jpg") or (0, None)
        sheet.add_answer(0, number, verdict("x", right=True))
        assert (truth, sheet.judged(), sheet.item("absent")) == ("x", 1, None)
        assert sorted(map(str, sheet.left_out())) == sorted(
            map(
                str,
                [
                    ("b.jpg", "without_truth"),
                    ("c.jpg", "failed"),
                    (7, "without_result"),
                    ("d.jpg", "without_result"),
                    ("gone.jpg", "without_result"),
                ],
            )
        )


def test_a_position_is_no_file_of_that_name() -> None:
    with Sheet() as sheet:
        sheet.add_item(7, "x", failed=False)
        sheet.add_item("7", "y", failed=False)
        assert (sheet.item(7), sheet.item("7")) == ((1, "x"), (2, "y"))


def test_an_item_of_two_outputs_is_one() -> None:
    with Sheet() as sheet:
        sheet.add_item("a", None, failed=True)
        sheet.add_item("a", "x", failed=False)
        assert sheet.item("a") == (1, "x")
        assert list(sheet.left_out()) == [("a", "failed")]


def test_a_file_is_the_first_items_in_each_output() -> None:
    with Sheet() as sheet:
        assert [sheet.claim(0, b"f\xff", id_) for id_ in ("a", "b", "a")] == ["a", "a", "a"]
        assert (sheet.claim(1, b"f\xff", "b"), sheet.claim(0, b"g", 3)) == ("b", 3)


def test_a_table_may_say_the_same_twice_but_not_two_things() -> None:
    with Sheet() as sheet:
        sheet.add_truths(TABLE, [("line 2", "a", "x"), ("line 3", "a", "x")])
        assert sheet.truth_of("a") == "x"
        with pytest.raises(UsageError, match=r"t\.csv says two things of 'a': 'x' in line 2 and 'y' in line 9"):
            sheet.add_truths(TABLE, [("line 9", "a", "y")])


def test_mistakes_stand_by_their_weight() -> None:
    weights = [0.2, None, 0.9, 0.5, 0.9]
    with Sheet() as sheet:
        for number, weight in enumerate(weights, start=1):
            sheet.add_item(f"i{number}", "x", failed=False)
            sheet.add_answer(0, number, verdict("y", right=number == 4, weight=weight))
        assert [mistake.id for mistake in sheet.worst(0, 9)] == ["i3", "i5", "i1", "i2"]
        assert sheet.worst(0, 1) == (Mistake("i3", "x", "y", 0.9),)
        assert sheet.worst(1, 9) == ()


def test_models_are_paired_on_the_items_that_both_answered() -> None:
    rights = [(1, 0), (1, 0), (0, 1), (1, 1), (0, 0), (0, 0), (0, 0), (1, None), (None, 1)]
    with Sheet() as sheet:
        for number, pair in enumerate(rights, start=1):
            sheet.add_item(f"i{number}", "x", failed=False)
            for model, right in enumerate(pair):
                if right is not None:
                    sheet.add_answer(model, number, verdict("x", right=bool(right)))
        assert sheet.paired(0, 1) == (2, 1, 1, 3)
        assert sheet.paired(0, 2) == (0, 0, 0, 0)
        lines = list(sheet.lines(["m", "n"]))
    assert [line["id"] for line in lines] == [f"i{number}" for number in range(1, 10)]
    assert lines[0] == {
        "id": "i1",
        "truth": "x",
        "answers": {
            "m": {"prediction": "x", "score": None, "right": True},
            "n": {"prediction": "x", "score": None, "right": False},
        },
    }
    assert set(lines[7]["answers"]) == {"m"}


def fill_the_disk() -> None:
    with Sheet() as sheet:
        sheet._db.execute("PRAGMA max_page_count = 20")
        for number in range(9999):
            sheet.add_item(number, "x" * 99, failed=False)


def test_a_disk_that_is_full_is_named() -> None:
    with pytest.raises(
        SinkError, match=r"temporary database .* cannot be written: database or disk is full\. Make room"
    ):
        fill_the_disk()
