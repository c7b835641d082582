"""A collector of traces: python otlp_collector.py HTTP_PORT GRPC_PORT [CERT KEY].

It takes spans by OTLP over HTTP (TLS with CERT and KEY) and gRPC, decoded by OpenTelemetry's own package of messages, and tells what it has:

  GET /spans                                      all spans, as a list of JSON objects
  POST /fail?status=N&count=N[&retry_after=N]     the next requests for spans are answered so
"""

import json
import ssl
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

lock = threading.Lock()
spans = []
failures = {"count": 0}


def value(any_value):
    return getattr(any_value, any_value.WhichOneof("value"))


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def take(request, headers):
    with lock:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    spans.append({
                        "trace": span.trace_id.hex(),
                        "span": span.span_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "state": span.trace_state,
                        "flags": span.flags,
                        "name": span.name,
                        "kind": Span.SpanKind.Name(span.kind),
                        "start": span.start_time_unix_nano,
                        "end": span.end_time_unix_nano,
                        "status": Status.StatusCode.Name(span.status.code),
                        "attributes": attributes(span.attributes),
                        "resource": attributes(resource.resource.attributes),
                        "scope": scope.scope.name,
                        "headers": headers,
                    })


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", kind="application/json", more=()):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, text in more:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        with lock:
            body = json.dumps(spans).encode()
        self.answer(200, body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        url = urlsplit(self.path)
        if url.path == "/fail":
            with lock:
                failures.update({name: int(values[0]) for name, values in parse_qs(url.query).items()})
            return self.answer(200)
        with lock:
            fails = failures["count"] > 0
            failures["count"] -= fails
        if fails:
            after = failures.get("retry_after")
            return self.answer(failures["status"], more=[("retry-after", str(after))] if after else [])
        if url.path != "/v1/traces" or self.headers["content-type"] != "application/x-protobuf":
            return self.answer(404)
        take(service.ExportTraceServiceRequest.FromString(body), dict(self.headers.items()))
        answer = service.ExportTraceServiceResponse().SerializeToString()
        self.answer(200, answer, "application/x-protobuf")


class Traces(service_grpc.TraceServiceServicer):
    def Export(self, request, context):
        take(request, dict(context.invocation_metadata()))
        return service.ExportTraceServiceResponse()


def main():
    rpc = grpc.server(futures.ThreadPoolExecutor(2))
    service_grpc.add_TraceServiceServicer_to_server(Traces(), rpc)
    rpc.add_insecure_port(f"127.0.0.1:{sys.argv[2]}")
    rpc.start()
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    if len(sys.argv) > 3:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


main()
