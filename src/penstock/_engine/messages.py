"""Values in slots: pickled, their arrays beside them as they are, so that the reader gets views of the slot.

This is the one place of penstock that pickles. It reads only what a process wrote that this one has started, or was
started by; nothing of it is ever stored.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock._engine.slots import Array, Slot, aligned
from penstock.errors import ItemError, PenstockError

IN_BAND = 2048
"""Arrays of fewer bytes travel in the pickle: a view of them would keep a slot from being used."""
_HEAD = struct.Struct("<3q")
_PLACE = struct.Struct("<2q")
_OFFSET_BITS = 40
_PICKLE = 0x80
"""The first byte of a pickle."""
_NUMBERS = "?bBhHiIlLqQefdgFDG"
"""Type codes of numpy's own numbers."""


def place_of(slot: int, offset: int) -> int:
    """Return one number for a place in a slot."""
    return slot << _OFFSET_BITS | offset


def slot_and_offset(place: int) -> tuple[int, int]:
    """Return which slot, and where in it."""
    return place >> _OFFSET_BITS, place & ((1 << _OFFSET_BITS) - 1)


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is no value: the exception's type and message; itself, pickled, where it may be raised again."""

    type: str
    message: str
    error: bytes | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """A value ready to be written: a pickle and the arrays that go beside it, or what one array is and its bytes."""

    data: bytes
    buffers: list[Array]
    places: list[int | None]
    """Where a buffer lies in a slot already; None: it has to be copied there."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in a slot, wherever it begins."""
        if not self.buffers:
            return aligned(_HEAD.size + len(self.data))
        copied = sum(aligned(b.nbytes) for b, place in zip(self.buffers, self.places, strict=True) if place is None)
        return aligned(_HEAD.size + _PLACE.size * len(self.buffers) + len(self.data)) + copied


def pack(value: Any, located: Callable[[Array], int | None] | None = None) -> Packed:
    """Return `value` ready to be written. Raises whatever pickling it raises.

    `located(array)`: where an array lies in a slot already, if it does.
    """
    if type(value) is np.ndarray and value.nbytes >= IN_BAND and _plain(value):
        return _packed_array(value, located)
    found: list[pickle.PickleBuffer] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < IN_BAND:
            return True
        found.append(buffer)
        return False

    data = _dumped(value, in_band)
    if not found:
        return Packed(data, [], [])
    buffers = [np.frombuffer(buffer.raw(), np.uint8) for buffer in found]
    places = [None if located is None else located(buffer) for buffer in buffers]
    return Packed(data, buffers, places)


def _plain(array: Array) -> bool:
    """Tell whether an array is known by its bytes, shape and type code: to pickle it costs four times as much."""
    flags, dtype = array.flags, array.dtype
    return flags.c_contiguous and flags.writeable and dtype.char in _NUMBERS and dtype is np.dtype(dtype.char)


def _packed_array(array: Array, located: Callable[[Array], int | None] | None) -> Packed:
    data = array.dtype.char.encode() + struct.pack(f"<{array.ndim}q", *array.shape)
    buffer = array.reshape(-1).view(np.uint8)
    return Packed(data, [buffer], [None if located is None else located(buffer)])


def _array(data: bytes | memoryview, buffer: Any) -> Array:
    """Return what `_packed_array` was given."""
    flat = np.frombuffer(buffer, chr(data[0])) if type(buffer) is bytearray else buffer.view(chr(data[0]))
    return flat.reshape(struct.unpack(f"<{len(data) // 8}q", data[1:]))


def _dumped(value: Any, in_band: Callable[[pickle.PickleBuffer], bool]) -> bytes:
    if "torch" not in sys.modules:
        return pickle.dumps(value, 5, buffer_callback=in_band)
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5, buffer_callback=in_band)
    pickler.dispatch_table = _with_tensors()
    pickler.dump(value)
    return file.getvalue()


def write(packed: Packed, slot: Slot, number: int, offset: int, generation: int) -> int:
    """Write `packed` at `offset` of the slot with this number, marked with `generation`; return where it ends."""
    view = slot.view
    at = offset + _HEAD.size + _PLACE.size * len(packed.buffers)
    end = aligned(at + len(packed.data))
    view[at : at + len(packed.data)] = packed.data
    for i, (buffer, place) in enumerate(zip(packed.buffers, packed.places, strict=True)):
        if place is None:
            place = place_of(number, end)
            view[end : end + buffer.nbytes] = buffer.data
            end += aligned(buffer.nbytes)
        _PLACE.pack_into(view, offset + _HEAD.size + _PLACE.size * i, place, buffer.nbytes)
    _HEAD.pack_into(view, offset, generation, len(packed.data), len(packed.buffers))
    return end


def read(
    slots: Mapping[int, Slot],
    place: int,
    generation: int,
    *,
    copied: bool = False,
    find_main: Callable[[], None] | None = None,
) -> Any:
    """Return the value at `place`: its arrays are views that hold leases, or copies. A `Failed` is returned as it is.

    Raises PenstockError where what lies there was written for another request, and whatever unpickling raises.
    """
    number, offset = slot_and_offset(place)
    view = slots[number].view
    mark, length, count = _HEAD.unpack_from(view, offset)
    if mark != generation:
        raise PenstockError(f"slot {number} holds request {mark} where {generation} was expected: a bug in penstock.")
    if count == 0:
        start = offset + _HEAD.size
        return loads(view[start : start + length], find_main)
    buffers = []
    for i in range(count):
        where, nbytes = _PLACE.unpack_from(view, offset + _HEAD.size + _PLACE.size * i)
        number, start = slot_and_offset(where)
        lease = slots[number].lend(start, nbytes)
        buffers.append(bytearray(lease) if copied else lease)
    at = offset + _HEAD.size + _PLACE.size * count
    data = view[at : at + length]
    return loads(data, find_main, buffers) if data[0] == _PICKLE else _array(data, buffers[0])


def dumps(value: Any) -> bytes:
    """Return `value` pickled, arrays and all."""
    return pickle.dumps(value, 5)


def dumps_apart(value: Any) -> tuple[bytes, list[Array]]:
    """Return `value` pickled without its larger arrays, and those, as bytes."""
    packed = pack(value)
    return packed.data, packed.buffers


def loads(data: bytes | memoryview, find_main: Callable[[], None] | None = None, buffers: Sequence[Any] = ()) -> Any:
    """Return what was pickled. `find_main` is called when something of the main program is first needed."""
    if find_main is None:
        return pickle.loads(data, buffers=buffers)  # noqa: S301 - see the module
    unpickler = _Unpickler(io.BytesIO(data), buffers=buffers)
    unpickler.find_main = find_main
    return unpickler.load()


class _Unpickler(pickle.Unpickler):
    """Reads a program's main module only when it is needed: what stands in it outside of functions runs then."""

    find_main: Callable[[], None]

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function by its name."""
        if module == "__main__":
            self.find_main()
        return super().find_class(module, name)


def failed(error: BaseException, *, whole: bool) -> Failed:
    """Return `error` as data; with itself where `whole`, or where it is to end the run, if it can be pickled."""
    try:
        message = str(error) or repr(error)
    except Exception as caught:  # noqa: BLE001 - an error that cannot be shown costs its item, not the process
        message = f"(no message: {type(caught).__name__})"
    data = None
    if whole or getattr(error, "stops_run", False):
        try:
            data = dumps(error)
            loads(data)
        except Exception:  # noqa: BLE001 - an exception of any class may refuse; its name and message do
            data = None
    return Failed(type(error).__name__, message, data)


def raised(failed: Failed) -> Exception:
    """Return what to raise in the place of an exception that another process had."""
    if failed.error is not None:
        error = loads(failed.error)
        if isinstance(error, Exception):
            return error
    found: type[Exception] = type(failed.type, (ItemError,), {})
    return found(failed.message)


def _with_tensors() -> dict[type, Callable[[Any], Any]]:
    """Return how to pickle torch's tensors: as arrays, which can lie in a slot; their own way copies twice."""
    torch = sys.modules["torch"]
    return {**copyreg.dispatch_table, torch.Tensor: _tensor_as_array}


def _tensor_as_array(tensor: Any) -> Any:
    plain = tensor.device.type == "cpu" and not tensor.requires_grad and tensor.layout == sys.modules["torch"].strided
    try:
        array = tensor.numpy() if plain else None
    except (TypeError, RuntimeError):  # bfloat16, conjugated: numpy has no such thing
        array = None
    return tensor.__reduce_ex__(5) if array is None else (_array_as_tensor, (array,))


def _array_as_tensor(array: Array) -> Any:
    import torch

    return torch.from_numpy(array)
