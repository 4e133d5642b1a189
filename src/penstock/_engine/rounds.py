"""What a worker process is asked next, and who is to blame when it dies: pure decisions."""

from __future__ import annotations

from collections import Counter, deque


class Rounds:
    """The values of a parcel, in the rounds in which a process is asked for them.

    A value that was in hand when its process died is asked for again alone, `attempts` times in all; where it is not
    known which one it was, in halves.
    """

    def __init__(self, n: int, most: int) -> None:
        """Begin with `n` values, `most` in a round."""
        self._waiting = deque(list(range(i, min(n, i + most))) for i in range(0, n, most))
        self.attempts: Counter[int] = Counter()

    def next(self) -> list[int] | None:
        """Return what to ask for next, by index; None when all is answered or given up."""
        return self._waiting.popleft() if self._waiting else None

    def broken(self, asked: list[int], answered: int, held: int | None, attempts: int) -> int | None:
        """Take in that a round ended early; return the index that is given up, if one is.

        `asked`: the round; `answered`: how many of it were; `held`: which of it was in hand, as far as is known.
        """
        left = asked[answered:]
        if held is None and len(left) > 1:
            self._waiting.extend((left[: len(left) // 2], left[len(left) // 2 :]))
            return None
        if not left:
            return None
        suspect = left[0] if held is None else asked[held]
        self.attempts[suspect] += 1
        rest = [index for index in left if index != suspect]
        if rest:
            self._waiting.append(rest)
        if self.attempts[suspect] >= attempts:
            return suspect
        self._waiting.append([suspect])
        return None
