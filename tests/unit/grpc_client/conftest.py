"""Outcomes for pure tests, and the client as a process."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from grpc_client.calls import Outcome
from grpc_client.plan import RPC_METHODS, CallSpec
from hello_mesh.net.pb.landing_pb2 import TalkResponse, TalkResult
from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.trace_context import TraceContext
from hello_mesh.propagation.verdict import Verdict, VerdictKind

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def make_outcome() -> Callable[..., Outcome]:
    """Return a function that makes an outcome: TalkOneAnswerMore with "0,1" over two hops, all as expected
    except for the given fields."""

    def make(**different: Any) -> Outcome:
        context = TraceContext(TRACE, "b7ad6b7169203331", sampled=True)
        greetings = [{"idx": "0", "data": "Hello"}, {"idx": "1", "data": "Bonjour"}]
        settings: dict[str, Any] = {
            "number": 1,
            "spec": CallSpec(RPC_METHODS[1], ("0,1",)),
            "responses": tuple(TalkResponse(status=200, results=[TalkResult(kv=kv)]) for kv in greetings),
            "code": grpc.StatusCode.OK,
            "details": "",
            "hops": (Hop("svc1", Role.RELAY, context), Hop("svc2", Role.LAST, context)),
            "verdict": Verdict(VerdictKind.CONNECTED, "connected: one trace", TRACE),
            "start_ns": 1_700_000_000_000_000_000,
            "duration_ns": 1_500_000,
        }
        return Outcome(**settings | different)

    return make


@dataclass(frozen=True)
class Finished:
    """The exit code and the output of a client."""

    code: int | None
    out: str
    err: str


@dataclass(frozen=True)
class Client:
    """A running client."""

    process: asyncio.subprocess.Process

    async def finished(self) -> Finished:
        """Wait until the process exits."""
        async with asyncio.timeout(20):
            out, err = await self.process.communicate()
        return Finished(self.process.returncode, out.decode(), err.decode())


StartClient = Callable[..., Awaitable[Client]]


def _environment(env: dict[str, str] | None) -> dict[str, str]:
    ours = ("GRPC_", "CERT_BASE_PATH", "OTEL_", "PYTHON")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return clean | {"PYTHONUTF8": "1"} | (env or {})


@pytest.fixture
async def start_client() -> AsyncIterator[StartClient]:
    """Return a function that starts `python -m grpc_client` with arguments; `env` adds variables."""
    clients: list[Client] = []

    async def start(*arguments: str | bytes, env: dict[str, str] | None = None) -> Client:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "grpc_client", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(env),
        )
        clients.append(Client(process))
        return clients[-1]

    yield start
    for client in clients:
        if client.process.returncode is None:
            client.process.kill()
            await client.process.communicate()


@pytest.fixture
def run_client(start_client: StartClient) -> Callable[..., Awaitable[Finished]]:
    """Return a function like `start_client` that waits until the process exits."""

    async def run(*arguments: str | bytes, env: dict[str, str] | None = None) -> Finished:
        return await (await start_client(*arguments, env=env)).finished()

    return run


@pytest.fixture
def run_shell() -> Callable[..., Awaitable[Finished]]:
    """Return a function that runs a line of shell in which "$@" is the client with its arguments."""

    async def run(line: str, *arguments: str) -> Finished:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", line, "sh", sys.executable, "-m", "grpc_client", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(None),
        )
        return await Client(process).finished()

    return run
