"""A client of gRPC-Web: python grpc_web.py URL. Ends with status 1 where something is not as it should be.

As the protocol says: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md
"""

import base64
import os
import struct
import sys
import urllib.request

import grpc

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
Message = grpc.protos("test.proto").Message


def equal(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {wanted!r} was expected, not {found!r}")


def frames(data):
    """Flag and payload of each frame."""
    result = []
    while data:
        flag, length = struct.unpack(">BI", data[:5])
        result.append((flag, data[5:5 + length]))
        data = data[5 + length:]
    return result


def decode_text(data):
    """Base64 whose parts may each be padded."""
    result, begin = b"", 0
    for at in range(0, len(data), 4):
        result += base64.b64decode(data[at:at + 4])
    return result


def call(method, message, text, headers=()):
    body = message.SerializeToString()
    body = struct.pack(">BI", 0, len(body)) + body
    kind = "application/grpc-web-text+proto" if text else "application/grpc-web+proto"
    request = urllib.request.Request(
        f"{sys.argv[1]}/weir.test.Echo/{method}",
        base64.b64encode(body) if text else body,
        {"content-type": kind, "accept": kind, "x-grpc-web": "1", **dict(headers)},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        equal("status", response.status, 200)
        equal("content-type", response.headers["content-type"], kind)
        data = response.read()
    answers = frames(decode_text(data) if text else data)
    trailers = {}
    if answers and answers[-1][0] & 0x80:
        for line in answers.pop()[1].decode().splitlines():
            name, _, value = line.partition(":")
            trailers[name.strip().lower()] = value.strip()
    else:
        # A call without a message may be answered with headers alone.
        trailers = {name.lower(): value for name, value in response.headers.items()}
    return [Message.FromString(payload) for _, payload in answers], trailers


for text in (False, True):
    found, trailers = call("Unary", Message(body=b"from the web"), text)
    equal("answer", [message.body for message in found], [b"from the web"])
    equal("grpc-status", trailers["grpc-status"], "0")
    found, trailers = call("ServerStream", Message(body=b"x" * 10, count=100), text)
    equal("stream", [message.count for message in found], list(range(100)))
    equal("grpc-status", trailers["grpc-status"], "0")
    found, trailers = call("Unary", Message(action="fail"), text)
    equal("failure", (found, trailers["grpc-status"], trailers["x-why"]), ([], "9", "asked"))
    found, trailers = call("Unary", Message(action="metadata"), text, [("x-text", "sent")])
    equal("metadata arrives", b'["x-text", "sent"]' in found[0].body, True)
