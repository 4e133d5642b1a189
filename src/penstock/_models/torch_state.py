"""What a module holds, as a value to compare: did a forward write to it?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock._models.torch_files import MODULE, torch_module
from penstock._models.torch_net import Net, bytes_of

_DEPTH = 4
"""How deep lists, dicts and plain objects that a module holds are looked into."""
_MOST = 10_000
"""Of a longer list or dict, only the length counts."""
_SHOWN = 3
_PLAIN = (int, float, complex, str, bytes, bool, type(None))


Named = Iterable[tuple[str, Any]]
"""Things with their dotted names."""


class Snapshot:
    """What `parts` (objects with attributes) hold at one moment: which objects, and how often tensors were written to.

    `tensors`: some to look at beside. `ignored`: attributes that do not count. Nothing is copied; what is held stays
    alive with it, so that no address is used twice.
    """

    def __init__(self, tensors: Named, parts: Named, ignored: Sequence[str] = ()) -> None:
        """Take it."""
        self._kept: list[Any] = []
        self._marks: dict[str, list[Any]] = defaultdict(list)  # of each, for two layers may have one name
        for name, tensor in tensors:
            self._marks[name].append(self._mark(tensor, 0))
        for path, part in parts:
            for name, value in vars(part).items():
                if name not in ("_parameters", "_buffers", *ignored):
                    self._marks[f"{path}.{name}".lstrip(".")].append(self._mark(value, 0))

    def changed(self, later: Snapshot) -> list[str]:
        """Return the dotted names of what another snapshot of the same parts has otherwise, sorted."""
        names = self._marks.keys() | later._marks.keys()
        return sorted(name for name in names if self._marks.get(name) != later._marks.get(name))

    def _mark(self, value: Any, depth: int) -> Any:
        """Return what stands for a value: equal for the same object that was not written to."""
        if isinstance(value, _PLAIN):
            return type(value).__name__, repr(value)  # by its text: nan is nan
        self._kept.append(value)
        mark = (type(value).__name__, id(value))
        if isinstance(value, torch_module().Tensor):
            return *mark, _writes(value)
        if depth == _DEPTH or isinstance(value, torch_module().nn.Module):  # a part of its own
            return mark
        if isinstance(value, Mapping):
            short = list(value.items()) if len(value) <= _MOST else []
            return *mark, len(value), *((self._mark(key, _DEPTH), self._mark(kept, depth + 1)) for key, kept in short)
        if isinstance(value, list | tuple | set | frozenset):
            return *mark, len(value), *(self._mark(kept, depth + 1) for kept in (value if len(value) <= _MOST else ()))
        if type(value).__module__ == "numpy" and hasattr(value, "tobytes"):
            return *mark, hash(value.tobytes())
        held = getattr(value, "__dict__", None)
        return mark if not held or isinstance(value, type) else (*mark, self._mark(dict(held), depth + 1)[2:])


def snapshot_of(net: Net) -> Snapshot:
    """Return what the modules of a net hold."""
    tensors = [*net.module.named_parameters(), *net.module.named_buffers()]
    if net.kind != MODULE:  # neither TorchScript nor an exported graph has attributes that a forward could set
        return Snapshot(tensors, ())
    script = torch_module().jit.ScriptModule
    return Snapshot(
        tensors, ((path, part) for path, part in net.module.named_modules() if not isinstance(part, script))
    )


def _writes(tensor: Any) -> Any:
    """Return torch's count of writes in place, or, of a tensor made in inference mode, which has none, the content."""
    if not tensor.is_inference():
        return tensor._version  # noqa: SLF001 - torch's own way to tell, and there is no other without a copy
    return hash(bytes(bytes_of(tensor)))


def some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are, as in messages."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
