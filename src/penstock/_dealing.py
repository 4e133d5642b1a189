"""CPU threads of BLAS, torch and OpenCV inside the calls of the user's functions: dealt out of the budget.

A BLAS has as many threads as the affinity has CPUs; it sees no quota, and not that several threads call it at once.
Products of 256 x 256 matrices in two threads on 2 CPUs take 1.1 to 1.7 times as long with the two threads that
OpenBLAS has by itself as with one, and 10 times as long where others want the CPUs too.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from penstock._devices import cpu_budget
from penstock._plan import Part, callers_of

SETTINGS = {
    "openblas": ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"),
    "mkl": ("MKL_NUM_THREADS", "OMP_NUM_THREADS"),
    "blis": ("BLIS_NUM_THREADS", "OMP_NUM_THREADS"),
    "torch": ("OMP_NUM_THREADS", "MKL_NUM_THREADS"),
}
"""By which a user says how many threads a library has: then it is left alone."""
_LOCK = threading.Lock()
_held: list[int] = []
"""The threads inside a call, for each pipeline that calls functions of the user's just now."""
_before: dict[str, int] = {}
"""By path of a library: its threads before there was such a pipeline."""
Bind = Callable[[], AbstractContextManager[Callable[..., Any]]]


@contextmanager
def dealt(parts: Sequence[Part], threads: int) -> Iterator[tuple[list[Part], dict[str, int]]]:
    """Give (`parts` as they are to be run, the threads inside of each library that is loaded now, by its name).

    Some libraries have one number for the process: it holds until the end, the smallest where there are several, and
    then is what it was before. Others have one for each thread, and are told by the workers. All are left alone where
    no code of the user's is run; BLAS too where threadpoolctl is not installed.
    """
    callers = callers_of(parts, threads)
    if callers is None:
        yield list(parts), {}
        return
    share = cpu_budget().inside(callers)
    told = [replace(p, step=replace(p.step, bind=_telling(p.step.bind, share))) if p.own else p for p in parts]
    with _LOCK:
        _held.append(share)
        _settle()
    try:
        yield told, {name: min(share, before) for name, before in _loaded().items()}
    finally:
        with _LOCK:
            _held.remove(share)
            _settle()


def said(library: str, environment: Mapping[str, str]) -> bool:
    """Return whether the user has said how many threads a library has."""
    return any(environment.get(name) for name in SETTINGS.get(library, ()))


def _loaded() -> dict[str, int]:
    """Return the threads of what is loaded and was not told by the user."""
    found = {library.internal_api: library.num_threads for library in _libraries()}
    if (torch := _torch()) is not None:
        found["torch"] = torch.get_num_threads()
    return found


# ---- one number for the process


def _settle() -> None:
    """Give each library its threads, as long as there is a pipeline; those it had else."""
    for library in _libraries():
        if not _by_thread(library):
            before = _before.setdefault(library.filepath, library.num_threads)
            threads = min([before, *_held])
            if threads != library.num_threads:
                library.clear_controlling_thread(force=True)  # one thread may set it: whoever did so last, else
                library.set_num_threads(threads)
                library.clear_controlling_thread(force=True)
    if not _held:
        _before.clear()


# ---- a number for each thread


def _telling(bind: Bind, share: int) -> Bind:
    """Return `bind`, told to the libraries of the thread that enters it: behind it, for it may load some."""

    @contextmanager
    def bound() -> Iterator[Callable[..., Any]]:
        with ExitStack() as stack:
            fn = stack.enter_context(bind())
            for library in _libraries():
                if _by_thread(library) and library.num_threads > share:
                    library.set_num_threads(share)
            if (torch := _torch()) is not None and (before := torch.get_num_threads()) > share:
                stack.callback(torch.set_num_threads, before)  # what new threads of the process begin with
                torch.set_num_threads(share)
            cv2: Any = sys.modules.get("cv2")
            if hasattr(cv2, "setNumThreads") and cv2.getNumThreads() > share:
                cv2.setNumThreads(share)  # for good, as the decoder does
            yield fn

    return bound


def _by_thread(library: Any) -> bool:
    """Return whether what a thread tells the library is for that thread; see the notes in threadpoolctl's source."""
    return library.internal_api == "mkl" or getattr(library, "threading_layer", None) == "openmp"


def _libraries() -> list[Any]:
    if importlib.util.find_spec("threadpoolctl") is None:
        return []
    from threadpoolctl import ThreadpoolController

    found = [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]
    return [library for library in found if not said(library.internal_api, os.environ)]


def _torch() -> Any:
    """Return torch, where it is loaded and the user has said nothing."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "set_num_threads") and not said("torch", os.environ) else None
