"""The failure budget: how many items may fail before a run stops (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.errors import UsageError

HOPELESS = 50
"""A run without a budget stops when its first 50 items all fail: nobody wants 200,000 copies of one mistake."""


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `items` failures, or `percent` of the planned items; neither: no limit but the hopeless start."""

    items: int | None = None
    percent: float | None = None

    @classmethod
    def parse(cls, value: int | str | None) -> Budget:
        """Return the budget for None, a number of items (3, "3") or a share of the planned ones ("1%", "0.5%")."""
        if value is None:
            return cls()
        text = str(value).strip()
        try:
            if text.endswith("%"):
                percent = float(text[:-1])
                if 0 <= percent <= 100:
                    return cls(percent=percent)
            elif not isinstance(value, bool) and int(text) >= 0:
                return cls(items=int(text))
        except ValueError:
            pass  # not a number: the refusal below says what is
        raise UsageError(f'max_failures={value!r}: give a number of items (20), a share ("1%"), or None for no limit.')

    def allowed(self, planned: int | None) -> int | None:
        """Return how many items may fail; None: no limit (yet: a share of a number not known)."""
        if self.items is not None:
            return self.items
        if self.percent is not None and planned is not None:
            return int(planned * self.percent / 100 + 1e-9)  # 0.57 % of 10,000 are 57, in floating point 56.99...
        return None

    def spent(self, failed: int, done: int, planned: int | None) -> str | None:
        """Return why the run must stop, or None."""
        allowed = self.allowed(planned)
        if allowed is not None and failed > allowed:
            share = f" ({self.percent:g} % of {planned:,})" if self.percent is not None else ""
            return f"{failed:,} of {failed + done:,} items failed, more than the {allowed:,}{share} that may."
        if self.items is None and self.percent is None and done == 0 and failed >= HOPELESS:
            return f"The first {failed:,} items all failed; the run stops before it repeats one mistake on all of them."
        return None
