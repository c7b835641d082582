"""The gRPC server of the tests: python grpc_server.py PORT.

What it does with a message follows from `action`, what it sends back is said there.
"""

import asyncio
import json
import os
import sys

import grpc

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
messages, services = grpc.protos_and_services("test.proto")
Message = messages.Message

OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.max_concurrent_streams", 20_000),
    # Calls that Python has not taken yet; above them gRPC's core cancels some by chance.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
    ("grpc.so_reuseport", 0),
]

# What `stats` tells: calls that wait without end, and how many of them were cancelled.
STATS = {"waiting": 0, "cancelled": 0, "open": 0, "open_most": 0}


def metadata(context):
    """What the client sent, as JSON; binary values as lists of numbers."""
    return json.dumps([
        [key, list(value) if isinstance(value, bytes) else value] for key, value in context.invocation_metadata()
    ]).encode()


class Echo(services.EchoServicer):
    async def Unary(self, request, context):
        if request.action == "metadata":
            await context.send_initial_metadata((("x-initial", "first"), ("x-initial-bin", b"\x00\xff")))
            context.set_trailing_metadata((("x-trailing", "last"), ("x-trailing-bin", b"\x01\xfe")))
            return Message(body=metadata(context))
        if request.action == "fail":
            context.set_trailing_metadata((("x-why", "asked"),))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as asked: 100 % ü")
        if request.action == "wait":
            STATS["waiting"] += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                STATS["cancelled"] += 1
                raise
        if request.action == "deadline":
            return Message(body=str(context.time_remaining()).encode())
        if request.action == "stats":
            return Message(body=json.dumps(STATS).encode())
        return Message(body=request.body, count=len(request.body))

    async def ServerStream(self, request, context):
        for number in range(request.count):
            yield Message(body=request.body, count=number)
        if request.action == "fail":
            await context.abort(grpc.StatusCode.DATA_LOSS, "at the end")

    async def ClientStream(self, requests, context):
        count = size = 0
        async for request in requests:
            count += 1
            size += len(request.body)
        return Message(body=str(size).encode(), count=count)

    async def Bidi(self, requests, context):
        STATS["open"] += 1
        STATS["open_most"] = max(STATS["open_most"], STATS["open"])
        try:
            async for request in requests:
                yield Message(body=request.body, count=request.count)
        finally:
            STATS["open"] -= 1


async def main():
    server = grpc.aio.server(options=OPTIONS)
    services.add_EchoServicer_to_server(Echo(), server)
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
