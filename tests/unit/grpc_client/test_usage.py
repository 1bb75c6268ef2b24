"""What the command line refuses before anything is called: exit code 2 and one line that says why."""

import math
import sys

import pytest
from click.testing import CliRunner, Result

from grpc_client.cli import DEFAULT_TIMEOUT, _plan, main
from grpc_client.plan import PATTERNS, Pattern, Plan

COMMANDS = [*(pattern.command for pattern in PATTERNS), "all"]


def _invoke(*arguments: str, **env: str | None) -> Result:
    """With a server that nobody is asked to be: a port that is not right ends each call that begins."""
    return CliRunner().invoke(main, arguments, env={"GRPC_SERVER": None, "GRPC_SERVER_PORT": None} | env)


def _refused(result: Result) -> str:
    """The line that says why."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    *usage, why = result.stderr.splitlines()
    assert all(line.startswith(("Usage: ", "Try ")) or not line for line in usage)
    assert why.startswith("Error: ")
    assert why.isprintable()
    return why


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("no-colon", '"no-colon" has no colon: write key:value'),
        ("", "has no colon"),
        ("no\x1bcolon", r'"no\x1bcolon" has no colon'),
        (":value", "'' invalid header name"),
        (":path:value", "'' invalid header name"),
        ("a b:value", "'a b' invalid header name"),
        ("ü:value", "'ü' invalid header name"),
        ("x:", "the value of x use printable ASCII characters"),
        ("x: ", "the value of x must be"),
        ("x:a\nb", "the value of x must be"),
        ("x:ü", "the value of x must be"),
        ("x:\udcff", "the value of x must be"),
        ("te:trailers", "the header te belongs to the transport"),
        ("Grpc-Timeout:1S", "the header grpc-timeout belongs to the transport"),
        ("x-bin:no base64!", "the value of x-bin is no base64"),
        ("x-bin:YQ", "the value of x-bin is no base64"),
        ("x-bin:ü", "the value of x-bin is no base64"),
        ("\x1b[31m-bin:!", r"the value of \x1b[31m-bin is no base64"),
        ("x-bin:", "the value of x-bin must be"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(header: str, why: str) -> None:
    assert why in _refused(_invoke("talk", "--header", "x-fine:1", "--header", header))


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
        ("--retries", "5"),
        ("--retries", "-1"),
        ("--keepalive", "9.9"),
        ("--keepalive", "nan"),
        ("--compression", "brotli"),
        ("--output", "xml"),
        ("--data", "\udcff"),
        ("--meta", "\udcff"),
    ],
)
@pytest.mark.parametrize("command", ["talk-bidirectional", "all"])
def test_a_value_out_of_its_bounds_is_refused(command: str, option: str, value: str) -> None:
    _refused(_invoke(command, option, value))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_option_is_refused(command: str) -> None:
    assert "--bogus" in _refused(_invoke(command, "--bogus"))


def test_an_unknown_command_is_refused() -> None:
    assert "talkative" in _refused(_invoke("talkative"))


def test_an_argument_too_many_is_refused() -> None:
    assert "more" in _refused(_invoke("talk", "more"))


@pytest.mark.parametrize(
    ("variable", "value"), [("GRPC_SERVER", "http://x"), ("GRPC_SERVER_PORT", "0"), ("GRPC_SERVER_PORT", "x")]
)
def test_a_variable_is_checked_like_its_option(variable: str, value: str) -> None:
    _refused(_invoke("talk", **{variable: value}))


def test_a_folder_without_certificates_ends_with_3(tmp_path: object) -> None:
    result = _invoke("talk", "--secure", "--cert-base-path", str(tmp_path))
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: TLS is on, but {tmp_path}/client_certs/private.key is not there")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    result = _invoke(command, "--help")
    assert result.exit_code == 0
    for option in ("--server", "--header", "--expect-hops", "--retries", "--timeout", "GRPC_SERVER_PORT"):
        assert option in result.stdout


def test_the_client_explains_its_commands_and_exit_codes() -> None:
    result = _invoke("--help")
    assert result.exit_code == 0
    assert "64 + the gRPC code" in result.stdout
    for command in COMMANDS:
        assert command in result.stdout


def test_the_client_tells_its_version() -> None:
    result = _invoke("--version")
    assert result.exit_code == 0
    assert "version" in result.stdout


def _planned(pattern: Pattern, **options: object) -> Plan:
    settings: dict[str, object] = {
        "server": "localhost",
        "port": 9996,
        "secure": False,
        "cert_base_path": None,
        "data": None,
        "meta": "PYTHON",
        "count": None,
        "interval": 0.0,
        "timeout": None,
        "headers": (),
        "trace": True,
        "trace_headers": "w3c",
        "spans_to": None,
        "repeat": 1,
        "concurrency": 1,
        "compression": "none",
        "keepalive": None,
        "connect_timeout": None,
        "wait_for_ready": False,
        "retries": 0,
    }
    return _plan((pattern,), **(settings | options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rpc", "data", "count", "messages"),
    [
        ("Talk", None, None, ("0",)),
        ("Talk", "1,2", None, ("1,2",)),
        ("Talk", "1", 5, ("1",)),
        ("TalkOneAnswerMore", None, None, ("0,1,2",)),
        ("TalkOneAnswerMore", "4,5", 3, ("4,5,4",)),
        ("TalkOneAnswerMore", "0,,1", None, ("0,,1",)),
        ("TalkMoreAnswerOne", None, None, ("0", "1", "2")),
        ("TalkMoreAnswerOne", "4,5", 3, ("4", "5", "4")),
        ("TalkMoreAnswerOne", "4,5", 1, ("4",)),
        ("TalkBidirectional", "", None, ("",)),
        ("TalkBidirectional", "0,,1", None, ("0", "", "1")),
        ("TalkBidirectional", "x", 2, ("x", "x")),
    ],
)
def test_data_goes_out_as_it_was_written(
    rpc: str, data: str | None, count: int | None, messages: tuple[str, ...]
) -> None:
    (pattern,) = (pattern for pattern in PATTERNS if pattern.rpc == rpc)
    (talk,) = _planned(pattern, data=data, count=count).talks
    assert talk.messages == messages


@pytest.mark.parametrize(
    ("interval", "timeout", "planned"),
    [
        (0.0, None, DEFAULT_TIMEOUT),
        (5.0, None, DEFAULT_TIMEOUT + 10.0),
        (5.0, 3.0, 3.0),
        (5.0, 0.0, None),
    ],
)
def test_the_timeout_leaves_room_for_the_intervals(
    interval: float, timeout: float | None, planned: float | None
) -> None:
    found = _planned(PATTERNS[3], interval=interval, timeout=timeout).timeout
    assert (found is None) if planned is None else (found is not None and math.isclose(found, planned))


def test_importing_the_command_line_does_not_import_grpc() -> None:
    """So that it can quiet gRPC first."""
    import subprocess

    code = "import sys, grpc_client.cli; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
