"""Put the outcomes of a run of the fault suite into docs/reliability.md.

python tests/faults/table.py OUTCOMES.jsonl      # what PENSTOCK_FAULTS_TABLE=OUTCOMES.jsonl collected
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DOC = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table: written by tests/faults/table.py -->\n", "<!-- end of table -->\n"
HEAD = (
    "| fault | times | lost | doubled | left over | until it is said | what happens |\n|---|---|---|---|---|---|---|\n"
)


def table_of(outcomes: Sequence[dict[str, Any]]) -> str:
    """Return the outcomes as a table in Markdown."""
    return HEAD + "".join(_line(outcome) for outcome in outcomes)


def place() -> str:
    """Return when and on what kind of machine this is."""
    today, system = datetime.now(tz=UTC).date().isoformat(), platform.system()
    return f"{today}, {system}, {os.cpu_count()} cores, Python {platform.python_version()}.\n\n"


def _line(outcome: dict[str, Any]) -> str:
    said = "" if outcome["report_s"] is None else f"{outcome['report_s']:g} s"
    counts = [f"{outcome[name]:,}" for name in ("times", "lost", "doubled", "left_over")]
    return "| " + " | ".join([outcome["fault"], *counts, said, outcome["ended"]]) + " |\n"


def replaced(text: str, table: str) -> str:
    """Return a page with `table` between its two marks."""
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    return head + BEGIN + table + END + tail


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    page = replaced(DOC.read_text(encoding="utf-8"), place() + table_of([json.loads(line) for line in lines]))
    DOC.write_text(page, encoding="utf-8")
