"""Addresses to listen on, and the error if one cannot be used."""

import errno

import pytest

from hello_mesh.base.listening import cannot_listen, is_ipv6, join_host_port


@pytest.mark.parametrize(
    ("host", "joined"),
    [
        ("localhost", "localhost:80"),
        ("127.0.0.1", "127.0.0.1:80"),
        ("::", "[::]:80"),
        ("fe80::1%eth0", "[fe80::1%eth0]:80"),
        ("[::1]", "[::1]:80"),
    ],
)
def test_an_ipv6_address_is_written_in_brackets(host: str, joined: str) -> None:
    assert join_host_port(host, 80) == joined


@pytest.mark.parametrize(
    "text", ["", "localhost", "1.2.3.4", "[::1]", "::1%", "::1%\n", "::1% x", "::g", ":::"]
)
def test_other_text_is_not_an_ipv6_address(text: str) -> None:
    assert not is_ipv6(text)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, "the port is in use, or the address does not belong to this host"),
        (OSError(errno.EADDRINUSE, "Address already in use"), "the port is in use"),
        (OSError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError("no number"), "no number"),
    ],
)
def test_the_error_has_the_address_the_reason_and_a_fix(error: OSError | None, reason: str) -> None:
    text = str(cannot_listen("::1", 80, "--port or --host", error))
    assert text == f"cannot listen on [::1]:80: {reason}; choose another with --port or --host"


def test_the_error_shows_an_untrusted_host_on_one_short_line() -> None:
    text = str(cannot_listen("\x1b[31m\n" * 1000, 80, "--host"))
    assert text.isprintable()
    assert len(text) < 1000
