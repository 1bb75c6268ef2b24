"""The configuration of a hop, as one value."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from hello_mesh.base.errors import UsageError
from hello_mesh.base.text import excerpt
from hello_mesh.propagation.headers import ExtraHeaders
from hello_mesh.propagation.hop_report import Role

# The longest host name. The reports of eight hops with such names fit into the metadata of one call.
_MAX_NAME = 253


@dataclass(frozen=True)
class ServerConfig:
    """Everything that a hop needs to know. It reads nothing else from the environment.

    Raises:
        UsageError: the name does not fit into reports and logs.
    """

    name: str
    """The hop's name in reports and logs."""

    host: str = "[::]"
    """The address or host name to listen on; `[::]` is every address, IPv4 included."""

    port: int = 9996
    """The port to listen on; 0 is any free one."""

    backend: str | None = None
    """The gRPC target of the next hop. None makes this the last hop."""

    certificates: Path | None = None
    """The folder for `hello_mesh.net.tls`, as a server and towards the next hop. None is plaintext."""

    forward: bool = True
    """True if a relay propagates headers. False shows what an application without propagation breaks."""

    extra_headers: ExtraHeaders = field(default_factory=ExtraHeaders)
    """Headers to propagate in addition to the families of `hello_mesh.propagation.headers`."""

    grace: float = 10.0
    """Seconds that calls in flight have to finish when the server stops."""

    def __post_init__(self) -> None:
        if not (self.name.strip() and self.name.isprintable() and len(quote(self.name)) <= _MAX_NAME):
            raise UsageError(
                f"invalid hop name {excerpt(self.name)!r}: use 1 to {_MAX_NAME} printable ASCII characters"
            )

    @property
    def role(self) -> Role:
        """The role of this hop in its reports."""
        return Role.LAST if self.backend is None else Role.RELAY
