"""Serve face detection over TCP without blocking the event loop: python examples/asyncio_server.py [PORT]

A client sends the path of a picture and a newline, and receives one line of JSON:

    echo people.jpg | nc localhost 8700
"""

import asyncio
import contextlib
import json
import sys
from functools import partial

import cv2

from mien import MienError, Pipeline


def find_faces(pipeline: Pipeline, path: str) -> dict[str, object]:
    """Find the faces in a picture; runs in a thread."""
    picture = cv2.imread(path)
    if picture is None:
        return {"error": f"{path} is not a picture"}
    try:
        return {"faces": pipeline(picture).boxes.round(1).tolist()}
    except MienError as error:
        return {"error": str(error)}


async def answer(pipeline: Pipeline, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one client, line by line."""
    while line := await reader.readline():
        found = await asyncio.to_thread(find_faces, pipeline, line.decode().strip())
        writer.write((json.dumps(found) + "\n").encode())
        await writer.drain()
    writer.close()


async def main(port: int) -> None:
    """Serve until interrupted."""
    with Pipeline.load(threads=1) as pipeline:
        server = await asyncio.start_server(partial(answer, pipeline), "127.0.0.1", port)
        print(f"listening on port {server.sockets[0].getsockname()[1]}", flush=True)
        async with server:
            await server.serve_forever()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8700))
