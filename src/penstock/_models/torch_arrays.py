"""From a list of items to batches on the device, and from a module's answer back to rows of numpy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from penstock._models.normalise import constants
from penstock._models.torch_files import torch_module
from penstock._models.torch_net import Net
from penstock._spec import InputSpec
from penstock._spec.fields import CHANNELS
from penstock.errors import ItemError


class Intake:
    """Makes the batches that a net takes; shared by all worker threads.

    With a `spec`, items are uint8 pictures (H, W, C) in the model's channel order: they travel as such, and become
    (x - mean) / std on the device, in float32, then of the net's dtype. Without, they are numpy arrays or tensors,
    stacked as they are; floating ones become the net's dtype.
    """

    def __init__(self, net: Net, spec: InputSpec | None) -> None:
        torch = torch_module()
        self._name = net.name
        self._device = net.device
        self._dtype = net.dtype
        self._spec = spec
        self._format = torch.channels_last if net.options.channels_last else torch.contiguous_format
        said = [] if spec is None else constants(spec)
        self._constants = [(op, torch.from_numpy(values).to(net.device)) for op, values in said]

    def batches(self, items: Sequence[Any]) -> Iterator[tuple[list[int], Any]]:
        """Yield, for each shape and dtype among the items, their places and one tensor (N, ...) on the device.

        Raises ItemError for what is no picture (with a spec), or no array of numbers.
        """
        parts = [self._part(item) for item in items]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, part in enumerate(parts):
            groups.setdefault((tuple(part.shape), str(part.dtype)), []).append(place)
        for places in groups.values():
            yield places, self._on_device(_stacked([parts[place] for place in places]))

    def _part(self, item: Any) -> Any:
        torch = torch_module()
        if self._spec is not None:
            return self._picture(np.asarray(item), CHANNELS[self._spec.color])
        if isinstance(item, torch.Tensor):
            return item
        array = np.asarray(item)
        if array.dtype.kind not in "fiubc":
            raise ItemError(f"{self._name} takes arrays of numbers, and this item is {type(item).__name__}.")
        return array

    def _picture(self, array: Any, channels: int) -> Any:
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != channels:
            raise ItemError(
                f"a model with a spec takes uint8 pictures (H, W, {channels}); got {array.dtype} {array.shape}."
            )
        return array

    def _on_device(self, batch: Any) -> Any:
        if self._spec is not None:
            return self._normalised(batch.to(self._device, non_blocking=True), self._spec)
        if batch.is_floating_point():
            batch = batch.to(self._device, self._dtype)
        else:
            batch = batch.to(self._device)
        return batch.contiguous(memory_format=self._format) if batch.ndim == 4 else batch

    def _normalised(self, batch: Any, spec: InputSpec) -> Any:
        torch = torch_module()
        if spec.layout == "NCHW":
            batch = batch.permute(0, 3, 1, 2)  # a view; of uint8 NHWC memory this is channels_last
        if spec.dtype == "uint8":
            return batch.contiguous(memory_format=self._format)
        # One pass converts and, where the memory format differs, moves; the rest is done in place.
        layout = self._format if spec.layout == "NCHW" else torch.contiguous_format
        values = batch.to(torch.float32, memory_format=layout)
        for op, constant in self._constants:
            values = values.sub_(constant) if op == "Sub" else values.div_(constant)
        return values.to(self._dtype)


def _stacked(parts: list[Any]) -> Any:
    """Return parts of one shape and dtype as one tensor in memory of its own."""
    torch = torch_module()
    if isinstance(parts[0], torch.Tensor):
        return torch.stack(parts)
    return torch.from_numpy(np.stack(parts))


def rows_of_answer(answer: Any, wanted: int, kept: int, name: str) -> list[Any]:
    """Return the first `kept` rows of a module's answer, which has to have `wanted`: arrays in memory of their own.

    A tensor gives an array for each item; a dict, tuple or list of several tensors a dict of arrays, in which a
    tuple's have the names output0, output1, ... bfloat16, which numpy has not, becomes float32.

    Raises ItemError where it is none of these, or has another number of rows.
    """
    columns = _columns(answer, name)
    arrays = {key: _array(value, wanted, f"{name}{f'[{key!r}]' if key else ''}") for key, value in columns.items()}
    if list(arrays) == [""]:
        return list(arrays[""][:kept])
    return [{key: array[row] for key, array in arrays.items()} for row in range(kept)]


def _columns(answer: Any, name: str) -> dict[str, Any]:
    if isinstance(answer, Mapping):
        columns = {str(key): value for key, value in answer.items() if value is not None}
    elif isinstance(answer, tuple | list) and len(answer) == 1:
        columns = {"": answer[0]}
    elif isinstance(answer, tuple | list):
        columns = {f"output{place}": value for place, value in enumerate(answer)}
    else:
        columns = {"": answer}
    wrong = [type(value).__name__ for value in columns.values() if not isinstance(value, torch_module().Tensor)]
    if wrong or not columns:
        held = f"that holds a {wrong[0]}" if wrong else "of nothing"
        raise ItemError(
            f"{name} answered with a {type(answer).__name__} {held}; "
            "penstock takes a tensor, or a dict, tuple or list of tensors. Wrap it in a module that returns such."
        )
    return columns


def _array(tensor: Any, wanted: int, name: str) -> Any:
    """Return a tensor as an array of its own: a module may write its next answer into the same memory."""
    rows = tensor.shape[0] if tensor.ndim else None
    if rows != wanted:
        found = "a single number" if rows is None else f"{rows} (shape {tuple(tensor.shape)})"
        raise ItemError(f"{name}: expected {wanted} rows, got {found}. Return one row for each item, in order.")
    torch = torch_module()
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()
    return np.array(tensor.numpy(force=True))
