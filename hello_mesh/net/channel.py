"""Opening a channel to the next hop."""

from collections.abc import Mapping
from pathlib import Path

import grpc

from hello_mesh.net.rpc import MAX_MESSAGE_BYTES
from hello_mesh.net.tls import channel_credentials

SERVER_NAME = "hello.grpc.io"
"""The name in the servers' certificates, whatever host they run on."""

_OPTIONS: Mapping[str, int | str] = {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    # A hop that comes back is found within two seconds. gRPC's own default lets the pause between two
    # attempts grow to two minutes, in which every call fails although the backend is well.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2000,
    # How long one attempt may take where packets vanish (default 20 s).
    "grpc.min_reconnect_backoff_ms": 5000,
    # A hop's next hop is named to it. A proxy variable, meant for the web, would lead calls astray.
    "grpc.enable_http_proxy": 0,
    # A channel has its own connections: two hops in one process must not share a fate.
    "grpc.use_local_subchannel_pool": 1,
}


def open_channel(target: str, certificates: Path | None = None) -> grpc.aio.Channel:
    """A channel to `target`: TLS with the client certificates of the folder `certificates`, plaintext
    where that is None.

    Nothing is connected before the first call. Close it, or use it as a context manager.

    Raises:
        RuntimeEnvironmentError: certificates that cannot be read.
    """
    if certificates is None:
        return grpc.aio.insecure_channel(target, tuple(_OPTIONS.items()))
    options = {**_OPTIONS, "grpc.ssl_target_name_override": SERVER_NAME}
    return grpc.aio.secure_channel(target, channel_credentials(certificates), tuple(options.items()))
