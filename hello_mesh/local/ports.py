"""Ports that are ours before somebody listens on them.

Parts of a mesh must know each other's ports before they start: a hop calls its sidecar, and the sidecar its
hop. A reserved port is bound, but nobody listens on it; the Envoy that is told to take it shares it
(SO_REUSEPORT), and no other program can get it, also not after that Envoy has died.
"""

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local.topology import LOOPBACK

# Elsewhere Envoy does not share a port, so that it must be given up before Envoy starts.
_SHARED = sys.platform == "linux"


@contextmanager
def reserved(count: int) -> Iterator[tuple[int, ...]]:
    """Free ports on loopback, all different, that stay ours until the context ends."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(_bound()) for _ in range(count)]
        ports = tuple(bound.getsockname()[1] for bound in sockets)
        if not _SHARED:
            stack.close()
        yield ports


def check_free(host: str, port: int, option: str) -> None:
    """Looks whether a port that somebody asked for can be had.

    Raises:
        RuntimeEnvironmentError: it cannot; the error names the option that says otherwise.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as Envoy does: old connections are no hindrance
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            reason = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror
            raise RuntimeEnvironmentError(
                f"cannot listen on {host} port {port}: {reason}; choose another with {option}"
            ) from error


def _bound() -> socket.socket:
    bound = socket.socket()
    if _SHARED:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((LOOPBACK, 0))
    return bound
