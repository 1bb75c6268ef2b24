"""The identities of a mesh: a certificate authority for one start, and the certificates that it signs."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hello_mesh.local.envoy import Identity
from hello_mesh.local.files import write_private

_LIFETIME = timedelta(days=365)
# A virtual machine that slept may set its clock back after the start.
_BACKDATED = timedelta(hours=1)

_ISSUER = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "cluster.local")])


def write_identities(folder: Path, identities: Mapping[str, str]) -> dict[str, Identity]:
    """Write a key and a certificate for each identity. A new authority signs them; its key is never written.

    Args:
        folder: the folder for the files.
        identities: SPIFFE ids by the name of their files.
    """
    authority = ec.generate_private_key(ec.SECP256R1())
    root = write_private(folder / "root-cert.pem", _pem(_root(authority)))
    return {name: _write_identity(folder / name, uri, authority, root) for name, uri in identities.items()}


def _write_identity(stem: Path, uri: str, authority: ec.EllipticCurvePrivateKey, root: Path) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(
        chain=write_private(stem.with_name(f"{stem.name}-cert.pem"), _pem(_leaf(key, uri, authority))),
        key=write_private(stem.with_name(f"{stem.name}-key.pem"), private),
        root=root,
    )


def _root(authority: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    builder = _builder(authority.public_key()).subject_name(_ISSUER)
    return builder.add_extension(constraints, critical=True).sign(authority, hashes.SHA256())


def _leaf(
    key: ec.EllipticCurvePrivateKey, uri: str, authority: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    # As SPIFFE requires: the only name is a URI, so the subject is empty and the URI is critical.
    name = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        _builder(key.public_key())
        .subject_name(x509.Name([]))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usages, critical=False)
        .add_extension(name, critical=True)
        .sign(authority, hashes.SHA256())
    )


def _builder(public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .issuer_name(_ISSUER)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _LIFETIME)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
