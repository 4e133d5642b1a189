"""`penstock report`, and `--report` and `--live` of a run: the page of a job, in one HTML file or while it goes on."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add `penstock report` to the subcommands of an argparse parser."""
    parser = commands.add_parser("report", help="a page of a job: what came of it, how fast and why, every result")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="where to write it (default: NAME.report.html beside OUT)"
    )
    parser.set_defaults(action=_report)


def add_to_run(parser: argparse.ArgumentParser) -> None:
    """Add `--report` and `--live` to `penstock run` and `penstock retry`."""
    seen = parser.add_argument_group("to look at it")
    seen.add_argument(
        "--report", type=Path, metavar="FILE.html", help="write a page about the run, see penstock report"
    )
    seen.add_argument("--live", metavar=":PORT", help="serve that page, to this machine, while the run goes on")


def _report(given: argparse.Namespace) -> int:
    out: Path = given.out
    html = given.html or out.resolve().with_name(f"{out.resolve().name}.report.html")
    size = write_page(out, html)
    print(f"{html}: {size / 1e6:.1f} MB; open it in a browser.")
    return 0


def write_page(out: Path, html: Path) -> int:
    """Write the page of the job at `out` to `html`, whole or not at all; return its size in bytes.

    Raises UsageError where there is no job, or `html` cannot be written.
    """
    from penstock._page.gather import page_data
    from penstock._page.html import page
    from penstock.errors import UsageError

    text = page(page_data(out)).encode()
    temporary = html.with_name(f".{html.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(text)
        temporary.replace(html)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{html} cannot be written: {error.strerror}. Give another file.") from error
    return len(text)


@contextmanager
def shown(given: argparse.Namespace) -> Iterator[None]:
    """Show what happens inside as `--live` and `--report` ask: while it goes on, and when it is over, however it ends.

    Raises UsageError, before anything is done, where the address or the folder of the file cannot be used.
    """
    from penstock._job import job_folder
    from penstock.errors import UsageError

    if given.report is not None and not given.report.absolute().parent.is_dir():
        raise UsageError(f"--report {given.report}: the folder {given.report.parent} does not exist. Make it first.")
    with ExitStack() as stack:
        if given.report is not None:
            stack.callback(_write_page_of_job, given.out, given.report, job_folder(given.out))
        if given.live is not None:
            stack.enter_context(_served(given))
        yield


def _write_page_of_job(out: Path, html: Path, folder: Path) -> None:
    if (folder / "ledger.sqlite").is_file():  # else the run was refused before there was anything to show
        write_page(out, html)


@contextmanager
def _served(given: argparse.Namespace) -> Iterator[None]:
    from penstock._page.live import Live, address_of

    with Live(given.out, *address_of(given.live)) as live:
        said = json.dumps({"event": "live", "url": live.url}) if given.json else f"live: {live.url}"
        print(said, file=sys.stderr, flush=True)
        yield
