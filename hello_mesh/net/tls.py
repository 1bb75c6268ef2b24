"""Certificates in files, as credentials for gRPC. Mutual TLS on both sides, and no way back to plaintext.

The files lie in the folder that `CERT_BASE_PATH` names: `server_certs/` and `client_certs/`, each with
`private.key`, `full_chain.pem` (its own certificate first) and `myssl_root.cer`.
"""

import ssl
from pathlib import Path

import grpc

from hello_mesh.base.errors import RuntimeEnvironmentError


def server_credentials(base: Path) -> grpc.ServerCredentials:
    """For a server that demands a certificate of its callers.

    Raises:
        RuntimeEnvironmentError: a file is missing, unreadable, or not what its name says.
    """
    key, chain, root = _load(base / "server_certs", ssl.Purpose.CLIENT_AUTH)
    return grpc.ssl_server_credentials([(key, chain)], root, require_client_auth=True)


def channel_credentials(base: Path) -> grpc.ChannelCredentials:
    """For a caller that shows a certificate of its own.

    Raises:
        RuntimeEnvironmentError: a file is missing, unreadable, or not what its name says.
    """
    key, chain, root = _load(base / "client_certs", ssl.Purpose.SERVER_AUTH)
    return grpc.ssl_channel_credentials(root, key, chain)


def _load(folder: Path, purpose: ssl.Purpose) -> tuple[bytes, bytes, bytes]:
    key, chain, root = (folder / name for name in ("private.key", "full_chain.pem", "myssl_root.cer"))
    for file in (key, chain, root):
        if not file.is_file():
            raise RuntimeEnvironmentError(
                f"TLS is on, but {file} is not there: put it there or set CERT_BASE_PATH"
            )
    # gRPC takes any bytes and then fails every handshake without saying why; OpenSSL says it now.
    context = ssl.create_default_context(purpose)
    try:
        # The empty password keeps OpenSSL from asking for one on the terminal.
        context.load_cert_chain(chain, key, password="")
        context.load_verify_locations(root)
        return key.read_bytes(), chain.read_bytes(), root.read_bytes()
    except OSError as error:  # ssl.SSLError is one
        raise RuntimeEnvironmentError(f"the certificates in {folder} cannot be used: {error}") from error
