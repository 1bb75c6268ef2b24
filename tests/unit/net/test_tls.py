"""Mutual TLS: certificates from files, without fallback to plaintext."""

import shutil
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from grpc_client.plan import RPC_METHODS, RpcMethod
from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.net.channel import SERVER_NAME
from hello_mesh.net.pb.landing_pb2 import TalkRequest
from hello_mesh.net.pb.landing_pb2_grpc import LandingServiceStub
from hello_mesh.net.tls import channel_credentials, server_credentials

FILES = ("private.key", "full_chain.pem", "myssl_root.cer")
SIDES = {"server_certs": server_credentials, "client_certs": channel_credentials}
TALK = RPC_METHODS[0]

sides = pytest.mark.parametrize("side", SIDES)


@dataclass(frozen=True)
class Certificates:
    """A folder with the layout that `CERT_BASE_PATH` requires."""

    base: Path
    authority: trustme.CA


def _write(base: Path, authority: trustme.CA, server_name: str = SERVER_NAME) -> Certificates:
    for side, name in (("server_certs", server_name), ("client_certs", "client.grpc.io")):
        folder = base / side
        folder.mkdir(parents=True)
        issued = authority.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        issued.private_key_pem.write_to_path(folder / "private.key")
        for pem in issued.cert_chain_pems:
            pem.write_to_path(folder / "full_chain.pem", append=True)
        authority.cert_pem.write_to_path(folder / "myssl_root.cer")
    return Certificates(base, authority)


@pytest.fixture(scope="session")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return certificates that all tests share. Tests that change files use `certificates`."""
    return _write(tmp_path_factory.mktemp("certificates"), trustme.CA())


@pytest.fixture
def certificates(issued: Certificates, tmp_path: Path) -> Certificates:
    """Return a copy that a test can change."""
    shutil.copytree(issued.base, tmp_path / "hello")
    return Certificates(tmp_path / "hello", issued.authority)


@sides
@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(certificates: Certificates, side: str, file: str) -> None:
    missing = certificates.base / side / file
    missing.unlink()
    with pytest.raises(RuntimeEnvironmentError) as raised:
        SIDES[side](certificates.base)
    assert str(raised.value) == (
        f"certificate file {missing} not found: create it, set CERT_BASE_PATH, or use --plaintext"
    )


@sides
def test_a_missing_folder_is_named(tmp_path: Path, side: str) -> None:
    with pytest.raises(RuntimeEnvironmentError, match="CERT_BASE_PATH") as raised:
        SIDES[side](tmp_path / "nowhere")
    assert str(tmp_path / "nowhere" / side) in str(raised.value)


@sides
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("content", [b"", b"garbage", b"\0\xff" * 100, b"-----BEGIN CERTIFICATE-----\n"])
def test_an_invalid_file_is_refused_and_its_folder_named(
    certificates: Certificates, side: str, file: str, content: bytes
) -> None:
    (certificates.base / side / file).write_bytes(content)
    with pytest.raises(RuntimeEnvironmentError) as raised:
        SIDES[side](certificates.base)
    assert f"invalid certificates in {certificates.base / side}: " in str(raised.value)
    assert "\n" not in str(raised.value)


@sides
def test_a_key_of_another_certificate_is_refused(certificates: Certificates, side: str) -> None:
    other = certificates.authority.issue_cert("other.example")
    other.private_key_pem.write_to_path(certificates.base / side / "private.key")
    with pytest.raises(RuntimeEnvironmentError, match=r"(?i)mismatch"):
        SIDES[side](certificates.base)


@sides
def test_an_encrypted_key_is_refused_without_a_prompt(certificates: Certificates, side: str) -> None:
    file = certificates.base / side / "private.key"
    key = load_pem_private_key(file.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    file.write_bytes(locked)
    with pytest.raises(RuntimeEnvironmentError, match="invalid certificates"):
        SIDES[side](certificates.base)


@sides
def test_a_folder_in_place_of_a_file_is_refused(certificates: Certificates, side: str) -> None:
    file = certificates.base / side / "myssl_root.cer"
    file.unlink()
    file.mkdir()
    with pytest.raises(RuntimeEnvironmentError, match=r"myssl_root\.cer not found"):
        SIDES[side](certificates.base)


async def _start_secure(start_chain: Any, length: int, base: Path) -> Any:
    names = [f"svc{number}" for number in range(1, length + 1)]
    return await start_chain(length, at={name: {"certificates": base} for name in names})


@pytest.mark.parametrize("length", [1, 2])
async def test_a_chain_answers_over_tls(
    start_chain: Any, ask: Any, pattern: RpcMethod, issued: Certificates, length: int
) -> None:
    """The hops listen on 127.0.0.1; the name in their certificates is hello.grpc.io."""
    chain = await _start_secure(start_chain, length, issued.base)
    outcome = await ask(chain.target, pattern, certificates=issued.base)
    assert outcome.code is grpc.StatusCode.OK, outcome.details
    assert [hop.name for hop in outcome.hops] == list(chain.names)
    sent = pattern.data.split(",")
    assert [result.kv["idx"] for answer in outcome.responses for result in answer.results] == sent


async def test_plaintext_towards_tls_fails(start_chain: Any, ask: Any, issued: Certificates) -> None:
    chain = await _start_secure(start_chain, 1, issued.base)
    outcome = await ask(chain.target, TALK)
    assert (outcome.code, outcome.hops) == (grpc.StatusCode.UNAVAILABLE, ())


async def test_tls_towards_plaintext_fails(start_chain: Any, ask: Any, issued: Certificates) -> None:
    chain = await start_chain(1)
    outcome = await ask(chain.target, TALK, certificates=issued.base)
    assert (outcome.code, outcome.hops) == (grpc.StatusCode.UNAVAILABLE, ())


async def test_a_relay_with_tls_does_not_fall_back_to_plaintext(
    start_chain: Any, ask: Any, issued: Certificates
) -> None:
    chain = await start_chain(2, at={"svc1": {"certificates": issued.base}})
    outcome = await ask(chain.target, TALK, certificates=issued.base)
    assert outcome.code is grpc.StatusCode.UNAVAILABLE
    assert [hop.name for hop in outcome.hops] == ["svc1"]


async def _talk(target: str, credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
    options = (("grpc.ssl_target_name_override", SERVER_NAME), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.secure_channel(target, credentials, options) as channel:
        call = LandingServiceStub(channel).Talk(TalkRequest(data="0"), timeout=10)
        return await call.code()


async def test_a_caller_without_a_certificate_is_refused(start_chain: Any, issued: Certificates) -> None:
    chain = await _start_secure(start_chain, 1, issued.base)
    root = (issued.base / "client_certs" / "myssl_root.cer").read_bytes()
    assert await _talk(chain.target, grpc.ssl_channel_credentials(root)) is grpc.StatusCode.UNAVAILABLE
    assert await _talk(chain.target, channel_credentials(issued.base)) is grpc.StatusCode.OK


async def test_a_caller_of_another_authority_is_refused(
    start_chain: Any, issued: Certificates, certificates: Certificates
) -> None:
    chain = await _start_secure(start_chain, 1, issued.base)
    other = trustme.CA().issue_cert("client.grpc.io")
    other.private_key_pem.write_to_path(certificates.base / "client_certs" / "private.key")
    other.cert_chain_pems[0].write_to_path(certificates.base / "client_certs" / "full_chain.pem")
    assert await _talk(chain.target, channel_credentials(certificates.base)) is grpc.StatusCode.UNAVAILABLE


async def test_a_server_of_another_authority_is_refused(
    start_chain: Any, ask: Any, issued: Certificates, certificates: Certificates
) -> None:
    trustme.CA().cert_pem.write_to_path(certificates.base / "client_certs" / "myssl_root.cer")
    chain = await _start_secure(start_chain, 1, issued.base)
    outcome = await ask(chain.target, TALK, certificates=certificates.base)
    assert outcome.code is grpc.StatusCode.UNAVAILABLE


async def test_a_server_of_another_name_is_refused(start_chain: Any, ask: Any, tmp_path: Path) -> None:
    other = _write(tmp_path / "other", trustme.CA(), server_name="other.grpc.io")
    chain = await _start_secure(start_chain, 1, other.base)
    outcome = await ask(chain.target, TALK, certificates=other.base)
    assert outcome.code is grpc.StatusCode.UNAVAILABLE


def test_the_name_in_the_certificates_is_that_of_the_contract() -> None:
    assert SERVER_NAME == "hello.grpc.io"


def test_openssl_accepts_the_unchanged_files(issued: Certificates) -> None:
    """Prove that a failure in another test comes from the file that it changed."""
    for side in SIDES:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.base / side / "full_chain.pem", issued.base / side / "private.key")
