"""Addresses as users write them, and the gRPC targets that they become."""

import pytest

from hello_mesh.base.errors import UsageError
from hello_mesh.net.address import grpc_target


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost", "dns:///localhost:9996"),
        ("localhost:50051", "dns:///localhost:50051"),
        ("localhost:00080", "dns:///localhost:80"),
        ("localhost:1", "dns:///localhost:1"),
        ("localhost:65535", "dns:///localhost:65535"),
        ("grpc-server-svc2", "dns:///grpc-server-svc2:9996"),
        ("svc2.grpc-tracing.svc.example.", "dns:///svc2.grpc-tracing.svc.example.:9996"),
        ("my_host", "dns:///my_host:9996"),
        ("127.0.0.1", "dns:///127.0.0.1:9996"),
        ("127.0.0.1:1234", "dns:///127.0.0.1:1234"),
        ("::1", "dns:///[::1]:9996"),
        ("[::1]", "dns:///[::1]:9996"),
        ("[::1]:1234", "dns:///[::1]:1234"),
        ("2001:db8::10", "dns:///[2001:db8::10]:9996"),
        ("::ffff:10.0.0.1", "dns:///[::ffff:10.0.0.1]:9996"),
        ("dns:host", "dns:host:9996"),
        ("dns:host:1234", "dns:host:1234"),
        ("dns:///host", "dns:///host:9996"),
        ("dns:///host:1234", "dns:///host:1234"),
        ("dns:///[::1]:1234", "dns:///[::1]:1234"),
        ("dns:///::1", "dns:///[::1]:9996"),
        ("dns://8.8.8.8/host", "dns://8.8.8.8/host:9996"),
        ("dns://8.8.8.8:53/host:1234", "dns://8.8.8.8:53/host:1234"),
        ("unix:/tmp/socket", "unix:/tmp/socket"),
        ("unix:relative", "unix:relative"),
        ("unix:///tmp/socket", "unix:///tmp/socket"),
        ("unix-abstract:name", "unix-abstract:name"),
        ("ipv4:10.0.0.1:80,10.0.0.2:80", "ipv4:10.0.0.1:80,10.0.0.2:80"),
        ("ipv4:10.0.0.1", "ipv4:10.0.0.1:9996"),
        ("ipv6:[::1]:80", "ipv6:[::1]:80"),
        ("ipv6:::1", "ipv6:[::1]:9996"),
        ("fe80::1%eth0", "dns:///[fe80::1%eth0]:9996"),
        ("xds:///svc", "xds:///svc"),
        ("passthrough:///host:1", "passthrough:///host:1"),
    ],
)
def test_an_address_becomes_a_target(address: str, expected: str) -> None:
    assert grpc_target(address, 9996) == expected


@pytest.mark.parametrize(
    "address",
    [
        "",
        " ",
        " localhost",
        "localhost ",
        "local host",
        "localhost\n",
        "localhost:80\n",
        "-host",
        "ho$t",
        "a..b",
        ".",
        "höst",
        "x" * 64,
        "http://localhost",
        "http://localhost:80",
        "https://localhost:80/path",
        "localhost:80/path",
        "localhost/path",
        "user@localhost",
        "[::1",
        "::1]:80",
        "[localhost]:80",
        "[]:80",
        ":80",
        ":",
        "1:2:3",
        "dns:",
        "dns:///",
        "dns:///:80",
        "dns:///a b",
        "dns://8.8.8.8/",
        "dns:////host",
        "dns:a/host",
        "dns://8.8.8.8/a/host",
        "dns://\x1b/host",
        "unix:\n",
        "ipv4:localhost",
        "ipv4:[::1]:80",
        "ipv4:10.0.0.1,",
        "ipv4:10.0.0.1,[::1]:80",
        "ipv6:[::1]:80,10.0.0.1:80",
        "ipv6:10.0.0.1:80",
        "::1%\n",
        "::1% x",
        "[fe80::1%/]:80",
        "\x1b[31m",
        "\udcff",
    ],
)
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match=r"invalid address|invalid port in") as raised:
        grpc_target(address, 9996)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("address", ["unix:", "unix-abstract:", "xds:", "ipv4:", "vsock:", "passthrough:"])
def test_a_scheme_alone_is_refused(address: str) -> None:
    with pytest.raises(UsageError):
        grpc_target(address, 9996)


@pytest.mark.parametrize(
    "port", ["", "0", "00000", "65536", "99999", "100000", "-1", "+1", "1.5", "http", "8_0", "８０"]
)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "dns:///host"])
def test_a_port_out_of_range_is_refused(host: str, port: str) -> None:
    with pytest.raises(UsageError, match=r"invalid port in .*: use a number from 1 to 65535"):
        grpc_target(f"{host}:{port}", 9996)


def test_the_error_for_a_long_address_is_short() -> None:
    with pytest.raises(UsageError) as raised:
        grpc_target("x" * 100_000, 9996)
    assert len(str(raised.value)) < 300
