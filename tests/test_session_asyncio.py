"""Sessions under asyncio: futures are awaited and cancelled; examples/asyncio_web.py answers real requests."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import penstock
from penstock._engine.sizing import Window

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "asyncio_web.py"
WAIT_S = 20.0


@pytest.fixture
def web() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("asyncio_web", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["asyncio_web"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["asyncio_web"]


def test_futures_can_be_awaited() -> None:
    async def main(session: penstock.Session) -> list[int]:
        return list(await asyncio.gather(*(asyncio.wrap_future(session.submit(x)) for x in range(50))))

    with penstock.Session(lambda batch: [2 * x for x in batch], batch=penstock.Batching(8, 0.0)) as session:
        assert asyncio.run(main(session)) == [2 * x for x in range(50)]


def test_cancelling_an_awaited_future_cancels_the_item() -> None:
    gate, inside, seen = threading.Event(), threading.Event(), list[int]()

    def model(batch: list[int]) -> list[int]:
        seen.extend(batch)
        if batch == [1]:
            inside.set()
            assert gate.wait(WAIT_S)
        return batch

    async def main(session: penstock.Session) -> bool:
        first = session.submit(1)
        assert await asyncio.to_thread(inside.wait, WAIT_S)
        second = session.submit(2)
        asyncio.wrap_future(second).cancel()
        await asyncio.to_thread(int)  # a turn of the loop, which hands the cancelling on
        gate.set()
        assert await asyncio.wrap_future(first) == 1
        return second.cancelled()

    with penstock.Session(model, batch=1) as session:
        session.submit(0).result(WAIT_S)  # from then on there is room for more than one
        assert asyncio.run(main(session))
        session.submit(3).result(WAIT_S)
    assert seen == [0, 1, 3]


# ---- the example


async def sent(port: int, request: bytes) -> tuple[int, Any]:
    """Send raw bytes; return status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    text = (await asyncio.wait_for(reader.read(), WAIT_S)).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = text.partition("\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def posted(body: bytes) -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def served(web: ModuleType, session: penstock.Session, sample: Any, requests: list[bytes]) -> list[Any]:
    """Return the answers to `requests`, sent all at once."""
    async with await web.start(session, sample, 0) as server:
        port = server.sockets[0].getsockname()[1]
        return list(await asyncio.gather(*(sent(port, request) for request in requests)))


def length(data: bytes) -> int:
    if data == b"bad":
        raise ValueError("no picture")
    return len(data)


def test_requests_are_answered_and_faults_are_told_apart(web: ModuleType) -> None:
    broken = [b"GET / HTTP/1.1\r\n\r\n", b"nonsense", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort"]
    with penstock.Session(lambda batch: batch, stages=[length]) as session:
        answers = asyncio.run(served(web, session, b"x", [posted(b"abc"), posted(b"abcd"), posted(b"bad"), *broken]))
    assert answers[:2] == [(200, 3), (200, 4)]
    assert answers[2][0] == 422
    assert "ValueError: no picture" in answers[2][1]["error"]
    assert [status for status, _ in answers[3:]] == [400, 400, 400]


def test_a_full_queue_turns_callers_away_and_the_rest_is_answered(
    web: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock._session._window", lambda pipeline: Window(1, 1))
    gate = threading.Event()

    def model(batch: list[int]) -> list[int]:
        if batch != [1]:  # the sample
            assert gate.wait(WAIT_S)
        return batch

    async def main(session: penstock.Session) -> list[tuple[int, Any]]:
        async with await web.start(session, b"x", 0) as server:
            port = server.sockets[0].getsockname()[1]
            calls = [asyncio.create_task(sent(port, posted(b"abc"))) for _ in range(3)]
            done, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=WAIT_S)
            gate.set()
            return [task.result() for task in done] + list(await asyncio.gather(*waiting))

    with penstock.Session(model, stages=[length], batch=1, threads=1) as session:
        answers = asyncio.run(main(session))
    assert {status for status, _ in answers} == {200, 503}
    assert all("limit" in body["error"] for status, body in answers if status == 503)


def test_pictures_go_through_a_real_model(web: ModuleType, shared_data: Path) -> None:
    photos = sorted((shared_data / "photos" / "flowers").rglob("*.jpg"))[:4]
    model = shared_data / "models" / "flowers5_mobilenet_v2_head.onnx"
    with penstock.Session(model, preset="inception", runtime="onnxruntime") as session:
        requests = [posted(photo.read_bytes()) for photo in photos]
        answers = asyncio.run(served(web, session, str(photos[0]), requests))
        assert answers == [(200, json.loads(json.dumps(output))) for output in session.map(photos)]
