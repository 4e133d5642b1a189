"""One model behind a door for many callers: penstock.Session, a bare queue with a thread, LitServe over HTTP.

An entry is a context manager that gives `submit(item) -> Future`, bounded. Settings: a bare queue has none; penstock
waits for no company (max_wait_s=0), or is left as it is where photos are batched; LitServe takes the ZeroMQ queue, a
worker for each core, no batching on the CPU, and a client that keeps a connection for each request in flight open.
"""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

WINDOW = 64
"""Requests in flight at most; the penstock session's own window is about as large."""
START_S = 120.0
SERVER = Path(__file__).resolve().parent / "_litserve_server.py"
Submit = Callable[[Any], "Future[Any]"]


def same(batch: Any) -> Any:
    """The model of 0 ms."""
    return batch


@contextmanager
def bare_queue() -> Iterator[Submit]:
    """A bounded queue and one thread that resolves futures: what one writes first."""
    waiting: queue.Queue[tuple[Future[Any], Any] | None] = queue.Queue(WINDOW)

    def work() -> None:
        while (taken := waiting.get()) is not None:
            future, item = taken
            if future.set_running_or_notify_cancel():
                future.set_result(same([item])[0])

    def submit(item: Any) -> Future[Any]:
        future: Future[Any] = Future()
        waiting.put((future, item))
        return future

    thread = threading.Thread(target=work)
    thread.start()
    yield submit
    waiting.put(None)
    thread.join()


@contextmanager
def session() -> Iterator[Submit]:
    """penstock, dynamic batches of up to 8 that wait for no company."""
    import penstock

    with penstock.Session(same, batch=penstock.Batching(max_size=8, max_wait_s=0.0)) as own:
        yield own.submit


# ---- LitServe


class Client:
    """An HTTP client of the standard library: a loop in a thread, a connection kept for each request in flight."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._room = threading.BoundedSemaphore(WINDOW)
        self._flying: set[Future[Any]] = set()
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def submit(self, item: str) -> Future[Any]:
        """Return the future of the body that answers a POST of `item`."""
        self._room.acquire()
        future = asyncio.run_coroutine_threadsafe(self._post(item), self._loop)
        self._flying.add(future)  # or the collector may take task, future and connection, which hold but each other
        future.add_done_callback(self._over)
        return future

    def _over(self, future: Future[Any]) -> None:
        self._flying.discard(future)
        self._room.release()

    async def _post(self, item: str) -> bytes:
        while self._idle:
            try:
                return await self._ask(item, *self._idle.pop())
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the server has closed it while it was idle, as it may: the next one, or a new one
        return await self._ask(item, *await asyncio.open_connection("127.0.0.1", self._port))

    async def _ask(self, item: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        body = f'{{"input": "{item}"}}'.encode()
        head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in answer[:20]:
            raise RuntimeError(answer.decode())
        length = int(answer.split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        self._idle.append((reader, writer))
        return body

    async def _hang_up(self) -> None:
        for _, writer in self._idle:
            writer.close()


@contextmanager
def litserve(model: str = "") -> Iterator[Submit]:
    """A LitServe server in a process of its own, with its workers, and a local client."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(SERVER), "--port", str(port), "--model", model]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        _await(port, server)
        with Client(port) as client:
            yield client.submit
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # told to end, it leaves processes behind
        server.wait(30)


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server says that its workers are ready."""
    from urllib.error import URLError
    from urllib.request import urlopen

    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise SystemExit(f"LitServe did not start in {START_S:.0f} s (exit code {server.poll()}).")
