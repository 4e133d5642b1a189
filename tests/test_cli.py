"""The command line: exit codes, help, errors that name what is wrong."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from penstock._cli import main


def test_help_fits_its_screen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    for arguments in (["--help"], ["run", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert len(text.splitlines()) <= 48
        assert max(map(len, text.splitlines())) <= 120
    assert main([]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "absent/", "--model", "m.onnx", "--out", "o"], "'absent/' does not exist"),
        (["run", ".", "--model", "m.onnx", "--out", "o"], "m.onnx does not exist"),
        (["run", ".", "--model", "m.bin", "--out", "o"], "files of type .bin"),
        (["retry", "absent"], "has no ledger"),
        (["failures", "absent"], "has no ledger"),
    ],
)
def test_usage_errors_exit_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> tuple[Path, Path]:
    """Run flowers5 over eight photos, one of them broken; return (photos, out)."""
    folder = tmp_path_factory.mktemp("cli")
    photos, out = folder / "photos", folder / "results"
    photos.mkdir()
    for i, path in enumerate(sorted((shared_data / "photos" / "flowers").rglob("*.jpg"))[:7]):
        (photos / f"{i}.jpg").write_bytes(path.read_bytes())
    (photos / "broken.jpg").write_bytes(b"this is no picture")
    (photos / "notes.txt").write_text("no picture by suffix")
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    labels = folder / "labels.txt"
    labels.write_text("daisy\ndandelion\nroses\nsunflowers\ntulips\n")
    arguments = ["run", str(photos), "--model", str(model), "--preset", "inception", "--labels", str(labels)]
    arguments += ["--out", str(out), "--runtime", "onnxruntime", "--batch", "1", "--top-k", "2", "--json"]
    process = subprocess.run(
        [sys.executable, "-m", "penstock", *arguments], capture_output=True, text=True, timeout=50, check=False
    )
    assert process.returncode == 1, process.stderr
    report = json.loads(process.stdout)
    assert (report["planned"], report["done"], report["failed"], report["ignored"]) == (8, 7, 1, 1)
    return photos, out


def test_run_writes_labelled_records(results: tuple[Path, Path]) -> None:
    record = json.loads((results[1] / "0.jpg.json").read_text())
    assert record["id"] == "0.jpg"
    assert record["output"]["top"][0]["label"] == "daisy"
    assert len(record["output"]["top"]) == 2


def test_failures_then_retry(results: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    photos, out = results
    assert main(["failures", str(out)]) == 1
    failure = json.loads(capsys.readouterr().out)
    assert (failure["id"], failure["stage"], failure["attempts"]) == ("broken.jpg", "decode", 1)
    assert main(["retry", str(out), "--quiet"]) == 1
    assert main(["failures", str(out)]) == 1
    assert json.loads(capsys.readouterr().out)["attempts"] == 2
    (photos / "broken.jpg").write_bytes((photos / "0.jpg").read_bytes())
    assert main(["retry", str(out)]) == 0
    assert "8 done, 0 failed" in capsys.readouterr().out
    assert main(["failures", str(out)]) == 0


def test_paths_on_stdin(results: tuple[Path, Path], shared_data: Path, tmp_path: Path) -> None:
    photos = results[0]
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    out = tmp_path / "o.jsonl"
    command = [sys.executable, "-m", "penstock", "run", "-", "--model", str(model), "--preset", "inception"]
    command += ["--out", str(out), "--runtime", "onnxruntime", "--quiet"]
    names = os.linesep.join(str(photos / f"{i}.jpg") for i in range(3))
    process = subprocess.run(command, input=names, capture_output=True, text=True, timeout=50, check=False)
    assert (process.returncode, process.stdout) == (0, ""), process.stderr
    assert len(out.read_text().splitlines()) == 3


def test_terminal_codes_in_messages_are_shown_not_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "a\x1b[31m", "--model", "m.onnx", "--out", "o"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_what_the_library_logs_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    from penstock.errors import Stalled

    def stalling(*_: Any, **__: Any) -> Any:
        logging.getLogger("penstock").warning("stuck at %s\nStack: ...", "a\x1b[31m.jpg")
        raise Stalled("one thread at a time")

    monkeypatch.setattr("penstock._api.run", stalling)
    assert main(["run", "photos", "--model", "m.onnx", "--out", str(tmp_path / "o"), *options]) == 4
    said = capsys.readouterr().err
    assert "\x1b" not in said
    if options:
        event = json.loads(said.splitlines()[0])
        assert event == {"event": "warning", "message": "stuck at a\x1b[31m.jpg\nStack: ..."}
    else:
        assert said.startswith("penstock: stuck at a\\x1b[31m.jpg\nStack: ...\npenstock: one thread")
    logging.getLogger("penstock").warning("nobody shows this twice")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("name", "code", "ends"), [("penstock-x", 4, True), ("other", 4, False), ("other", 130, True)])
def test_a_thread_that_is_stuck_holds_no_exit(
    monkeypatch: pytest.MonkeyPatch, name: str, code: int, ends: bool
) -> None:
    from penstock import _cli
    from penstock._telemetry import lifesign

    exits: list[int] = []
    event = threading.Event()
    monkeypatch.setattr(_cli, "main", lambda: code)
    monkeypatch.setattr(lifesign, "_beaten_at", None)
    monkeypatch.setattr("os._exit", exits.append)
    thread = threading.Thread(target=event.wait, args=(20,), name=name, daemon=True)
    thread.start()
    assert _cli.entry() == code
    event.set()
    thread.join(20)
    assert exits == [code] * ends


def test_several_devices_are_given_with_commas(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = shared_data / "models" / "mobilenet_v2_1.0_224_quant.onnx"
    arguments = ["run", str(tmp_path), "--model", str(model), "--out", str(tmp_path / "o"), "--device", "cpu,cpu"]
    assert main(arguments) == 2
    assert "device=['cpu', 'cpu']: name each device once" in capsys.readouterr().err
