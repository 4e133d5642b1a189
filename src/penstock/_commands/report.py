"""`penstock report`, and `--report` of a run: the page of a job, in one HTML file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Add `penstock report` to the subcommands of an argparse parser."""
    parser = commands.add_parser("report", help="a page of a job: what came of it, how fast and why, every result")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--html", type=Path, metavar="FILE", help="where to write it (default: NAME.report.html beside OUT)")
    parser.set_defaults(action=_report)


def add_to_run(parser: argparse.ArgumentParser) -> None:
    """Add `--report` to `penstock run` and `penstock retry`."""
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page about the run, see penstock report")


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
def page_behind(given: argparse.Namespace) -> Iterator[None]:
    """Write the page that `--report` asks for when what happens inside is over, however it ends."""
    from penstock._job import job_folder

    try:
        yield
    finally:
        if given.report is not None and (job_folder(given.out) / "ledger.sqlite").is_file():
            write_page(given.out, given.report)
