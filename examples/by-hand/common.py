"""What both servers share: the names of the trace headers, the messages, the greetings, the settings."""

import os
import sys
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc

# With grpcio-tools, grpc finds the file through sys.path and generates the modules that protoc would write.
sys.path.append(str(Path(__file__).resolve().parents[2] / "proto"))
pb2, pb2_grpc = grpc.protos_and_services("landing.proto")

W3C = ("traceparent", "tracestate", "baggage")
B3 = ("x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags", "b3")
TRACE_HEADERS = ("x-request-id", *W3C, *B3)

GREETINGS = {"0": "Hello", "1": "Bonjour", "2": "Hola", "3": "こんにちは", "4": "Ciao", "5": "안녕하세요"}


def answer(indexes: Iterable[str]) -> Any:
    """Return a TalkResponse with a result for each language index."""
    return pb2.TalkResponse(status=200, results=[_result(index) for index in indexes])


def _result(index: str) -> Any:
    greeting = GREETINGS.get(index, "")
    kv = {"id": str(uuid.uuid4()), "idx": index, "data": greeting, "meta": "PYTHON"}
    return pb2.TalkResult(id=int(time.time()), type=pb2.OK if greeting else pb2.FAIL, kv=kv)


def listen_address() -> str:
    """Return the address to listen on: GRPC_HELLO_PORT on every interface."""
    return f"[::]:{os.environ.get('GRPC_HELLO_PORT', '9996')}"


def backend_target() -> str | None:
    """Return the next hop: GRPC_HELLO_BACKEND, and GRPC_HELLO_BACKEND_PORT if it names no port."""
    backend = os.environ.get("GRPC_HELLO_BACKEND")
    if not backend or ":" in backend:
        return backend or None
    return f"{backend}:{os.environ.get('GRPC_HELLO_BACKEND_PORT', '9996')}"
