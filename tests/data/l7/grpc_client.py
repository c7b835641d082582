"""gRPC clients of the tests: python grpc_client.py TEST ADDRESS [CA].

With a file CA, TLS is spoken, and the server's certificate must be signed by it; with the word `insecure`, whatever certificate
the server has is taken for good.

Each TEST is a function below; it ends with a message and status 1 where something is not as it should be.
"""

import asyncio
import json
import os
import ssl
import sys

import grpc

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
messages, services = grpc.protos_and_services("test.proto")
Message = messages.Message
Code = grpc.StatusCode

OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    # Every channel has a connection of its own.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
]
# More than anything here takes on a busy machine.
LIMIT = 60


def trusted(argument):
    if argument == "insecure":
        host, port = sys.argv[2].rsplit(":", 1)
        return ssl.get_server_certificate((host, int(port))).encode()
    with open(argument, "rb") as file:
        return file.read()


def connect():
    if len(sys.argv) > 3:
        credentials = grpc.ssl_channel_credentials(trusted(sys.argv[3]))
        return grpc.aio.secure_channel(sys.argv[2], credentials, OPTIONS)
    return grpc.aio.insecure_channel(sys.argv[2], OPTIONS)


def equal(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {wanted!r} was expected, not {found!r}")


async def fails(what, call, code):
    """Awaits a call that must fail with this status, and gives the error."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if error.code() != code:
            sys.exit(f"{what}: {code} was expected, not {error.code()}: {error.details()}")
        return error
    sys.exit(f"{what}: {code} was expected, but it succeeded")


async def until(what, condition):
    """Asks again until it is so."""
    async with asyncio.timeout(LIMIT):
        while not await condition():
            await asyncio.sleep(0.02)


async def unary(stub):
    answer = await stub.Unary(Message(body=b"hello"), timeout=LIMIT)
    equal("body", answer.body, b"hello")
    error = await fails("asked to fail", stub.Unary(Message(action="fail"), timeout=LIMIT), Code.FAILED_PRECONDITION)
    equal("details", error.details(), "as asked: 100 % ü")
    equal("trailing metadata", dict(error.trailing_metadata()).get("x-why"), "asked")


async def server_stream(stub):
    numbers = [answer.count async for answer in stub.ServerStream(Message(body=b"x" * 1000, count=1000), timeout=LIMIT)]
    equal("numbers", numbers, list(range(1000)))
    call = stub.ServerStream(Message(count=3, action="fail"), timeout=LIMIT)
    equal("before the failure", [await call.read() for _ in range(3)], [Message(count=n) for n in range(3)])
    await fails("at the end", call.read(), Code.DATA_LOSS)
    # An empty stream is a head and trailers.
    equal("nothing", [answer async for answer in stub.ServerStream(Message(), timeout=LIMIT)], [])


async def client_stream(stub):
    answer = await stub.ClientStream((Message(body=b"x" * 1000) for _ in range(1000)), timeout=LIMIT)
    equal("count", answer.count, 1000)
    equal("bytes", answer.body, b"1000000")
    equal("of none", (await stub.ClientStream(iter(()), timeout=LIMIT)).count, 0)


async def bidi(stub):
    call = stub.Bidi(timeout=LIMIT)
    for number in range(200):
        # Each answer is awaited before the next message: neither direction waits for the other's end.
        await call.write(Message(body=b"ping", count=number))
        equal("number", (await call.read()).count, number)
    await call.done_writing()
    equal("end", await call.read(), grpc.aio.EOF)
    equal("status", await call.code(), Code.OK)


async def deadline(stub):
    error = await fails("deadline", stub.Unary(Message(action="wait"), timeout=0.5), Code.DEADLINE_EXCEEDED)
    left = float((await stub.Unary(Message(action="deadline"), timeout=LIMIT)).body)
    # Rounded up on the way.
    if not 0 < left <= LIMIT + 1:
        sys.exit(f"the server sees {left} s left of {LIMIT}")
    return error


async def cancel(stub):
    async def stats():
        return json.loads((await stub.Unary(Message(action="stats"), timeout=LIMIT)).body)

    before = await stats()
    calls = [stub.Unary(Message(action="wait")) for _ in range(10)]

    async def all_wait():
        return (await stats())["waiting"] == before["waiting"] + 10

    await until("ten calls wait", all_wait)
    for call in calls:
        call.cancel()

    async def all_cancelled():
        return (await stats())["cancelled"] == before["cancelled"] + 10

    await until("the server sees ten cancelled", all_cancelled)
    equal("the connection goes on", (await stub.Unary(Message(body=b"on"), timeout=LIMIT)).body, b"on")


async def big(stub):
    body = os.urandom(1 << 20) * 16
    answer = await stub.Unary(Message(body=body), timeout=LIMIT)
    equal("16 MiB come back", answer.body == body, True)
    call = stub.Bidi(timeout=LIMIT)
    for _ in range(3):
        await call.write(Message(body=body))
        equal("16 MiB in a stream", (await call.read()).body == body, True)
    await call.done_writing()
    equal("status", await call.code(), Code.OK)


async def metadata(stub):
    sent = (("x-text", "a b, c"), ("x-twice", "1"), ("x-twice", "2"), ("x-data-bin", bytes(range(256))))
    call = stub.Unary(Message(action="metadata"), metadata=sent, timeout=LIMIT)
    seen = json.loads((await call).body)
    for key, value in sent:
        shown = list(value) if isinstance(value, bytes) else value
        if [key, shown] not in seen:
            sys.exit(f"{key}: {shown!r} did not arrive: {seen}")
    initial, trailing = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
    equal("initial", (initial["x-initial"], initial["x-initial-bin"]), ("first", b"\x00\xff"))
    equal("trailing", (trailing["x-trailing"], trailing["x-trailing-bin"]), ("last", b"\x01\xfe"))


async def unavailable(stub):
    await fails("no upstream", stub.Unary(Message(), timeout=LIMIT), Code.UNAVAILABLE)


async def unimplemented(stub):
    await fails("no route", stub.Unary(Message(), timeout=LIMIT), Code.UNIMPLEMENTED)


async def all(stub):
    """One after the other on one connection."""
    for test in (unary, server_stream, client_stream, bidi, deadline, cancel, big, metadata):
        await test(stub)


async def many(_stub, channels=10, streams=1000):
    """10,000 streams open at a time on 10 connections, each with an answer before any of them ends."""
    open_channels = [connect() for _ in range(channels)]
    stubs = [services.EchoStub(channel) for channel in open_channels]
    ready = asyncio.Barrier(channels * streams)

    async def stream(stub, number):
        call = stub.Bidi(timeout=4 * LIMIT)
        for turn in range(3):
            await call.write(Message(body=b"x" * 100, count=number + turn))
            answer = await call.read()
            equal("number", answer.count, number + turn)
            if turn == 0:
                await ready.wait()
        await call.done_writing()
        equal("end", await call.read(), grpc.aio.EOF)
        equal("status", await call.code(), Code.OK)

    await asyncio.gather(*(stream(stub, n * streams + i) for n, stub in enumerate(stubs) for i in range(streams)))
    stats = json.loads((await stubs[0].Unary(Message(action="stats"))).body)
    if stats["open_most"] < channels * streams:
        sys.exit(f"at most {stats['open_most']} streams were open at a time")
    for channel in open_channels:
        await channel.close()


async def slow_reader(stub):
    """A stream of 64 MiB that nobody reads, and others beside it on the same connection."""
    count = 1024
    slow = stub.ServerStream(Message(body=b"x" * (64 << 10), count=count), timeout=4 * LIMIT)
    equal("first", (await slow.read()).count, 0)
    for _ in range(200):
        equal("beside", (await stub.Unary(Message(body=b"y" * 1000), timeout=LIMIT)).count, 1000)
    # The caller measures the proxy's memory here, and says go on.
    print("stalled", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    for number in range(1, count):
        equal("rest", (await slow.read()).count, number)
    equal("end", await slow.read(), grpc.aio.EOF)


async def main():
    async with connect() as channel:
        await globals()[sys.argv[1]](services.EchoStub(channel))


asyncio.run(main())
