"""Failures grouped by their cause: the same stage, type and message, but for what names one item (pure)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

MOST_EXAMPLES = 12
MOST_GROUPS = 50
MOST_CHARACTERS = 500

_OF_ONE_ITEM = re.compile(
    r"""b?'[^']{0,400}' | "[^"]{0,400}"   # what is quoted
      | (?<![^\s(\[=])/?[\w.@%~+-]*/[^\s:,;]+  # a path
      | [\w@%~+()-]+\.(?:jpe?g|png|webp|bmp|gif|tiff?|jfif|jpe)\b
      | 0x[0-9a-fA-F]+
      | \d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?""",
    re.VERBOSE | re.IGNORECASE,
)


def cause_of(id_: object, message: str) -> str:
    """Return `message` with `…` for the item's id, and for quoted texts, paths and numbers."""
    text = message.replace(str(id_), "…") if isinstance(id_, str) and id_ else message
    return re.sub(r"…[\w./-]*…|…+", "…", _OF_ONE_ITEM.sub("…", text))[:MOST_CHARACTERS]


def group(failures: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the causes, the most frequent first: stage, model, type, cause, count, and the first `examples`.

    Causes beyond MOST_GROUPS are one, called "other causes", so that a page with a million failures stays small.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for failure in failures:
        names = ("stage", "model", "type")
        key = (*(failure[name] for name in names), cause_of(failure["id"], failure["message"]))
        if key not in groups and len(groups) >= MOST_GROUPS:
            key = ("", None, "", "other causes")
        new = {**dict(zip((*names, "cause"), key, strict=True)), "count": 0, "examples": []}
        found = groups.setdefault(key, new)
        found["count"] += 1
        if len(found["examples"]) < MOST_EXAMPLES:
            example = {"id": failure["id"], "message": failure["message"][:MOST_CHARACTERS]}
            found["examples"].append({**example, "attempts": failure["attempts"]})
    return sorted(groups.values(), key=lambda found: -int(found["count"]))
