"""What may import what: layers point down, nothing imports in circles, and `import penstock` stays light.

A unit that has to move moves in LAYERS, with the reason in the change.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "penstock"

# From the ground up. A unit (a module or a package of penstock) imports units of lower layers and itself, nothing else.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "_cgroups"),
    ("_contracts", "_options", "_devices", "_budget", "_interrupt", "_printable", "_ensemble", "_stopping"),
    ("_spec", "_engine"),
    ("_decode", "_plan", "_branches", "_views"),
    ("_preprocess", "_postprocess", "_sources", "_sinks", "_telemetry", "_exceeding", "_dealing", "_own"),
    ("_models", "_job", "_submitted", "_climb"),
    ("_request", "_ceilings", "_ready"),
    ("_adapt", "_command", "_observer"),
    ("_several", "_augmented", "_climbing"),
    ("_recipes",),
    ("_drive", "_session", "_feed", "_evaluation", "_page"),
    ("_task",),
    ("_planning",),
    ("_api", "serve", "cluster"),
    ("__init__",),
    ("_demo",),
    ("_commands",),
    ("_cli",),
    ("__main__",),
)
LAYER_OF = {unit: height for height, units in enumerate(LAYERS) for unit in units}

PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
PICKLE_ALLOWED = {"_engine/messages.py"}  # what goes to a worker process and comes from it; nothing of it is stored
AT_THE_TOP = set(sys.stdlib_module_names) | {"numpy", "penstock"}
# Each of these costs as much as the rest of the import together, and only some users need it: imported when used.
HEAVY = {
    "asyncio",
    "email",
    "http",
    "importlib.metadata",
    "multiprocessing",
    "sqlite3",
    "ssl",
    "tomllib",
    "unittest",
    "xml",
}
RENDERING = "_demo/render.py"  # pictures are all it does, and only the demo and the training import it
MAX_STDLIB_MODULES = 60  # beyond numpy's own, with every public name in use; at 0.2 to 0.5 ms each


def modules() -> dict[str, ast.Module]:
    """Return the parsed source, by path below src/penstock."""
    return {path.relative_to(SRC).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(SRC.rglob("*.py"))}


def dotted(path: str) -> str:
    """Return the module's name below `penstock`: `_sinks/jsonl.py` is `_sinks.jsonl`, its `__init__.py` is `_sinks`."""
    name = path.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")


def imported(node: ast.AST) -> Iterator[str]:
    """Yield what an import statement takes from penstock; `a.b` may be the name `b` in `a`."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "penstock":
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "penstock")


def at_import(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements that run, or may run, when the module is imported."""
    todo: list[ast.AST] = list(reversed(tree.body))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            todo.extend(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if isinstance(node, ast.stmt):
                yield node
            todo.extend(ast.iter_child_nodes(node))


def for_types_alone(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the statements below `if TYPE_CHECKING:`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from node.body


def import_graph(trees: dict[str, ast.Module], types: bool = True) -> dict[str, set[str]]:
    """Return which of penstock's modules each of them imports; without `types`, at run time only."""
    known = {dotted(path) for path in trees}

    def module_of(name: str) -> str:
        below = name.removeprefix("penstock").removeprefix(".")
        while below and below not in known:
            below = below.rpartition(".")[0]
        return below or "__init__"

    def targets(tree: ast.Module) -> set[str]:
        skipped = set() if types else set(for_types_alone(tree))
        return {module_of(name) for node in ast.walk(tree) if node not in skipped for name in imported(node)}

    return {dotted(path): targets(tree) for path, tree in trees.items()}


def upward_imports(graph: dict[str, set[str]]) -> Iterator[str]:
    """Yield every import that does not point to a lower layer, and every unit that has no layer."""
    for module, targets in graph.items():
        unit = module.split(".")[0]
        if unit not in LAYER_OF:
            yield f"{unit} is in no layer: give it one in LAYERS"
            continue
        for target in sorted(targets):
            other = target.split(".")[0]
            if other != unit and LAYER_OF.get(other, len(LAYERS)) >= LAYER_OF[unit]:
                yield f"{module} imports {target}, which is not below it"


def cycles(graph: dict[str, set[str]]) -> Iterator[str]:
    """Yield one line for each module that can reach itself."""
    for start, targets in graph.items():
        seen: set[str] = set()
        todo = sorted(targets)
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo.extend(graph.get(module, ()))
        if start in seen:
            yield f"{start} imports itself by way of others"


def loads(node: ast.AST) -> list[str]:
    """Return the modules an import statement names; none for any other node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def frameworks_at_the_top(tree: ast.Module) -> Iterator[str]:
    """Yield imports that `import penstock` would run and that are neither numpy nor the standard library."""
    for line in at_import(tree):
        yield from (f"{line.lineno} {name}" for name in loads(line) if name.split(".")[0] not in AT_THE_TOP)


def pickles(tree: ast.Module) -> Iterator[str]:
    """Yield imports of anything that runs code when it reads."""
    for node in ast.walk(tree):
        yield from (name for name in loads(node) if name.split(".")[0] in PICKLES)


# -- the rules, on the source


def test_imports_point_down() -> None:
    assert list(upward_imports(import_graph(modules()))) == []


def test_no_import_cycle() -> None:
    assert list(cycles(import_graph(modules(), types=False))) == []


def test_only_listed_modules_pickle() -> None:
    pickling = {path: list(pickles(tree)) for path, tree in modules().items()}
    assert {path: names for path, names in pickling.items() if names and path not in PICKLE_ALLOWED} == {}


def test_frameworks_are_imported_when_used() -> None:
    late = {path: list(frameworks_at_the_top(tree)) for path, tree in modules().items() if path != RENDERING}
    assert {path: names for path, names in late.items() if names} == {}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that `statement` loads in a fresh interpreter that has numpy already."""
    loaded = "print(json.dumps([*set(sys.modules) - before]))"
    code = f"import json, sys, numpy\nbefore = set(sys.modules)\n{statement}\n{loaded}"
    environment = {**os.environ, "PYTHONPATH": str(SRC.parent)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_all_of_penstock_loads_numpy_and_the_standard_library_only() -> None:
    loaded = loaded_by("from penstock import *")
    assert {"penstock", "penstock._api", "penstock._session"} <= loaded
    assert {name for name in loaded if name.split(".")[0] not in AT_THE_TOP} == set()


def test_import_penstock_is_light() -> None:
    assert {name for name in loaded_by("import penstock") if name.startswith("penstock.")} == set()
    standard = {name for name in loaded_by("from penstock import *") if name.split(".")[0] != "penstock"}
    assert standard & HEAVY == set()
    assert len(standard) <= MAX_STDLIB_MODULES, sorted(standard)


def test_every_public_name_is_there_and_no_other() -> None:
    import penstock

    there = {name for name in dir(penstock) if name[0] != "_"} - {"Any", "TYPE_CHECKING", "annotations"}
    assert there == set(penstock.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Sesion'"):
        _ = penstock.Sesion  # type: ignore[attr-defined]


def test_help_loads_no_framework() -> None:
    loaded = loaded_by("import penstock._cli\ntry: penstock._cli.main(['--help'])\nexcept SystemExit: print()")
    assert {name for name in loaded if name.split(".")[0] not in AT_THE_TOP} == set()


def test_the_version_is_known_and_read_when_asked_for() -> None:
    import penstock

    assert penstock.__version__.count(".") >= 2
    assert "importlib.metadata" in loaded_by("import penstock; penstock.__version__") - loaded_by("import penstock")


# -- the checkers, on planted violations


def test_layers_and_cycles_are_seen() -> None:
    trees = {
        "errors.py": "from penstock._engine.flow import Flow",
        "_engine/flow.py": "def f():\n    import penstock.errors",
        "_sinks/rows.py": "from penstock import _sources\nfrom penstock._sinks import text\nfrom penstock import Item",
        "_sinks/text.py": "",
        "_sources/__init__.py": "",
        "_new.py": "",
    }
    graph = import_graph({path: ast.parse(source) for path, source in trees.items()})
    assert list(upward_imports(graph)) == [
        "errors imports _engine.flow, which is not below it",
        "_sinks.rows imports __init__, which is not below it",
        "_sinks.rows imports _sources, which is not below it",
        "_new is in no layer: give it one in LAYERS",
    ]
    assert [line.split()[0] for line in cycles(graph)] == ["errors", "_engine.flow"]


def test_imports_for_types_point_down_but_make_no_cycle() -> None:
    source = "if TYPE_CHECKING:\n    from penstock._engine import flow"
    trees = {"_engine/flow.py": ast.parse("import penstock._engine.watch"), "_engine/watch.py": ast.parse(source)}
    assert list(cycles(import_graph(trees, types=False))) == []
    assert len(list(cycles(import_graph(trees)))) == 2


def test_frameworks_at_the_top_are_seen() -> None:
    def lines(source: str) -> list[str]:
        return [line.split()[0] for line in frameworks_at_the_top(ast.parse(source))]

    assert lines("import cv2\ntry:\n    from rich import print\nexcept ImportError: x = None") == ["1", "3"]
    assert lines("class A:\n    import torch.nn") == ["2"]
    assert lines("import os, numpy\nif TYPE_CHECKING:\n    import cv2\ndef f():\n    import torch") == []


def test_pickles_are_seen() -> None:
    planted = "import json\nimport pickle\ndef f():\n    from cloudpickle import dumps"
    assert list(pickles(ast.parse(planted))) == ["pickle", "cloudpickle"]
