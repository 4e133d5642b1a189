"""The options of a run, as frozen dataclasses that check themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from penstock.errors import UsageError

Auto = Literal["auto"]
TORCH_DTYPES = ("float32", "bfloat16", "float16")
TORCH_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class Batching:
    """How items are put together for one call of a model.

    `max_size`: items per call, or "auto" (found by measurement for model files, 8 for callables). `max_wait_s`: how
    long a batch that is not full may wait for more items when they trickle in (a folder's batches never wait: they
    are formed by position, so that a resumed run computes the same ones). `safety`: "exact", a model file or module
    that gives items other answers in a batch than alone (tried on real items at the start) gets them one by one, and
    unpadded where padding, which its spec may allow, changes answers; "fast" lets it have its batches, and pads.
    Callables are not tried: they see each item once.
    """

    max_size: int | Auto = "auto"
    max_wait_s: float = 0.005
    safety: Literal["exact", "fast"] = "exact"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.max_size != "auto" and (not isinstance(self.max_size, int) or self.max_size < 1):
            raise UsageError(f'Batching(max_size={self.max_size!r}): give a number of items >= 1, or "auto".')
        if not self.max_wait_s >= 0:
            raise UsageError(f"Batching(max_wait_s={self.max_wait_s!r}): give seconds >= 0.")
        if self.safety not in ("exact", "fast"):
            raise UsageError(f'Batching(safety={self.safety!r}): give "exact" or "fast".')


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Several models that give one answer: `model=Ensemble([a, b], combine="mean")`.

    `models`: a list, or a dict by name, as `model=` takes them. `combine`: "mean" of the models' numbers (of their
    scores, where the spec has an activation), before they are interpreted; "vote", the text, the class or the plain
    value that most of them give; or a function that takes the list of their outputs. Where one model fails on an item,
    the item fails.
    """

    models: Sequence[Any] | Mapping[str, Any]
    combine: Literal["mean", "vote"] | Callable[[list[Any]], Any] = "mean"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.combine not in ("mean", "vote") and not callable(self.combine):
            raise UsageError(f'Ensemble(combine={self.combine!r}): give "mean", "vote" or a function of the outputs.')
        if isinstance(self.models, str) or not isinstance(self.models, Sequence | Mapping) or len(self.models) < 2:
            raise UsageError(f"Ensemble({self.models!r}): give two models or more.")

    @property
    def named(self) -> dict[str, Any]:
        """The models by name: their own, or "1", "2", ..."""
        if isinstance(self.models, Mapping):
            return dict(self.models)
        return {str(place): model for place, model in enumerate(self.models, start=1)}


@dataclass(frozen=True, slots=True)
class View:
    """A picture seen otherwise: `scale` times as large, mirrored (`flip`), turned by `rotate` degrees."""

    scale: float = 1.0
    flip: bool = False
    rotate: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not self.scale > 0:
            raise UsageError(f"View(scale={self.scale!r}): give a factor > 0.")
        if self.rotate not in (0, 90, 180, 270):
            raise UsageError(f"View(rotate={self.rotate!r}): give 0, 90, 180 or 270 degrees.")


@dataclass(frozen=True, slots=True)
class Augment:
    """A model asked about several views of each picture: `model=Augment(net, [View(), View(flip=True)])`.

    The views of an item are rows of the model's batches (`Batching.max_size` counts rows). Dense outputs (C, H, W) are
    turned back, brought to the largest one's size and merged; other numbers (scores, where the spec has an activation)
    are merged as they are. `merge`: "mean", "max", or a function that takes the list of arrays, one for each view.
    """

    model: Any
    views: Sequence[View]
    merge: Literal["mean", "max"] | Callable[[list[Any]], Any] = "mean"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if (
            not isinstance(self.views, Sequence)
            or not self.views
            or not all(isinstance(view, View) for view in self.views)
        ):
            raise UsageError(f"Augment(views={self.views!r}): give a list of View(scale=, flip=, rotate=).")
        if self.merge not in ("mean", "max") and not callable(self.merge):
            raise UsageError(f'Augment(merge={self.merge!r}): give "mean", "max" or a function of the arrays.')


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use.

    `item_timeout_s`: longest time for one item (a batch) in one step; then it fails as stalled. A process that does it
    is killed and replaced; a thread cannot be killed, and is given up.
    `max_bytes`: decoded data in flight, or "auto" (a quarter of the memory that this process may use).
    """

    item_timeout_s: float | None = None
    max_bytes: int | Auto = "auto"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.item_timeout_s is not None and not self.item_timeout_s > 0:
            raise UsageError(f"Limits(item_timeout_s={self.item_timeout_s!r}): give seconds > 0, or None.")
        if self.max_bytes != "auto" and (not isinstance(self.max_bytes, int) or self.max_bytes < 1):
            raise UsageError(f'Limits(max_bytes={self.max_bytes!r}): give bytes >= 1, or "auto".')


@dataclass(frozen=True, slots=True)
class Workers:
    """A function with its own number of workers: `stages=[Workers(load, 4), normalise]`.

    `kind`: "thread", or "process": each worker is a process, for code that holds the interpreter lock, crashes, or
    hangs. One that dies or takes longer than `Limits(item_timeout_s=)` costs the item it had in hand, and is replaced.
    The function, all it takes and all it returns have to pickle; arrays travel through shared memory. "auto": threads
    at first; where the interpreter lock is what holds a run up, processes are tried, and kept where that is faster. (It
    is for you to allow: a function in a process cannot change anything in your program. A Session leaves it at
    threads.) `n` "auto": as many as there are common threads, and in a run more or fewer, as it finds to be fastest.
    """

    fn: Callable[..., Any]
    n: int | Auto = "auto"
    kind: Literal["thread", "process", "auto"] = "thread"

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not callable(self.fn):
            raise UsageError(f"Workers({self.fn!r}): the first argument must be callable.")
        if self.n != "auto" and (not isinstance(self.n, int) or self.n < 1):
            raise UsageError(f'Workers({self.fn!r}, {self.n!r}): give a number of workers >= 1, or "auto".')
        if self.kind not in ("thread", "process", "auto"):
            raise UsageError(f'Workers({self.fn!r}, kind={self.kind!r}): give "thread", "process" or "auto".')


@dataclass(frozen=True, slots=True)
class Torch:
    """A torch model and how it is run: `model=Torch("weights.pt", factory="nets:make")`.

    source: an `nn.Module`; a TorchScript file (.pt, .pth, .ts); a `torch.export` file (.pt2); or the file of a state
    dict, then with `factory`: a function without arguments that makes the module, or its name "pkg.module:make" (no
    other code is named, and a pickle that holds code is refused). device: "cpu", "cuda", "cuda:1", or "auto" (where
    the module is, else the first GPU there is, else the CPU). dtype: of weights and input: "float32", or lowered, as
    the user asks: "bfloat16", "float16". channels_last: NHWC memory, in which pictures are decoded. autocast:
    "bfloat16" or "float16", where torch thinks it safe. compile: through `torch.compile`, then called by one thread.

    A module that has to be changed for it (moved, converted) is copied; else its weights are shared with you.
    """

    source: Any
    factory: str | Callable[[], Any] | None = None
    device: str = "auto"
    dtype: str = "float32"
    channels_last: bool = False
    autocast: str | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not isinstance(self.device, str) or not TORCH_DEVICE.fullmatch(self.device):
            raise UsageError(f'Torch(device={self.device!r}): give "auto", "cpu", "cuda" or "cuda:N".')
        if self.dtype not in TORCH_DTYPES:
            raise UsageError(f"Torch(dtype={self.dtype!r}): give one of {', '.join(TORCH_DTYPES)}.")
        if self.autocast not in (None, *TORCH_DTYPES[1:]):
            raise UsageError(f"Torch(autocast={self.autocast!r}): give one of {', '.join(TORCH_DTYPES[1:])}, or None.")
        if self.factory is not None and not callable(self.factory):
            module, colon, name = str(self.factory).partition(":")
            if not (module and colon and name):
                raise UsageError(
                    f'Torch(factory={self.factory!r}): give "pkg.module:make", or a function without arguments.'
                )
