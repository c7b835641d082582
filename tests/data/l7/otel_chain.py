"""A client and a backend with OpenTelemetry's SDK around the daemon: python otel_chain.py BACKEND_PORT DAEMON.

The client's span goes out by the W3C propagator, the backend's is a child of what that propagator reads there. Prints both as JSON.
"""

import http.client
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import SpanContext, TraceFlags, TraceState
from opentelemetry import trace

propagator = TraceContextTextMapPropagator()
tracer = TracerProvider().get_tracer("test")
seen = {}


def described(span):
    context = span.get_span_context()
    return {
        "trace": f"{context.trace_id:032x}",
        "span": f"{context.span_id:016x}",
        "parent": f"{span.parent.span_id:016x}" if span.parent else "",
        "sampled": bool(context.trace_flags.sampled),
        "state": context.trace_state.to_header(),
    }


class Backend(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        context = propagator.extract({name.lower(): text for name, text in self.headers.items()})
        with tracer.start_as_current_span("serve", context, SpanKind.SERVER) as span:
            seen["backend"] = described(span)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()


def main():
    server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # Somebody before the client began the trace, and put a word into its state.
    before = SpanContext(
        0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, True, TraceFlags(1), TraceState([("rojo", "1")])
    )
    context = trace.set_span_in_context(trace.NonRecordingSpan(before))
    with tracer.start_as_current_span("ask", context, SpanKind.CLIENT) as span:
        seen["client"] = described(span)
        headers = {}
        propagator.inject(headers)
        assert get_current_span() is span
        connection = http.client.HTTPConnection(sys.argv[2], timeout=60)
        connection.request("GET", "/path/in/detail?secret=1", headers=headers)
        seen["status"] = connection.getresponse().status
    print(json.dumps(seen))


main()
