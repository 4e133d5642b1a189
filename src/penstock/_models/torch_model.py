"""Models on torch: one module with one copy of the weights, and what each worker thread has to enter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from penstock._contracts import Predict
from penstock._devices import MemoryUse
from penstock._models.batcher import first_lines
from penstock._models.torch_arrays import Intake, rows_of_answer
from penstock._models.torch_files import torch_module
from penstock._models.torch_net import Net
from penstock._spec import InputSpec
from penstock.errors import Closed, ItemError

RUNTIME = "torch"


class TorchModel:
    """A net under one way of calling it. Several may share a net; one that was given `close_net` closes it.

    `settings`: `concurrency` ("concurrent": any number of threads at once; else one after another), `intra_threads`
    (CPU threads inside one call), and for the plan `device` and `why`.
    """

    runtime = RUNTIME

    def __init__(self, net: Net, spec: InputSpec | None = None, settings: Mapping[str, Any] | None = None) -> None:
        torch = torch_module()
        self.name = net.name
        self.settings: dict[str, Any] = {"concurrency": "concurrent", "intra_threads": 1, **(settings or {})}
        self.concurrency: str = self.settings["concurrency"]
        self.device = net.device
        self.precision = net.precision
        self.version = version()
        self.batch_size = net.batch_size
        self.close_net: Callable[[], None] | None = None
        self._compiles = 0 if net.compiled else None
        self._sealed_at: int | None = None
        self._net: Net | None = net
        self._spec = spec
        self._intake = Intake(net, spec)
        self._threads_before = torch.get_num_threads()
        self._turn: AbstractContextManager[Any] = (
            nullcontext() if self.concurrency == "concurrent" else threading.Lock()
        )

    def __repr__(self) -> str:
        """Show what is loaded and how."""
        state = "closed" if self._net is None else "loaded"
        return f"<TorchModel {self.name} {state}: {self.version} {self.precision} on {self.device} {self.settings}>"

    @property
    def compiles_after_seal(self) -> int:
        """How many graphs `torch.compile` has made in calls since `seal`: each may take as long as a thousand calls.

        Another compiled module that compiles in another thread at that very moment counts here too.
        """
        return 0 if self._compiles is None or self._sealed_at is None else self._compiles - self._sealed_at

    def seal(self) -> None:
        """Note that everything was compiled that could be foreseen."""
        self._sealed_at = self._compiles

    @contextmanager
    def worker(self) -> Iterator[Predict]:
        """Enter what torch keeps for each thread, and give `predict(items) -> rows`.

        That is: inference mode, autocast, the CUDA device and a stream, the number of CPU threads inside a call.
        """
        torch = torch_module()
        net = self._open_net()
        with ExitStack() as stack:
            # OpenMP keeps it for each thread. A thread's first question sets it to what the process was told last, by
            # any thread: so it is asked before it is told.
            torch.get_num_threads()
            stack.callback(torch.set_num_threads, self._threads_before)
            torch.set_num_threads(self.settings["intra_threads"])
            stack.enter_context(torch.inference_mode())
            if self.device != "cpu":
                stack.enter_context(torch.cuda.device(self.device))
                stack.enter_context(torch.cuda.stream(torch.cuda.Stream(self.device)))
            if net.options.autocast is not None:
                kind, dtype = self.device.partition(":")[0], getattr(torch, net.options.autocast)
                stack.enter_context(torch.autocast(kind, dtype))
            yield self._predict

    def replica(self, device: str) -> TorchModel:
        """Return another copy of the weights on `device`, called in the same way. Raises as `Net.copied` does."""
        net = self._open_net().copied(device)
        copy = TorchModel(net, self._spec, {**self.settings, "device": net.device})
        copy.close_net = net.close
        return copy

    @property
    def weights_bytes(self) -> int:
        """Bytes of its parameters and buffers; a tensor that several names share counts once."""
        return self._open_net().weights_bytes

    def device_memory(self) -> MemoryUse | None:
        """Return what this process has allocated of a GPU's memory; None on the CPU."""
        if self.device == "cpu":
            return None
        cuda = torch_module().cuda
        used, free = cuda.memory_allocated(self.device), cuda.mem_get_info(self.device)[0]
        return MemoryUse(used, cuda.max_memory_allocated(self.device), used + free)

    def forget_device_peak(self) -> None:
        """Let the peak of `device_memory` begin anew."""
        if self.device != "cpu":
            torch_module().cuda.reset_peak_memory_stats(self.device)

    def close(self) -> None:
        """Let go of the net, and close it where it is this model's; idempotent."""
        self._net = None
        if self.close_net is not None:
            self.close_net()

    def _open_net(self) -> Net:
        if self._net is None:
            raise Closed(f"model {self.name} was closed.")
        return self._net

    def _predict(self, items: Sequence[Any]) -> list[Any]:
        net = self._open_net()
        rows: list[Any] = [None] * len(items)
        for places, batch in self._intake.batches(items):
            for place, row in zip(places, self._answers(net, batch), strict=True):
                rows[place] = row
        return rows

    def _answers(self, net: Net, batch: Any) -> list[Any]:
        size = self.batch_size or len(batch)
        rows: list[Any] = []
        for begin in range(0, len(batch), size):
            part = batch[begin : begin + size]
            kept = len(part)
            if kept < size:  # the model insists on its batch: repeat the last item
                part = torch_module().cat([part, part[-1:].expand(size - kept, *part.shape[1:])])
            with self._turn:
                rows.extend(rows_of_answer(self._call(net, part), size, kept, self.name))
        return rows

    def _call(self, net: Net, batch: Any) -> Any:
        before = 0 if self._compiles is None else graphs_made()
        try:
            return net.module(batch)
        except Exception as error:
            said = f"{type(error).__name__}: {first_lines(error)}"
            raise ItemError(f"{self.name} failed on {batch.dtype} {tuple(batch.shape)}: {said}") from error
        finally:
            if self._compiles is not None:  # one thread at a time calls what is compiled
                self._compiles += max(0, graphs_made() - before)


def graphs_made() -> int:
    """Return how many graphs torch.compile has made in this process, by torch's own count."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def version() -> str:
    """Return the installed version. Raises MissingDependency without one."""
    return str(torch_module().__version__)
