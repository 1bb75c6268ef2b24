"""What the client is to do, as values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hello_mesh.net.rpc import LANDING_SERVICE

Compression = Literal["none", "gzip", "deflate"]
TraceHeaders = Literal["w3c", "b3", "both"]


@dataclass(frozen=True)
class Pattern:
    """One of the four ways to call."""

    command: str
    """Its name on the command line."""

    rpc: str
    """Its name on the wire."""

    data: str
    """The indexes that it asks for where the user names none."""

    help: str
    """What the command line says of it."""

    @property
    def streams_requests(self) -> bool:
        """Whether the client sends a stream of messages; otherwise one."""
        return LANDING_SERVICE.methods_by_name[self.rpc].client_streaming

    @property
    def streams_answers(self) -> bool:
        """Whether the server answers with a stream of messages; otherwise with one."""
        return LANDING_SERVICE.methods_by_name[self.rpc].server_streaming


PATTERNS = (
    Pattern("talk", "Talk", "0", "Unary: one index, one greeting."),
    Pattern(
        "talk-one-answer-more", "TalkOneAnswerMore", "0,1,2", "Server streaming: a list, a greeting each."
    ),
    Pattern(
        "talk-more-answer-one", "TalkMoreAnswerOne", "0,1,2", "Client streaming: many messages, one answer."
    ),
    Pattern(
        "talk-bidirectional", "TalkBidirectional", "0,1,2", "Both stream: each message is answered at once."
    ),
)


@dataclass(frozen=True)
class Talk:
    """One call to make."""

    pattern: Pattern
    messages: tuple[str, ...]
    """`data` of each message to send: exactly one where the pattern streams no requests."""
    meta: str
    """`meta` of each message."""
    interval: float
    """Seconds to wait before each message but the first."""

    @property
    def indexes(self) -> list[str]:
        """The language indexes asked for: an answer should hold one greeting for each, in this order."""
        return ",".join(self.messages).split(",")

    @property
    def pauses(self) -> float:
        """Seconds that the call takes for its intervals alone."""
        return self.interval * (len(self.messages) - 1)


@dataclass(frozen=True)
class Plan:
    """Everything that one run of the client does."""

    target: str
    """The gRPC target to call."""
    talks: tuple[Talk, ...]
    """The calls to make, one after the other."""
    certificates: Path | None = None
    """The folder of `hello_mesh.net.tls`; None: plaintext."""
    headers: tuple[tuple[str, str | bytes], ...] = ()
    """Headers to send with each call."""
    timeout: float | None = None
    """Seconds that each call may take; None: as long as it likes."""
    trace: bool = True
    """Whether each call begins a trace of its own."""
    trace_headers: TraceHeaders = "w3c"
    """In which headers it says so."""
    spans_to: str | None = None
    """Where the span of each call goes: a collector of OTLP over gRPC; None: nowhere."""
    repeat: int = 1
    """How often to make each call."""
    concurrency: int = 1
    """How many calls may be under way at once."""
    compression: Compression = "none"
    """How messages are compressed."""
    keepalive: float | None = None
    """Seconds between keepalive pings; None: no pings."""
    connect_timeout: float | None = None
    """Seconds to wait for a connection before the first call; None: the first call finds out."""
    wait_for_ready: bool = False
    """Whether a call waits for a server that is not there yet, up to its timeout."""
    retries: int = 0
    """How often a call is tried again that ended UNAVAILABLE, at most 4 times."""
