"""Three stages of trivial functions (map on 4 threads, batch 32, map over the batch), ordered, as each library does it.

An entry is a context manager: what may be made once (pools, sessions) is made on entry, outside the clock; the `run`
that it gives takes n and returns the rows, either flat or as lists of a batch each, whichever costs the entry less.
The settings are the fastest found on 2 cores (µs an item, one search of 20,000 to 200,000 items; beside them what else
was tried).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import batched_or_none  # placeholder
