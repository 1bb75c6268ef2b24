"""Outcomes made by hand, and the client as a program."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from grpc_client.calls import Outcome
from grpc_client.plan import PATTERNS, Talk
from hello_mesh.net.pb.landing_pb2 import TalkResponse, TalkResult
from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.trace_context import TraceContext
from hello_mesh.propagation.verdict import Verdict, VerdictKind

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def make_outcome() -> Callable[..., Outcome]:
    """An outcome of a call of TalkOneAnswerMore for "0,1" over two hops in which all is well, but for what
    the test names."""

    def make(**different: Any) -> Outcome:
        context = TraceContext(TRACE, "b7ad6b7169203331", sampled=True)
        greetings = [{"idx": "0", "data": "Hello"}, {"idx": "1", "data": "Bonjour"}]
        settings: dict[str, Any] = {
            "number": 1,
            "talk": Talk(PATTERNS[1], ("0,1",), "PYTHON", 0.0),
            "answers": tuple(TalkResponse(status=200, results=[TalkResult(kv=kv)]) for kv in greetings),
            "code": grpc.StatusCode.OK,
            "details": "",
            "hops": (Hop("svc1", Role.RELAY, context), Hop("svc2", Role.LAST, context)),
            "verdict": Verdict(VerdictKind.CONNECTED, "connected: one trace", TRACE),
            "seconds": 0.0015,
        }
        return Outcome(**settings | different)

    return make


@dataclass(frozen=True)
class Ended:
    """What a client left behind."""

    code: int | None
    out: str
    err: str


@dataclass(frozen=True)
class Client:
    """A client that runs."""

    process: asyncio.subprocess.Process

    async def ended(self) -> Ended:
        """Waits for its end."""
        async with asyncio.timeout(20):
            out, err = await self.process.communicate()
        return Ended(self.process.returncode, out.decode(), err.decode())


StartClient = Callable[..., Awaitable[Client]]


def _environment(env: dict[str, str] | None) -> dict[str, str]:
    ours = ("GRPC_", "CERT_BASE_PATH", "OTEL_", "PYTHON")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return clean | {"PYTHONUTF8": "1"} | (env or {})


@pytest.fixture
async def start_client() -> AsyncIterator[StartClient]:
    """Starts `python -m grpc_client` with these arguments; `env` adds variables."""
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
def run_client(start_client: StartClient) -> Callable[..., Awaitable[Ended]]:
    """As `start_client`, and waits for the end."""

    async def run(*arguments: str | bytes, env: dict[str, str] | None = None) -> Ended:
        return await (await start_client(*arguments, env=env)).ended()

    return run


@pytest.fixture
def run_shell() -> Callable[..., Awaitable[Ended]]:
    """Runs a line of shell in which "$@" is the client with these arguments."""

    async def run(line: str, *arguments: str) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", line, "sh", sys.executable, "-m", "grpc_client", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(None),
        )
        return await Client(process).ended()

    return run
