"""Ports that are reserved before a program listens on them.

Components must know each other's ports before they start: a hop calls its sidecar, and the sidecar its hop. A
reserved port is bound, but nothing listens on it. On Linux, the Envoy that gets the port shares it
(SO_REUSEPORT), and no other program can take it, even if that Envoy exits.
"""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hello_mesh.base.listening import cannot_listen
from hello_mesh.local.topology import LOOPBACK

SHARED = sys.platform == "linux"
"""Whether Envoy shares a reserved port. Otherwise it must be released just before Envoy starts."""


@contextmanager
def reserved_ports(count: int, host: str = LOOPBACK) -> Iterator[tuple[int, ...]]:
    """Reserve different free ports on an IP address until the context ends.

    Raises:
        RuntimeEnvironmentError: the address does not belong to this host.
    """
    with ExitStack() as stack:
        sockets = [stack.enter_context(_bound(host)) for _ in range(count)]
        yield tuple(bound.getsockname()[1] for bound in sockets)


def check_free(host: str, port: int, option: str) -> None:
    """Check that a port can be listened on.

    Raises:
        RuntimeEnvironmentError: it cannot; the error names the option that chooses another.
    """
    with socket.socket(_family(host)) as probe:
        # As Envoy does: old connections do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            raise cannot_listen(host, port, option, error) from error


def _bound(host: str) -> socket.socket:
    bound = socket.socket(_family(host))
    if SHARED:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind((host, 0))
    except OSError as error:
        bound.close()
        raise cannot_listen(host, 0, "--host", error) from error
    return bound


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
