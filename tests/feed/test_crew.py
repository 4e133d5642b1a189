"""Which workers a feed gets, and that it says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock import Feed
from penstock._feed import crew
from penstock._feed.probing import Probe

pytestmark = pytest.mark.usefixtures("no_child_left")
SLOW = Probe([], 0.5, 0.5)


def plan_of(feed: Feed) -> dict[str, Any]:
    with feed:
        next(iter(feed))
        return feed.plan


def test_samples_of_some_cost_are_made_by_processes(sets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "_probed", lambda recipe, first: SLOW)
    plan = plan_of(Feed(sets.Squares(20), 4))
    assert plan["kind"] == "process"
    assert "500 ms" in plan["why"]
    assert plan_of(Feed(sets.Squares(20), 4, kind="thread"))["why"] == "asked for"


def test_what_cannot_be_sent_is_made_by_threads_and_the_plan_says_so(
    sets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "_probed", lambda recipe, first: SLOW)
    plan = plan_of(Feed(sets.Squares(20), 4, transform=lambda sample: sample))
    assert plan["kind"] == "thread"
    assert "cannot be sent to one" in plan["why"]


MAIN = """
import penstock

print("begun")

class Slow:
    def __len__(self):
        return 600

    def __getitem__(self, k):
        return sum(range(150_000)) * 0 + k

with penstock.Feed(Slow(), 100) as feed:
    print(sorted(k for batch in feed for k in batch.tolist()) == list(range(600)), feed.plan)
"""


def test_a_program_without_a_guard_runs_once(tmp_path: Path) -> None:
    """As with DataLoader where it forks: what the main program defines is not sent unless it is asked for."""
    script = tmp_path / "train.py"
    script.write_text(MAIN)
    environment = {"PYTHONPATH": str(Path(penstock.__file__).parents[1])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, check=False)
    begun, said = done.stdout.splitlines()
    assert begun == "begun"
    assert said.startswith("True {'kind': 'thread'"), done.stderr
    assert "main program's own code" in said
