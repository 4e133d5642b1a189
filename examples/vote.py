"""Two text-line recognisers of different architecture and their vote, on lines rendered for it.

python examples/vote.py [FOLDER] [LINES]      # about 10 seconds; prints the accuracy of each and of the vote

Both models read every line once (`model={...}`), then the same two as an ensemble: where they disagree, the text with
the higher score wins.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import penstock
from penstock._demo import render

MODELS = Path(render.__file__).parent / "models"


def records(out: Path) -> dict[str, Any]:
    """Return what was read, by the name of the picture."""
    rows = map(json.loads, out.read_text("utf-8").splitlines())
    return {row["id"]: row["output"] for row in rows}


def main(folder: Path, lines: int) -> dict[str, float]:
    """Return the share of lines read without a mistake, by each model and by their vote."""
    truth = render.make_lines(folder / "lines", lines, seed=11)
    pair = {"a": MODELS / "lines_a.onnx", "b": MODELS / "lines_b.onnx"}
    penstock.run(folder / "lines", pair, out=folder / "both.jsonl", fresh=True)
    vote = penstock.Ensemble(pair, combine="vote")
    penstock.run(folder / "lines", vote, out=folder / "vote.jsonl", fresh=True)
    both, voted = records(folder / "both.jsonl"), records(folder / "vote.jsonl")

    def right(read: Callable[[str], dict[str, Any]]) -> float:
        return sum(read(name)["text"] == text for name, text in truth.items()) / len(truth)

    return {
        "a": right(lambda name: both[name]["a"]),
        "b": right(lambda name: both[name]["b"]),
        "vote": right(lambda name: voted[name]),
    }


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else "vote")
    for reader, share in main(where, int(sys.argv[2]) if len(sys.argv) > 2 else 500).items():
        print(f"{reader}: {share:.1%} of the lines without a mistake")
