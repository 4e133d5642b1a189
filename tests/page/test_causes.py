"""Failures of one cause are one group, whichever items they are of."""

from __future__ import annotations

from typing import Any

import pytest

from penstock._page.causes import MOST_EXAMPLES, MOST_GROUPS, cause_of, group


def failure(id_: int | str, message: str, stage: str = "decode", model: str | None = None) -> dict[str, Any]:
    return {"id": id_, "stage": stage, "model": model, "type": "ItemError", "message": message, "attempts": 1}


@pytest.mark.parametrize(
    ("id_", "message", "cause"),
    [
        ("a/17.jpg", "a/17.jpg: JPEG of 12,345 bytes: truncated.", "…: JPEG of … bytes: truncated."),
        ("a/17.jpg", "/data/a/17.jpg: the file is empty (0 bytes).", "…: the file is empty (… bytes)."),
        ("b 1.png", "photos/b 1.png: it begins with b'\\x00x'.", "…: it begins with …."),
        (3, "ValueError at 0x7f12ab: shape (3, 224)", "ValueError at …: shape (…, …)"),
        ("x", 'key "name" is missing', "key … is missing"),
        (1, "division by zero", "division by zero"),
    ],
)
def test_causes(id_: int | str, message: str, cause: str) -> None:
    assert cause_of(id_, message) == cause


def test_groups_are_by_stage_type_and_cause_the_most_frequent_first() -> None:
    failures = [failure(f"{n}.jpg", f"{n}.jpg: {n} bytes missing") for n in range(20)]
    failures += [failure("a.jpg", "a.jpg: 5 bytes missing", stage="model", model="m")]
    groups = group([failures[-1], *failures[:-1]])
    assert [(g["stage"], g["model"], g["count"]) for g in groups] == [("decode", None, 20), ("model", "m", 1)]
    assert [example["id"] for example in groups[0]["examples"]] == [f"{n}.jpg" for n in range(MOST_EXAMPLES)]


def test_a_million_causes_are_a_few_groups() -> None:
    words = [f"{a}{b}" for a in "abcdefghij" for b in "klmnopqrst"]
    groups = group(failure(n, word) for n, word in enumerate(words))
    assert len(groups) == MOST_GROUPS + 1
    assert sum(g["count"] for g in groups) == len(words)
    assert groups[0]["cause"] == "other causes"
