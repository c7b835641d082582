"""Python's websockets as a client: python ws_client.py URL [CA]. Ends with status 1 where something is not as it should be."""

import asyncio
import json
import os
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

url = sys.argv[1]
context = ssl.create_default_context(cafile=sys.argv[2]) if len(sys.argv) > 2 else None


def equal(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {wanted!r} was expected, not {found!r}")


def open(path, **options):
    return connect(url + path, ssl=context, max_size=64 << 20, ping_interval=None, proxy=None, **options)


async def main():
    async with open("/chat", subprotocols=["weir.test"], additional_headers={"x-probe": "1"}) as connection:
        equal("subprotocol", connection.subprotocol, "weir.test")
        for message in ("hello", "", b"\x00\xff", os.urandom(1 << 20), "ü" * (1 << 19)):
            await connection.send(message)
            equal("echo", await connection.recv() == message, True)
        # In fragments, with a ping between.
        async def fragments():
            for n in range(10):
                if n == 5:
                    await (await connection.ping())
                yield os.urandom(1 << 10).hex()

        await connection.send(fragments())
        equal("fragments", len(await connection.recv()), 10 << 11)
        await connection.send("ping")
        equal("the server's ping", await connection.recv(), "pong seen")
        await connection.send("headers")
        headers = {name.lower(): value for name, value in json.loads(await connection.recv())}
        equal("a header", headers.get("x-probe"), "1")

    for code, reason in ((1000, "done"), (1001, "away"), (4321, "own ü")):
        async with open("/chat") as connection:
            await connection.send(f"close {code} {reason}")
            try:
                await connection.recv()
                sys.exit("a close was expected")
            except ConnectionClosed as closed:
                equal("the server's close", (closed.rcvd.code, closed.rcvd.reason), (code, reason))
    async with open("/chat") as connection:
        await connection.close(4999, "ours")
        equal("our close comes back", (connection.close_code, connection.close_reason), (4999, "ours"))

    try:
        async with open("/refused"):
            sys.exit("the refusal did not arrive")
    except InvalidStatus as error:
        equal("refusal", (error.response.status_code, error.response.body), (403, b"refused\n"))


asyncio.run(main())
