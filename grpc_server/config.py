"""What a hop is to be, as one value."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from hello_mesh.base.errors import UsageError
from hello_mesh.base.text import excerpt
from hello_mesh.propagation.headers import ExtraHeaders
from hello_mesh.propagation.hop_report import Role

# The longest name of a host. Eight hops that report it must fit into the metadata of one call.
_LONGEST_NAME = 253


@dataclass(frozen=True)
class ServerConfig:
    """Everything that a hop needs to know; nothing else is read from the environment."""

    name: str
    """The hop's name in reports and logs."""

    host: str = "[::]"
    """The address or host name to listen on; `[::]` is every address, IPv4 included."""

    port: int = 9996
    """The port to listen on; 0: any free one."""

    backend: str | None = None
    """The gRPC target of the next hop. None: this is the last hop."""

    certificates: Path | None = None
    """The folder of `hello_mesh.net.tls`, for the server and towards the next hop. None: plaintext on both."""

    forward: bool = True
    """Whether a relay forwards headers. False shows what breaks when an application does not."""

    extra_headers: ExtraHeaders = field(default_factory=ExtraHeaders)
    """Headers to forward besides the families of `hello_mesh.propagation.headers`."""

    grace: float = 10.0
    """Seconds that running calls get to finish when the server stops."""

    max_results: int = 10_000
    """How many greetings one call of TalkOneAnswerMore or TalkMoreAnswerOne may ask for."""

    call_log: bool = True
    """Whether every call leaves a line in the log."""

    def __post_init__(self) -> None:
        """Raises UsageError for a name that would not fit into reports and logs."""
        if not (self.name.strip() and self.name.isprintable() and len(quote(self.name)) <= _LONGEST_NAME):
            raise UsageError(
                f"{excerpt(self.name)!r} is no name for a hop:"
                f" use 1 to {_LONGEST_NAME} printable ASCII characters"
            )

    @property
    def role(self) -> Role:
        """What this hop does with a call."""
        return Role.LAST if self.backend is None else Role.RELAY
