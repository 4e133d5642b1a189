"""`penstock plan`: what a run would do, with the measurement behind each number."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from penstock._commands.options import add_model, model_options


def add(commands: Any) -> None:
    """Add the command to those of `penstock`."""
    parser = commands.add_parser("plan", help="measure each stage on real items, choose, and say what to expect")
    parser.add_argument("source", metavar="SOURCE", help="folder, glob, table with a path column, or - for stdin")
    add_model(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N items")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(action=_plan)


def _plan(given: argparse.Namespace) -> int:
    from penstock._planning import plan
    from penstock._request import Request

    if sys.stderr.isatty():
        print("Measuring on your items: this takes up to 20 s, more for several models.", file=sys.stderr)
    made = plan(given.source, Request(**model_options(given)), given.limit)
    print(json.dumps(made.to_dict()) if given.json else made)
    return 0
