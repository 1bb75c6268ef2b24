"""What the command line rejects before the first call: exit code 2 and one line with the reason."""

import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from grpc_client.cli import main
from grpc_client.plan import RPC_METHODS

PATTERNS = [*(method.command for method in RPC_METHODS), "all"]


def _invoke(*arguments: str, **env: str | None) -> Result:
    """Run the command line without the variables of this environment."""
    return CliRunner().invoke(main, arguments, env={"GRPC_SERVER": None, "GRPC_SERVER_PORT": None} | env)


def _error_of(result: Result) -> str:
    """Return the error line."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    *usage, reason = result.stderr.splitlines()
    assert all(line.startswith(("Usage: ", "Try ")) or not line for line in usage)
    assert reason.startswith("Error: ")
    assert reason.isprintable()
    return reason


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("no-colon", "header 'no-colon' has no colon: use KEY:VALUE"),
        ("", "has no colon"),
        ("no\x1bcolon", r"header 'no\x1bcolon' has no colon"),
        (":value", "header name"),
        (":path:value", "header name"),
        ("a b:value", "'a b'"),
        ("ü:value", "'ü'"),
        ("x:", "invalid value of header x: use one or more printable ASCII characters"),
        ("x: ", "invalid value of header x"),
        ("x:a\nb", "invalid value of header x"),
        ("x:ü", "invalid value of header x"),
        ("x:\udcff", "invalid value of header x"),
        ("te:trailers", "header te belongs to the transport"),
        ("Grpc-Timeout:1S", "header grpc-timeout belongs to the transport"),
        ("x-bin:no base64!", "invalid base64 in the value of x-bin"),
        ("x-bin:YQ", "invalid base64 in the value of x-bin"),
        ("x-bin:ü", "invalid base64 in the value of x-bin"),
        ("\x1b[31m-bin:!", r"invalid base64 in the value of \x1b[31m-bin"),
        ("x-bin:", "invalid value of header x-bin"),
    ],
)
def test_an_invalid_header_is_rejected(header: str, reason: str) -> None:
    assert reason in _error_of(_invoke("talk", "--header", "x-fine:1", "--header", header))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--port", "0"),
        ("--port", "65536"),
        ("--port", "http"),
        ("--server", ""),
        ("--server", "http://localhost:80"),
        ("--server", "localhost:0"),
        ("--server", "local host"),
        ("--server", "\x1b[31m"),
        ("--count", "0"),
        ("--count", "1000001"),
        ("--interval", "-1"),
        ("--interval", "nan"),
        ("--interval", "inf"),
        ("--timeout", "-0.1"),
        ("--timeout", "nan"),
        ("--timeout", "1s"),
        ("--repeat", "0"),
        ("--concurrency", "0"),
        ("--trace-headers", "zipkin"),
        ("--connect-timeout", "nan"),
        ("--expect-hops", " , "),
        ("--expect-hops", "?"),
        ("--expect-hops", "?, ?"),
        ("--output", "xml"),
        ("--data", "\udcff"),
        ("--meta", "\udcff"),
    ],
)
@pytest.mark.parametrize("pattern", ["talk-bidirectional", "all"])
def test_an_invalid_value_is_rejected(pattern: str, option: str, value: str) -> None:
    _error_of(_invoke(pattern, option, value))


@pytest.mark.parametrize("option", ["--retries", "--record", "--spans-to", "--bogus"])
def test_an_unknown_option_is_rejected(option: str) -> None:
    assert option in _error_of(_invoke("talk", option, "1"))


def test_an_unknown_pattern_is_rejected() -> None:
    assert "talkative" in _error_of(_invoke("talkative"))


def test_an_extra_argument_is_rejected() -> None:
    assert "more" in _error_of(_invoke("talk", "more"))


@pytest.mark.parametrize(
    ("variable", "value"), [("GRPC_SERVER", "http://x"), ("GRPC_SERVER_PORT", "0"), ("GRPC_SERVER_PORT", "x")]
)
def test_a_variable_is_validated_like_its_option(variable: str, value: str) -> None:
    _error_of(_invoke("talk", **{variable: value}))


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_a_link_to_a_service_of_kubernetes_is_not_a_port(scheme: str) -> None:
    """Every pod gets GRPC_SERVER_PORT if a Service in its namespace has the name grpc-server."""
    link = f"{scheme}://10.96.0.7:9996"
    result = _invoke("talk", "--connect-timeout", "0.1", "--server", "127.0.0.1", GRPC_SERVER_PORT=link)
    assert result.exit_code == 3, result.output
    assert "no connection to dns:///127.0.0.1:9996" in result.stderr
    _error_of(_invoke("talk", "--port", link))


def test_expected_sidecars_without_expected_hops_are_refused() -> None:
    error = _error_of(_invoke("talk", "--expect-sidecars"))
    assert error == "Error: --expect-sidecars checks nothing without --expect-hops: name the hops"


def test_a_folder_without_certificates_exits_with_3(tmp_path: object) -> None:
    result = _invoke("talk", "--secure", "--cert-base-path", str(tmp_path))
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert f"{tmp_path}/client_certs/private.key" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_help_has_every_pattern_option_and_exit_code() -> None:
    result = _invoke("--help")
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    for method in RPC_METHODS:
        assert [method.command, *method.help.split()] in lines, "each pattern is explained in one line"
    assert ["all"] in [line[:1] for line in lines]
    for option in ("--server", "--header", "--expect-hops", "--timeout", "GRPC_SERVER_PORT"):
        assert option in result.stdout
    assert "64 + N" in result.stdout


@pytest.mark.parametrize("pattern", PATTERNS)
def test_help_is_available_after_a_pattern(pattern: str) -> None:
    assert _invoke(pattern, "--help").stdout == _invoke("--help").stdout


def test_without_arguments_the_client_shows_its_help() -> None:
    result = _invoke()
    assert result.exit_code == 2
    assert "talk-bidirectional" in result.output


@pytest.mark.parametrize(
    "arguments", [("talk", "--data", "\udcff"), ("--data", "\udcff", "talk"), ("--data=\udcff", "talk")]
)
def test_options_are_accepted_before_and_after_the_pattern(arguments: tuple[str, ...]) -> None:
    assert "'--data'" in _error_of(_invoke(*arguments))


def test_the_client_shows_its_version() -> None:
    result = _invoke("--version")
    assert result.exit_code == 0
    assert "version" in result.stdout


def test_importing_the_command_line_does_not_import_grpc() -> None:
    """The command sets GRPC_VERBOSITY before that import."""
    code = "import sys, grpc_client.cli; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
