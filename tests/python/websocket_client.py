"""Sends messages of many kinds and sizes through a WebSocket, and takes their echoes."""

import asyncio
import os
import sys

from websockets.asyncio.client import connect


async def main(url):
    async with connect(url, max_size=None) as socket:
        for message in ["a", "", "é" * 5_000, b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(1_000_000)]:
            await socket.send(message)
            assert await socket.recv() == message
        await (await socket.ping())
    assert socket.close_code == 1000, socket.close_code


asyncio.run(main(sys.argv[1]))
