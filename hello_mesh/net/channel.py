"""Channels to other servers."""

from collections.abc import Mapping
from pathlib import Path

import grpc

from hello_mesh.net.rpc import MAX_RESPONSE_BYTES, METADATA_OPTIONS
from hello_mesh.net.tls import channel_credentials

SERVER_NAME = "hello.grpc.io"
"""The name in the servers' certificates, on every host."""

_CHANNEL_OPTIONS: Mapping[str, int | str] = {
    "grpc.max_receive_message_length": MAX_RESPONSE_BYTES,
    **METADATA_OPTIONS,
    # On Linux, gRPC sets TCP_USER_TIMEOUT to the keepalive timeout: a connection whose packets are lost is
    # replaced after that time. Servers accept pings every five minutes by default, and punish shorter pauses.
    "grpc.keepalive_time_ms": 5 * 60 * 1000,
    "grpc.keepalive_timeout_ms": 10 * 1000,
    # Resolve the name of a next hop that moved at once; the default waits for 30 seconds.
    "grpc.dns_min_time_between_resolutions_ms": 1000,
    # Reconnect to a restarted hop within two seconds. By default, gRPC lets the pause between attempts grow
    # to two minutes, during which every call fails.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2000,
    # Timeout of one attempt if packets are lost (default 20 s).
    "grpc.min_reconnect_backoff_ms": 5000,
    # Proxy variables are meant for the web: a hop calls exactly the next hop that it is given.
    "grpc.enable_http_proxy": 0,
    # Each channel has its own connections, so that hops in one process are independent.
    "grpc.use_local_subchannel_pool": 1,
}


def open_channel(target: str, certificates: Path | None = None) -> grpc.aio.Channel:
    """Return a channel to a gRPC target. Close it, or use it as a context manager.

    It connects at the first call.

    Args:
        target: the gRPC target.
        certificates: the folder of `hello_mesh.net.tls`; None is plaintext.

    Raises:
        RuntimeEnvironmentError: the certificates cannot be read.
    """
    if certificates is None:
        return grpc.aio.insecure_channel(target, tuple(_CHANNEL_OPTIONS.items()))
    options = {**_CHANNEL_OPTIONS, "grpc.ssl_target_name_override": SERVER_NAME}
    return grpc.aio.secure_channel(target, channel_credentials(certificates), tuple(options.items()))
