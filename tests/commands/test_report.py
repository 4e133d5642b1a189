"""`penstock report`, and `--report` and `--live` of a run."""

from __future__ import annotations

import argparse
import json
import urllib.request
from pathlib import Path

import pytest

import penstock
from penstock._cli import main
from penstock._commands.report import shown
from penstock.errors import UsageError


@pytest.fixture
def out(tmp_path: Path) -> Path:
    penstock.run(range(20), lambda batch: batch, out=tmp_path / "o.jsonl")
    return tmp_path / "o.jsonl"


def given(out: Path, **options: object) -> argparse.Namespace:
    return argparse.Namespace(**{"out": out, "report": None, "live": None, "json": False, **options})


def test_report_writes_a_page_beside_the_output(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(out)]) == 0
    html = out.with_name("o.jsonl.report.html")
    assert f"{html}: 0.1 MB" in capsys.readouterr().out
    assert html.read_text().startswith("<!doctype html>")
    assert [path.name for path in out.parent.iterdir() if "html" in path.name] == [html.name]


def test_report_writes_where_it_is_told(out: Path, tmp_path: Path) -> None:
    assert main(["report", str(out), "--html", str(tmp_path / "x.html")]) == 0
    assert (tmp_path / "x.html").stat().st_size > 50_000


def test_report_of_no_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nothing.jsonl")]) == 2
    assert "nothing was run into it" in capsys.readouterr().err


def test_report_that_cannot_be_written(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(out), "--html", str(tmp_path / "no" / "x.html")]) == 2
    assert "x.html cannot be written: No such file" in capsys.readouterr().err


def test_a_folder_for_the_page_that_is_not_there_is_refused_before_any_work(tmp_path: Path) -> None:
    html = tmp_path / "no" / "x.html"
    with pytest.raises(UsageError, match="does not exist"), shown(given(tmp_path / "o", report=html)):
        pytest.fail("began")


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, penstock.errors.StageError])
def test_the_page_of_a_run_is_written_however_it_ends(
    out: Path, tmp_path: Path, error: type[BaseException] | None
) -> None:
    html = tmp_path / "x.html"

    def work() -> None:
        with shown(given(out, report=html)):
            assert not html.exists()
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(error):
            work()
    assert html.exists()


def test_a_run_that_was_refused_has_no_page(tmp_path: Path) -> None:
    html = tmp_path / "x.html"
    with pytest.raises(UsageError), shown(given(tmp_path / "o.jsonl", report=html)):
        raise UsageError("no")
    assert not html.exists()


@pytest.mark.parametrize("as_json", [False, True])
def test_live_says_where_it_is(out: Path, capsys: pytest.CaptureFixture[str], *, as_json: bool) -> None:
    with shown(given(out, live=":0", json=as_json)):
        said = capsys.readouterr().err.strip()
        url = json.loads(said)["url"] if as_json else said.removeprefix("live: ")
        with urllib.request.urlopen(url, timeout=10) as answer:
            assert b"penstock" in answer.read()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=10)


def test_run_takes_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The options get from the command to the run: it goes on inside, and its page is there behind it."""
    real, out, html = penstock.run, tmp_path / "o.jsonl", tmp_path / "x.html"

    def run(source: object, **options: object) -> penstock.Report:
        assert "live: http://127.0.0.1:" in capsys.readouterr().err
        return real(range(5), lambda batch: batch, out=out)

    monkeypatch.setattr("penstock._api.run", run)
    arguments = ["run", "photos", "--model", "m.onnx", "--out", str(out), "--report", str(html), "--live", ":0"]
    assert main(arguments) == 0
    assert '"planned":5' in html.read_text()
