"""A notebook gets one output that is updated, in a real kernel."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from penstock._telemetry.lines import Lines
from penstock._telemetry.notebook import Notebook, is_notebook, mime
from penstock._telemetry.progress import display_of
from penstock._telemetry.state import State, StepState

CELL = """
import penstock

def halves(batch):
    print("a batch of", len(batch))
    return [value / 2 for value in batch]

report = penstock.run([float(n) for n in range(600)], halves, out="halves.jsonl", progress="auto")

from itertools import count
from penstock._telemetry.progress import Progress
with Progress(1000, "auto", clock=count().__next__) as progress:  # a clock by which each update is due
    for done in range(1001):
        progress.update(done, 0)
"""


def executed(cell: str, folder: Path) -> list[dict[str, Any]]:
    """Return what a cell put out."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    client = nbclient.NotebookClient(
        notebook, timeout=50, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs: list[dict[str, Any]] = notebook.cells[0].outputs
    return outputs


def test_a_run_in_a_kernel_has_one_output_with_the_final_counts(tmp_path: Path) -> None:
    outputs = executed(CELL, tmp_path)
    panels = [output["data"] for output in outputs if output["output_type"] == "display_data"]
    assert len(panels) == 2, "one of the run, one that was updated a thousand times"
    for data, count in zip(panels, ("600/600", "1,000/1,000"), strict=True):
        (line,) = [line for line in data["text/plain"].splitlines() if count in line]
        assert "100 %" in line
        assert "  in " in line, "the last state"
        assert count in data["text/html"]
    assert any(line.startswith("model ") for line in panels[0]["text/plain"].splitlines())
    printed = "".join(output["text"] for output in outputs if output["output_type"] == "stream")
    assert printed
    assert all(line.startswith("a batch of ") for line in printed.splitlines()), "and no lines of progress"


class Output:
    """Stands for what IPython's display gives."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool) -> Output:
        assert not self.shown, "one output"
        self.update(data, raw=raw)
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        self.shown.append(data)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Output:
    """Let it look as if this were a kernel; return what it shows."""
    output = Output()
    shell = type("ZMQInteractiveShell", (), {})()
    python: Any = types.ModuleType("IPython")
    python.display = types.ModuleType("IPython.display")
    python.get_ipython, python.display.display = lambda: shell, output.display
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", python.display)
    return output


def test_words_stand_above_the_panel_in_the_same_output(kernel: Output) -> None:
    pytest.importorskip("rich")
    display = display_of("auto", sys.stderr, lambda: 0.0)
    assert isinstance(display, Notebook)
    display.say("memory: 1 \x1b GB")
    display.show(State(1, total=2))
    display.close(State(2, total=2, ended=True))
    first, *_, last = kernel.shown
    assert first["text/plain"] == r"memory: 1 \x1b GB"
    assert last["text/plain"].splitlines()[0] == r"memory: 1 \x1b GB"
    assert last["text/plain"].splitlines()[1].split()[0] == "2/2"


def test_only_a_kernel_is_a_notebook(kernel: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_notebook()
    assert isinstance(display_of("plain", sys.stderr, lambda: 0.0), Lines), "who asks for lines gets lines"
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: None)
    assert not is_notebook()
    monkeypatch.delitem(sys.modules, "IPython")
    assert not is_notebook()


def test_names_are_no_html() -> None:
    step = StepState("<script>&", 1, 0.5, 0, 0.1)
    data = mime([((step.name, "bold"), ("  ", ""))])
    assert data["text/plain"] == "<script>&"
    assert '<span style="font-weight:bold">&lt;script&gt;&amp;</span>' in data["text/html"]
