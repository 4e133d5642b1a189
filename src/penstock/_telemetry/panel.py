"""The panel of a run as lines of styled text, made to fit, in columns that stay where they are (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal
from unicodedata import category, east_asian_width

from penstock._printable import printable
from penstock._telemetry.state import State, StepState, cost, count_of, rate, size, time_of

Style = Literal["", "bold", "dim", "cyan", "red"]
Line = tuple[tuple[str, Style], ...]

LEAST_BAR, MOST_BAR = 5, 20
LEAST_HEADLINE_BAR, MOST_HEADLINE_BAR = 8, 40
LEAST_NAME, MOST_NAME = 10, 30
WORKERS, BUSY, QUEUE, COST = len("workers"), len("100 %"), len("queue"), len("an item")
GAP: Line = (("  ", ""),)


def panel(state: State, width: int, height: int, *, plain: bool = False) -> list[Line]:
    """Return the panel in at most `height` lines of at most `width` cells; `plain`: in ASCII, but for the names.

    Where there is no room for all: without the table's head, then without memory, then without the least busy steps.
    """
    head = [_cropped(line, width) for line in headline(state, width, plain)]
    room, n = height - len(head), len(state.steps)
    if room <= 0 or not n:
        return head[: max(1, height)]
    columns = columns_of(state, width)
    rows = [_cropped(_row(step, state, columns, plain), width) for step in state.steps]
    if n > room:
        return head + _busiest(state, rows, room)
    top = [_cropped(_titles(columns), width)] if n + 2 <= room else []
    return head + top + rows + ([_foot(state, width)] if n + 1 <= room else [])


def headline(state: State, width: int, plain: bool) -> list[Line]:
    """Return how far the run is and how fast: in one line, or in two where it is narrow."""
    tail = _tail(state)
    if state.total is None:
        return [((count_of(state), "bold"), *GAP, *tail)]
    count = count_of(state).rjust(2 * len(f"{state.total:,}") + 1)
    share = min(1.0, state.finished / state.total) if state.total else 1.0
    percent = _percent(share).rjust(5)
    spare = width - len(count) - len(percent) - 4
    beside = spare - 2 - cells_of(tail)
    is_wide = beside >= LEAST_HEADLINE_BAR
    bar = _bar(share, min(MOST_HEADLINE_BAR, beside if is_wide else spare), plain)
    first: Line = ((count, "bold"), *GAP, *bar, *GAP, (percent, ""))
    return [(*first, *GAP, *tail)] if is_wide else [first, tail]


def _tail(state: State) -> Line:
    per_s = "" if state.rate_per_s is None else rate(state.rate_per_s)
    failed = f"{state.failed:,} failed"
    skipped = f"  {state.skipped:,} skipped" if state.skipped else ""
    numbers: Line = ((f"{per_s:>8}", "bold"), (f"  {time_of(state):>12}  ", ""))
    return (*numbers, (f"{failed:<9}", "red" if state.failed else "dim"), (skipped, ""))


@dataclass(frozen=True, slots=True)
class Columns:
    """The table's columns, with two cells between them: names, workers, busy, queue and the cost of an item.

    `bars`: 2: busy and queue have one, 1: only busy, 0: neither; each has `bar` cells. `queue`: cells of its number.
    """

    workers: bool
    bars: int
    cost: bool
    name: int = 0
    bar: int = 0
    queue: int = QUEUE

    @property
    def fixed(self) -> int:
        """Cells of all that is as wide on any terminal."""
        return self.workers * (2 + WORKERS) + 2 + BUSY + 2 + self.queue + self.bars + self.cost * (2 + COST)


def columns_of(state: State, width: int) -> Columns:
    """Return the columns that fit into `width` cells: the fewer there are, the more is left out."""
    names = min(MOST_NAME, max(len("step"), *(cells(printable(step.name)) for step in state.steps)))
    queue = max(QUEUE, len(f"{state.window:,}"))
    shapes = ((True, 2, True), (False, 2, True), (False, 1, True), (False, 0, True), (False, 0, False))
    tried = [Columns(*shape, queue=queue) for shape in shapes]
    least = min(names, LEAST_NAME)
    found = next((one for one in tried if least + one.fixed + one.bars * LEAST_BAR <= width), tried[-1])
    bar = max(LEAST_BAR, min(MOST_BAR, (width - found.fixed - names) // found.bars)) if found.bars else 0
    return replace(found, bar=bar, name=max(1, min(names, width - found.fixed - found.bars * bar)))


def _titles(columns: Columns) -> Line:
    titles = ["step".ljust(columns.name)[: columns.name]]
    titles += ["workers"] if columns.workers else []
    titles += ["busy".ljust(columns.bar + 1 + BUSY) if columns.bars else f"{'busy':>{BUSY}}"]
    titles += ["queue".ljust(columns.bar + 1 + columns.queue) if columns.bars == 2 else f"{'queue':>{columns.queue}}"]
    titles += ["an item"] if columns.cost else []
    return (("  ".join(titles), "dim"),)


def _row(step: StepState, state: State, columns: Columns, plain: bool) -> Line:
    busy = "" if step.busy is None else _percent(step.busy)
    waiting = "" if step.queued is None else f"{step.queued:,}"
    level = None if step.queued is None else step.queued / max(1, state.window)
    per_item = "" if step.cost_s is None else cost(step.cost_s)
    parts: list[Line] = [((_fitted(step.name, columns.name, plain), ""),)]
    parts += [((f"{step.workers:>{WORKERS},}", ""),)] if columns.workers else []
    parts += [(*(_gauge(step.busy, columns.bar, plain) if columns.bars else ()), (busy.rjust(BUSY), ""))]
    parts += [(*(_gauge(level, columns.bar, plain) if columns.bars == 2 else ()), (waiting.rjust(columns.queue), ""))]
    parts += [((per_item.rjust(COST), ""),)] if columns.cost else []
    return tuple(chain(parts[0], *((*GAP, *part) for part in parts[1:])))


def _busiest(state: State, rows: Sequence[Line], room: int) -> list[Line]:
    """Return the rows of the busiest steps, in order, and how many are left out."""
    order = sorted(range(len(rows)), key=lambda i: -(state.steps[i].busy or 0.0))
    kept = sorted(order[: room - 1])
    return [*(rows[i] for i in kept), ((f"and {len(rows) - len(kept)} steps more", "dim"),)]


def _foot(state: State, width: int) -> Line:
    """Return memory and what is in flight: devices are added up, and then things left out, where there is no room."""
    memory, flight = f"memory {size(state.rss_bytes)}", f"in flight {state.in_flight:,} of {state.window:,}"
    each = [f"{printable(name)} {size(n_bytes)}" for name, n_bytes in state.device_bytes.items()]
    total = [f"{len(each)} devices {size(sum(state.device_bytes.values()))}"] if len(each) > 1 else each
    shapes = ([memory, *each, flight], [memory, *total, flight], [memory, *total], [memory])
    texts = ["   ".join(shape) for shape in shapes]
    return _cropped(((next((text for text in texts if cells(text) <= width), memory), "dim"),), width)


def _gauge(share: float | None, width: int, plain: bool) -> Line:
    """Return a bar and the cell behind it; blank where the share is not known."""
    return ((" " * (width + 1), ""),) if share is None else (*_bar(share, width, plain), (" ", ""))


def _percent(share: float) -> str:
    return f"{int(100 * share + 1e-9)} %"  # 100 % is all, and not nearly all


def _bar(share: float, width: int, plain: bool) -> Line:
    """Return a bar of `width` cells, in steps of half a cell."""
    halves = int(min(1.0, max(0.0, share)) * 2 * max(0, width) + 1e-9)
    full, rest = ("#" * (halves // 2), "-") if plain else ("━" * (halves // 2) + "╸" * (halves % 2), "─")
    return (full, "cyan"), (rest * (max(0, width) - len(full)), "dim")


def _fitted(name: str, width: int, plain: bool) -> str:
    """Return `name`, printable, cut or filled to `width` cells."""
    text = printable(name)
    if cells(text) > width:
        text = _cut(text, width - 1) + ("~" if plain else "…")
    return text + " " * (width - cells(text))


def _cropped(line: Line, width: int) -> Line:
    """Return as much of `line` as `width` cells hold."""
    kept: list[tuple[str, Style]] = []
    for text, style in line:
        kept.append((_cut(text, width), style))
        width -= cells(kept[-1][0])
    return tuple(kept)


def _cut(text: str, width: int) -> str:
    while cells(text) > width:
        text = text[:-1]
    return text


def cells_of(line: Line) -> int:
    """Return how many cells of a terminal a line takes."""
    return sum(cells(text) for text, _ in line)


def cells(text: str) -> int:
    """Return how many cells of a terminal `text` takes: two for a wide one, none for an accent over another."""
    return sum(0 if category(c) in ("Mn", "Me") else 2 if east_asian_width(c) in "WF" else 1 for c in text)
