"""Feed: batches for a training loop, the same whatever feeds them, from where the last run stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from penstock import _exceeding
from penstock._budget import Budget
from penstock._devices import cpu_budget
from penstock._engine.pipeline import Pipeline
from penstock._feed.account import Account
from penstock._feed.collate import aligned, as_tensors
from penstock._feed.crew import Asked, crew_of
from penstock._feed.data import data_of
from penstock._feed.making import BadItem, Made, Maker, Recipe
from penstock._feed.position import Position, Share, resumed
from penstock._feed.reading import Cut, Reading
from penstock._feed.settings import Kind, checked, device_asked, one_of, ranks, workers_asked
from penstock._feed.sharing import SHARING
from penstock._feed.shipping import Ship, TorchCuda, forwarded
from penstock._feed.supply import Supplied, ahead, inline
from penstock._feed.why import FeedStatistics, verdict
from penstock._options import Auto
from penstock.errors import Cancelled, Closed, UsageError

VERSION = 1
"""Of the form of a state."""


class Feed:
    """Batches for a training loop: a context manager, and an iterator over one epoch after another.

    `for batch in feed` gives what is left of the current epoch; the next loop gives the next epoch. Which items make up
    a batch, their order and their random numbers (`penstock.sample_rng`) depend on `seed`, epoch and item alone: never
    on the workers, their kind or number, nor on where a run was resumed.

    A batch is made of samples as torch's `default_collate` does it: arrays and numbers get a first axis, strings a
    list, dicts and tuples are gone into. It is made of numpy arrays, or of torch's tensors if a sample has one.

    Args:
        dataset: something with __len__ and __getitem__ (a torch Dataset, a list); a folder, glob pattern or table, of
            which each path is an item; or, with shuffle=False, an iterable, that can be read again for each epoch.
        batch_size: samples in a batch; fewer in the last one, and where items failed.
        transform: function of one item, called by the workers; its random numbers come from `penstock.sample_rng()`.
        collate: function of a list of samples that gives the batch, called by the workers.
        shuffle: a new order for every epoch.
        seed: of the order and of `penstock.sample_rng`.
        workers: "auto" (by the first samples), or a number; 0: made in the loop itself.
        kind: "process" (leaves the loop's process its own time; bears code that crashes or holds the interpreter lock,
            or that draws from `random`, `np.random` or torch's generator), "thread", or "auto": by the first samples.
        drop_last: leave out a last batch that is not full, and batches that not every rank would get.
        order: False gives batches as they are done; the epoch still has each item once, also when resumed.
        prefetch_bytes: how much the batches that wait may hold; "auto": a quarter of the memory, shared by all feeds.
        device: "cpu" for torch's tensors in any case, "cuda" or "cuda:N" to have them there, two batches ahead.
        rank: which of `world_size` processes this one is, each of which gets every so many-th batch. None: as
            torch.distributed says, else the only one.
        world_size: see `rank`.
        on_error: "skip": an item that raises is left out, the batch is that much shorter, and `failures` names it;
            "raise": the loop raises ItemError.
        max_failures: how many items of an epoch may fail before the loop raises StageError: a number, a share ("1%") of
            this rank's items, or None.
        weights: `dataset` is a list of data sets, and each batch is drawn from them in these shares.

    Raises:
        UsageError: the request cannot be carried out as it stands.
    """

    def __init__(  # noqa: PLR0913 - one of the three heads
        self,
        dataset: Any,
        batch_size: int,
        *,
        transform: Callable[[Any], Any] | None = None,
        collate: Callable[[list[Any]], Any] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        workers: int | Auto = "auto",
        kind: Kind = "auto",
        drop_last: bool = False,
        order: bool = True,
        prefetch_bytes: int | Auto = "auto",
        device: str | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        on_error: Literal["skip", "raise"] = "skip",
        max_failures: int | str | None = "1%",
        weights: Sequence[float] | None = None,
    ) -> None:
        """Check the request; no worker is started before the first batch is asked for."""
        self._asked_crew = Asked(one_of("kind", kind, ("auto", "thread", "process")), workers_asked(workers))
        if workers == 0 and kind == "process":
            raise UsageError(
                "workers=0 makes batches in the loop itself, and kind='process' in others: give one of them."
            )
        self._max_bytes = None if prefetch_bytes == "auto" else checked("prefetch_bytes", prefetch_bytes, 1)
        self._order, self._device = order, device_asked(device)
        data = data_of(dataset, weights, shuffle=shuffle)
        self._recipe = Recipe(data.indexed, transform, collate, checked("seed", seed, 0))
        share = Share(*ranks(rank, world_size), even=drop_last)
        self._reading = Reading(data, Cut(checked("batch_size", batch_size, 1), seed, shuffle, drop_last), share)
        self._asked = {"seed": seed, "batch_size": batch_size, "shuffle": shuffle, "drop_last": drop_last}
        self._position = self._reading.at(0)
        self._run: Iterator[Supplied] | None = None
        self._quota: Quota | None = None
        self._paused = False
        self._run_stack = ExitStack()
        self._stack = ExitStack()
        self._pipeline: Pipeline | None = None
        self._maker: Maker | None = None
        self._ship: Ship | None = None
        self._closed = False
        self._lock = threading.RLock()
        """Held while workers are started, and ended: another thread may close the feed."""
        statistics = FeedStatistics(cpus=cpu_budget().threads)
        raises = one_of("on_error", on_error, ("skip", "raise")) == "raise"
        self._account = Account(Budget.parse(max_failures), statistics, raises=raises)
        self._last: Any = None
        self.plan: dict[str, Any] = {}
        """The kind and number of workers, and why; empty before the first batch."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the feed."""
        self.close()

    def __repr__(self) -> str:
        """Show where it is, of what, and who works."""
        state = "closed" if self._closed else f"{self._pipeline!r}" if self._pipeline else "not started"
        of = "" if self._reading.items is None else f" of {self._position.count}"
        return f"<Feed: epoch {self._position.epoch}, {self._position.handed_out}{of} batches; {state}>"

    def __len__(self) -> int:
        """Return how many batches this rank gets in a whole epoch. Raises TypeError where that is not known before."""
        if self._reading.items is None:
            raise TypeError("This feed reads an iterable: how many batches it gives is known at its end.")
        return self._reading.share.count(self._reading.batches)

    # ---- batches

    def __iter__(self) -> Iterator[Any]:
        """Return an iterator over what is left of the current epoch.

        It raises ItemError and StageError, see `on_error` and `max_failures`, and what `collate` raises.
        """
        if self._quota is not None:  # of steps that were left amid
            self._quota = None
            self._end_run()
        if self._run is None:
            self._begin()
        return _Loop(self._next)

    def epoch(self, n: int) -> Iterator[Any]:
        """Return an iterator over epoch `n`, from its first batch on."""
        self._go_to(self._reading.at(checked("epoch", n, 0)))
        return iter(self)

    def steps(self, start: int, stop: int) -> Iterator[Any]:
        """Yield the batches of the steps from `start` to `stop` - 1, counted over all epochs from 0 on.

        Workers go on over the end of an epoch. Another loop over the feed ends this one, which then raises Closed.
        """
        size = len(self)
        if not 0 <= start <= stop or size == 0:
            raise UsageError(
                f"steps({start!r}, {stop!r}): give the first step, and the one behind the last, of {size} an epoch."
            )
        position = self._position
        if (position.epoch, position.handed_out) != divmod(start, size) or position.done:
            position = self._reading.at(start // size)
            position.mark = start % size
        self._go_to(position)
        return self._steps(stop - start)

    def _steps(self, n: int) -> Iterator[Any]:
        quota = self._quota = Quota(n)
        try:
            while quota.left:
                if self._quota is not quota:
                    raise Closed("Another loop over the feed has begun: it has ended these steps.")
                if self._run is None:
                    self._begin()
                for batch in _Loop(self._next):
                    yield batch
                    if not quota.left or self._quota is not quota:
                        break
        finally:
            if self._quota is quota:
                self._quota = None
                self._end_run()

    def replay(self, steps: int) -> Iterator[Any]:
        """Yield the last batch again, `steps` times, while no worker is busy: so the loop shows how fast it can be.

        What it takes is in `statistics` as `replay_s`, and the ceiling of `why`. The epoch goes on afterwards where it
        was. Raises UsageError before the first batch.
        """
        if self._last is None:
            raise UsageError("replay() gives the last batch again, and there was none yet.")
        self._end_run()
        self._paused = True
        taken = []
        for _ in range(checked("steps", steps, 1)):
            begun = time.perf_counter()
            yield self._last
            taken.append(time.perf_counter() - begun)
        self._account.replayed(taken)

    def _next(self) -> Any:
        """Return the next batch of the epoch. Raises StopIteration at its end, Closed where the feed was closed."""
        if self._closed:
            raise Closed("The feed is closed: make a new one.")
        if self._run is None and self._paused:
            self._begin()
        if self._run is None:
            raise StopIteration
        self._account.asked()
        while (supplied := self._supplied()) is not None:
            (position, own), made = supplied
            if position is not self._position:
                self._next_epoch(position)
            if self._quota is not None:
                self._quota.left -= 1
            self._account.count(made, self._reading.planned(position))
            if not made.count:
                position.hand_out(own)
                continue
            batch = self._dressed(made).batch if self._ship is None else self._ship.receive(made.batch)
            position.hand_out(own)  # behind all that may raise: a state is of what the loop has got
            self._account.returned()
            self._last = batch
            return batch
        self._end_run()
        if self._quota is None or self._quota.left:  # else it is the steps that are at their end
            self._next_epoch(self._reading.at(self._position.epoch + 1))
        raise StopIteration

    def _supplied(self) -> Supplied | None:
        """Return what comes next, None at the end. What goes wrong ends the run: the next loop begins at the mark."""
        assert self._run is not None
        try:
            return next(self._run, None)
        except BaseException as error:
            self._end_run()
            self._paused = not self._closed
            if self._closed and isinstance(error, Cancelled):
                raise Closed("The feed was closed while its loop waited for a batch.") from error
            raise

    def _next_epoch(self, position: Position) -> None:
        self._account.end()
        self._position = position
        if self._run is not None:
            self._account.begin(position.epoch)

    def _dressed(self, made: Made) -> Made:
        """Return the batch as tensors, where it is to be; arrays of our own on a cache line."""
        batch = aligned(made.batch) if self._recipe.collate is None else made.batch
        return replace(made, batch=as_tensors(batch) if made.torch or self._device else batch)

    def _sent(self, supplied: Supplied) -> Supplied:
        """Return a batch on its way to the device."""
        place, made = supplied
        assert self._ship is not None
        return place, replace(made, batch=self._ship.send(self._dressed(made).batch))

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """Return where the feed is, as plain values (a few hundred bytes): after the last batch that the loop got."""
        return {"version": VERSION, **self._asked, "items": self._reading.items, **self._position.to_dict()}

    def load_state_dict(self, state: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        """Go on where a feed was when it gave `state`; with other workers, if you like.

        To go on with another number of ranks, give the states of all of them, saved at one moment, in a list: what is
        left of the epoch is dealt out anew, each item once. Raises UsageError where a state is of another data set,
        seed, batch size or form.
        """
        states = [state] if isinstance(state, Mapping) else list(state)
        mine = {key: value for key, value in self.state_dict().items() if key not in self._position.to_dict()}
        for one in states:
            differs = [f"{key}: {one.get(key)!r}, here {mine[key]!r}" for key in mine if one.get(key) != mine[key]]
            if differs:
                raise UsageError(f"The state is of another feed: {'; '.join(differs)}.")
        if not states:
            raise UsageError("load_state_dict([]): there is no state in the list.")
        self._go_to(resumed(states, self._reading.batches, self._reading.share))

    def statistics(self) -> FeedStatistics:
        """Return what this epoch has taken so far: of the loop, of the workers, batches, samples and failures."""
        return self._account.statistics

    @property
    def failures(self) -> list[BadItem]:
        """The items of this epoch that failed, each with its traceback."""
        return self._account.failures

    def why(self) -> str:
        """Return in a few lines whether the loop waits for data, what is slowest, what there is to gain, what to do."""
        return verdict(self.statistics())

    def close(self) -> None:
        """Stop the workers and let go of all they hold; idempotent."""
        self._closed, self._paused = True, False
        with self._lock:
            self._end_run()
            self._stack.close()
        self._last = None

    # ---- one epoch

    def _go_to(self, position: Position) -> None:
        self._end_run()
        self._quota = None
        if position is not self._position:
            self._position = position
            self._account.forget(position.epoch)

    def _begin(self) -> None:
        """Have the rest of the epoch made. Raises Closed where another thread has closed the feed meanwhile."""
        with self._lock:
            if self._closed:
                raise Closed("The feed is closed: make a new one.")
            if self._maker is None:
                self._start()
            self._have_made()

    def _have_made(self) -> None:
        assert self._maker is not None
        self._account.begin(self._position.epoch)
        self._paused = False
        n = None if self._quota is None else self._quota.left
        tasks = self._reading.tasks(self._position, n, further=self._order)
        if self._pipeline is None:
            self._run = self._run_stack.enter_context(inline(self._maker, tasks))
        else:
            most = SHARING.max_bytes() if self._max_bytes is None else self._max_bytes
            self._run = self._run_stack.enter_context(ahead(self._pipeline, tasks, order=self._order, max_bytes=most))
        if self._ship is not None:
            self._run = self._run_stack.enter_context(forwarded(self._run, self._sent))

    def _end_run(self) -> None:
        self._run = None
        self._run_stack.close()

    def _start(self) -> None:
        """Find the kind and number of workers, and start them."""
        first = self._reading.first(self._position.epoch)
        crew = crew_of(self._recipe, first, self._reading.items, self._asked_crew)
        if self._device is not None and self._device.startswith("cuda"):
            self._ship = Ship(TorchCuda(self._device))
        self.plan, self._maker = crew.plan, Maker(self._recipe)
        workers, kind = crew.plan["workers"], crew.plan["kind"]
        _exceeding.warn_of_feed(self._asked_crew.workers or 0, kind)
        self._account.statistics = replace(self.statistics(), workers=workers, kind=kind)
        if crew.stage is not None:
            self._stack.enter_context(SHARING.feed(workers))
            self._pipeline = self._stack.enter_context(Pipeline([crew.stage]))


@dataclass(slots=True)
class Quota:
    """Batches of the steps that were asked for, and are not handed out yet."""

    left: int


class _Loop(Iterator[Any]):
    """What iterating a feed gives."""

    def __init__(self, following: Callable[[], Any]) -> None:
        self._following = following

    def __next__(self) -> Any:
        return self._following()
