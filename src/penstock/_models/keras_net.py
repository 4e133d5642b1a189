"""A Keras network and how it is called: as compiled programs where their answers are the plain ones, else plainly."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from penstock._models.agreement import compare
from penstock._models.keras_file import as_numpy
from penstock._models.keras_programs import Programs, Tracer, padded_size, tracer_for
from penstock._models.modelfile import LOADING
from penstock._models.ports import Array, Port, fixed_batch
from penstock._models.torch_state import Snapshot, some
from penstock.errors import UsageError

_LOSSES = ("_losses", "_loss_ids")
"""What regularisers note for a training step; no answer depends on it."""


class Network:
    """A network that is called with one batch array; `settle` finds out how, on a real batch.

    `how`: "compiled", or "plain" for `net(batch, training=False)`; `why` says the reason. `stateful`: a call changes
    the network's own variables, so that calls must not overlap.
    """

    def __init__(self, net: Any, backend: str, port: Port | None) -> None:
        self.how, self.why = "plain", f"Keras on {backend} has nothing to compile"
        self.stateful = False
        self.sizes: tuple[int, ...] = ()
        """The batch sizes to which smaller batches are filled up, where each size is a program of its own."""
        self.programs: Programs | None = None
        self._net = net
        self._backend = backend
        self._port = port
        self._pads = False
        self._held: Any = None

    def __call__(self, batch: Array) -> list[Array]:
        """Return every output of the model for `batch`, in the order of the ports that `settle` gave."""
        if self.programs is None:
            return [array for _, array in leaves(self._plain(batch))]
        n = len(batch)
        size = padded_size(n, self.sizes) if self._pads else n
        if size > n:
            batch = np.concatenate([batch, np.repeat(batch[-1:], size - n, axis=0)])
        arrays = [array for _, array in leaves(self.programs(batch))]
        return [array[:n] for array in arrays] if size > n else arrays

    def settle(self, batch: Array) -> tuple[Port, ...]:
        """Return the outputs, their rows not yet counted, and choose how the network is called from now on."""
        with building(self._backend):
            before = _checksums(self._net)
            plain = list(leaves(self._plain(batch)))
            self.stateful = _checksums(self._net) != before
            self._choose(batch, [array for _, array in plain])
            self._held = _held(self._net) if self._backend == "torch" else None  # after the call that built it
        names = _output_names(self._net, [name for name, _ in plain])
        return tuple(self._output(name, array) for name, (_, array) in zip(names, plain, strict=True))

    def look(self) -> None:
        """Find out whether a call since `settle` wrote to an attribute: then calls must not overlap.

        On torch alone, where calls run the layers' Python code; a compiled program runs none.
        """
        before, self._held = self._held, None
        written = [] if before is None else before.changed(_held(self._net))
        if written and not self.stateful:
            self.stateful = True
            self.why = f"a call writes to the model ({some(written)}): calls at the same time would mix up their items"

    def _output(self, name: str, array: Array) -> Port:
        # Where the batch is free, the batcher looks itself whether there is a row for each item.
        fixed = array.ndim == 0 or (self._port is not None and fixed_batch(self._port) is not None)
        return Port(name, array.shape if fixed else (None, *array.shape[1:]), array.dtype.name)

    def _plain(self, batch: Array) -> Any:
        return self._net(batch, training=False)

    def _choose(self, batch: Array, plain: list[Array]) -> None:
        shape = self._port.shape if self._port else None
        if self.stateful:
            self.why = "a call changes the model's variables (a stateful layer, or randomness that inference keeps)"
            return
        tracer = tracer_for(self._backend, self._net, shape)
        if tracer is not None:
            self._try_programs(tracer, batch, plain)

    def _try_programs(self, tracer: Tracer, batch: Array, plain: list[Array]) -> None:
        programs = Programs(tracer)
        try:
            answer = [array for _, array in leaves(programs(batch))]
        except Exception as error:  # noqa: BLE001 - Python that no compiler can follow raises what it likes
            said = str(error).strip().partition("\n")[0]
            self.why = f"Keras on {self._backend} could not compile it: {type(error).__name__}: {said[:200]}"
            return
        agreement = compare(answer, plain)
        if not agreement.within(_precision(self._net)):
            self.why = f"compiled, it answers otherwise than model(x, training=False): {agreement}"
            return
        self.how, self.why = "compiled", f"answers like model(x, training=False): {agreement}"
        self.programs = programs
        self._pads = tracer.pads and (self._port is None or fixed_batch(self._port) is None)


@contextmanager
def building(backend: str) -> Iterator[None]:
    """Hold the lock of everything that builds or traces a model, in the mode that this wants.

    On torch without gradients, but out of inference mode: what is built in it could never be trained again.
    """
    with LOADING, ExitStack() as stack:
        if backend == "torch":
            import torch

            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.no_grad())
        yield


def declared_input(net: Any, model: str) -> Port | None:
    """Return the one input that `net` declares, or None where it declares none (a class that was not built).

    Raises UsageError for several inputs, and for one that takes no numbers.
    """
    inputs = getattr(net, "inputs", None) or []
    ports = tuple(Port(tensor.name, tuple(tensor.shape), str(tensor.dtype)) for tensor in inputs)
    if not ports:
        return None
    if len(ports) > 1:
        raise UsageError(
            f"{model} has {len(ports)} inputs ({', '.join(map(str, ports))}); penstock feeds models with one. "
            "Wrap it in a function predict(batch) that fills the others, and give that as the model."
        )
    try:
        np.dtype(ports[0].dtype)
    except TypeError:
        raise UsageError(
            f"{model} takes {ports[0]}, which are no numbers. Wrap it in a function predict(batch), and give that."
        ) from None
    return ports[0]


def leaves(answer: Any, name: str = "") -> Iterator[tuple[str, Array]]:
    """Yield the arrays in a model's answer (a tensor, or lists, tuples and dicts of such) with their places in it."""
    if isinstance(answer, Mapping):
        parts = [(str(key), part) for key, part in answer.items()]
    elif isinstance(answer, (list, tuple)):
        parts = [(str(place), part) for place, part in enumerate(answer)]
    else:
        yield name, as_numpy(answer)
        return
    for key, part in parts:
        yield from leaves(part, f"{name}/{key}" if name else key)


def _output_names(net: Any, places: Sequence[str]) -> list[str]:
    """Return names for the leaves of an answer: the keys of a dict, else the model's own where they tell it apart."""
    own = list(getattr(net, "output_names", None) or [])
    if not all(place.isdigit() for place in places):
        return list(places) if places != [""] else ["output"]
    if len(own) == len(places) == len(set(own)):
        return own
    return [f"output_{place}" for place in places]


def _checksums(net: Any) -> list[int]:
    return [zlib.crc32(as_numpy(variable.value).tobytes()) for variable in net.variables if not variable.trainable]


def _held(net: Any) -> Snapshot:
    """Return what the layers of a network on torch hold, in them torch's own modules too."""
    layers = net._flatten_layers()  # noqa: SLF001 - a list of layers is no module to torch, and Keras has no public way
    found = ((layer.path or layer.name, layer) for layer in layers)
    inside = ((f"{path}.{name}".rstrip("."), part) for path, layer in found for name, part in layer.named_modules())
    return Snapshot((), inside, _LOSSES)


def _precision(net: Any) -> str:
    """Return "f32" where every layer computes in float32 or better; compilers round lower precisions elsewhere."""
    dtypes = {layer.compute_dtype for layer in (net, *getattr(net, "layers", ()))}
    return "bf16" if dtypes & {"bfloat16", "float16"} else "f32"
