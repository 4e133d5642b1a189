"""`penstock evaluate`: results against the truth; and what `penstock run --truth` says behind a run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from penstock._evaluation import Evaluation, evaluate, refuse_truth
from penstock._printable import printable
from penstock.errors import PenstockError

_TRUTH = "table with path and label (or text), folder-names, or '*.gt.txt'"


def add(commands: Any) -> None:
    """Add the command to argparse's subparsers."""
    parser = commands.add_parser("evaluate", help="how good the results are: accuracy, confusions, error rates")
    parser.add_argument("outs", nargs="+", type=Path, metavar="OUT", help="several are compared item by item")
    parser.add_argument("--truth", required=True, metavar="T", help=_TRUTH)
    parser.add_argument("--ignore-spaces", action="store_true", help="compare texts without their white space")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="print errors only")
    shown.add_argument("--json", action="store_true", help="print the evaluation as JSON")
    parser.set_defaults(action=_evaluate)


def add_truth(parser: argparse._ActionsContainer) -> None:
    """Add the option `--truth` of `penstock run`."""
    parser.add_argument("--truth", metavar="T", help=f"evaluate at the end: {_TRUTH}")


def _evaluate(given: argparse.Namespace) -> int:
    from penstock._evaluation.telling import details

    evaluation = evaluate(given.outs, given.truth, ignore_spaces=given.ignore_spaces)
    if given.json:
        print(json.dumps(evaluation.to_dict()))
    elif not given.quiet:
        print("\n".join([str(evaluation), *details(evaluation)]))
    return 0


def refuse(truth: str | None) -> None:
    """Refuse, before a run, a `--truth` that could not be used behind it. Raises UsageError."""
    if truth is not None:
        refuse_truth(truth)


def evaluated(out: Path, truth: str | None) -> Evaluation | None:
    """Return the evaluation behind a run; None, and why on stderr, where there can be none. The run's results stay."""
    if truth is None:
        return None
    try:
        return evaluate(out, truth)
    except PenstockError as error:
        why = printable(str(error), keep="\n")
        print(f"penstock: the run is done and its results are kept, but it is not evaluated: {why}", file=sys.stderr)
        return None
