from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock._evaluation.result import Evaluation
from penstock._evaluation.store import LEFT_OUT, LINES, RESULT, store
from penstock.errors import SinkError

NOTHING = Evaluation("t", 0, 0, 0, 0, {})


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    for text in ("first", "second"):
        store(tmp_path, NOTHING, [{"id": text}], [(text, "failed")])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([RESULT, LINES, LEFT_OUT])
    assert (tmp_path / LINES).read_text() == '{"id": "second"}\n'
    assert (tmp_path / LEFT_OUT).read_text() == '{"id": "second", "why": "failed"}\n'
    assert json.loads((tmp_path / RESULT).read_text()) == json.loads(json.dumps(NOTHING.to_dict()))


def test_what_ends_in_the_middle_leaves_the_former_files(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield {"id": "new"}
        raise RuntimeError("here")

    store(tmp_path, NOTHING, [{"id": "old"}], [])
    with pytest.raises(RuntimeError, match="here"):
        store(tmp_path, NOTHING, broken(), [])
    assert (tmp_path / LINES).read_text() == '{"id": "old"}\n'
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"absent/evaluation\.jsonl cannot be written: No such file"):
        store(tmp_path / "absent", NOTHING, [], [])
