"""A QUIC server whose connection IDs name it: python server.py ADDRESS PORT NAME SERVER_ID CERTIFICATE KEY.

Its IDs have the plaintext format of QUIC-LB with config ID 0; SERVER_ID is hexadecimal. Each stream is answered with NAME.
"""

import asyncio
import os
import sys

from aioquic.asyncio import serve
from aioquic.quic import connection
from aioquic.quic.configuration import QuicConfiguration

CONNECTION_ID_BYTES = 8


class Identified:
    """Stands in for `os` where aioquic draws connection IDs, which it offers no setting for."""

    def __init__(self, server_id):
        self.server_id = server_id

    def urandom(self, size):
        if size != CONNECTION_ID_BYTES:
            return os.urandom(size)
        first = bytes([os.urandom(1)[0] & 0x1F])
        return first + self.server_id + os.urandom(size - 1 - len(self.server_id))


def answer_with(name):
    async def answer(reader, writer):
        await reader.read()
        writer.write(name.encode())
        writer.write_eof()

    return lambda reader, writer: asyncio.ensure_future(answer(reader, writer))


async def main():
    address, port, name, server_id, certificate, key = sys.argv[1:]
    connection.os = Identified(bytes.fromhex(server_id))
    configuration = QuicConfiguration(
        alpn_protocols=["who"],
        connection_id_length=CONNECTION_ID_BYTES,
        idle_timeout=120.0,
        is_client=False,
    )
    configuration.load_cert_chain(certificate, key)
    await serve(address, int(port), configuration=configuration, stream_handler=answer_with(name))
    await asyncio.Future()


asyncio.run(main())
