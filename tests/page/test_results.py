"""Results are read from every kind of output, of a job that is over or that goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import penstock
from penstock._page.answers import answers_of
from penstock._page.results import Listed, listed, results
from penstock.errors import LedgerError


@pytest.mark.parametrize("name", ["o", "o.jsonl", "o.sqlite", "o.parquet"])
def test_every_kind_of_output(tmp_path: Path, name: str) -> None:
    if name == "o.parquet":
        pytest.importorskip("pyarrow")
    out = tmp_path / name
    values = [{"text": f"t{n}", "vector": np.full(20, n, np.float32)} for n in range(30)]
    penstock.run(iter(values), lambda batch: batch, out=out, batch=1)
    found = list(results(out))
    assert [id_ for id_, _ in found] == list(range(30))
    assert [output["text"] for _, output in found] == [f"t{n}" for n in range(30)]
    assert {name for _, output in found for name in answers_of(output)} == {""}
    assert list(listed(out))[3] == Listed(3, None, 1)


def test_a_line_that_is_being_written_is_not_there_yet(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    out.write_text('{"id": 0, "output": 1}\n{"id": 1, "out')
    assert list(results(out)) == [(0, 1)]


def test_a_file_that_is_gone_is_left_out(tmp_path: Path) -> None:
    out = tmp_path / "o"
    penstock.run(range(3), lambda batch: batch, out=out)
    (out / "1.json").unlink()
    assert list(results(out)) == [(0, 0), (2, 2)]


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    out.write_text('{"id": 0}\n')
    with pytest.raises(LedgerError, match="no result of penstock"):
        list(results(out))


@pytest.mark.parametrize("name", ["o.jsonl", "o.sqlite", "o.parquet"])
def test_before_the_first_result_there_are_none(tmp_path: Path, name: str) -> None:
    assert list(results(tmp_path / name)) == []
