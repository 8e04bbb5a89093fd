"""Python's `websockets` as a client: sends the lines of standard input, prints the frames that come,
ends after COUNT of them. Usage: python websockets-client.py URL CAFILE COUNT"""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect


async def main(url: str, cafile: str, count: int) -> None:
    async with connect(url, ssl=ssl.create_default_context(cafile=cafile)) as socket:
        for line in sys.stdin:
            await socket.send(line.rstrip("\n"))
        for _ in range(count):
            print(await socket.recv(), flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
