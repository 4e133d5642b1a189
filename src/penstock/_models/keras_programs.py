"""Keras models as compiled programs: which batches share one, how each backend makes it, how many were made.

JAX: `jit(stateless_call)`, lowered and compiled ahead for one shape; a program is run by any number of threads, and
nothing of Keras runs with it. TensorFlow: a concrete `tf.function` with the batch axis free, and every other axis that
the model declares free. Torch has no programs: `model(x, training=False)` is what there is.
"""

from __future__ import annotations

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from penstock._models.modelfile import LOADING
from penstock._models.ports import Array, Dim

Call = Callable[[Array], Any]
"""Takes one batch array, gives the model's answer in the structure of its output, in tensors of the backend."""
Key = tuple[tuple[int | None, ...], str]
"""The shape and dtype that a program is made for; None is a free axis."""
MAX_PROGRAMS = 256
"""Programs kept; beyond them the one unused for longest goes. Items of free width would fill the memory otherwise."""


@dataclass(frozen=True, slots=True)
class Tracer:
    """How a backend makes programs of a model.

    `key`: which program a batch needs. `trace`: make it, in one thread at a time. `pads`: whether each batch size is a
    program of its own, so that batches should be filled up to few sizes.
    """

    key: Callable[[Array], Key]
    trace: Callable[[Key], Call]
    pads: bool


def tracer_for(backend: str, model: Any, shape: Sequence[Dim] | None) -> Tracer | None:
    """Return how `model`, built, is compiled on `backend`; None where the backend runs it as it is.

    `shape` is what the model declares to take, batch first.
    """
    if backend == "jax":
        return Tracer(_exact, _jax(model), pads=True)
    if backend == "tensorflow":
        return Tracer(partial(_free, shape), partial(_trace_tensorflow, model), pads=False)
    return None


class Programs:
    """The programs of one model, made when a batch first needs them; safe from any number of threads."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._made: OrderedDict[Key, Call] = OrderedDict()
        self._lock = threading.Lock()
        self.compiles = 0
        """How many were made so far."""

    def __repr__(self) -> str:
        """Show how many there are."""
        return f"<Programs {len(self._made)} kept, {self.compiles} compiled>"

    def __call__(self, batch: Array) -> Any:
        """Return the model's answer to `batch`."""
        key = self._tracer.key(batch)
        return (self._kept(key) or self._make(key))(batch)

    def _kept(self, key: Key) -> Call | None:
        with self._lock:
            call = self._made.get(key)
            if call is not None:
                self._made.move_to_end(key)
            return call

    def _make(self, key: Key) -> Call:
        with LOADING:  # Keras traces in one thread at a time; whoever waited finds it made
            call = self._kept(key)
            if call is not None:
                return call
            call = self._tracer.trace(key)
            with self._lock:
                self.compiles += 1
                self._made[key] = call
                while len(self._made) > MAX_PROGRAMS:
                    self._made.popitem(last=False)
            return call


def padded_size(n: int, sizes: Sequence[int]) -> int:
    """Return the size to which a batch of `n` is filled up: the next of `sizes`, or else the next power of two."""
    return min((size for size in sizes if size >= n), default=1 << (n - 1).bit_length())


def sizes_up_to(batch: int) -> tuple[int, ...]:
    """Return the batch sizes that programs are made for: the powers of two below `batch`, and `batch`."""
    return (*(1 << power for power in range((batch - 1).bit_length())), batch)


def _exact(batch: Array) -> Key:
    return batch.shape, batch.dtype.name


def _free(declared: Sequence[Dim] | None, batch: Array) -> Key:
    known = declared or (None, *batch.shape[1:])
    return tuple(dim if isinstance(dim, int) else None for dim in known), batch.dtype.name


def _jax(model: Any) -> Callable[[Key], Call]:
    import jax

    # The arrays themselves: programs share them, whatever number of programs there is.
    weights = [[v.value for v in variables] for variables in (model.trainable_variables, model.non_trainable_variables)]

    # `stateless_call` hands on what a `call` without that argument does not take.
    said = {"training": False} if "training" in inspect.signature(model.call).parameters else {}

    def forward(trainable: Any, others: Any, batch: Any) -> Any:
        return model.stateless_call(trainable, others, batch, **said)[0]

    def trace(key: Key) -> Call:
        return partial(jax.jit(forward).lower(*weights, jax.ShapeDtypeStruct(*key)).compile(), *weights)

    return trace


def _trace_tensorflow(model: Any, key: Key) -> Call:
    import tensorflow as tf

    def forward(batch: Any) -> Any:
        return model(batch, training=False)

    # Without autograph, as in Keras's own predict: layers are written in Keras's operations.
    program = tf.function(forward, autograph=False).get_concrete_function(tf.TensorSpec(*key))
    return lambda batch: program(tf.convert_to_tensor(batch))
