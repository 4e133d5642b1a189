"""What a worker process finds of the program that started it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import penstock
from penstock._engine.program import Program

SRC = Path(penstock.__file__).resolve().parents[1]
MODULE = "def twice(value):\n    return 2 * value\n"
MAIN = """
import penstock
{function}
def answers(batch):
    return batch

{guard}
with penstock.Session(answers, stages=[penstock.Workers({name}, 1, kind="process")]) as session:
    print(list(session.map(range(4))))
"""
GUARDED = "if __name__ == '__main__':"


def program(folder: Path, function: str, guard: str) -> Path:
    text = MAIN.format(function=function, guard=guard, name="twice")
    if guard:
        head, _, body = text.partition(guard)
        text = head + guard + body.replace("\n", "\n    ")
    path = folder / "program.py"
    path.write_text(text)
    return path


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize("how", [("program.py",), ("-m", "program")])
def test_a_function_of_the_main_program_is_found(tmp_path: Path, how: tuple[str, ...]) -> None:
    program(tmp_path, MODULE, GUARDED)
    done = run(*how, folder=tmp_path)
    assert (done.stdout, done.stderr) == ("[0, 2, 4, 6]\n", "")


def test_a_function_of_a_module_needs_no_guard(tmp_path: Path) -> None:
    """The main module is not even read by the process."""
    (tmp_path / "doubling.py").write_text(MODULE)
    program(tmp_path, "from doubling import twice", "")
    done = run("program.py", folder=tmp_path)
    assert (done.stdout, done.stderr) == ("[0, 2, 4, 6]\n", "")


def test_a_program_that_would_begin_over_again_is_told_what_to_do(tmp_path: Path) -> None:
    program(tmp_path, MODULE, "")
    done = run("program.py", folder=tmp_path)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert "UsageError: stage 'twice': its process cannot load the code" in said
    assert "put what it does under `if __name__ == '__main__':`" in said


def test_options_of_the_interpreter_hold_there_too(tmp_path: Path) -> None:
    told = "import sys\ndef twice(value):\n    return value if __debug__ else sys.warnoptions\n"
    program(tmp_path, told, GUARDED)
    done = run("-O", "-Werror::UserWarning", "program.py", folder=tmp_path)
    assert done.stdout == str([["error::UserWarning"]] * 4) + "\n"


def test_a_program_without_a_file_is_refused(tmp_path: Path) -> None:
    path = program(tmp_path, MODULE, "")
    done = run("-c", path.read_text(), folder=tmp_path)
    assert "lies in a program without a file (a notebook, python -c)" in done.stderr.splitlines()[-1]


def test_a_file_of_the_current_folder_takes_no_modules_place(tmp_path: Path) -> None:
    program(tmp_path, MODULE, GUARDED)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "struct.py").write_text("raise SystemExit('the wrong struct')")
    done = run("../program.py", folder=tmp_path / "elsewhere")
    assert (done.stdout, done.stderr) == ("[0, 2, 4, 6]\n", "")


def test_this_program() -> None:
    this = Program.this()
    assert this.path == sys.path
    assert this.argv == sys.argv
