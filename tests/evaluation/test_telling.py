from __future__ import annotations

from dataclasses import replace

import pytest

from penstock._evaluation.result import ClassScore, Evaluation, Mistake, ModelScore
from penstock._evaluation.telling import details

CLASSES = ModelScore(
    kind="classes",
    items=1204,
    right=1203,
    top1=1203 / 1204,
    labels=("cat", "dog"),
    confusion=((1200, 1), (0, 3)),
    per_class=(ClassScore("cat", 1, 0.9992, 0.9996, 1201), ClassScore("dog", 0.75, 1, 0.857, 3)),
    worst=(Mistake("a/1.jpg", "cat", "dog", 0.91),),
)
TEXT = ModelScore(kind="text", items=4, right=1, cer=0.125, wer=0.5, exact=0.25, worst=(Mistake(3, "ab c", "", None),))


def evaluation(**models: ModelScore) -> Evaluation:
    return Evaluation("folder-names", 1204, 0, 0, 0, models)


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (CLASSES, "top-1 99.92% (1,203 of 1,204)"),
        (replace(CLASSES, top5=1.0), "top-1 99.92% (1,203 of 1,204), top-5 100.00%"),
        (TEXT, "CER 12.50%, WER 50.00%, exact 25.00% (1 of 4)"),
        (replace(TEXT, wer=None), "CER 12.50%, exact 25.00% (1 of 4)"),
        (replace(TEXT, cer=None, wer=None), "no CER, as all texts of the truth are empty, exact 25.00% (1 of 4)"),
    ],
)
def test_a_share_says_of_what(score: ModelScore, said: str) -> None:
    assert str(evaluation(m=score)) == f"1,204 items judged by folder-names\nm: {said}"


def test_tables_have_their_columns_below_one_another() -> None:
    assert list(details(evaluation(m=CLASSES, r=TEXT))) == [
        "",
        "m: classes",
        "  class  precision  recall     F1  items",
        "  cat        1.000   0.999  1.000  1,201",
        "  dog        0.750   1.000  0.857      3",
        "",
        "m: confusion matrix",
        "  truth \\ prediction    cat  dog",
        "  cat                 1,200    1",
        "  dog                     0    3",
        "",
        "m: worst mistakes",
        "  item     truth  prediction  score",
        "  a/1.jpg  cat    dog          0.91",
        "",
        "r: lines with the most errors for their length",
        "  3",
        "    truth       ab c",
        "    prediction  ",
    ]


def test_of_many_classes_the_worst_are_shown() -> None:
    labels = tuple(f"class {i:02}" for i in range(30))
    scores = tuple(ClassScore(label, 0.5, 0.5, 1 - i / 30, 10) for i, label in enumerate(labels))
    confusion = tuple(tuple(9 if i == j else int(j == (i * 7) % 30) * i for j in range(30)) for i in range(30))
    told = list(details(evaluation(m=replace(CLASSES, labels=labels, per_class=scores, confusion=confusion))))
    assert "m: the 20 of 30 classes with the lowest F1" in told
    assert [line for line in told if line.startswith("  class ")][1].split()[:2] == ["class", "29"]
    first = told.index("m: most frequent confusions")
    assert told[first + 2].split() == ["29", "class", "29", "class", "23"]
    assert len(told[first + 2 :]) >= 10


def test_what_a_terminal_would_obey_is_written_out() -> None:
    bad = "\x1b[31m\u202e"
    mistake = Mistake(bad, bad, bad, 0.5)
    score = replace(
        CLASSES, labels=(bad, "dog"), per_class=(ClassScore(bad, 1, 1, 1, 1), CLASSES.per_class[1]), worst=(mistake,)
    )
    text = replace(TEXT, worst=(mistake,))
    shown = replace(evaluation(m=score, r=text), truth=bad, notes=(bad,), models={bad: score, "r": text})
    for line in [*str(shown).split("\n"), *details(shown)]:
        assert line.isprintable(), line
    assert "\\x1b[31m\\u202e" in str(shown)


def test_long_texts_are_cut_in_tables() -> None:
    told = list(details(evaluation(m=replace(CLASSES, worst=(Mistake("x" * 99, "cat", "dog", None),)))))
    assert told[-1] == "  " + "x" * 37 + "...  cat    dog"
