"""Calls, streams and WebSockets that must not notice upgrades: python through_upgrades.py ADDRESS.

Runs until standard input ends, then prints what was done, and what failed, as JSON.
"""

import asyncio
import json
import os
import sys

import grpc
from websockets.asyncio.client import connect

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
messages, services = grpc.protos_and_services("test.proto")
Message = messages.Message

ADDRESS = sys.argv[1]
# Each of its kind at a time.
CALLERS = 4
# Messages of one stream or WebSocket, and between two of them.
MESSAGES, PACE = 40, 0.05

done = {"unary": 0, "streams": 0, "websockets": 0}
failed = []
ending = asyncio.Event()


async def unary(stub):
    body = os.urandom(1 << 10)
    answer = await stub.Unary(Message(body=body))
    assert answer.body == body


async def stream(stub):
    """Two seconds long: it ends in the process that it began in."""
    call = stub.Bidi()
    for number in range(MESSAGES):
        await call.write(Message(body=b"%d" % number))
        answer = await call.read()
        assert answer != grpc.aio.EOF and answer.body == b"%d" % number, answer
        await asyncio.sleep(PACE)
    await call.done_writing()
    assert await call.read() == grpc.aio.EOF


async def websocket(_stub):
    async with connect(f"ws://{ADDRESS}/ws", ping_interval=None, proxy=None) as connection:
        for number in range(MESSAGES):
            await connection.send(f"{number}")
            assert await connection.recv() == f"{number}"
            await asyncio.sleep(PACE)


async def repeat(kind, work, stub):
    while not ending.is_set():
        try:
            await work(stub)
            done[kind] += 1
        except Exception as error:
            failed.append(f"{kind}: {error!r}")
            await asyncio.sleep(PACE)


async def main():
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(ADDRESS, options) as channel:
        stub = services.EchoStub(channel)
        kinds = [("unary", unary), ("streams", stream), ("websockets", websocket)]
        async with asyncio.TaskGroup() as tasks:
            for kind, work in kinds:
                for _ in range(CALLERS):
                    tasks.create_task(repeat(kind, work, stub))
            await asyncio.to_thread(sys.stdin.read)
            ending.set()
    print(json.dumps({"done": done, "failed": failed}))


asyncio.run(main())
