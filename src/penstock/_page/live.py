"""The page of a run that goes on: served to this machine's browsers, which are told what changes as it happens.

The run writes its record beside its ledger; this reads it. So nothing here can hold a run up, and a browser that hangs
holds up nothing but its own thread.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from penstock._job import job_folder
from penstock._page.causes import group
from penstock._page.gather import page_data, record_of
from penstock._page.html import page
from penstock._telemetry.record import NAME, finite
from penstock.errors import PenstockError, UsageError

MOST_CLIENTS = 16
LOOK_S = 0.5
"""How often the record is looked at."""
SIGN_OF_LIFE_S = 10.0
SLOW_S = 5.0
"""A browser that takes nothing for so long is let go."""
PICTURE_BYTES = 600_000
"""Of the small pictures of a page while the run goes on: making them takes time from it."""
_LOG = logging.getLogger("penstock")
_NOTHING: dict[str, Any] = {"planned": 0, "done": 0, "failed": 0, "skipped": 0, "timeline": []}


def address_of(text: str) -> tuple[str, int]:
    """Return (host, port) of `:8000`, `8000` or `HOST:8000`; without a host, this machine's own browsers alone.

    Raises UsageError where it is no address.
    """
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--live {text!r}: give a port as in :8000, or a host and a port as in 192.168.0.7:8000.")
    return host.strip("[]") or "127.0.0.1", int(port)


class Live:
    """The server of one job's page; a context manager. At its end every browser gets the whole page, then it is gone.

    Browsers on other machines are let in only where `host` says so, and only by a number: a name in a request, other
    than `host` and localhost, may be one that somebody made to point here (DNS rebinding).
    """

    def __init__(self, out: Path, host: str, port: int) -> None:
        """Prepare to serve the job at `out`; port 0 takes any that is free."""
        self.out, self.host = out, host
        self.stopping = threading.Event()
        self._port = port
        self._record = job_folder(out) / NAME
        self._before = self._stamp()
        self._lock = threading.Lock()
        self._building = threading.Lock()
        self._told: tuple[int | None, bytes] = (None, b"")
        self._last = b""
        self.clients: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Begin to serve. Raises UsageError where the address cannot be had."""
        try:
            self._server = _Server(self, (self.host, self._port))
        except OSError as error:
            raise UsageError(
                f"--live {self.host}:{self._port} cannot be had: {error.strerror}. Give another port."
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(LOOK_S / 5,), name="penstock-live", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give those who follow the page as it is at the end, and stop."""
        if self._following():
            self._last = self._whole()
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in (self._thread, *self._following()):
            thread.join(SLOW_S)

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self._server.server_address[:2]
        return f"http://[{host!s}]:{port}/" if ":" in str(host) else f"http://{host!s}:{port}/"

    def _following(self) -> list[threading.Thread]:
        with self._lock:
            self.clients = [thread for thread in self.clients if thread.is_alive()]
            return list(self.clients)

    def admit(self, thread: threading.Thread) -> bool:
        """Start `thread`, which serves one more connection, if there is room for it; tell whether there was."""
        if len(self._following()) >= MOST_CLIENTS:
            return False
        thread.start()  # before it is listed: one that is not alive yet would be taken for one that has ended
        with self._lock:
            self.clients.append(thread)
        return True

    # ---- what is told

    def _stamp(self) -> int | None:
        try:
            return self._record.stat().st_mtime_ns
        except OSError:
            return None

    def page(self) -> str:
        """Return the page as it is now."""
        if self._stamp() in (None, self._before):
            empty = {"models": [""], "items": [], "total": 0}
            return page({**self._waiting(), "evaluation": None, "gallery": empty}, live=True)
        with self._building:
            return page(page_data(self.out, PICTURE_BYTES), live=True)

    def _waiting(self) -> dict[str, Any]:
        return {"name": self.out.name, "run": _NOTHING, "failures": []}

    def news(self, seen: int | None) -> tuple[int | None, bytes]:
        """Return the stamp of the record, and what changed since the one that was `seen`: nothing, or all of it."""
        stamp = self._stamp()
        if stamp in (seen, None, self._before):
            return seen, b""
        with self._lock:
            if self._told[0] != stamp:
                record = record_of(self.out)
                self._told = stamp, _encoded({"run": record, "failures": group(record.get("failures", []))})
            return self._told

    def _whole(self) -> bytes:
        """Return all that the page of the job shows, now that it has ended."""
        data = self._waiting()
        if self._record.with_name("ledger.sqlite").is_file():  # else the run was refused before it began
            try:
                data = page_data(self.out)
            except PenstockError as error:
                _LOG.warning("The last state cannot be shown on the live page: %s", error)
        data["run"] = {**data["run"], "ended": data["run"].get("ended") or "stopped"}
        return _encoded(data)

    @property
    def last(self) -> bytes:
        """What is told at the end."""
        return self._last


def _encoded(data: Any) -> bytes:
    return json.dumps(finite(data), ensure_ascii=True, allow_nan=False).encode("ascii")


def allowed(host: str | None, own: str) -> bool:
    """Tell whether a request may be meant for us that says `Host: host`: a number, localhost, or our `own` name."""
    try:
        name = urlsplit(f"//{host or ''}").hostname or ""
        return name in ("localhost", own.lower()) or bool(ip_address(name))
    except ValueError:
        return False


class _Server(ThreadingHTTPServer):
    """One thread a connection, of which there are MOST_CLIENTS at most."""

    daemon_threads = True

    def __init__(self, live: Live, address: tuple[str, int]) -> None:
        self.live = live
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="penstock-live-client", daemon=True
        )
        if not self.live.admit(thread):
            self.shutdown_request(request)

    def handle_error(self, *_: object) -> None:
        """Say what went wrong, but nothing of a browser that has gone."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            _LOG.warning("The live page could not answer: %r. The run is not touched by that.", error)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SLOW_S

    def do_GET(self) -> None:
        """Answer one request."""
        if not allowed(self.headers["Host"], self.server.live.host):
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST, "This address is none of this server's")
        elif self.path == "/":
            self._send_page()
        elif self.path == "/events":
            self._send_events()
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, *_: object) -> None:
        """Write no log of requests: stderr has the run's progress."""

    def _send_page(self) -> None:
        try:
            text = self.server.live.page()
        except PenstockError as error:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "The job cannot be read now", str(error))
            return
        body = text.encode()
        self._begin("text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")  # the page itself says the rest
        self.end_headers()
        self.wfile.write(body)

    def _send_events(self) -> None:
        """Tell what changes until the run has ended."""
        live, seen, silent_s = self.server.live, None, 0.0
        self._begin("text/event-stream")
        self.end_headers()
        while not live.stopping.wait(LOOK_S):
            seen, news = live.news(seen)
            silent_s = 0.0 if news else silent_s + LOOK_S
            if news:
                self._tell(news)
            elif silent_s >= SIGN_OF_LIFE_S:
                silent_s = 0.0
                self.wfile.write(b":\n\n")
        if live.last:
            self._tell(live.last)

    def _tell(self, news: bytes) -> None:
        self.wfile.write(b"data: " + news + b"\n\n")

    def _begin(self, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
