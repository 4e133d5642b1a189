"""The command `penstock`: what `penstock.run` does, for a shell. Exit codes mean something; see `errors`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from penstock._commands import plan, report
from penstock._commands.evaluate import add as add_evaluate
from penstock._commands.evaluate import add_truth, evaluated, refuse
from penstock._commands.options import add_model, model_options

if TYPE_CHECKING:
    from penstock._evaluation import Evaluation
    from penstock._telemetry.progress import Mode
    from penstock._telemetry.report import Report

EPILOG = """\
examples:
  penstock run photos/ --model mobilenet.onnx --preset imagenet --labels labels.txt --out results/
  penstock run photos/ --model flowers.onnx --out flowers.jsonl      (flowers.toml beside the model is its spec)
  penstock failures results/ ; penstock retry results/ ; penstock evaluate results/ --truth labels.csv
The same command goes on where an interrupted or killed one stopped.
exit codes: 0 all done, 1 some items failed, 2 refused before any work, 3 stopped, 4 stalled, 5 audit failed,
130 and 143 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return 2
    from penstock.errors import PenstockError

    try:
        code: int = given.action(given)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0 if given.command == "failures" else 141  # as a shell says of SIGPIPE: a run may not be complete
    except PenstockError as error:
        print(f"penstock: {_printable(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted(130)
    except SystemExit as stop:
        return _interrupted(143) if stop.code == 143 else 2
    return code


def entry() -> int:
    """Run the command as a program: what `penstock` on the command line is."""
    from penstock._telemetry import lifesign

    lifesign.arm()
    code = main()
    left = any(thread.name.startswith("penstock-") for thread in threading.enumerate())
    if left or code in (130, 143):
        # Everything is written and closed. Threads that are stuck in a library, or the runtimes' own, may be amid
        # something: a usual exit would run the destructors of their libraries under them, which aborts now and then.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _interrupted(code: int) -> int:
    print(
        "penstock: interrupted; what was committed is kept: the same command again goes on from there.", file=sys.stderr
    )
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="penstock",
        description="Run models over everything you have, at the speed of your hardware, and lose nothing.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_run(commands.add_parser("run", help="a model over a folder, glob, table, list of paths or stdin"))
    plan.add(commands)
    _add_retry(commands.add_parser("retry", help="run the failed items of a job again"))
    add_evaluate(commands)
    report.add(commands)
    failures = commands.add_parser("failures", help="show the failed items of a job, one JSON line each")
    failures.add_argument("out", type=Path, metavar="OUT")
    failures.set_defaults(action=_failures)
    demo = commands.add_parser("demo", help="read 1,000 rendered text lines with a real model, check the answers")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder for pictures and results (default: demo)")
    demo.set_defaults(action=_demo)
    return parser


class _Version(argparse.Action):
    """Print the version; it is looked up only when asked for, for that costs more than the rest of --help."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="show the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from penstock import __version__

        parser.exit(message=f"penstock {__version__}\n")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="folder, glob, table with a path column, or - for stdin")
    parser.add_argument("--out", required=True, type=Path, help="folder, or NAME.jsonl, .parquet, .sqlite")
    how = add_model(parser)
    how.add_argument("--item-timeout", type=float, metavar="S", help="an item that takes longer in a step fails")
    which = parser.add_argument_group("which items")
    which.add_argument("--limit", type=int, metavar="N", help="only the first N items")
    which.add_argument("--max-failures", metavar="N|P%", help="stop when more than N items (P %% of all) failed")
    which.add_argument("--order", action=argparse.BooleanOptionalAction, default=True, help="keep the input order")
    which.add_argument("--fresh", action="store_true", help="forget an earlier job on OUT and start over")
    add_truth(parser)
    _add_output(parser)
    parser.set_defaults(action=_run)


def _add_retry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT")
    _add_output(parser)
    parser.set_defaults(action=_retry)


def _add_output(parser: argparse.ArgumentParser) -> None:
    report.add_to_run(parser)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="print errors only")
    shown.add_argument("--json", action="store_true", help="progress as JSON lines on stderr, the report as JSON")


class _Warnings(logging.Handler):
    """Shows what the library logs on stderr: as text, or, where progress is JSON, as a JSON line."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        message = record.getMessage()
        text = f"penstock: {_printable(message)}"
        if self._as_json:
            text = json.dumps({"event": "warning", "message": message})
        print(text, file=sys.stderr, flush=True)


@contextmanager
def _warnings(given: argparse.Namespace) -> Iterator[None]:
    handler, log = _Warnings(as_json=given.json), logging.getLogger("penstock")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _progress(given: argparse.Namespace) -> Mode:
    return "quiet" if given.quiet else "json" if given.json else "auto"


def _run(given: argparse.Namespace) -> int:
    from penstock._api import run
    from penstock._options import Limits

    options = model_options(given)
    options |= {name: getattr(given, name) for name in ("out", "max_failures", "order", "limit", "fresh")}
    limits = Limits(item_timeout_s=given.item_timeout)
    refuse(given.truth)
    with report.shown(given):
        with _warnings(given):
            done = run(given.source, limits=limits, progress=_progress(given), **options)
        evaluation = evaluated(given.out, given.truth)
    return _show(done, given, evaluation)


def _retry(given: argparse.Namespace) -> int:
    from penstock._api import retry_arguments, run

    arguments = retry_arguments(given.out)
    sys.path.insert(0, "")  # a factory's module is found where the command is typed
    with _warnings(given), report.shown(given):
        done = run(**arguments, out=given.out, retry=True, progress=_progress(given))
    return _show(done, given)


def _show(report: Report, given: argparse.Namespace, evaluation: Evaluation | None = None) -> int:
    if given.json:
        more = {} if evaluation is None else {"evaluation": evaluation.to_dict()}
        print(json.dumps(report.to_dict() | more, default=str, ensure_ascii=True))
    elif not given.quiet:
        print(_printable(report))
        if evaluation is not None:
            print(evaluation)  # printable by itself
        if report.failed:
            again = "" if getattr(given, "source", None) == "-" else f"; again: penstock retry {given.out}"
            print(f"The failed items: penstock failures {given.out}{again}")
    return report.exit_code


def _failures(given: argparse.Namespace) -> int:
    from penstock._job import read_failures

    n = 0
    for failure in read_failures(given.out):
        print(json.dumps(failure, ensure_ascii=True))
        n += 1
    return 1 if n else 0


def _demo(given: argparse.Namespace) -> int:
    from penstock._demo.show import demo

    return demo(given.out)


def _printable(text: object) -> str:
    """Return what `text` says, in its lines, without terminal control characters, which a file's name may hold."""
    from penstock._printable import printable

    return printable(str(text), keep="\n")
