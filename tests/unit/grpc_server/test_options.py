"""Options of the server and their variables."""

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from grpc_server.cli import main
from grpc_server.config import ServerConfig
from hello_mesh.base.errors import UsageError
from hello_mesh.propagation.headers import ExtraHeaders

# variable: (its value, the parameter, the parsed value), written out from the contract.
VARIABLES: dict[str, tuple[str, str, Any]] = {
    "GRPC_HELLO_NAME": ("svc1", "name", "svc1"),
    "GRPC_HELLO_HOST": ("127.0.0.1", "host", "127.0.0.1"),
    "GRPC_HELLO_PORT": ("0", "port", 0),
    "GRPC_HELLO_BACKEND": ("svc2", "backend", "svc2"),
    "GRPC_HELLO_BACKEND_PORT": ("50051", "backend_port", 50051),
    "GRPC_HELLO_SECURE": ("Y", "secure", True),
    "CERT_BASE_PATH": ("/certs", "cert_base_path", Path("/certs")),
    "GRPC_HELLO_FORWARD_HEADERS": ("x-a", "forward_headers", ExtraHeaders(frozenset({"x-a"}))),
    "GRPC_HELLO_FORWARD": ("0", "forward", False),
    "GRPC_HELLO_GRACE": ("2.5", "grace", 2.5),
    "GRPC_HELLO_LOG_FORMAT": ("json", "log_format", "json"),
    "GRPC_HELLO_LOG_LEVEL": ("WARNING", "log_level", "WARNING"),
}
OTHER_VARIABLES = {
    "GRPC_HELLO_VERSION": "1",
    "GRPC_HELLO_HELP": "1",
    "GRPC_HELLO_CERT_BASE_PATH": "/other",
    "GRPC_HELLO_EXTRA_HEADERS": "x-other",
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*VARIABLES, *OTHER_VARIABLES):
        monkeypatch.delenv(variable, raising=False)


def _parse(*options: str) -> dict[str, Any]:
    return main.make_context("hello-grpc-server", list(options)).params


@pytest.mark.parametrize("variable", VARIABLES)
def test_each_variable_sets_its_option_alone(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text, parameter, value = VARIABLES[variable]
    defaults = _parse()
    assert defaults[parameter] != value
    monkeypatch.setenv(variable, text)
    assert _parse() == defaults | {parameter: value}


def test_an_empty_variable_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = _parse()
    for variable in VARIABLES:
        monkeypatch.setenv(variable, "")
    assert _parse() == defaults


def test_options_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, (text, _, _) in VARIABLES.items():
        monkeypatch.setenv(variable, text)
    found = _parse("--name", "svc9", "--port", "1", "--plaintext", "--forward", "--cert-base-path", "/option")
    assert (found["name"], found["port"], found["secure"], found["forward"]) == ("svc9", 1, False, True)
    assert found["cert_base_path"] == Path("/option")


def test_no_other_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = _parse()
    for variable, text in OTHER_VARIABLES.items():
        monkeypatch.setenv(variable, text)
    assert _parse() == defaults  # --help and --version would exit


def test_a_link_to_a_service_of_kubernetes_is_not_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every pod gets these if Services in its namespace have the names grpc-hello and grpc-hello-backend."""
    defaults = _parse()
    for variable in ("GRPC_HELLO_PORT", "GRPC_HELLO_BACKEND_PORT"):
        monkeypatch.setenv(variable, "tcp://10.96.0.7:9996")
    assert _parse() == defaults


def test_the_help_page_shows_every_variable_and_no_other() -> None:
    shown = CliRunner().invoke(main, ["--help"], terminal_width=200).stdout
    assert set(re.findall(r"env var: (\w+)", shown)) == set(VARIABLES)


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\x1b", "x" * 254, "é" * 43])
def test_an_invalid_hop_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="invalid hop name") as raised:
        ServerConfig(name)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("name", ["a", "grpc-server-svc1", "two words", "x" * 253, "é" * 42])
def test_a_name_that_fits_into_a_report_is_accepted(name: str) -> None:
    assert ServerConfig(name).name == name
