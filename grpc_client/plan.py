"""The calls to make, as values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hello_mesh.net.rpc import LANDING_SERVICE

TraceHeaders = Literal["w3c", "b3", "both", "none"]

DEFAULT_TIMEOUT = 10.0
"""Per-call deadline in seconds; the pauses between messages come on top."""


UNREPORTED = "?"
"""The name of an expected hop that does not report."""


@dataclass(frozen=True)
class RpcMethod:
    """One of the four methods of LandingService, one for each gRPC pattern."""

    command: str
    """The pattern on the command line."""

    rpc: str
    """The method on the wire."""

    data: str
    """The indexes to send if the user gives none."""

    help: str

    @property
    def streams_requests(self) -> bool:
        """Whether the client sends a stream of messages instead of one message."""
        return LANDING_SERVICE.methods_by_name[self.rpc].client_streaming

    @property
    def streams_responses(self) -> bool:
        """Whether the server sends a stream of messages instead of one message."""
        return LANDING_SERVICE.methods_by_name[self.rpc].server_streaming


RPC_METHODS = (
    RpcMethod("talk", "Talk", "0", "Unary: one index, one greeting."),
    RpcMethod(
        "talk-one-answer-more",
        "TalkOneAnswerMore",
        "0,1,2",
        "Server streaming: a list of indexes, one response for each.",
    ),
    RpcMethod(
        "talk-more-answer-one",
        "TalkMoreAnswerOne",
        "0,1,2",
        "Client streaming: one index in each message, one response.",
    ),
    RpcMethod(
        "talk-bidirectional",
        "TalkBidirectional",
        "0,1,2",
        "Bidirectional streaming: a response to each message.",
    ),
)


@dataclass(frozen=True)
class CallSpec:
    """One call to make."""

    method: RpcMethod
    messages: tuple[str, ...]
    """`data` of each message. A method that does not stream requests has exactly one."""
    meta: str = "PYTHON"
    """`meta` of each message."""
    interval: float = 0.0
    """Seconds between two messages."""

    @property
    def indexes(self) -> list[str]:
        """The language indexes in the order in which the responses must have greetings for them."""
        return ",".join(self.messages).split(",")

    @property
    def expected_responses(self) -> int:
        """How many responses the call must have."""
        return len(self.indexes) if self.method.streams_responses else 1

    @property
    def pause_seconds(self) -> float:
        """The sum of all intervals."""
        return self.interval * (len(self.messages) - 1)


@dataclass(frozen=True)
class Plan:
    """One run of the client."""

    target: str
    """The gRPC target to call."""
    calls: tuple[CallSpec, ...]
    """The calls to make, in this order."""
    certificates: Path | None = None
    """The folder of `hello_mesh.net.tls`; None means plaintext."""
    headers: tuple[tuple[str, str | bytes], ...] = ()
    """Headers to send with each call."""
    timeout: float | None = None
    """Per-call deadline in seconds; None means no deadline."""
    trace_headers: TraceHeaders = "w3c"
    """The headers in which each call starts a trace."""
    repeat: int = 1
    """How many times to make all calls."""
    concurrency: int = 1
    """The maximum number of calls at the same time."""
    connect_timeout: float | None = None
    """Seconds to wait for a connection before the first call; None means no wait."""
    expect_hops: tuple[str, ...] | None = None
    """The hops that each call must take; None means no checks. `UNREPORTED` is one that does not report."""
    expect_sidecars: bool = False
    """Whether each of these hops must have a sidecar."""

    @property
    def total_calls(self) -> int:
        """How many calls the run makes."""
        return self.repeat * len(self.calls)


def call_spec(
    method: RpcMethod,
    data: str | None = None,
    meta: str = "PYTHON",
    count: int | None = None,
    interval: float = 0.0,
) -> CallSpec:
    """Return the call of a method with the user's options.

    Invalid indexes are sent as they are: the server's error is part of the demo.

    Args:
        method: the method to call.
        data: comma-separated language indexes; None means the default of the method.
        meta: the language that the client names as its own.
        count: number of indexes to send, cycling through `data`; None means each index once.
        interval: seconds between two messages.
    """
    data = method.data if data is None else data
    indexes = data.split(",")
    if count is not None:
        indexes = [indexes[number % len(indexes)] for number in range(count)]
    if method.streams_requests:
        messages = tuple(indexes)
    elif method.streams_responses and count is not None:
        messages = (",".join(indexes),)
    else:
        messages = (data,)
    return CallSpec(method, messages, meta, interval)


def deadline(calls: tuple[CallSpec, ...], timeout: float | None) -> float | None:
    """Return the per-call deadline in seconds; None means no deadline.

    Args:
        calls: the calls that must be able to finish in time.
        timeout: the user's choice, 0 for no deadline; None means the default.
    """
    if timeout is None:
        return DEFAULT_TIMEOUT + max(call.pause_seconds for call in calls)
    return timeout or None
