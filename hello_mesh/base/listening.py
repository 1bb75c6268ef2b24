"""Addresses to listen on: their notation, and the error if one cannot be used."""

import errno
import ipaddress
import re
import resource
from contextlib import suppress

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.base.text import excerpt

_IPV6 = re.compile(r"[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?")


def raise_descriptor_limit() -> None:
    """Let this process open as many connections as the system allows: the usual soft limit is 1,024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS refuses an unlimited number
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def join_host_port(host: str, port: int) -> str:
    """Return `host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def is_ipv6(text: str) -> bool:
    """Return True for an IPv6 address without brackets."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return _IPV6.fullmatch(text) is not None  # Python accepts any text as the zone after a %


def cannot_listen(host: str, port: int, fix: str, error: OSError | None = None) -> RuntimeEnvironmentError:
    """Return the error for an address that cannot be listened on.

    Args:
        host: the address.
        port: the port.
        fix: the options that choose another: "--port or --host".
        error: the reason, if the system gave one; gRPC gives none.
    """
    if error is None:
        reason = "the port is in use, or the address does not belong to this host"
    else:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    address = excerpt(join_host_port(host, port), 100)
    return RuntimeEnvironmentError(f"cannot listen on {address}: {reason}; choose another with {fix}")
