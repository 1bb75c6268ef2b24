"""The documents: their length, their links, their commands, and the layout that they show."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
from documents import BLOCKS, DOCUMENTS, ROOT, Block, prose

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
WRITTEN = [document for document in DOCUMENTS if document.name != "reference.md"]
"""The documents that are not generated."""

# Which file runs a command of an `images` or `tests` block, and the text in it that does so.
PROOFS = {
    "scripts/setup --dev": ("scripts/check", "scripts/setup --dev"),
    "scripts/test": (".ci/run", "exec scripts/test"),
    "scripts/test tests/unit": ("scripts/test", 'exec .venv/bin/python -m pytest "$@"'),
    "docker/build.sh": ("tests/images/conftest.py", "docker/build.sh"),
    **{
        f"docker compose --file docker/compose.yaml {command}": ("tests/images/test_compose_up.py", call)
        for command, call in {
            "up --detach": 'compose("up", "--detach")',
            "--profile client run --rm client": 'compose("--profile", "client", "run", "--rm", "client")',
            "down": 'compose("down"',
        }.items()
    },
}
PYTEST = ".venv/bin/python -m pytest "


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


@pytest.mark.parametrize("document", WRITTEN, ids=lambda path: path.name)
def test_lines_have_at_most_120_characters(document: Path) -> None:
    lines = [line for line in prose(document).splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > 120] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_is_a_command_of_a_tier_or_no_command(document: Path) -> None:
    fences = re.findall(r"^ *```+(.*)$", _text(document), re.MULTILINE)
    opening, closing = fences[::2], fences[1::2]
    assert set(closing) <= {""}
    known = re.compile(r"sh (local|cluster|images|tests)|text|yaml|mermaid|python \S+")
    assert [info for info in opening if not known.fullmatch(info)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_shell_block_is_found(document: Path) -> None:
    assert _text(document).count("```sh") == sum(block.document == document for block in BLOCKS)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.tier in {"images", "tests"}], ids=str)
def test_the_commands_of_images_and_of_tests_have_a_test(block: Block) -> None:
    """tests/mesh and tests/cluster run the other blocks themselves."""
    for line in block.code.splitlines():
        file, text = PROOFS[line] if line in PROOFS else (line.removeprefix(PYTEST), "def test_")
        assert text in _text(ROOT / file), line


# The changelog names what is gone.
SPANS = sorted(
    {
        span
        for document in DOCUMENTS
        if document.name != "CHANGELOG.md"
        for span in re.findall(r"`([^`\n]+)`", prose(document))
    }
)
"""The code spans in all documents."""


@pytest.mark.parametrize(
    "line", [span for span in SPANS if re.match(r"(?:\.venv/bin/)?hello-grpc-[a-z]+ [^…]+$", span)], ids=str
)
def test_a_command_in_a_code_span_parses(line: str) -> None:
    name, *arguments = shlex.split(re.sub(r"\b(TRACE_)?ID\b", "0" * 32, line.removeprefix(".venv/bin/")))
    command = COMMANDS[name]
    if isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    command.make_context(name, arguments, resilient_parsing=not arguments)


def test_every_option_in_a_code_span_exists() -> None:
    scripts = (["./apply.sh"], ["./test.sh"], ["docker/build.sh"])
    shown = [
        subprocess.run([*script, "--help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for script in scripts
    ]
    known = "".join([*shown, _text(ROOT / "docs/reference.md"), _text(ROOT / "scripts/setup")])
    option = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
    named = {found for span in SPANS for found in option.findall(span)}
    assert named - set(option.findall(known)) == set()


def test_every_path_in_a_code_span_exists() -> None:
    folders = "|".join(folder.name for folder in ROOT.iterdir() if folder.is_dir() and folder.name[0] != ".")
    path = re.compile(rf"(?:\./[\w.-]+|(?:{folders})/[\w./-]+)(?= |$)")
    named = {found[0] for span in SPANS if (found := path.match(span))}
    assert len(named) > 20
    assert {name for name in named if not (ROOT / name).exists()} == set()


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
