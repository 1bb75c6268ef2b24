"""Addresses as users write them, as gRPC targets."""

import ipaddress
import re

from hello_mesh.base.errors import UsageError
from hello_mesh.base.listening import is_ipv6, join_host_port
from hello_mesh.base.text import excerpt

# https://grpc.github.io/grpc/core/md_doc_naming.html
_PORTLESS_SCHEMES = ("unix:", "unix-abstract:", "vsock:", "xds:", "passthrough:")
_ADDRESS_SCHEMES = {"ipv4:": 4, "ipv6:": 6}
_DNS = re.compile(r"(?P<scheme>dns:(?:/|//[A-Za-z0-9.:\[\]_-]*/)?)(?P<endpoint>[^/]*)")
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_PORT = re.compile(r"[0-9]{1,5}")
_HIGHEST_PORT = 65535


def grpc_target(address: str, default_port: int) -> str:
    """Return the gRPC target for a host, `host:port`, an IP address, or a gRPC target.

    Args:
        address: what the user wrote.
        default_port: the port, if the address has none and needs one.

    Raises:
        UsageError: the address is none of these.
    """
    if dns := _DNS.fullmatch(address):
        return f"{dns['scheme']}{_endpoint(dns['endpoint'], default_port, address)}"
    for scheme, version in _ADDRESS_SCHEMES.items():
        if address.startswith(scheme):
            listed = address.removeprefix(scheme).split(",")
            endpoints = [_endpoint(endpoint, default_port, address) for endpoint in listed]
            if any(_ip_version(endpoint) != version for endpoint in endpoints):
                raise _invalid_address(address)
            return f"{scheme}{','.join(endpoints)}"
    for scheme in _PORTLESS_SCHEMES:
        if address.startswith(scheme) and len(address) > len(scheme) and address.isprintable():
            return address
    return f"dns:///{_endpoint(address, default_port, address)}"


def _endpoint(endpoint: str, default_port: int, address: str) -> str:
    if is_ipv6(endpoint):
        return join_host_port(endpoint, default_port)
    host, colon, port = endpoint.rpartition(":")
    if not colon or endpoint.endswith("]"):
        host, port = endpoint, str(default_port)
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else None
    if not (is_ipv6(bare) if bare is not None else _HOST.fullmatch(host)):
        raise _invalid_address(address)
    if not (_PORT.fullmatch(port) and 1 <= int(port) <= _HIGHEST_PORT):
        raise UsageError(f"invalid port in {excerpt(address)!r}: use a number from 1 to 65535")
    return f"{host}:{int(port)}"


def _invalid_address(address: str) -> UsageError:
    return UsageError(
        f"invalid address {excerpt(address)!r}: use a host, host:port, or a gRPC target such as"
        " dns:///host:port or unix:/path"
    )


def _ip_version(endpoint: str) -> int | None:
    host = endpoint.rpartition(":")[0]
    try:
        return ipaddress.ip_address(host.strip("[]")).version
    except ValueError:
        return None
