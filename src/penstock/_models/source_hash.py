"""What identifies a user's function or class between two runs: its version, or a hash of what it is made of."""

from __future__ import annotations

import functools
import hashlib
import inspect
import types
from collections.abc import Iterator
from typing import Any

PLAIN = (int, float, complex, str, bytes, bool, type(None))


def describe(thing: Any) -> dict[str, Any]:
    """Return the part of a job's fingerprint for a function, class or instance.

    `name` is the qualified name; beside it `version` (an attribute of that name) or `source`, the sha256 of its source
    text, or of its byte code where there is no source, with the plain values it closes over and defaults to.
    """
    described = {"kind": "callable", "name": qualified_name(thing)}
    version = getattr(thing, "version", None)
    if version is not None:
        return described | {"version": str(version)}
    digest = hashlib.sha256()
    for part in _parts(thing):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return described | {"source": digest.hexdigest()}


def qualified_name(thing: Any) -> str:
    """Return `module.name` of a function or class, or of an instance's class."""
    if isinstance(thing, functools.partial):
        return f"partial({qualified_name(thing.func)})"
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"


def _parts(thing: Any) -> Iterator[str]:
    if isinstance(thing, functools.partial):
        yield from _parts(thing.func)
        yield _plain((thing.args, sorted(thing.keywords.items())))
        return
    function = inspect.unwrap(thing.__func__ if inspect.ismethod(thing) else thing) if callable(thing) else thing
    made_of = function if inspect.isfunction(function) or inspect.isclass(function) else type(function)
    yield _text(made_of)
    if inspect.isfunction(function):
        cells = [_cell(cell) for cell in function.__closure__ or ()]
        yield _plain((function.__defaults__, sorted((function.__kwdefaults__ or {}).items()), cells))


def _text(thing: Any) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):  # typed at a prompt, or built in
        return "\n".join(_code_parts(thing))


def _code_parts(thing: Any) -> Iterator[str]:
    """Yield the byte code and constants of a function, or of every function of a class."""
    if isinstance(thing, types.FunctionType):
        yield from _code_parts(thing.__code__)
    elif isinstance(thing, types.CodeType):
        yield thing.co_code.hex()
        yield repr(thing.co_names)
        for constant in thing.co_consts:
            yield from _code_parts(constant) if isinstance(constant, types.CodeType) else (_plain(constant),)
    elif inspect.isclass(thing):
        for name, member in sorted(vars(thing).items()):
            if isinstance(member, types.FunctionType):
                yield name
                yield from _code_parts(member)


def _plain(value: Any) -> str:
    """Return a text that is the same in every process: of plain values the value, of anything else the type."""
    if isinstance(value, PLAIN):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"({','.join(map(_plain, value))})"
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(map(_plain, value)))}}}"
    return qualified_name(value)


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet: a function that names itself
        return None
