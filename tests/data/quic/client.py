"""QUIC clients: python client.py ADDRESS PORT. Each line read is a command, answered with a line of JSON.

`open N` makes N connections; `ask` has every connection ask for its server's name; `move` has every client take another port first.
The answers are the names in the connections' order; null for one that was not answered.
"""

import asyncio
import json
import os
import ssl
import sys
from contextlib import AsyncExitStack

from aioquic.asyncio import connect
from aioquic.quic import connection
from aioquic.quic.configuration import QuicConfiguration

PATIENCE = 10.0


class Nameless:
    """Stands in for `os` where aioquic draws connection IDs: those with config ID 7 name no server, not even by chance."""

    def urandom(self, size):
        drawn = os.urandom(size)
        return bytes([drawn[0] | 0xE0]) + drawn[1:]


async def ask(client):
    reader, writer = await client.create_stream()
    writer.write(b"who")
    writer.write_eof()
    return (await reader.read()).decode()


async def asked(client):
    try:
        return await asyncio.wait_for(ask(client), PATIENCE)
    except (asyncio.TimeoutError, ConnectionError):
        return None


async def move(client):
    """As a client whose NAT gateway gives it another port."""
    client._transport.close()
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: client, local_addr=("::", 0))


async def main():
    address, port = sys.argv[1:]
    connection.os = Nameless()
    configuration = QuicConfiguration(alpn_protocols=["who"], idle_timeout=120.0, verify_mode=ssl.CERT_NONE)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    clients = []
    async with AsyncExitStack() as stack:
        while command := (await lines.readline()).decode().split():
            match command:
                case ["open", count]:
                    new = [
                        await asyncio.wait_for(
                            stack.enter_async_context(connect(address, int(port), configuration=configuration)),
                            PATIENCE,
                        )
                        for _ in range(int(count))
                    ]
                    clients += new
                case ["ask"]:
                    new = clients
                case ["move"]:
                    new = clients
                    for client in clients:
                        await move(client)
            print(json.dumps(await asyncio.gather(*(asked(client) for client in new))), flush=True)


asyncio.run(main())
