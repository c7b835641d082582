"""The WebSocket server of the tests: python ws_server.py PORT.

Echoes; `close CODE REASON` closes so; `ping` is answered once a ping of the server's own was answered; the path
/refused is refused with 403; `headers` is answered with the request's headers.
"""

import asyncio
import http
import json
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


def refuse(connection, request):
    if request.path == "/refused":
        return connection.respond(http.HTTPStatus.FORBIDDEN, "refused\n")


def choose(_connection, offered):
    return "weir.test" if "weir.test" in offered else None


async def echo(connection):
    try:
        await answer(connection)
    except ConnectionClosed:
        pass


async def answer(connection):
    async for message in connection:
        if isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split(" ", 2)
            await connection.close(int(code), reason)
            return
        if message == "ping":
            await (await connection.ping(b"from the server"))
            await connection.send("pong seen")
        elif message == "headers":
            await connection.send(json.dumps(list(connection.request.headers.raw_items())))
        else:
            await connection.send(message)


async def main():
    async with serve(
        echo, "127.0.0.1", int(sys.argv[1]), max_size=64 << 20, select_subprotocol=choose,
        process_request=refuse, ping_interval=None,
    ) as server:
        await server.serve_forever()


asyncio.run(main())
