"""Torch's files (TorchScript, exported programs, state dicts), told apart by what is in them, read without code."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock._models.modelfile import refuse_lookalikes, refused
from penstock._models.recognise import is_torch_module
from penstock._models.source_hash import qualified_name
from penstock.errors import MissingDependency, ModelError, UsageError

MODULE, SCRIPT, EXPORT = "module", "script", "export"
_WEIGHTS = "weights"
_SHOWN_KEYS = 5
_CODE = re.compile(r"GLOBAL ([\w.]+)")
_FORCE = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
_RUNS_CODE = ("data/aotinductor/", "data/constants/opaque_obj_")
"""Entries of a .pt2 file that run code when they are loaded: compiled libraries and pickled objects."""


def torch_module() -> Any:
    """Return torch. Raises MissingDependency without it."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependency.of("torch", "torch", "running models of torch") from error
    return torch


def load_file(path: Path, factory: str | Callable[[], Any] | None) -> tuple[Any, str]:
    """Return the module in the file at `path`, and what it is: MODULE, SCRIPT or EXPORT.

    It is on the CPU, an exported program where it was exported for. `factory` makes the module of a state dict, and is
    refused for the other kinds.

    Raises UsageError or ModelError where there is no such file, it holds code, or it does not fit its factory.
    """
    kind = _kind_of(path)
    if kind == _WEIGHTS:
        return _filled(path, factory), MODULE
    if factory is not None:
        raise UsageError(
            f"model {str(path)!r} holds a whole program ({kind}), and factory={_named(factory)!r} makes another one. "
            "Leave the factory out."
        )
    return (_load_script(path), SCRIPT) if kind == SCRIPT else (_load_export(path), EXPORT)


def _kind_of(path: Path) -> str:
    with path.open("rb") as file:
        refuse_lookalikes(path, file.read(512))
    if not zipfile.is_zipfile(path):
        return _WEIGHTS  # as torch wrote them before 1.6; or no file of torch's, and reading it will tell
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith(("/archive_format", "serialized_exported_program.json")) for name in names):
        _refuse_programs(path, names)
        return EXPORT
    if any(name.endswith("/constants.pkl") for name in names):
        return SCRIPT
    if any(name.endswith("/data.pkl") for name in names):
        return _WEIGHTS
    raise ModelError(
        f"model {str(path)!r} is an archive of {len(names)} files, and neither TorchScript, nor an exported program, "
        "nor a state dict. Give a file written by torch.jit.save, torch.export.save or torch.save."
    )


def _refuse_programs(path: Path, names: Sequence[str]) -> None:
    running = [name for name in names for part in _RUNS_CODE if part in name]
    if running:
        raise ModelError(
            f"model {str(path)!r} holds {len(running)} entries that run code when they are loaded ({running[0]}). "
            "penstock loads graphs and weights only: save it with torch.export.save."
        )


def _load_script(path: Path) -> Any:
    torch = torch_module()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.load`", DeprecationWarning)
            return torch.jit.load(str(path), map_location="cpu")
    except Exception as error:
        raise refused(path, "torch", error) from error


def _load_export(path: Path) -> Any:
    torch = torch_module()
    try:
        with _weights_only(), path.open("rb") as file:
            return torch.export.load(str(path) if path.suffix == ".pt2" else file)  # it warns of other suffixes
    except Exception as error:
        raise _holds_code(path, error) or refused(path, "torch", error) from error


@contextmanager
def _weights_only() -> Iterator[None]:
    """Make every `torch.load` inside refuse code: `torch.export.load` falls back to unpickling anything otherwise."""
    before = {name: os.environ.pop(name, None) for name in _FORCE}
    os.environ[_FORCE[0]] = "1"
    try:
        yield
    finally:
        del os.environ[_FORCE[0]]
        os.environ.update({name: value for name, value in before.items() if value is not None})


# ---- state dicts


def _filled(path: Path, factory: str | Callable[[], Any] | None) -> Any:
    """Return the factory's module with the weights in the file."""
    state = _read_state(path)
    if factory is None:
        raise UsageError(
            f"model {str(path)!r} is a state dict ({len(state)} entries) and has no code. Say what makes its module: "
            'Torch(path, factory="pkg.module:make"), on the command line --factory pkg.module:make.'
        )
    module = _made(factory)
    try:
        result = module.load_state_dict(state, strict=False)
        missing, unexpected, others = list(result.missing_keys), list(result.unexpected_keys), []
    except RuntimeError as error:
        own = module.state_dict().keys()
        missing, unexpected = [key for key in own if key not in state], [key for key in state if key not in own]
        others = [line.strip() for line in str(error).splitlines() if "size mismatch" in line] or [str(error)]
    if missing or unexpected or others:
        raise _misfit(path, factory, len(module.state_dict()), (missing, unexpected, others))
    return module


def _read_state(path: Path) -> Mapping[str, Any]:
    torch = torch_module()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise _holds_code(path, error) or refused(path, "torch", error) from error
    if not isinstance(state, Mapping) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        found = f"a dict of {_some(list(map(str, state)))}" if isinstance(state, Mapping) else type(state).__name__
        raise ModelError(
            f"model {str(path)!r} holds {found}, and no state dict (tensors by name). "
            "Save that alone: torch.save(module.state_dict(), path)."
        )
    return state


def _holds_code(path: Path, error: Exception) -> ModelError | None:
    """Return the error for a pickle with more than weights in it, or None where `error` means something else."""
    if "weights_only" not in str(error) and "WeightsUnpickler" not in str(error):
        return None
    code = _CODE.search(str(error))
    if code is None:
        return None
    return ModelError(
        f"model {str(path)!r} holds code ({code[1]}), not weights alone; it was not loaded, for that would run it. "
        "Save the weights, torch.save(module.state_dict(), path), and name what makes the module: "
        'factory="pkg.module:make".'
    )


def _made(factory: str | Callable[[], Any]) -> Any:
    make = resolved(factory)
    try:
        module = make()
    except Exception as error:
        raise ModelError(f"factory {_named(factory)!r} failed: {type(error).__name__}: {error}") from error
    if not is_torch_module(module):
        raise UsageError(f"factory {_named(factory)!r} made a {qualified_name(module)}, and no nn.Module.")
    return module


def _imported(factory: str) -> Callable[[], Any]:
    """Return the function that "pkg.module:make" names. Raises UsageError where there is none."""
    module, _, name = factory.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"factory={factory!r}: the module {module!r} could not be imported ({error}). "
            f"Run in its folder, or install it; looked from {os.getcwd()!r}."
        ) from error
    make = getattr(found, name, None)
    if not callable(make):
        raise UsageError(f"factory={factory!r}: {found.__file__} has no function {name!r}.")
    return make  # type: ignore[no-any-return]


def resolved(factory: str | Callable[[], Any]) -> Callable[[], Any]:
    """Return the factory's function. Raises UsageError where its name names none."""
    return _imported(factory) if isinstance(factory, str) else factory


def _misfit(
    path: Path, factory: str | Callable[[], Any], own: int, found: tuple[list[str], list[str], list[str]]
) -> ModelError:
    words = (f"of its {own} keys are missing in the file", "of the file are unknown to it", "have other shapes")
    said = [f"{len(keys)} {word} ({_some(keys)})" for keys, word in zip(found, words, strict=True) if keys]
    return ModelError(
        f"the weights in {str(path.absolute())!r} do not fit the module of {_named(factory)!r} ({_home(factory)}): "
        f"{'; '.join(said)}. Give the factory of that very model, or the weights of this one."
    )


def _some(keys: Sequence[str]) -> str:
    more = f", and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    return ", ".join(keys[:_SHOWN_KEYS]) + more


def _named(factory: str | Callable[[], Any]) -> str:
    return factory if isinstance(factory, str) else qualified_name(factory)


def _home(factory: str | Callable[[], Any]) -> str:
    try:
        return inspect.getsourcefile(inspect.unwrap(resolved(factory))) or "built in"
    except TypeError:  # an instance, or built in
        return "no file"
