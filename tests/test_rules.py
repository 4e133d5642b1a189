"""The rules of the house, read off the source; those about imports are in test_imports.py.

Each checker is itself tested on a planted violation. A rule that has to bend bends here, with the reason beside it.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "penstock"

CODE = ("src", "tests", "benchmarks", "training", "examples")
MAX_FILE_LINES = 399
MAX_FUNCTION_LINES = 40
MAX_PARAMETERS = 6
HEADS = {"run", "Session.__init__", "Feed.__init__"}  # the three heads may have many keywords
BANNED_NAMES = {"base", "common", "helper", "helpers", "manager", "misc", "util", "utils"}

# Calls that wait for good unless they are given a timeout: method -> how many arguments it may have and still wait so.
# `dict.get(key)`, `str.join(parts)` and `os.path.join(a, b)` have arguments and are none of them.
WAITS = {"get": 0, "join": 0, "result": 0, "wait": 0, "acquire": 0, "communicate": 0, "wait_for": 1}

Checker = Callable[[ast.Module], Iterator[str]]


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function with its qualified name."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + child.name, child
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from below(child, f"{prefix}{child.name}.")
            else:
                yield from below(child, prefix)

    yield from below(tree, "")


def long_functions(tree: ast.Module) -> Iterator[str]:
    """Yield functions that are too long, their docstring not counted (nor a head's list of keywords)."""
    for name, node in functions(tree):
        first = node.body[0]
        text = (
            isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
        )
        docstring = (first.end_lineno or 0) - first.lineno + 1 if text else 0
        start = first.lineno if name in HEADS else node.lineno
        lines = (node.end_lineno or 0) - start + 1 - docstring
        if lines > MAX_FUNCTION_LINES:
            yield f"{node.lineno} {name}: {lines} lines, at most {MAX_FUNCTION_LINES}"


def many_parameters(tree: ast.Module) -> Iterator[str]:
    """Yield functions with too many parameters, `self` and `cls` not counted."""
    for name, node in functions(tree):
        given = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len([arg for arg in given if arg not in ("self", "cls")])
        if count > MAX_PARAMETERS and name not in HEADS:
            yield f"{node.lineno} {name}: {count} parameters, at most {MAX_PARAMETERS}"


def unbounded_waits(tree: ast.Module) -> Iterator[str]:
    """Yield calls that may wait for good (rule 1)."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAITS):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        values = [value.value for value in (*node.args, keywords.get("timeout")) if isinstance(value, ast.Constant)]
        if node.func.attr == "get" and node.args:  # dict.get(key, None)
            continue
        bare = len(node.args) <= WAITS[node.func.attr] and not keywords.keys() & {"timeout", "block", "blocking"}
        if bare or None in values:
            yield f"{node.lineno} .{node.func.attr}() without a timeout"


def sleeps(tree: ast.Module) -> Iterator[str]:
    """Yield every way to get at `time.sleep`: what waits, waits for an event, with a deadline."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "sleep":
            yield f"{node.lineno} .sleep"
        elif isinstance(node, ast.ImportFrom) and node.module == "time" and any(a.name == "sleep" for a in node.names):
            yield f"{node.lineno} from time import sleep"


def names_everything(node: ast.expr | None) -> bool:
    """Return whether an `except` of this catches everything."""
    if isinstance(node, ast.Tuple):
        return any(names_everything(part) for part in node.elts)
    return node is None or (isinstance(node, ast.Name) and node.id in ("Exception", "BaseException"))


def does_nothing(node: ast.stmt) -> bool:
    """Return whether the statement is `pass`, `continue`, `...` or a string."""
    constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return constant or isinstance(node, ast.Pass | ast.Continue)


def swallowed(tree: ast.Module) -> Iterator[str]:
    """Yield handlers that catch everything and do nothing, and `suppress` of everything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            if names_everything(node.type) and all(does_nothing(line) for line in node.body):
                yield f"{node.lineno} an exception of any kind is swallowed"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            everything = [argument for argument in node.args if names_everything(argument)]
            yield from (f"{node.lineno} suppress of {ast.unparse(argument)}" for argument in everything)


def blanket_ignores(source: str) -> Iterator[str]:
    """Yield comments that switch a checker off without saying which of its rules."""
    blanket = re.compile(r"type:\s*ignore(?!\[)|(?<!ruff: )noqa(?!:\s*[A-Z])|ruff:\s*noqa|mypy:\s*ignore-errors")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and blanket.search(token.string):
            yield f"{token.start[0]} {token.string}"


def foreign_paths(text: str) -> Iterator[str]:
    """Yield what belongs to one machine: absolute paths of its folders, addresses of package indexes."""
    foreign = re.compile(
        r"(?<![\w.~-])/(?:work|root|home|opt)/\w|https?://[^\s/]*pypi|--(?:extra-)?index-ur[l]|--find-link[s]"
    )
    for number, line in enumerate(text.splitlines(), 1):
        yield from (f"{number} {match.group()}" for match in foreign.finditer(line))


# -- the rules, on the source


def found(checker: Checker, folders: tuple[str, ...] = ("src",)) -> list[str]:
    """Return what `checker` says about every Python file in `folders` of the repository."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [f"{p.relative_to(ROOT)}:{line}" for p in paths for line in checker(ast.parse(p.read_text("utf-8")))]


@pytest.mark.parametrize(
    "checker",
    [long_functions, many_parameters, unbounded_waits, swallowed],
    ids=lambda checker: checker.__name__,
)
def test_source_keeps_the_rule(checker: Checker) -> None:
    assert found(checker) == []


def test_nothing_sleeps_and_no_test_swallows() -> None:
    assert found(sleeps, ("src", "tests")) == []
    assert found(swallowed, ("tests",)) == []


def test_ignores_name_their_rule() -> None:
    paths = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    assert [
        f"{path.relative_to(ROOT)}:{line}" for path in paths for line in blanket_ignores(path.read_text("utf-8"))
    ] == []


def test_files_are_short_and_well_named() -> None:
    paths = [path for folder in CODE for path in (ROOT / folder).rglob("*.py")]
    long = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in paths}
    assert {path: lines for path, lines in long.items() if lines > MAX_FILE_LINES} == {}
    assert [
        path for path in long if BANNED_NAMES & {part.strip("_").removesuffix(".py") for part in path.split("/")}
    ] == []


def test_nothing_names_one_machine() -> None:
    suffixes = {".py", ".md", ".toml", ".txt", ".json", ".yml", ".yaml", ".cfg", ""}
    top = [path for path in ROOT.iterdir() if path.is_file()]
    folders = ("src", "tests", "docs", "benchmarks", "training", "examples", ".ci")
    paths = top + [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = {
        path: path.read_text("utf-8") for path in paths if path.suffix in suffixes and "LICENSES" not in path.parts
    }
    assert [f"{path.relative_to(ROOT)}:{line}" for path, text in texts.items() for line in foreign_paths(text)] == []


def test_all_is_the_sorted_list_of_public_names() -> None:
    import penstock

    tree = ast.parse((SRC / "__init__.py").read_text("utf-8"))
    froms = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("penstock")
    ]
    public = sorted(alias.asname or alias.name for node in froms for alias in node.names)
    assert penstock.__all__ == public
    assert [name for name in public if name.startswith("_") or getattr(penstock, name, None) is None] == []


# -- the checkers, on planted violations

PLANTED: list[tuple[Checker, str, int]] = [
    (long_functions, "def f():\n" + "    x = 1\n" * 40, 1),
    (long_functions, 'def f():\n    """' + "line\n" * 50 + '    """\n' + "    x = 1\n" * 39, 0),
    (many_parameters, "class A:\n    def f(self, a, b, c, d, e, *, f, g): ...", 1),
    (many_parameters, "def run(a, b, c, d, e, f, g): ...\nclass A:\n    def f(self, a, b, c, d, e, f): ...", 0),
    (unbounded_waits, "q.get()\nt.join()\nf.result()\ne.wait()\nl.acquire()\np.communicate()\nc.wait_for(ready)", 7),
    (unbounded_waits, "t.join(None)\nf.result(timeout=None)\nq.get(timeout=None)", 3),
    (unbounded_waits, "d.get(k)\nd.get(k, None)\n','.join(x)\nos.path.join(a, b)\nq.get(timeout=t)\nf.result(t)", 0),
    (unbounded_waits, "l.acquire(blocking=False)\nq.get(block=False)\nc.wait_for(ready, t)", 0),
    (sleeps, "import time\nfrom time import sleep\ntime.sleep(1)", 2),
    (swallowed, "try: f()\nexcept: pass\ntry: f()\nexcept Exception:\n    ...", 2),
    (swallowed, "for x in y:\n    try: f()\n    except (OSError, BaseException): continue", 1),
    (swallowed, "with contextlib.suppress(Exception): f()\nwith suppress(BaseException): f()", 2),
    (swallowed, "try: f()\nexcept OSError: pass\ntry: f()\nexcept Exception: log(1)\nwith suppress(OSError): f()", 0),
]


@pytest.mark.parametrize(("checker", "source", "count"), PLANTED)
def test_a_checker_finds_what_is_planted(checker: Checker, source: str, count: int) -> None:
    assert len(list(checker(ast.parse(source)))) == count


def test_blanket_comments_are_seen() -> None:
    switch = "type: " + "ignore"
    comments = [switch, "noqa", "ruff: noqa", "mypy: ignore-errors", f"{switch}[attr-defined]", "noqa: E501 - why"]
    source = "".join(f"a = 1  # {comment}\n" for comment in comments)
    assert [line.split()[0] for line in blanket_ignores(source)] == ["1", "2", "3", "4"]


def test_foreign_paths_are_seen() -> None:
    text = "see {0}work/x and {0}root/y\nfrom https:{0}/files.pypi.org/simple\na/work/b is a relative path\n".format(
        "/"
    )
    assert [line.split()[0] for line in foreign_paths(text)] == ["1", "1", "2"]
