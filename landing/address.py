"""Where a call goes: what a user writes, as the target that gRPC understands."""

import ipaddress
import re

from landing.errors import UsageError
from landing.text import shown

# https://grpc.github.io/grpc/core/md_doc_naming.html
_PORTLESS_SCHEMES = ("unix:", "unix-abstract:", "vsock:", "xds:", "passthrough:")
_ADDRESS_SCHEMES = ("ipv4:", "ipv6:")
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_PORT = re.compile(r"[0-9]{1,5}")
_HIGHEST_PORT = 65535


def target(address: str, default_port: int) -> str:
    """The gRPC target for `address`: a host, `host:port`, an IP address, or a target as it is.

    `default_port` serves where the address names no port and its kind has one.

    Raises:
        UsageError: where it is none of these.
    """
    if address.startswith("dns:"):
        authority, slash, endpoint = address.removeprefix("dns:").rpartition("/")
        return f"dns:{authority}{slash}{_endpoint(endpoint, default_port, address)}"
    for scheme in (*_PORTLESS_SCHEMES, *_ADDRESS_SCHEMES):
        if address.startswith(scheme) and len(address) > len(scheme) and address.isprintable():
            return address
    return f"dns:///{_endpoint(address, default_port, address)}"


def listening(host: str, port: int) -> str:
    """The address to listen on, as gRPC writes it: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if _is_ipv6(host) else f"{host}:{port}"


def _endpoint(endpoint: str, default_port: int, address: str) -> str:
    if _is_ipv6(endpoint):
        return listening(endpoint, default_port)
    host, colon, port = endpoint.rpartition(":")
    if not colon or endpoint.endswith("]"):
        host, port = endpoint, str(default_port)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else None
    if not (_is_ipv6(bare) if bare is not None else _HOST.fullmatch(host)):
        raise UsageError(
            f"cannot read the address {shown(address)!r}: use a host, host:port, or a gRPC target such as"
            " dns:///host:port or unix:/path"
        )
    if not (_PORT.fullmatch(port) and 1 <= int(port) <= _HIGHEST_PORT):
        raise UsageError(f"the port in {shown(address)!r} is not a number from 1 to 65535")
    return f"{host}:{int(port)}"


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
