"""`penstock evaluate` and `penstock run --truth`, on real models where they are there."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock._cli import main
from penstock._job import job_folder

pytest.importorskip("sklearn", reason="scikit-learn computes the measures: pip install 'penstock[evaluate]'")
pytest.importorskip("jiwer", reason="jiwer counts the errors: pip install 'penstock[evaluate]'")

CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
LINES = """\
[input]
keep_aspect_height = 32
color = "rgb"
mean = 127.5
std = 127.5

[output]
task = "ctc"
activation = "softmax"
blank = 0
index_offset = -1
labels = {labels}
"""


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "penstock", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=55, check=False)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> tuple[Path, Path, list[Any]]:
    """Run flowers5 over 50 photos with --truth; return (the table of truths, the output, what was said)."""
    folder = tmp_path_factory.mktemp("flowers")
    truths, labels, out = folder / "truth.csv", folder / "labels.txt", folder / "out.jsonl"
    labels.write_text("".join(f"{name}\n" for name in CLASSES))
    with truths.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        for name in CLASSES:
            photos = sorted((shared_data / "photos" / "flowers" / name).glob("*.jpg"))[:10]
            writer.writerows([path, name] for path in photos)
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    done = command(
        *("run", truths, "--model", model, "--preset", "inception", "--labels", labels, "--runtime", "onnxruntime"),
        *("--out", out, "--truth", truths, "--batch", 1),
    )
    assert done.returncode == 0, done.stderr
    return truths, out, done.stdout.splitlines()


def test_a_run_says_how_good_it_was(flowers: tuple[Path, Path, list[Any]]) -> None:
    _, out, said = flowers
    records = [json.loads(line) for line in out.read_text().splitlines()]
    right = sum(Path(record["id"]).parent.name == record["output"]["top"][0]["label"] for record in records)
    assert 35 <= right < 50
    share = f"top-1 {right / 50:.2%} ({right} of 50), top-5 100.00%"
    assert said[-2:] == [
        f"50 items judged by {flowers[0]}",
        f"flowers5_mobilenet_v2_head: {share}",
    ]


def test_evaluate_prints_tables_or_json_or_nothing(
    flowers: tuple[Path, Path, list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, said = flowers
    assert main(["evaluate", str(out), "--truth", "folder-names"]) == 0
    printed = capsys.readouterr().out
    assert f"\n{said[-1]}\n" in printed
    for title in ("classes", "confusion matrix", "worst mistakes"):
        assert f"\nflowers5_mobilenet_v2_head: {title}\n" in printed
    assert main(["evaluate", str(out), "--truth", "folder-names", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((job_folder(out) / "evaluation.json").read_text())
    assert told["models"]["flowers5_mobilenet_v2_head"]["labels"] == list(CLASSES)
    assert main(["evaluate", str(out), "--truth", "folder-names", "--quiet"]) == 0
    assert capsys.readouterr().out == ""


def test_labels_of_the_spec_are_all_the_model_knows(
    flowers: tuple[Path, Path, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truths, out, _ = flowers
    changed = tmp_path / "truth.csv"
    changed.write_text(truths.read_text().replace(",roses", ",rose"))
    assert main(["evaluate", str(out), "--truth", str(changed)]) == 0
    note = "note: flowers5_mobilenet_v2_head: 10 counted as wrong, because the label is no class of it: 'rose' (10)"
    assert note in capsys.readouterr().out.splitlines()
    labels = out.parent / "labels.txt"
    before = labels.read_text()
    labels.write_text(before.replace("roses", "rose"))  # the results were made with the former ones
    try:
        assert main(["evaluate", str(out), "--truth", str(changed)]) == 0
    finally:
        labels.write_text(before)
    assert "is named in none of its results" in capsys.readouterr().out


def test_text_lines_with_the_text_beside_them(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, out = tmp_path / "crnn.toml", tmp_path / "lines.jsonl"
    keys = (shared_data / "models" / "crnn_lite_keys.txt").absolute()
    spec.write_text(LINES.format(labels=json.dumps(str(keys))))
    model = shared_data / "models" / "crnn_lite_op.onnx"
    penstock.run(shared_data / "lines", model, out=out, spec=spec, batch=1, runtime="onnxruntime")
    assert main(["evaluate", str(out), "--truth", "*.gt.txt", "--ignore-spaces"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        "70 items judged by *.gt.txt, spaces ignored",
        "crnn_lite_op: CER 4.06%, exact 37.14% (26 of 70)",
    ]


def whole(batch: list[Any]) -> list[Any]:
    return batch


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "absent", "--truth", "folder-names"], "absent has no ledger"),
        (["evaluate", "out.jsonl", "--truth", "absent.csv"], "The truth absent.csv does not exist"),
        (["evaluate", "out.jsonl", "--truth", "line.gt.txt"], "truth='line.gt.txt' is not known: give a table"),
        (["evaluate", "out.jsonl", "--truth", "wrong.csv"], "has no column of labels or texts: 'id', 'class'"),
        (["evaluate", "out.jsonl", "--truth", "folder-names"], "folder-names says nothing about any item of out.jsonl"),
        (["evaluate", "out.jsonl", "--truth", "other.csv"], "ids such as 1, the table has such as 'a.jpg'. Make them"),
        (["evaluate", "out.jsonl", "out.jsonl", "--truth", "other.csv"], "out.jsonl is given more than once"),
    ],
)
def test_wrong_inputs_exit_2_and_write_nothing(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    penstock.run(iter(["x", "y"]), whole, out="out.jsonl")
    (tmp_path / "wrong.csv").write_text("id,class\n0,x\n")
    (tmp_path / "other.csv").write_text("path,label\na.jpg,x\n")
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("truth", "said"), [("absent.csv", "does not exist"), ("x.txt", "is not known"), ("e.csv", "has no rows")]
)
def test_a_truth_that_cannot_be_is_refused_before_the_run(
    truth: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.csv").write_text("path,label\n")
    assert main(["run", ".", "--model", "m.onnx", "--out", "o", "--truth", truth]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_library_that_is_missing_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "jiwer" else object())
    assert main(["run", ".", "--model", "m.onnx", "--out", str(tmp_path / "o"), "--truth", "folder-names"]) == 2
    assert "An evaluation needs the package 'jiwer'" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--json"], ["--quiet"]])
def test_a_run_that_cannot_be_evaluated_ends_as_it_did(
    options: list[str],
    flowers: tuple[Path, Path, list[Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    shared_data: Path,
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "broken.jpg").write_bytes(b"this is no picture")
    photo = next((shared_data / "photos" / "flowers" / "daisy").glob("*.jpg"))
    (photos / "1.jpg").write_bytes(photo.read_bytes())
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    arguments = ["run", photos, "--model", model, "--preset", "inception", "--runtime", "onnxruntime", "--batch", "1"]
    assert main([*map(str, arguments), "--out", str(tmp_path / "o"), "--truth", str(flowers[0]), *options]) == 1
    captured = capsys.readouterr()
    assert "the run is done and its results are kept, but it is not evaluated: " in captured.err
    assert "the items have ids such as '" in captured.err
    assert (tmp_path / "o" / "1.jpg.json").exists()
    if options == ["--json"]:
        assert "evaluation" not in json.loads(captured.out)


def test_json_of_a_run_has_its_evaluation(
    flowers: tuple[Path, Path, list[Any]], capsys: pytest.CaptureFixture[str], shared_data: Path
) -> None:
    truths, out, _ = flowers
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    arguments = ["run", truths, "--model", model, "--preset", "inception", "--labels", out.parent / "labels.txt"]
    arguments += ["--runtime", "onnxruntime", "--batch", "1", "--out", out, "--truth", truths, "--json"]
    assert main(list(map(str, arguments))) == 0  # all is done already
    assert json.loads(capsys.readouterr().out)["evaluation"]["items"] == 50
