"""The panel in a notebook: one output of the cell, which is updated in place."""

from __future__ import annotations

import sys
from typing import Any

from penstock._printable import printable
from penstock._telemetry.panel import Line, panel
from penstock._telemetry.state import State

WIDTH, HEIGHT = 100, 40
CSS = {"bold": "font-weight:bold", "dim": "opacity:.6", "cyan": "color:#0097a7", "red": "color:#d32f2f"}
PRE = "margin:0;line-height:1.3;overflow-x:auto;font-family:Menlo,'DejaVu Sans Mono',Consolas,monospace"


def is_notebook() -> bool:
    """Tell whether this is a kernel of Jupyter's, whose frontend can update an output: as rich and tqdm tell it."""
    python = sys.modules.get("IPython")
    shell = None if python is None else python.get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell" or "google.colab" in str(type(shell))


class Notebook:
    """A `Display`: shows the panel as HTML and as text, with IPython's display and no widgets."""

    def __init__(self) -> None:
        self._words: list[Line] = []
        self._panel: list[Line] = []
        self._output: Any = None

    def show(self, state: State) -> None:
        """Update the output; the caller decides how often."""
        self._panel = panel(state, WIDTH, HEIGHT)
        self._update()

    def say(self, text: str) -> None:
        """Put a line above the panel."""
        self._words.append(((printable(text), ""),))
        self._update()

    def close(self, state: State) -> None:
        """Show the last state, which stays in the notebook."""
        self.show(state)

    def _update(self) -> None:
        data = mime([*self._words, *self._panel])
        if self._output is None:
            from IPython.display import display

            self._output = display(data, raw=True, display_id=True)
        else:
            self._output.update(data, raw=True)


def mime(lines: list[Line]) -> dict[str, str]:
    """Return lines as what a notebook shows and stores, by MIME type."""
    rows = ["".join(text for text, _ in line) for line in lines]
    html = "\n".join("".join(_span(text, style) for text, style in line) for line in lines)
    return {"text/plain": "\n".join(row.rstrip() for row in rows), "text/html": f'<pre style="{PRE}">{html}</pre>'}


def _span(text: str, style: str) -> str:
    from html import escape  # where it is needed: `import penstock` stays light

    return f'<span style="{CSS[style]}">{escape(text)}</span>' if style else escape(text)
