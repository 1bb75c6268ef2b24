"""Options and errors that all command lines share."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from hello_mesh.base.cli import (
    CONTEXT_SETTINGS,
    Command,
    Group,
    Seconds,
    all_options,
    certificates,
    comma_separated,
    output_option,
    parsed_by,
    tls_options,
)
from hello_mesh.base.errors import HopReportError, RuntimeEnvironmentError, StoreError, UsageError

FAILURES = pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (UsageError("invalid port: use a number"), 2, "Error: invalid port: use a number\n"),
        (RuntimeEnvironmentError("file not found: create it"), 3, "Error: file not found: create it\n"),
        (StoreError("disk full: free space"), 3, "Error: disk full: free space\n"),
        (HopReportError("invalid hop report"), 3, "Error: invalid hop report\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)


def _run(command: click.Command, *arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(command, arguments, env=variables)


def _failing(error: BaseException) -> Any:
    def fail() -> None:
        raise error

    return fail


@FAILURES
def test_a_command_shows_an_error_as_one_line(error: BaseException, code: int, shown: str) -> None:
    result = _run(click.command(cls=Command)(_failing(error)))
    assert result.exit_code == code
    assert result.stderr.endswith(shown)
    assert "Traceback" not in result.stderr
    assert bool(result.stderr) is bool(shown)


@FAILURES
def test_a_group_shows_an_error_of_its_commands_as_one_line(
    error: BaseException, code: int, shown: str
) -> None:
    group = Group("group")
    group.command("fail")(_failing(error))
    result = _run(group, "fail")
    assert result.exit_code == code
    assert result.stderr.endswith(shown)
    assert "Traceback" not in result.stderr


def _greet() -> None:
    click.echo("你好")


@pytest.mark.parametrize("arguments", [[], ["greet"]], ids=["command", "group"])
def test_a_terminal_without_the_characters_gets_escapes(arguments: list[str]) -> None:
    command: click.Command = Command("greet", callback=_greet)
    if arguments:
        command = Group("group", {"greet": command})
    result = CliRunner(charset="latin-1").invoke(command, arguments)
    assert (result.exit_code, result.stdout) == (0, "\\u4f60\\u597d\n")


def test_a_prefix_for_variables_gives_help_none() -> None:
    command = Command("c", callback=_greet, context_settings=CONTEXT_SETTINGS | {"auto_envvar_prefix": "X"})
    option = command.get_help_option(command.make_context("c", []))
    assert option is not None
    assert option.allow_from_autoenv is False
    assert "Usage:" not in _run(command, X_HELP="1").stdout
    assert "Usage:" in _run(command, "-h").stdout


@click.command(cls=Command)
@click.option("--names", callback=parsed_by(comma_separated))
@click.option("--each", multiple=True, callback=parsed_by(comma_separated))
def parsing(names: tuple[str, ...] | None, each: tuple[tuple[str, ...], ...]) -> None:
    """Print the parsed values."""
    click.echo(f"{names} {each}")


def test_each_value_of_an_option_is_parsed() -> None:
    assert _run(parsing).stdout == "None ()\n"
    result = _run(parsing, "--names", " a, ,b ", "--each", "c", "--each", "d,e")
    assert result.stdout == "('a', 'b') (('c',), ('d', 'e'))\n"


@pytest.mark.parametrize("option", ["--names", "--each"])
def test_a_value_that_cannot_be_parsed_is_reported_with_its_option(option: str) -> None:
    result = _run(parsing, option, " , ")
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': the list is empty: give at least one name" in result.stderr


@click.command(cls=Command)
@all_options(
    click.option("--seconds", type=Seconds(0, 10), default=1.5),
    output_option,
    tls_options,
)
def options(seconds: float, output: str, secure: bool, cert_base_path: Path) -> None:
    """Print the options."""
    click.echo(f"{seconds} {output} {certificates(secure, cert_base_path)}")


def test_options_keep_their_order_on_the_help_page() -> None:
    names = [option.name for option in options.params]
    assert names == ["seconds", "output", "secure", "cert_base_path"]


def test_without_options_the_output_is_text_and_the_connection_plaintext() -> None:
    assert _run(options).stdout == "1.5 text None\n"


def test_variables_choose_tls_and_its_folder_and_options_win() -> None:
    variables = {"GRPC_HELLO_SECURE": "Y", "CERT_BASE_PATH": "/variable"}
    assert _run(options, **variables).stdout == "1.5 text /variable\n"
    assert _run(options, "--cert-base-path", "/option", **variables).stdout == "1.5 text /option\n"
    assert _run(options, "--plaintext", **variables).stdout == "1.5 text None\n"
    assert _run(options, "--secure").stdout == "1.5 text /var/hello_grpc\n"


@pytest.mark.parametrize("seconds", ["nan", "NaN", "-1", "11", "inf", "soon"])
def test_an_invalid_number_of_seconds_is_refused(seconds: str) -> None:
    result = _run(options, "--seconds", seconds)
    assert result.exit_code == 2
    assert "Invalid value for '--seconds'" in result.stderr
