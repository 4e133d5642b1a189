"""The live page: it follows a run to its end and stays; nothing that asks for it can hold the run up."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock._job import job_folder
from penstock._page.live import MOST_CLIENTS, Live, address_of, allowed
from penstock.errors import UsageError

Look = Callable[..., Any]
LATEST_MS = 20_000


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8000", ("127.0.0.1", 8000)),
        ("8000", ("127.0.0.1", 8000)),
        ("0.0.0.0:1", ("0.0.0.0", 1)),
        ("[::1]:80", ("::1", 80)),
        ("lab:0", ("lab", 0)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize("text", ["", "lab", ":", ":http", ":70000", "lab:-1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="give a port as in :8000"):
        address_of(text)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "10.0.0.7:80", "lab:80", "Lab"]
)
def test_hosts_that_may_be_meant(host: str) -> None:
    assert allowed(host, "lab")


@pytest.mark.parametrize(
    "host", [None, "", "evil.example:8000", "127.0.0.1.evil.example:8000", "localhost.evil:80", "[", "1.2.3"]
)
def test_hosts_that_somebody_made_to_point_here(host: str | None) -> None:
    assert not allowed(host, "127.0.0.1")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    with Live(tmp_path / "o.jsonl", "127.0.0.1", 0) as live:
        yield live


def ask(live: Live, path: str, **headers: str) -> tuple[int, Any, bytes]:
    host, port = live.url.removeprefix("http://").rstrip("/").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_it_answers_for_itself_alone(live: Live) -> None:
    assert ask(live, "/")[0] == 200
    assert ask(live, "/", Host="evil.example")[0] == 421
    assert ask(live, "/events", Host="evil.example:80")[0] == 421
    assert ask(live, "/../o.jsonl")[0] == 404
    assert ask(live, "/report.json")[0] == 404


def test_what_the_page_may_do(live: Live) -> None:
    _, headers, body = ask(live, "/")
    assert b"connect-src 'self'" in body
    assert b"default-src 'none'" in body
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert headers["Access-Control-Allow-Origin"] is None


def test_an_address_that_is_taken_is_refused(live: Live, tmp_path: Path) -> None:
    port = int(live.url.rstrip("/").rpartition(":")[2])
    with pytest.raises(UsageError, match=f"127.0.0.1:{port} cannot be had"), Live(tmp_path / "p", "127.0.0.1", port):
        pass


def test_a_browser_counts_from_the_moment_it_is_let_in(live: Live) -> None:
    """Whoever looks next would drop one whose thread has not begun, and the end would not wait for it."""
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, args=(20.0,))
    try:
        assert live.admit(thread)
        assert live._following() == [thread]
    finally:
        leave.set()
        thread.join()


def test_more_browsers_than_it_serves_are_sent_away(live: Live) -> None:
    port = int(live.url.rstrip("/").rpartition(":")[2])
    held = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(MOST_CLIENTS)]
    try:
        for one in held:
            one.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert one.recv(1024).startswith(b"HTTP/1.0 200")
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            ask(live, "/")
    finally:
        for one in held:
            one.close()


def test_a_record_of_an_earlier_run_is_not_this_one(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    penstock.run(range(50), lambda batch: batch, out=out)
    with Live(out, "127.0.0.1", 0) as live:
        assert live.news(None) == (None, b"")
        assert b'"planned":0' in ask(live, "/")[2]
        penstock.run(range(60), lambda batch: batch, out=out, fresh=True)
        seen, news = live.news(None)
        assert json.loads(news)["run"]["planned"] == 60
        assert live.news(seen) == (seen, b"")


def same(batch: list[int]) -> list[int]:
    return batch


def follow(seen: Any, live: Live) -> None:
    """Open the page anew, until it is told what changes; another page first, whose stream it is not."""
    seen.page.goto("about:blank")
    with seen.page.expect_response(f"{live.url}events"):
        seen.page.goto(live.url)


def says(seen: Any, state: str) -> None:
    """Wait until the page says so of the run."""
    seen.page.wait_for_selector(f"#state:has-text('{state}')", timeout=LATEST_MS)


class Paced:
    """A model that waits, from its ninth item on, until it is told to go on."""

    version = "1"

    def __init__(self) -> None:
        self.go = threading.Event()

    def predict(self, batch: list[int]) -> list[dict[str, Any]]:
        if batch[0] >= 8:
            self.go.wait(20)
        if batch[0] == 10:
            raise ValueError("<b>no</b>")
        return [{"top": [{"index": n % 3, "label": f"class {n % 3}", "score": 0.5}]} for n in batch]


@dataclass
class Slow:
    """A run in a thread of its own, whose model waits until `go_on` is called."""

    out: Path
    model: Paced = field(default_factory=Paced)
    reports: list[penstock.Report] = field(default_factory=list)

    def begin(self) -> None:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.reports.append(penstock.run(range(40), self.model, out=self.out, batch=1))

    def go_on(self) -> None:
        self.model.go.set()
        self.thread.join(20)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    slow = Slow(tmp_path / "o.jsonl")
    yield slow
    slow.go_on()


def test_a_browser_follows_a_run_to_its_end_and_keeps_what_it_showed(slow: Slow, look: Look) -> None:
    with Live(slow.out, "127.0.0.1", 0) as live:
        seen = look(live.url)
        assert seen.texts("#state") == ["waiting for the first items"]
        slow.begin()
        says(seen, "running")
        assert 0 < int(seen.texts(".summary .tile:nth-child(2) dd")[0].split()[0][0]) <= 8
        slow.go_on()
        says(seen, "finished")
    assert slow.reports[0].done == 39
    seen.page.wait_for_selector("#cards .card", timeout=LATEST_MS)
    assert seen.texts("#state") == ["finished: complete"]
    assert seen.texts(".count") == ["39 results"]
    assert seen.texts(".cause summary .message") == ["<b>no</b>"]
    assert seen.page.locator("#chart-rate canvas").count() == 1
    own = [live.url, f"{live.url}events"]
    assert [url for url in seen.requests if not url.startswith("data:")] == own
    assert seen.complaints == []


def test_a_page_that_is_opened_amid_the_run_has_the_results_so_far(slow: Slow, look: Look) -> None:
    with Live(slow.out, "127.0.0.1", 0) as live:
        first = look(live.url)
        slow.begin()
        says(first, "running")
        seen = look(live.url)
        assert 0 < seen.page.locator("#cards .card").count() <= 8
        says(seen, "running")
        slow.go_on()


def test_a_run_that_ends_badly_says_so(tmp_path: Path, look: Look) -> None:
    def bad(batch: list[int]) -> list[int]:
        raise ValueError("no")

    out = tmp_path / "o.jsonl"
    with Live(out, "127.0.0.1", 0) as live:
        seen = look(live.url)
        with pytest.raises(penstock.errors.StageError):
            penstock.run(range(90), bad, out=out, batch=1)
    says(seen, "finished")
    assert seen.texts("#state") == ["finished: stopped"]
    assert seen.texts(".callout strong") == ["StageError"]


def test_a_run_with_nothing_to_do_shows_what_there_is(tmp_path: Path, look: Look) -> None:
    out = tmp_path / "o.jsonl"
    penstock.run(range(50), same, out=out)
    with Live(out, "127.0.0.1", 0) as live:
        seen = look(live.url)
        follow(seen, live)
        assert penstock.run(range(50), same, out=out).attempted == 0
    says(seen, "finished: complete")
    seen.page.wait_for_selector("#cards .card", timeout=LATEST_MS)
    assert seen.texts(".count") == ["50 results"]


def test_a_run_that_never_began_ends_too(tmp_path: Path, look: Look) -> None:
    with Live(tmp_path / "o.jsonl", "127.0.0.1", 0) as live:
        seen = look(live.url)
        follow(seen, live)
    says(seen, "finished: stopped")
    assert not job_folder(tmp_path / "o.jsonl").exists()
