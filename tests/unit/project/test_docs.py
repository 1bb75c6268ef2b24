"""What the documents say is true."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

import grpc_client.cli
import grpc_server.cli
import hello_mesh.local.cli
import hello_mesh.tracing.cli
from grpc_client.plan import RPC_METHODS
from hello_mesh.propagation.verdict import VerdictKind

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _section(title: str) -> str:
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _options(command: click.Command) -> dict[str, tuple[str, str]]:
    """Each option with its variable and its default, as the README writes them; "" where there is none, or
    where a group's commands differ."""
    if isinstance(command, click.Group):
        merged: dict[str, tuple[str, str]] = {}
        for inner in command.commands.values():
            for name, (variable, default) in _options(inner).items():
                known = merged.setdefault(name, (variable, default))
                merged[name] = (variable, default if known[1] == default else "")
        return merged
    defaults = command.make_context("", [], resilient_parsing=True).params
    found = {}
    for option in command.params:
        if option.name in defaults and isinstance(option, click.Option):
            name = "/".join(f"`{spelling}`" for spelling in (*option.opts, *option.secondary_opts))
            found[name] = (
                f"`{option.envvar}`" if option.envvar else "",
                _default(option, defaults[option.name]),
            )
    return found


def _default(option: click.Option, value: object) -> str:
    if isinstance(option.show_default, str) or value is None:
        return ""
    if option.secondary_opts:
        return f"`{(option.opts if value else option.secondary_opts)[0].lstrip('-')}`"
    return "" if value in ("", (), {}, False) else f"`{value}`"


def _table(section: str) -> dict[str, tuple[str, str]]:
    rows = re.findall(r"^\| (`--[^|]*?) \| ([^|]*?) ?\| ([^|]*?) ?\| .+ \|$", section, re.MULTILINE)
    return {name: (variable, default) for name, variable, default in rows}


TABLES = {
    "The client": grpc_client.cli.main,
    "The server": grpc_server.cli.main,
    "The mesh": hello_mesh.local.cli.main,
    "The traces": hello_mesh.tracing.cli.main,
}


@pytest.mark.parametrize("title", TABLES)
def test_the_table_of_options_is_that_of_the_command(title: str) -> None:
    told, true = _table(_section(title)), _options(TABLES[title])
    assert told.keys() == true.keys()
    for name, (variable, default) in true.items():
        assert told[name][0] == variable, name
        if default:
            assert told[name][1] == default, name


@pytest.mark.parametrize("title", ["The mesh", "The traces"])
def test_every_command_of_a_group_is_told(title: str) -> None:
    told = re.findall(r"^\| `([a-z]+)` \|", _section(title), re.MULTILINE)
    group: click.Group = TABLES[title]  # type: ignore[assignment]
    assert sorted(told) == sorted(group.commands)


def test_every_pattern_and_verdict_is_told() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| `(\w+)` \|", _section("The four patterns"), re.MULTILINE)
    assert rows == [(pattern.command, pattern.rpc) for pattern in RPC_METHODS]
    kinds = re.findall(r"^\| `([a-z-]+)` \|", _section("The way of a call"), re.MULTILINE)
    assert sorted(kinds) == sorted(VerdictKind)


COMMANDS = {
    "hello-grpc-client": grpc_client.cli.main,
    "hello-grpc-server": grpc_server.cli.main,
    "hello-grpc-mesh": hello_mesh.local.cli.main,
    "hello-grpc-traces": hello_mesh.tracing.cli.main,
}


@pytest.mark.parametrize("line", re.findall(r"^\.venv/bin/.*", README, re.MULTILINE))
def test_the_commands_shown_are_understood(line: str) -> None:
    name, *arguments = shlex.split(line.removeprefix(".venv/bin/"))
    command: click.Command = COMMANDS[name]
    if isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    command.make_context(name, arguments)  # raises where an option is unknown or a value wrong


SCRIPT = r"^(?:\./)?(apply\.sh|test\.sh|scripts/\w+|docker/build\.sh)"


def test_the_scripts_shown_are_there() -> None:
    shown = set(re.findall(SCRIPT, README, re.MULTILINE))
    assert shown == {"apply.sh", "test.sh", "scripts/test", "docker/build.sh"}
    for name in shown:
        assert (ROOT / name).stat().st_mode & 0o111


@pytest.mark.parametrize("line", sorted(set(re.findall(rf"{SCRIPT}( .+)", README, re.MULTILINE))), ids=str)
def test_the_options_shown_of_a_script_are_those_that_its_help_tells(line: tuple[str, str]) -> None:
    script, arguments = line
    target = ["local"] if arguments.startswith(" local") else []
    told = subprocess.run(
        [ROOT / script, *target, "--help"], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    shown = re.findall(r" (--[a-z-]+)", arguments)
    assert [option for option in shown if not re.search(rf"{option}\b", told) and option != "--delete"] == []


def test_the_components_shown_are_those_that_there_are() -> None:
    told = re.findall(r"^\| `([a-z-]+)` \|", _section("In a cluster"), re.MULTILINE)
    assert sorted(told) == sorted(folder.name for folder in (ROOT / "kube/components").iterdir())


def test_the_tree_is_the_tree() -> None:
    tree = _section("The tree").partition("```text\n")[2].partition("```")[0]
    folders = re.findall(r"^(\w+)/", tree, re.MULTILINE)
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    shipped = {line.partition("/")[0] for line in tracked.stdout.splitlines() if "/" in line}
    assert set(folders) == {name for name in shipped if not name.startswith(".")}
    files = set(re.findall(r"[\w.]+\.\w+|LICENSE", tree.partition("\n")[0]))
    assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize("document", ["README.md", "RATIONALE.md"])
def test_links_lead_somewhere(document: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text(encoding="utf-8"))
    assert all((ROOT / target).exists() for target in targets)
