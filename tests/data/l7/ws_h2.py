"""A WebSocket over HTTP/2 (RFC 8441): python ws_h2.py PORT PATH [CA]. Prints JSON: status, headers, what came back.

Sends one text frame, reads its echo, then a close frame, and reads the server's.
"""

import json
import os
import socket
import ssl
import struct
import sys

import h2.config
import h2.connection
import h2.events
import h2.settings

port, path = int(sys.argv[1]), sys.argv[2]
sock = socket.create_connection(("127.0.0.1", port), timeout=30)
if len(sys.argv) > 3:
    context = ssl.create_default_context(cafile=sys.argv[3])
    context.set_alpn_protocols(["h2"])
    sock = context.wrap_socket(sock, server_hostname="localhost")
connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
connection.initiate_connection()
sock.sendall(connection.data_to_send())
stream = None
seen = {"enable_connect_protocol": None, "status": None, "headers": {}, "echo": None, "close": None, "reset": None}
received = b""


def frame(opcode, payload):
    """A masked frame of a client (RFC 6455, 5.2)."""
    key = os.urandom(4)
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else bytes([0x80 | 126]) + struct.pack(">H", len(payload))
    return bytes([0x80 | opcode]) + size + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def take_frame():
    """A frame of the server, if a whole one is there: opcode and payload."""
    global received
    if len(received) < 2:
        return None
    length, start = received[1] & 127, 2
    if length == 126:
        length, start = struct.unpack(">H", received[2:4])[0], 4
    if len(received) < start + length:
        return None
    result = received[0] & 15, received[start:start + length]
    received = received[start + length:]
    return result


def done():
    print(json.dumps(seen))
    sys.exit()


while True:
    data = sock.recv(65536)
    if not data:
        done()
    for event in connection.receive_data(data):
        if isinstance(event, h2.events.RemoteSettingsChanged) and stream is None:
            setting = event.changed_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL)
            seen["enable_connect_protocol"] = setting and setting.new_value
            stream = connection.get_next_available_stream_id()
            connection.send_headers(stream, [
                (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path),
                (":authority", "localhost"), ("sec-websocket-version", "13"), ("x-probe", "over h2"),
            ])
        elif isinstance(event, h2.events.ResponseReceived):
            headers = dict(event.headers)
            seen["status"] = int(headers.pop(":status"))
            seen["headers"] = headers
            if seen["status"] == 200:
                connection.send_data(stream, frame(1, b"over HTTP/2 " * 20))
        elif isinstance(event, h2.events.DataReceived):
            connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            received += event.data
            if seen["status"] != 200:
                seen["echo"] = received.decode()
                continue
            while (found := take_frame()) is not None:
                opcode, payload = found
                if opcode == 1:
                    seen["echo"] = payload.decode(errors="replace")
                    connection.send_data(stream, frame(8, struct.pack(">H", 4007) + b"bye"))
                elif opcode == 8:
                    seen["close"] = struct.unpack(">H", payload[:2])[0]
                    connection.end_stream(stream)
        elif isinstance(event, h2.events.StreamReset):
            seen["reset"] = int(event.error_code)
            done()
        elif isinstance(event, h2.events.StreamEnded):
            sock.sendall(connection.data_to_send())
            done()
    sock.sendall(connection.data_to_send())
