"""Text that a file's name or a model's label may be part of, as it may stand on a terminal."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    r"""Return `text` with what a terminal might obey written out: `\x1b`, `\n`, `\u202e`, a lone `\udce9`.

    `keep`: characters that stay as they are, such as the newlines of a message in several lines.
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)
