"""`penstock demo`: render lines, read them with a trained model through `penstock.run`, compare with the truth."""

from __future__ import annotations

import json
from pathlib import Path

LINES = 1000
SEED = 2026
GOAL = 0.95
"""Share of lines that must be read without one mistake; below it the demo fails."""
MODEL = Path(__file__).with_name("models") / "lines_a.onnx"


def demo(folder: Path) -> int:
    """Render LINES lines under `folder`, read them, print accuracy and rate; return 0, or 1 if the goal is missed."""
    import penstock
    from penstock._demo.render import make_lines

    pictures, out = folder / "lines", folder / "lines.jsonl"
    print(f"rendering {LINES:,} lines of text into {pictures}/ ...")
    truth = make_lines(pictures, LINES, SEED)
    print(f"penstock run {pictures}/ --model {MODEL.name} --out {out}")
    report = penstock.run(pictures, MODEL, out=out, fresh=True, progress="auto")
    print(report)
    read = _read(out)
    exact = sum(read.get(name) == text for name, text in truth.items()) / len(truth)
    wrong = sum(edits(read.get(name, ""), text) for name, text in truth.items())
    share = wrong / sum(map(len, truth.values()))
    print(
        f"{exact:.1%} of the lines are read without a mistake (the goal is {GOAL:.0%}), {share:.2%} of the characters"
    )
    print("are wrong; one of the lines:")
    print(f"  {next(iter(truth))}: {next(iter(read.values()))!r}")
    print(f"the answers: {out}")
    return 0 if exact >= GOAL and report.exit_code == 0 else 1


def edits(read: str, truth: str) -> int:
    """Return the least number of insertions, deletions and replacements that make `read` of `truth` (Levenshtein)."""
    row = list(range(len(truth) + 1))
    for i, char in enumerate(read, start=1):
        diagonal, row[0] = row[0], i
        for j, wanted in enumerate(truth, start=1):
            best = min(row[j] + 1, row[j - 1] + 1, diagonal + (char != wanted))
            diagonal, row[j] = row[j], best
    return row[-1]


def _read(out: Path) -> dict[str, str]:
    with out.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    return {record["id"]: record["output"]["text"] for record in records}
