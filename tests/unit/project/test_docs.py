"""The documents: their length, their links, their commands, and the layout that they show."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
from documents import BLOCKS, DOCUMENTS, ROOT, Block

import grpc_client.cli
import grpc_server.cli
import hello_mesh.local.cli
import hello_mesh.tracing.cli
from hello_mesh.propagation.verdict import VerdictKind
from hello_mesh.tracing.verdict.expect import MismatchKind

COMMANDS: dict[str, click.Command] = {
    "hello-grpc-client": grpc_client.cli.main,
    "hello-grpc-server": grpc_server.cli.main,
    "hello-grpc-mesh": hello_mesh.local.cli.main,
    "hello-grpc-traces": hello_mesh.tracing.cli.main,
}
TIERS = {"local", "cluster", "images", "tests"}


def _text(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def test_the_readme_has_at_most_150_lines() -> None:
    assert len(_text(ROOT / "README.md").splitlines()) <= 150


def test_every_document_is_linked() -> None:
    linked = {
        (document.parent / target).resolve() for document in DOCUMENTS for target, _ in _links(document)
    }
    assert set(DOCUMENTS) - linked == {ROOT / "README.md"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target, anchor in _links(document):
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path), f"{target}#{anchor}"


def _links(document: Path) -> list[tuple[str, str]]:
    """Return the path and the anchor of each link to a file of the repository."""
    found = re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", _text(document))
    return [(target, anchor) for target, anchor in found if target or anchor]


def _anchors(document: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", _text(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_every_shell_block_has_a_tier_that_runs_it(block: Block) -> None:
    assert block.tier in TIERS


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.tier == "cluster"], ids=str)
def test_the_options_in_cluster_blocks_exist(block: Block) -> None:
    """tests/cluster runs the scripts themselves, against API servers."""
    for line in block.code.replace("\\\n", " ").splitlines():
        script, *words = shlex.split(line, comments=True) or [""]
        if not script.startswith(("./", "docker/")):
            continue
        shown = subprocess.run(
            [ROOT / script, "--help"], check=True, capture_output=True, text=True, cwd=ROOT
        ).stdout
        if "--" in words:  # the rest goes to the client, or to the build tool
            words = words[: words.index("--")]
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= set(re.findall(r"--[a-z-]+", shown)), line


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.tier == "images"], ids=str)
def test_the_commands_in_image_blocks_are_those_of_the_image_tests(block: Block) -> None:
    """tests/images runs docker/build.sh and the compose file with the real tools."""
    for line in block.code.splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == "docker/build.sh":
            options = {word for word in words[1:] if word.startswith("--")}
            assert "--" in options or options <= {"--name", "--tag", "--push"}
        else:
            assert words[:4] == ["docker", "compose", "--file", "docker/compose.yaml"]
            assert {"up", "run", "down"} & set(words)


def test_the_test_blocks_are_what_ci_runs() -> None:
    lines = [line for block in BLOCKS if block.tier == "tests" for line in block.code.splitlines()]
    for line in lines:
        script, *words = line.split()
        if script == ".venv/bin/python":
            assert words[:2] == ["-m", "pytest"], line
            words = words[2:]
        else:
            assert script in {"scripts/setup", "scripts/test"}, line
        assert all(word == "--dev" or (ROOT / word).exists() for word in words), line
    assert "exec scripts/test\n" in _text(ROOT / ".ci/run")
    assert "scripts/setup --dev\n" in _text(ROOT / "scripts/check")


def _spans(document: Path) -> list[str]:
    """Return the command lines of ours in code spans; blocks are run elsewhere."""
    spans = re.findall(r"`(hello-grpc-[a-z]+ [^`]*)`", _text(document))
    return [span for span in spans if not re.search(r"…|TRACE_ID|\$|\.\.\.", span)]


@pytest.mark.parametrize(
    "line",
    # The changelog names removed commands.
    sorted({line for each in DOCUMENTS if each.stem != "CHANGELOG" for line in _spans(each)}),
    ids=str,
)
def test_the_commands_in_documents_parse(line: str) -> None:
    name, *arguments = shlex.split(line.replace(" ID", f" {'0' * 32}"))
    command = COMMANDS[name]
    if isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    command.make_context(name, arguments, resilient_parsing=not arguments)


def test_every_verdict_and_mismatch_is_explained() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", _text(ROOT / "docs/troubleshooting.md"), re.MULTILINE)
    assert {str(kind) for kind in (*VerdictKind, *MismatchKind)} <= set(rows)


def test_the_components_in_the_documents_exist() -> None:
    form = re.compile(r"^\| component \|.*\n\|[-| ]+\n((?:\|.*\n)+)", re.MULTILINE)
    table = form.search(_text(ROOT / "docs/cluster.md"))
    assert table
    named = re.findall(r"^\| `([a-z-]+)` \|", table[1], re.MULTILINE)
    assert sorted(named) == sorted(folder.name for folder in (ROOT / "kube/components").iterdir())


def test_the_layout_in_the_readme_is_true() -> None:
    tree = _text(ROOT / "README.md").partition("## Layout")[2].partition("```text\n")[2].partition("```")[0]
    rows = dict(re.findall(r"^(\w+)/ +(.*)$", tree, re.MULTILINE))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    shipped = {line.partition("/")[0] for line in tracked.stdout.splitlines() if "/" in line}
    assert set(rows) == {name for name in shipped if not name.startswith(".")}
    for folder in ("hello_mesh", "tests"):
        named = set(rows[folder].split(", "))
        assert all((ROOT / folder / name).is_dir() for name in named), folder
