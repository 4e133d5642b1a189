"""A web server over a model: asyncio takes the requests, one Session batches them.

python examples/asyncio_web.py mobilenet.onnx --preset imagenet --sample photo.jpg --port 8000
curl --data-binary @photo.jpg http://127.0.0.1:8000/

The answer is the model's output as JSON. 422: the picture cannot be used (the message says why); 503: the queue is
full, come back later. Standard library only; behind a framework the two lines in `predict` are the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from functools import partial
from http import HTTPStatus
from typing import Any

import penstock
from penstock.errors import ItemError, Overloaded

MOST_BYTES = 20_000_000
PATIENCE_S = 10.0
"""How long a client may take to send its picture."""


async def predict(session: penstock.Session, picture: bytes) -> Any:
    """Return the model's output for a picture. An event loop must not wait for room, hence timeout_s=0."""
    return await asyncio.wrap_future(session.submit(picture, timeout_s=0))


async def answer(session: penstock.Session, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one connection: one request, one response."""
    try:
        picture = await asyncio.wait_for(read_body(reader), PATIENCE_S)
        status, body = HTTPStatus.OK, await predict(session, picture)
    except Overloaded as error:
        status, body = HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(error)}
    except ItemError as error:
        status, body = HTTPStatus.UNPROCESSABLE_ENTITY, {"error": str(error)}
    except (ValueError, EOFError, TimeoutError) as error:
        status, body = HTTPStatus.BAD_REQUEST, {"error": f"Send a picture as the body of a POST request. {error}"}
    with contextlib.suppress(ConnectionError):  # the client may have gone
        writer.write(response(status, body))
        await writer.drain()
        writer.close()
        await writer.wait_closed()


async def read_body(reader: asyncio.StreamReader) -> bytes:
    """Return the body of an HTTP request. Raises ValueError or EOFError where there is none."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    lines = (line.partition(":") for line in head.split("\r\n")[1:])
    length = int({name: value for name, _, value in lines}.get("content-length", "0"))
    if not 0 < length <= MOST_BYTES:
        raise ValueError(f"Content-Length is {length}; 1 to {MOST_BYTES:,} bytes are taken.")
    return await reader.readexactly(length)


def response(status: HTTPStatus, body: Any) -> bytes:
    """Return an HTTP response with `body` as JSON; arrays become lists."""
    data = json.dumps(body, default=lambda array: array.tolist()).encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data


async def start(session: penstock.Session, sample: Any, port: int) -> asyncio.Server:
    """Start to serve on `port` (0: any that is free), once the model is loaded and checked with `sample`.

    In a thread: the loop goes on, and no caller waits for what the first item costs.
    """
    await asyncio.to_thread(list, session.map([sample]))
    return await asyncio.start_server(partial(answer, session), "127.0.0.1", port)


async def main(session: penstock.Session, sample: str, port: int) -> None:
    """Serve until interrupted."""
    async with await start(session, sample, port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="an .onnx file that takes pictures")
    parser.add_argument("--preset", help="how it wants them: imagenet or inception; else MODEL.toml beside it says so")
    parser.add_argument("--sample", required=True, help="a picture to load and check the model with")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    batching = penstock.Batching(max_wait_s=0.002)
    with (
        penstock.Session(given.model, preset=given.preset, batch=batching) as made,
        contextlib.suppress(KeyboardInterrupt),
    ):
        asyncio.run(main(made, given.sample, given.port))
