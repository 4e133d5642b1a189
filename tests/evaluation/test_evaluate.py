"""`penstock.evaluate` over real jobs: every kind of output, one model and several, and an account of every item."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock._job import job_folder
from penstock.errors import MissingDependency, UsageError

pytest.importorskip("sklearn", reason="scikit-learn computes the measures: pip install 'penstock[evaluate]'")
pytest.importorskip("jiwer", reason="jiwer counts the errors: pip install 'penstock[evaluate]'")

MakeJob = Callable[..., Path]
Top = Callable[..., dict[str, Any]]
OUTS = ["out", "out.jsonl", "out.sqlite", "out.parquet"]
BROKEN = b"this is no JSON"


def stored(out: Path) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return (evaluation.json, lines of evaluation.jsonl, lines of what was left out) of a job."""
    job = job_folder(out)
    lines, left_out = (
        [json.loads(line) for line in (job / name).read_text().splitlines()]
        for name in ("evaluation.jsonl", "evaluation-left-out.jsonl")
    )
    return json.loads((job / "evaluation.json").read_text()), lines, left_out


def table(folder: Path, truths: dict[str, str]) -> Path:
    path = folder / "truth.jsonl"
    path.write_text("".join(json.dumps({"path": id_, "label": label}) + "\n" for id_, label in truths.items()))
    return path


@pytest.mark.parametrize("name", OUTS)
def test_classes_by_the_names_of_folders(make_job: MakeJob, top: Top, name: str) -> None:
    outputs: dict[str, Any] = {"a/1.jpg": top("a", "b"), "a/2.jpg": top("b", "a", score=0.8), "b/1.jpg": top("b", "a")}
    outputs |= {"b/2.jpg": top("c", "b", score=0.99), "x.jpg": top("a", "b"), "b/3.jpg": BROKEN}
    out = make_job(outputs, name)
    evaluation = penstock.evaluate(out, "folder-names")
    counts = (evaluation.items, evaluation.without_truth, evaluation.without_result, evaluation.failed)
    assert counts == (4, 1, 0, 1)
    assert evaluation.notes == ("1 item failed: 'b/3.jpg'", "1 item without truth: 'x.jpg'")
    score = evaluation.models["model"]
    assert (score.kind, score.items, score.right, score.top1, score.top5) == ("classes", 4, 2, 0.5, None)
    assert (score.labels, score.confusion) == (("a", "b", "c"), ((1, 1, 0), (0, 1, 1), (0, 0, 0)))
    assert [(wrong.id, wrong.score) for wrong in score.worst] == [("b/2.jpg", 0.99), ("a/2.jpg", 0.8)]
    told, lines, left_out = stored(out)
    assert told == json.loads(json.dumps(evaluation.to_dict()))
    assert [line["id"] for line in lines] == ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"]
    wrong = {"prediction": "c", "score": 0.99, "right": False}
    assert lines[3] == {"id": "b/2.jpg", "truth": "b", "answers": {"model": wrong}}
    assert sorted(left_out, key=str) == [
        {"id": "b/3.jpg", "why": "failed"},
        {"id": "x.jpg", "why": "without_truth"},
    ]


def test_the_files_have_what_a_report_reads(make_job: MakeJob, top: Top) -> None:
    told, _, _ = stored(evaluated(make_job({"a/1.jpg": top("b", "a")}), "folder-names"))
    assert {"truth", "items", "without_truth", "without_result", "failed", "models", "comparisons"} <= told.keys()
    model = told["models"]["model"]
    for key in "kind items top1 top5 labels confusion per_class cer wer exact worst".split():
        assert key in model, key
    assert set(model["per_class"][0]) == {"label", "precision", "recall", "f1", "support"}
    assert set(model["worst"][0]) == {"id", "truth", "prediction", "score"}
    assert told["truth"] == "folder-names"


def evaluated(out: Path, truth: str) -> Path:
    penstock.evaluate(out, truth)
    return out


@pytest.mark.parametrize("name", OUTS)
def test_several_models_are_compared_item_by_item(make_job: MakeJob, top: Top, name: str) -> None:
    right, wrong = top("a", "b"), top("b", "a")
    answers = [(right, wrong)] * 9 + [(wrong, right)] + [(right, right)] * 3 + [(wrong, wrong)] * 2
    outputs: dict[str, Any] = {f"a/{i:02}.jpg": {"m": m, "n": n} for i, (m, n) in enumerate(answers)}
    outputs |= {"a/half.jpg": {"m": right, "n": None}, "a/none.jpg": {"m": None, "n": None}}
    out = make_job(outputs, name, ("m", "n"))
    evaluation = penstock.evaluate(out, "folder-names")
    assert (evaluation.items, evaluation.failed) == (16, 1)
    assert {name: (score.right, score.items) for name, score in evaluation.models.items()} == {
        "m": (13, 16),
        "n": (4, 15),
    }
    (found,) = evaluation.comparisons
    assert (found.a, found.b, found.only_a, found.only_b, found.both, found.neither) == ("m", "n", 9, 1, 3, 2)
    assert found.text == "m is better: 9 items only m has right, 1 only n; p = 0.021"
    assert found.p_value == pytest.approx(22 / 1024)
    assert "n: no answer for 1 of the 16 judged items, which do not count for it" in evaluation.notes
    assert set(stored(out)[1][-1]["answers"]) == {"m"}


def test_several_outputs_are_compared_and_each_job_has_the_result(make_job: MakeJob, top: Top) -> None:
    first = make_job({"a/1.jpg": top("a"), "a/2.jpg": top("b"), "a/3.jpg": BROKEN}, "one.jsonl")
    second = make_job({"a/2.jpg": top("a"), "a/1.jpg": top("a"), "a/3.jpg": top("a")}, "two.sqlite")
    evaluation = penstock.evaluate([first, second], "folder-names")
    one, two = f"model ({first})", f"model ({second})"
    assert {name: (score.right, score.items) for name, score in evaluation.models.items()} == {one: (1, 2), two: (3, 3)}
    (found,) = evaluation.comparisons
    assert (found.only_a, found.only_b, found.both, found.neither) == (0, 1, 1, 0)
    assert (evaluation.items, evaluation.failed) == (3, 0)  # the second output has what failed in the first
    assert stored(first) == stored(second)


@pytest.mark.parametrize("name", OUTS)
def test_texts_beside_the_items(make_job: MakeJob, tmp_path: Path, name: str) -> None:
    texts = {"1.bin.png": "good text", "2.bin.png": "badtext herf", "3.bin.png": "alone"}
    out = make_job({id_: {"text": text, "score": 0.5} for id_, text in texts.items()}, name)
    items = tmp_path / f"items-{name.replace('.', '-')}"
    (items / "1.gt.txt").write_text("good text\n")
    (items / "2.gt.txt").write_text("bad text here\n")
    evaluation = penstock.evaluate(out, "*.gt.txt")
    score = evaluation.models["model"]
    assert (score.kind, score.items, score.right, score.exact) == ("text", 2, 1, 0.5)
    assert score.cer == pytest.approx(2 / 22)
    assert score.wer == pytest.approx(3 / 5)
    (worst,) = score.worst
    assert (evaluation.without_truth, worst.truth, worst.prediction) == (1, "bad text here", "badtext herf")
    spaced = penstock.evaluate(out, "*.gt.txt", ignore_spaces=True)
    assert spaced.models["model"].cer == pytest.approx(1 / 19)
    assert spaced.models["model"].wer is None
    assert stored(out)[0]["truth"] == "*.gt.txt, spaces ignored"


def test_texts_are_found_from_wherever_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "1.png").write_text("unread")
    (tmp_path / "lines" / "1.gt.txt").write_text("ab")
    penstock.run("lines", lambda batch: [{"text": "ac"} for _ in batch], stages=[str], out="out.jsonl")
    monkeypatch.chdir(tmp_path / "lines")
    assert penstock.evaluate("../out.jsonl", "*.gt.txt").models["model"].cer == 0.5


@pytest.mark.parametrize("name", OUTS)
def test_plain_values_are_what_the_truth_is(tmp_path: Path, name: str) -> None:
    def same(batch: list[Any]) -> list[Any]:
        return batch

    penstock.run(iter(["x", "yy", "z"]), same, out=tmp_path / name)
    labels, texts = tmp_path / "labels.csv", tmp_path / "texts.csv"
    labels.write_text("id,label\n0,x\n1,z\n2,z\n")
    texts.write_text("id,text\n0,x\n1,y\n2,\n")
    score = penstock.evaluate(tmp_path / name, labels).models["model"]
    assert (score.kind, score.right, score.labels) == ("classes", 2, ("x", "yy", "z"))
    score = penstock.evaluate(tmp_path / name, texts).models["model"]
    assert (score.kind, score.right, score.cer) == ("text", 1, 1.0)


def test_plain_numbers_are_numbers_of_classes(tmp_path: Path) -> None:
    penstock.run(iter([2, 0, 2]), lambda batch: batch, out=tmp_path / "out.jsonl")
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\n0,2\n1,1\n2,0\n")
    evaluation = penstock.evaluate(tmp_path / "out.jsonl", labels)
    score = evaluation.models["model"]
    assert (score.right, score.labels, score.top5) == (1, ("0", "2", "1"), None)
    assert evaluation.notes == (
        "model: 1 counted as wrong, because the label is named in none of its results: '1' (1)",
    )


def test_every_item_of_output_and_truth_is_counted_once(make_job: MakeJob, top: Top, tmp_path: Path) -> None:
    outputs: dict[str, Any] = {f"{i}.jpg": top("a", "b") for i in range(6)} | {"6.jpg": BROKEN, "7.jpg": BROKEN}
    truths = {f"{i}.jpg": "a" for i in range(2, 7)} | {"gone.jpg": "a", "away.jpg": "b"}
    out = make_job(outputs)
    evaluation = penstock.evaluate(out, table(tmp_path, truths))
    assert (evaluation.items, evaluation.failed) == (4, 1)
    assert (evaluation.without_truth, evaluation.without_result) == (3, 2)
    assert evaluation.items + evaluation.failed + evaluation.without_truth + evaluation.without_result == 10
    assert evaluation.notes == (
        "1 item failed: '6.jpg'",
        "2 items without result: 'away.jpg', 'gone.jpg'",
        "3 items without truth: '7.jpg', '0.jpg', '1.jpg'",
    )
    assert len(stored(out)[2]) == 6


def test_a_label_that_the_model_does_not_know_counts_as_wrong_and_is_named(
    make_job: MakeJob, top: Top, tmp_path: Path
) -> None:
    out = make_job({f"{i}.jpg": top("a", "b") for i in range(5)})
    evaluation = penstock.evaluate(out, table(tmp_path, {"0.jpg": "a", "1.jpg": "A", "2.jpg": "A", "3.jpg": "tulip"}))
    score = evaluation.models["model"]
    assert (score.right, score.items, score.labels) == (1, 4, ("a", "A", "tulip"))
    assert (
        "model: 3 counted as wrong, because the label is named in none of its results: 'A' (2), 'tulip' (1)"
        in evaluation.notes
    )


def test_numbers_of_classes_are_matched_and_that_is_said(make_job: MakeJob, top: Top, tmp_path: Path) -> None:
    out = make_job({"0.jpg": top("a", "b"), "1.jpg": top("b", "a")})
    evaluation = penstock.evaluate(out, table(tmp_path, {"0.jpg": "0", "1.jpg": "0"}))
    score = evaluation.models["model"]
    assert (score.right, score.labels) == (1, ("0", "1"))
    assert evaluation.notes == ("model: the labels of the truth are taken as numbers of classes; none is a name",)


def test_a_job_in_the_middle_is_evaluated_as_far_as_it_is(make_job: MakeJob, top: Top) -> None:
    outputs = {f"a/{i}.jpg": top("a") for i in range(8)}
    out = make_job(outputs, limit=3)
    assert (penstock.evaluate(out, "folder-names").items, len(stored(out)[1])) == (3, 3)
    make_job(outputs)
    assert (penstock.evaluate(out, "folder-names").items, len(stored(out)[1])) == (8, 8)


def letters(batch: list[str]) -> list[str]:
    return batch


def test_an_evaluation_stays_as_long_as_the_results_do(tmp_path: Path) -> None:
    out, labels = tmp_path / "out.jsonl", tmp_path / "labels.csv"
    labels.write_text("id,label\n0,a\n1,b\n")
    penstock.run(iter("ab"), letters, out=out)
    penstock.evaluate(out, labels)
    for items, there in (("ab", 3), ("abc", 0)):  # nothing is added, then one
        penstock.run(iter(items), letters, out=out)
        assert len(list(job_folder(out).glob("evaluation*"))) == there


# ---- what is refused


def test_a_truth_that_matches_nothing_is_refused_with_examples_of_both(
    make_job: MakeJob, top: Top, tmp_path: Path
) -> None:
    out = make_job({"1.jpg": top("a")})
    with pytest.raises(UsageError, match=r"the items have ids such as '1\.jpg', the table has such as 'photos/1\.jpg'"):
        penstock.evaluate(out, table(tmp_path, {"photos/1.jpg": "a"}))
    with pytest.raises(
        UsageError, match=r"the ids of the items have no folder, as '1\.jpg'\. Run over the folder above"
    ):
        penstock.evaluate(out, "folder-names")
    with pytest.raises(UsageError, match=r"beside none of the items is a text; for '1\.jpg' it would be a file"):
        penstock.evaluate(out, "*.gt.txt")
    assert not (job_folder(out) / "evaluation.json").exists()


def test_labels_of_which_the_model_knows_none_are_refused(make_job: MakeJob, top: Top, tmp_path: Path) -> None:
    out = make_job({"1.jpg": top("a", "b")})
    said = r"no label of the truth is a class of model\. The truth has 'cat'; the model has names: 'a', 'b'\. Give"
    with pytest.raises(UsageError, match=said):
        penstock.evaluate(out, table(tmp_path, {"1.jpg": "cat"}))
    numbers = make_job({"1.jpg": {"top": [{"index": 3, "score": 1.0}]}}, "numbers.jsonl")
    with pytest.raises(UsageError, match=r"the model has numbers, as it was run without labels: '3'"):
        penstock.evaluate(numbers, table(tmp_path, {"1.jpg": "cat"}))


def test_what_is_neither_class_nor_text_is_refused(make_job: MakeJob, top: Top) -> None:
    with pytest.raises(UsageError, match=r"the output of model for 'a/1\.jpg' is neither classes nor a text: \[0\.5\]"):
        penstock.evaluate(make_job({"a/1.jpg": [0.5]}), "folder-names")
    mixed = make_job({"a/1.jpg": top("a"), "a/2.jpg": {"text": "a"}}, "mixed.jsonl")
    with pytest.raises(UsageError, match=r"are of several kinds: classes for 'a/1\.jpg', text for 'a/2\.jpg'"):
        penstock.evaluate(mixed, "folder-names")
    halves = make_job({"a/1.jpg": {"label": "a"}, "a/2.jpg": {"top": [{"index": 3}]}}, "halves.jsonl")
    with pytest.raises(UsageError, match="some outputs of model have names of classes, others have numbers alone"):
        penstock.evaluate(halves, "folder-names")


def test_where_all_that_has_a_truth_failed_there_is_nothing_to_judge(make_job: MakeJob, top: Top) -> None:
    out = make_job({"a/1.jpg": BROKEN, "x.jpg": top("a")})
    with pytest.raises(UsageError, match=r"no item has both a truth and a result \(1 failed, 1 without truth\)"):
        penstock.evaluate(out, "folder-names")


def test_requests_that_cannot_be_are_refused(make_job: MakeJob, top: Top, tmp_path: Path) -> None:
    out = make_job({"a/1.jpg": top("a")})
    with pytest.raises(UsageError, match=r"The output .*out\.jsonl is given more than once"):
        penstock.evaluate([out, str(out)], "folder-names")
    with pytest.raises(UsageError, match="no output is given"):
        penstock.evaluate([], "folder-names")
    with pytest.raises(UsageError, match="ignore_spaces is for texts, and model gives classes"):
        penstock.evaluate(out, "folder-names", ignore_spaces=True)
    penstock.run([], lambda batch: batch, out=tmp_path / "empty.jsonl")
    with pytest.raises(UsageError, match=r"empty\.jsonl has no items yet\. Run it first"):
        penstock.evaluate(tmp_path / "empty.jsonl", "folder-names")


@pytest.mark.parametrize(("package", "named"), [("sklearn", "scikit-learn"), ("jiwer", "jiwer"), ("scipy", "scipy")])
def test_a_library_that_is_missing_is_named_with_its_extra(
    make_job: MakeJob, top: Top, monkeypatch: pytest.MonkeyPatch, package: str, named: str
) -> None:
    right, wrong = ({"text": "a"}, {"text": "b"}) if package == "jiwer" else (top("a", "b"), top("b", "a"))
    out = make_job({"a/1.jpg": {"m": right, "n": wrong}}, models=("m", "n"))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependency, match=rf"'{named}', which is not installed\. .*'penstock\[evaluate\]'"):
        penstock.evaluate(out, "folder-names")


def test_a_model_that_never_answered_is_left_out_and_that_is_said(make_job: MakeJob) -> None:
    texts = {"text": "ab"}
    out = make_job({f"ab/{i}.png": {"m": texts, "n": None} for i in range(3)}, models=("m", "n"))
    evaluation = penstock.evaluate(out, "folder-names", ignore_spaces=True)
    assert (list(evaluation.models), evaluation.comparisons) == (["m"], ())
    assert evaluation.notes == ("n: no answer for 3 of the 3 judged items, which do not count for it",)
