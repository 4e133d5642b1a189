"""What was unusual, counted."""

from __future__ import annotations

from penstock._engine.notes import Notes


def test_counts_add_up_under_the_first_reason() -> None:
    notes = Notes()
    assert notes.counts() == {}
    notes.add("late")
    notes.add("asked again", 3, "first: 7 is odd")
    notes.add("asked again", 5, "first: 9 is odd")
    assert notes.counts() == {"late": 1, "asked again (first: 7 is odd)": 8}
