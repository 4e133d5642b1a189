"""One HTML file with its style, its scripts and its data in it; it asks nothing of any network.

What comes from outside (names of files, labels, messages) is in it as JSON alone, in which no character can end the
element it stands in; the scripts put it into the page as text. The content security policy names the hashes of our own
styles and scripts, so that nothing else would run even so.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from penstock._telemetry.record import finite

STYLES = ("uplot/uPlot.min.css", "page.css", "parts.css")
SCRIPTS = (
    "uplot/uPlot.iife.min.js",
    "elements.js",
    "numbers.js",
    "summary.js",
    "charts.js",
    "steps.js",
    "failures.js",
    "evaluation.js",
    "gallery.js",
    "page.js",
)
_UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def page(data: Mapping[str, Any], *, live: bool = False) -> str:
    """Return the page that shows `data`, see `gather.page_data`; a `live` one listens to the server it came from."""
    style, script = _joined(STYLES), _joined(SCRIPTS)
    title = escape(f"{data['name']} - penstock".encode("utf-8", "replace").decode(), quote=False)
    values = embedded({**data, "live": live, "version": version("penstock")})
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(style, script, live=live)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        "<noscript>This page is drawn by a script that is part of it; allow it to run.</noscript>\n"
        f'<script type="application/json" id="data">{values}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def policy(style: str, script: str, *, live: bool) -> str:
    """Return the content security policy of a page with this style and script; a live one may ask its own server."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        f"connect-src {chr(39)}{'self' if live else 'none'}{chr(39)}; base-uri 'none'; form-action 'none'"
    )


def embedded(data: Any) -> str:
    """Return `data` as JSON in ASCII that may stand in a script element: without `<`, `>` and `&`."""
    return json.dumps(finite(data), ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(_UNSAFE)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _joined(names: tuple[str, ...]) -> str:
    folder = files("penstock._page") / "assets"
    return "\n" + "\n".join(folder.joinpath(name).read_text("utf-8") for name in names)
