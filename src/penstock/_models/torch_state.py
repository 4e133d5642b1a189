"""What a module holds, as a value to compare: did a forward write to it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from penstock._models.recognise import is_torch_module
from penstock._models.torch_files import MODULE, torch_module
from penstock._models.torch_net import Net, bytes_of

_DEPTH = 4
"""How deep lists, dicts and plain objects that a module holds are looked into."""
_MOST = 10_000
"""Of a longer list or dict, only the length counts."""
_PLAIN = (int, float, complex, str, bytes, bool, type(None))


class Snapshot:
    """What the modules of a net hold at one moment: which objects, and for tensors how often they were written to."""

    def __init__(self, net: Net) -> None:
        """Take it. Nothing is copied; what is held stays alive with it, so that no address is used twice."""
        self._kept: list[Any] = []
        self._marks = dict(self._marks_of(net))

    def changed(self, later: Snapshot) -> list[str]:
        """Return the dotted names of what another snapshot of the same net has otherwise, sorted."""
        names = self._marks.keys() | later._marks.keys()
        return sorted(name for name in names if self._marks.get(name) != later._marks.get(name))

    def _marks_of(self, net: Net) -> Iterator[tuple[str, Any]]:
        tensors = [*net.module.named_parameters(), *net.module.named_buffers()]
        yield from ((name, self._mark(tensor, 0)) for name, tensor in tensors)
        if net.kind != MODULE:  # neither TorchScript nor an exported graph has attributes that a forward could set
            return
        for path, part in net.module.named_modules():
            if isinstance(part, torch_module().jit.ScriptModule):
                continue
            for name, value in vars(part).items():
                if name not in ("_parameters", "_buffers"):
                    yield f"{path}.{name}".lstrip("."), self._mark(value, 0)

    def _mark(self, value: Any, depth: int) -> Any:
        """Return what stands for a value: equal for the same object that was not written to."""
        if isinstance(value, _PLAIN):
            return type(value).__name__, repr(value)  # by its text: nan is nan
        self._kept.append(value)
        mark = (type(value).__name__, id(value))
        if isinstance(value, torch_module().Tensor):
            return *mark, _writes(value)
        if depth == _DEPTH or is_torch_module(value):
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


def _writes(tensor: Any) -> Any:
    """Return torch's count of writes in place, or, of a tensor made in inference mode, which has none, the content."""
    if not tensor.is_inference():
        return tensor._version  # noqa: SLF001 - torch's own way to tell, and there is no other without a copy
    return hash(bytes(bytes_of(tensor)))
