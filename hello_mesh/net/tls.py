"""Certificate files as gRPC credentials: mutual TLS, without fallback to plaintext.

The folder in `CERT_BASE_PATH` has `server_certs/` and `client_certs/`. Each has `private.key`,
`full_chain.pem` (its own certificate first) and `myssl_root.cer`.
"""

import ssl
from pathlib import Path

import grpc

from hello_mesh.base.errors import RuntimeEnvironmentError


def server_credentials(base: Path) -> grpc.ServerCredentials:
    """Return the credentials of a server that requires client certificates.

    Raises:
        RuntimeEnvironmentError: a file is missing, unreadable or invalid.
    """
    key, chain, root = _load_files(base / "server_certs", ssl.Purpose.CLIENT_AUTH)
    return grpc.ssl_server_credentials([(key, chain)], root, require_client_auth=True)


def channel_credentials(base: Path) -> grpc.ChannelCredentials:
    """Return the credentials of a caller that presents a client certificate.

    Raises:
        RuntimeEnvironmentError: a file is missing, unreadable or invalid.
    """
    key, chain, root = _load_files(base / "client_certs", ssl.Purpose.SERVER_AUTH)
    return grpc.ssl_channel_credentials(root, key, chain)


def _load_files(folder: Path, purpose: ssl.Purpose) -> tuple[bytes, bytes, bytes]:
    key, chain, root = (folder / name for name in ("private.key", "full_chain.pem", "myssl_root.cer"))
    for file in (key, chain, root):
        if not file.is_file():
            raise RuntimeEnvironmentError(
                f"certificate file {file} not found: create it, set CERT_BASE_PATH, or use --plaintext"
            )
    # gRPC accepts any bytes and then fails every handshake without a reason; OpenSSL gives the reason now.
    context = ssl.create_default_context(purpose)
    try:
        # With an empty password, OpenSSL does not prompt for one on the terminal.
        context.load_cert_chain(chain, key, password="")
        context.load_verify_locations(root)
        return key.read_bytes(), chain.read_bytes(), root.read_bytes()
    except OSError as error:  # ssl.SSLError is one
        raise RuntimeEnvironmentError(f"invalid certificates in {folder}: {error}") from error
