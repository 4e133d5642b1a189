from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._evaluation.answers import Answer
from penstock._evaluation.classes import By, Classes, ClassTally

pytest.importorskip("sklearn", reason="scikit-learn computes the measures: pip install 'penstock[evaluate]'")

LABELS = "abcd"
RANKINGS = st.permutations(LABELS).map(tuple)
JUDGED = st.lists(st.tuples(st.sampled_from("abcx"), RANKINGS), min_size=1, max_size=40)


def of(ranking: tuple[str, ...], score: float | None = None) -> Answer:
    return Answer("classes", ranking, tuple(str(LABELS.index(label)) for label in ranking), score)


def known(*rankings: tuple[str, ...]) -> Classes:
    classes = Classes()
    for ranking in rankings:
        classes.note(of(ranking))
    return classes


@given(JUDGED)
def test_measures_are_those_of_a_simple_count(judged: list[tuple[str, tuple[str, ...]]]) -> None:
    tally = ClassTally(known(tuple(LABELS)), "name")
    verdicts = [tally.judge(truth, of(ranking)) for truth, ranking in judged]
    score = tally.score(())
    pairs = [(truth, ranking[0]) for truth, ranking in judged]
    right = sum(truth == prediction for truth, prediction in pairs)
    assert [verdict.right for verdict in verdicts] == [truth == prediction for truth, prediction in pairs]
    assert (score.items, score.right, score.top1) == (len(pairs), right, right / len(pairs))
    assert set(score.labels) == {label for pair in pairs for label in pair}
    for row, truth in zip(score.confusion, score.labels, strict=True):
        assert list(row) == [pairs.count((truth, prediction)) for prediction in score.labels]
    for one in score.per_class:
        hits = pairs.count((one.label, one.label))
        meant = sum(truth == one.label for truth, _ in pairs)
        said = sum(prediction == one.label for _, prediction in pairs)
        assert one.support == meant
        assert one.recall == pytest.approx(hits / meant if meant else 0)
        assert one.precision == pytest.approx(hits / said if said else 0)
        assert one.f1 == pytest.approx(2 * hits / (meant + said) if meant + said else 0)


def test_top_5_is_said_where_every_answer_holds_five() -> None:
    five, four = tuple("abcde"), tuple("abcd")
    tally = ClassTally(Classes(), "name")
    for truth in "aex":
        tally.judge(truth, Answer("classes", (*five, "x")))
    assert tally.score(()).top5 == 2 / 3  # the sixth does not count
    tally.judge("a", Answer("classes", four))
    assert tally.score(()).top5 is None


def test_labels_are_in_the_order_of_the_model_then_what_it_does_not_know() -> None:
    classes = Classes({"10": "z", "9": "y", "-1": "none"})
    tally = ClassTally(classes, "name")
    for truth in ("z", "b", "none", "a", "y"):
        tally.judge(truth, Answer("classes", ("z",), ("10",)))
    assert tally.score(()).labels == ("none", "y", "z", "a", "b")


def test_of_more_labels_than_anybody_reads_there_is_no_confusion_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock._evaluation.classes.MOST_LABELS", 3)
    tally = ClassTally(Classes(), "name")
    for truth in "abc":
        tally.judge(truth, of(("a", "b")))
    assert len(tally.score(()).confusion) == 3
    tally.judge("d", of(("a", "b")))
    score = tally.score(())
    assert (score.confusion, len(score.per_class)) == ((), 4)


def test_the_weight_of_a_mistake_is_its_score() -> None:
    verdict = ClassTally(known(("a", "b")), "name").judge("b", of(("a", "b"), 0.7))
    assert (verdict.prediction, verdict.right, verdict.score, verdict.weight) == ("a", False, 0.7, 0.7)


@pytest.mark.parametrize(
    ("truths", "by"),
    [
        ("ab", "name"),
        ("01", "number"),
        ("0a", "name"),  # one name among them: "0" is a label that the model does not know
        ("09", "name"),  # 9 is no number of a class
        ("", "name"),
        ("x", "name"),
    ],
)
def test_numbers_are_taken_only_where_all_are_numbers_and_none_a_name(truths: str, by: By) -> None:
    assert known(("a", "b", "c")).matched(truths) == by


def test_names_that_are_digits_are_names() -> None:
    classes = Classes({"0": "1", "1": "2", "2": "0"})
    assert classes.matched(["0", "1"]) == "name"
    assert classes.labels("name") == ["1", "2", "0"]
    assert classes.labels("number") == ["0", "1", "2"]


def test_without_names_labels_are_numbers() -> None:
    classes = Classes()
    classes.note(Answer("classes", (), ("4", "2")))
    assert (classes.named, classes.numbered, classes.matched(["x"])) == (False, True, "number")
    assert classes.labels("number") == ["2", "4"]


def test_classes_of_a_spec_are_all_there_are() -> None:
    classes = Classes({"0": "a"}, complete=True)
    classes.note(of(("b",)))
    assert classes.labels("name") == ["a"]
