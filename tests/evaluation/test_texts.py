from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock._evaluation.answers import Answer
from penstock._evaluation.texts import TextTally

pytest.importorskip("jiwer", reason="jiwer counts the errors: pip install 'penstock[evaluate]'")

TEXTS = st.text("ab é", max_size=12)
JUDGED = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12)


def distance(a: list[str] | str, b: list[str] | str) -> int:
    """Return the edit distance by its definition, one row at a time."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        above, row = row, [i + 1]
        for j, y in enumerate(b):
            row.append(min(above[j + 1] + 1, row[j] + 1, above[j] + (x != y)))
    return row[-1]


@given(JUDGED, st.booleans())
def test_rates_are_those_of_the_definition(judged: list[tuple[str, str]], ignore_spaces: bool) -> None:
    tally = TextTally(ignore_spaces=ignore_spaces)
    verdicts = [tally.judge(truth, Answer("text", (read,))) for truth, read in judged]
    score = tally.score(())
    between = "" if ignore_spaces else " "
    pairs = [(between.join(truth.split()), between.join(read.split())) for truth, read in judged]
    errors, length = sum(distance(*pair) for pair in pairs), sum(len(truth) for truth, _ in pairs)
    word_errors = sum(distance(truth.split(), read.split()) for truth, read in pairs)
    words = sum(len(truth.split()) for truth, _ in pairs)
    assert score.cer == (pytest.approx(errors / length) if length else None)
    assert score.wer == (pytest.approx(word_errors / words) if words and not ignore_spaces else None)
    assert (score.items, score.right) == (len(pairs), sum(truth == read for truth, read in pairs))
    assert score.exact == pytest.approx(score.right / score.items)
    assert [verdict.right for verdict in verdicts] == [truth == read for truth, read in pairs]
    rates = [distance(*pair) / max(len(pair[0]), 1) for pair in pairs]
    assert [verdict.weight for verdict in verdicts] == pytest.approx(rates)


def test_white_space_counts_as_one_blank_between_words_and_not_at_the_ends() -> None:
    tally = TextTally(ignore_spaces=False)
    assert tally.judge(" one\t two\n", Answer("text", ("one two",))).right
    assert not tally.judge("one two", Answer("text", ("onetwo",))).right
    assert TextTally(ignore_spaces=True).judge("one two", Answer("text", ("onetwo",))).right


def test_the_prediction_is_kept_as_it_was_read() -> None:
    verdict = TextTally(ignore_spaces=True).judge("ab", Answer("text", ("a c",), (), 0.5))
    assert (verdict.prediction, verdict.score, verdict.weight) == ("a c", 0.5, 0.5)


def test_a_plain_number_is_read_as_its_digits() -> None:
    assert TextTally(ignore_spaces=False).judge("12", Answer("value", (), ("12",))).right
