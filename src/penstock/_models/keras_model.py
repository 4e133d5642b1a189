"""Models on Keras 3, whatever its backend: one copy of the weights, called by all worker threads."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from penstock._contracts import Predict
from penstock._models import keras_file
from penstock._models.batcher import Batcher
from penstock._models.drill import one_of_each
from penstock._models.keras_net import Network, building, declared_input
from penstock._models.keras_programs import sizes_up_to
from penstock._models.keras_threads import limit_threads
from penstock._models.normalise import normalised
from penstock._models.ports import Array, Port, Ports, as_input, fixed_batch
from penstock._spec import InputSpec
from penstock.errors import Closed, ItemError, ModelError

RUNTIME = "keras"


class KerasModel:
    """A Keras 3 model, an instance or a `.keras` file, run by any number of threads at once.

    With a `spec`, items are uint8 pictures (H, W, C) in the model's channel order; without, items are arrays as the
    model takes them, less the batch axis. Rows are arrays, or dicts of arrays by output name where there are several.
    `intra_threads`: CPU threads inside one call, where the backend can be told (`threads_note` says where it cannot).

    On JAX and TensorFlow the model runs as compiled programs, if they answer the first item like
    `model(x, training=False)`; else, and on torch, it is called like that. `how`, `why` and `concurrency` say what was
    found, and are final after `warm`. The weights count as they are when the model is made here: an instance must not
    be trained while it is used.

    Raises UsageError or ModelError where the file cannot be loaded or the model has several inputs, MissingDependency
    without Keras or its backend.
    """

    runtime = RUNTIME

    def __init__(self, thing: Any, spec: InputSpec | None = None, *, intra_threads: int = 1) -> None:
        path = Path(thing) if isinstance(thing, (str, os.PathLike)) else None
        self.backend = keras_file.backend()
        self.version = keras_file.version()
        self.threads_note = limit_threads(self.backend, intra_threads)
        self._description = keras_file.describe(thing)
        net = thing if path is None else keras_file.load(path)
        self.name = str(net.name) if path is None else path.stem
        self._intra_threads = intra_threads
        self._port = declared_input(net, self.name)
        self._prepare = None if spec is None else partial(normalised, spec=spec, dtype=spec.dtype)
        self._network: Network | None = Network(net, self.backend, self._port)
        self._batcher: Batcher | None = None
        self._sealed_at: int | None = None
        self._serial = threading.Lock()
        self.weights_bytes = sum(math.prod(v.shape) * np.dtype(v.dtype).itemsize for v in net.variables)

    def __repr__(self) -> str:
        """Show what is loaded and how it is run."""
        if self._network is None:
            return f"<KerasModel {self.name} on {self.backend}: closed>"
        return f"<KerasModel {self.name} on {self.backend}: {self.how}, {self.concurrency}, {self._network.programs}>"

    @property
    def how(self) -> str:
        """How it is called: "compiled" or "plain"."""
        return self._open().how

    @property
    def why(self) -> str:
        """Why it is called so, in words for the plan."""
        return self._open().why

    @property
    def concurrency(self) -> str:
        """`concurrent`, or `one_at_a_time` where a call changes the model's variables, or on torch its attributes."""
        return "one_at_a_time" if self._open().stateful else "concurrent"

    @property
    def batch_size(self) -> int | None:
        """The only batch size the model runs at, or None where it takes any (known for sure after `warm`)."""
        if self._batcher is not None:
            return self._batcher.size
        return fixed_batch(self._port) if self._port else None

    @property
    def compiles_after_seal(self) -> int | None:
        """How many programs had to be made after `warm`.

        None where nobody can tell: JAX and TensorFlow compile what is called plainly op by op, and do not say when.
        """
        programs = self._open().programs
        if programs is None:
            return 0 if self.backend == "torch" else None
        return 0 if self._sealed_at is None else programs.compiles - self._sealed_at

    def warm(self, samples: Sequence[Any], batch: int = 1) -> None:
        """Run items as the run will give them, one of each shape, at every batch size up to `batch`; then seal.

        A sample that fails is passed over: the run meets it again, as an item. Raises ModelError where all fail.
        """
        network = self._open()
        network.sizes = sizes_up_to(batch)
        shapes = one_of_each(samples)
        failures: list[ItemError] = []
        with building(self.backend):
            for sample in shapes:
                try:
                    self._warm_shape(sample)
                except ItemError as error:
                    failures.append(error)
            network.look()
        if failures and len(failures) == len(shapes):
            raise ModelError(f"model {self.name} failed on all of {len(samples)} sample items. First: {failures[0]}")
        self._sealed_at = network.programs.compiles if network.programs else 0

    @contextmanager
    def worker(self) -> Iterator[Predict]:
        """Enter what the backend needs in this thread, and give `predict(items) -> rows`."""
        with self._inference():
            yield self._predict

    def describe(self) -> dict[str, Any]:
        """Return the model's part of a job's fingerprint (`keras_file.describe`), as it was when it was loaded."""
        return dict(self._description)

    def close(self) -> None:
        """Let go of the model; idempotent. An instance stays as it is: Keras's own session is never cleared."""
        self._network = self._batcher = None

    def _inference(self) -> AbstractContextManager[Any]:
        if self.backend != "torch":
            return nullcontext()
        import torch

        torch.get_num_threads()  # a first question sets it to what any thread said last: asked before it is told
        torch.set_num_threads(self._intra_threads)  # counts for the thread that says it
        mode: AbstractContextManager[Any] = torch.inference_mode()
        return mode

    def _warm_shape(self, sample: Any) -> None:
        for size in self._open().sizes:
            if self.batch_size is None or size == 1:
                self._predict([sample] * size)

    def _predict(self, items: Sequence[Any]) -> list[Any]:
        network = self._open()
        if not items:
            return []
        batcher = self._batcher or self._settle(network, np.asarray(items[0]))
        if not network.stateful:
            return batcher.predict(network, items)
        with self._serial:
            return batcher.predict(network, items)

    def _settle(self, network: Network, item: Array) -> Batcher:
        with building(self.backend):  # one thread finds out, on its first item; the others wait for that
            if self._batcher is None:
                batch, port = self._first_batch(item)
                try:
                    outputs = network.settle(batch)
                except Exception as error:
                    raise ItemError(f"{self.name} failed on {batch.dtype} {batch.shape}: {error}") from error
                self._batcher = Batcher(self.name, Ports((port,), outputs), self._prepare)
            return self._batcher

    def _first_batch(self, item: Array) -> tuple[Array, Port]:
        """Return the item as the model takes it, as often as it insists on, and what the model takes."""
        if item.dtype == object:
            raise ItemError(f"{self.name} takes arrays, and this item is no array of numbers.")
        batch = self._prepare(item[None]) if self._prepare else item[None]
        port = self._port or Port("input", None, "float32" if batch.dtype.kind == "f" else batch.dtype.name)
        batch = as_input(batch, port, self.name)
        return np.repeat(batch, fixed_batch(port) or 1, axis=0), port

    def _open(self) -> Network:
        if self._network is None:
            raise Closed(f"model {self.name} was closed.")
        return self._network
