"""A torch module made ready: loaded, on its device, in its dtype, in eval mode; and what identifies it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock._models.modelfile import LOADING, sha256_of
from penstock._models.recognise import is_torch_module
from penstock._models.source_hash import describe, qualified_name
from penstock._models.torch_files import EXPORT, MODULE, SCRIPT, load_file, resolved, torch_module
from penstock._options import Torch
from penstock.errors import ModelError, UsageError

PRECISIONS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(eq=False)
class Net:
    """A module that is ready to be called under `torch.inference_mode`.

    kind: MODULE, SCRIPT or EXPORT (`torch_files`). device: "cpu" or "cuda:N". dtype: torch's, of its floating inputs.
    shape: of its input, batch first, free sides None, where the file says it. source: a hash of its code and structure.
    """

    name: str
    module: Any
    kind: str
    device: str
    dtype: Any
    options: Torch
    shape: tuple[int | None, ...] | None = None
    source: str = ""
    _training: list[Any] = field(default_factory=list)

    @property
    def precision(self) -> str:
        """The lowest precision it computes in, by what was asked: f32, bf16 or f16."""
        return PRECISIONS[self.options.autocast or self.options.dtype]

    @property
    def batch_size(self) -> int | None:
        """The only batch size it runs at, or None where it takes any."""
        return self.shape[0] if self.shape else None

    @property
    def compiled(self) -> bool:
        """Whether a part of it goes through `torch.compile`: asked of us, or done by the user."""
        if self.options.compile:
            return True
        parts = self.module.modules() if self.kind == MODULE else ()
        return any(type(part).__name__ == "OptimizedModule" or _in_place(part) for part in parts)

    def __str__(self) -> str:
        """Show it as in messages."""
        return self.name

    def plain(self) -> Net:
        """Return the same net as torch runs it unasked: float32, not compiled; itself where it is so already."""
        plain = dataclasses.replace(
            self.options, device=self.device, dtype="float32", channels_last=False, autocast=None, compile=False
        )
        return self if plain == dataclasses.replace(self.options, device=self.device) else load_net(plain)

    def copied(self, device: str) -> Net:
        """Return a net with weights of its own on `device`.

        Raises UsageError for a device that is not there, or that an exported program was not made for, ModelError where
        the module cannot be copied.
        """
        torch = torch_module()
        place = _device(dataclasses.replace(self.options, device=device), _tensors(self.module))
        if self.kind == EXPORT and place != self.device:
            raise UsageError(f"model {self.name} was exported for {self.device}. Export it for {place} too.")
        original = getattr(self.module, "_orig_mod", self.module)  # compiled ones keep it there
        try:
            module = copy.deepcopy(original).to(place)
        except Exception as error:
            raise ModelError(
                f"model {self.name} could not be copied to {place}: {type(error).__name__}: {error}. Leave out "
                "replicas and further devices, or give a file, or a factory that makes it."
            ) from error
        if original is not self.module:
            module = torch.compile(module)
        options = dataclasses.replace(self.options, device=place)
        return dataclasses.replace(self, module=module, device=place, options=options, _training=[])

    @property
    def weights_bytes(self) -> int:
        """Bytes of parameters and buffers; a tensor that several names share counts once."""
        tensors = {tensor.data_ptr(): tensor for tensor in _tensors(self.module)}
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    def close(self) -> None:
        """Put modules that were in training mode back into it, and let go of the weights; idempotent."""
        while self._training:
            self._training.pop().training = True
        self.module = None


def _in_place(part: Any) -> bool:
    """Return whether `part.compile()` was called, which leaves the module the class it was."""
    return getattr(part, "_compiled_call_impl", None) is not None


def name_of(options: Torch) -> str:
    """Return the name of a model as it stands in messages: the file's without suffix, or the class's."""
    if is_torch_module(options.source):
        return type(options.source).__name__
    return Path(options.source).stem


class TorchSource:
    """A torch model that was asked for. What cannot be loaded is refused when this is made, before any work.

    Raises UsageError or ModelError where its file cannot be loaded, MissingDependency without torch.
    """

    def __init__(self, options: Torch) -> None:
        self.options = options
        self._file: tuple[Any, str] | None = None
        if is_torch_module(options.source):
            _refuse_factory(options)
        else:
            with LOADING:
                self._file = load_file(Path(options.source), options.factory)

    def describe(self) -> dict[str, Any]:
        """Return the model's part of a job's fingerprint (see `describe_torch`)."""
        return describe_torch(self.options)

    def load(self, device: str | None = None) -> Net:
        """Return the net, on `device` (default: as the options say). What was read from the file goes over to it."""
        options = self.options if device is None else dataclasses.replace(self.options, device=device)
        read, self._file = self._file, None
        return load_net(options, read)


def load_net(options: Torch, read: tuple[Any, str] | None = None) -> Net:
    """Return the net that `options` describe, loaded and ready; `read` is what `load_file` gave for it already.

    Raises UsageError or ModelError where it cannot be loaded as asked (see `torch_files.load_file`),
    MissingDependency without torch.
    """
    torch = torch_module()
    with LOADING:
        mine = is_torch_module(options.source)
        if mine:
            module, kind = options.source, _kind_of(options.source)
        else:
            module, kind = read or load_file(Path(options.source), options.factory)
        if kind == EXPORT:
            return _exported(options, module)
        device = _device(options, _tensors(module))
        module = _fitted(options, module, device, mine=mine)
        training = [part for part in module.modules() if part.training]
        net = Net(name_of(options), module.eval(), kind, device, _dtype(module), options, _training=training)
    net.source = source_of(module)
    if options.compile:
        net.module = torch.compile(module)
    if device != "cpu":
        torch.cuda.synchronize(device)  # the weights are there before the workers' own streams ask for them
    return net


def _kind_of(module: Any) -> str:
    return SCRIPT if isinstance(module, torch_module().jit.ScriptModule) else MODULE


def _refuse_factory(options: Torch) -> None:
    if options.factory is not None:
        raise UsageError(
            f"Torch(source={name_of(options)}, factory={options.factory!r}): a factory makes the module of a state "
            "dict file, and this is a module already. Leave the factory out."
        )


def _exported(options: Torch, program: Any) -> Net:
    """Return the net of an exported program, which runs on the device and in the dtype it was exported for."""
    module = program.module()
    device = str(next((tensor.device for tensor in _tensors(module)), "cpu"))
    changed = [name for name in ("channels_last", "compile") if getattr(options, name)]
    changed += ["dtype"] if options.dtype != "float32" else []
    changed += ["device"] if options.device not in ("auto", device, device.partition(":")[0]) else []
    if changed:
        raise UsageError(
            f"model {str(options.source)!r} is an exported program: it runs as it was exported, on {device}. "
            f"Leave out {', '.join(changed)}, or export it anew."
        )
    shape, dtype = _input_of(program)
    return Net(name_of(options), module, EXPORT, device, dtype, options, shape, source_of(module))


def _input_of(program: Any) -> tuple[tuple[int | None, ...], Any]:
    """Return the shape (free sides None) and dtype of an exported program's one input."""
    names = program.graph_signature.user_inputs
    if len(names) != 1:
        raise UsageError(
            f"the exported program has {len(names)} inputs ({', '.join(map(str, names))}); penstock feeds models with "
            "one. Wrap it in a function predict(batch) that fills the others, and give that as the model."
        )
    node = next(node for node in program.graph.nodes if node.name == names[0])
    given = node.meta["val"]
    return tuple(side if isinstance(side, int) else None for side in given.shape), given.dtype


def _tensors(module: Any) -> list[Any]:
    return [*module.parameters(), *module.buffers()]


def _device(options: Torch, tensors: Sequence[Any]) -> str:
    """Return the device to run on. Raises UsageError for one that is not there."""
    cuda = torch_module().cuda
    asked = options.device
    if asked == "auto":
        placed = next((str(tensor.device) for tensor in tensors if tensor.device.type == "cuda"), None)
        return placed or ("cuda:0" if cuda.is_available() else "cpu")
    if asked == "cpu":
        return asked
    count, index = cuda.device_count(), int(asked.partition(":")[2] or 0)
    if index >= count:
        raise UsageError(f'device={asked!r}: torch sees {count} CUDA devices here. Use device="cpu" or a number less.')
    return f"cuda:{index}"


def _fitted(options: Torch, module: Any, device: str, *, mine: bool) -> Any:
    """Return the module on `device`, in the dtype and memory format asked for; `mine`: the user's, copied to change."""
    torch = torch_module()
    dtype, params = getattr(torch, options.dtype), list(module.parameters())
    if any(param.dtype == torch.float64 for param in params):
        raise UsageError(
            f"model {name_of(options)} has float64 weights, and penstock runs torch in {', '.join(PRECISIONS)}. "
            "Convert it: module.float()."
        )
    changes: dict[str, Any] = {}
    if any(str(tensor.device) != device for tensor in _tensors(module)):
        changes["device"] = device
    if any(param.is_floating_point() and param.dtype != dtype for param in params):
        changes["dtype"] = dtype
    if options.channels_last:
        changes["memory_format"] = torch.channels_last
    if not changes:
        return module
    try:
        return (copy.deepcopy(module) if mine else module).to(**changes)
    except Exception as error:
        said = ", ".join(f"{name}={value}" for name, value in changes.items())
        raise ModelError(
            f"model {name_of(options)} could not be copied and changed ({said}): {type(error).__name__}: {error}. "
            "Change it yourself, module.to(...), and give it as it then is."
        ) from error


def _dtype(module: Any) -> Any:
    floating = (param.dtype for param in module.parameters() if param.is_floating_point())
    return next(floating, torch_module().float32)


# ---- what identifies it


def describe_torch(options: Torch) -> dict[str, Any]:
    """Return a torch model's part of a job's fingerprint, as JSON values.

    A file: its name and sha256, and the factory's name and source. A module: its class, hashes of source and weights.
    Both: how it is run.
    """
    run = {name: getattr(options, name) for name in ("dtype", "channels_last", "autocast", "compile")}
    if is_torch_module(options.source):
        module = options.source
        return {
            "kind": "torch",
            "name": qualified_name(type(module)),
            "source": source_of(module),
            "weights": weights_of(module),
            **run,
        }
    path = Path(options.source)
    factory = None if options.factory is None else describe(resolved(options.factory))
    return {"kind": "torch", "name": path.name, "sha256": sha256_of(path), "factory": factory, **run}


def weights_of(module: Any) -> str:
    """Return the sha256 over the names, dtypes, shapes and bytes of all parameters and buffers, in order of name."""
    digest = hashlib.sha256()
    tensors = dict(module.named_buffers()) | {**module.state_dict()}
    for name, value in sorted(tensors.items()):
        if not isinstance(value, torch_module().Tensor):  # what get_extra_state gives
            digest.update(f"{name}\0{qualified_name(value)}\0".encode())
            continue
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(bytes_of(value))
    return digest.hexdigest()


def bytes_of(tensor: Any) -> Any:
    """Return the bytes of a tensor in order, as a buffer (of the tensor's own memory, where that is possible)."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch_module().uint8).numpy().data


def source_of(module: Any) -> str:
    """Return the sha256 of what computes: the structure as it is shown, and the sources of all classes in it."""
    digest = hashlib.sha256(_ADDRESS.sub("", repr(module)).encode("utf-8", "surrogatepass"))
    for text in sorted(set(_sources(module))):
        digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _sources(module: Any) -> Iterator[str]:
    for part in module.modules():
        code = getattr(part, "code", None)  # TorchScript, and what torch.export and torch.fx generate
        if isinstance(code, str):
            yield code
        elif not type(part).__module__.startswith("torch."):
            yield repr(sorted(describe(part).items()))
