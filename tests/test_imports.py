"""Knowledge points one way: which package may know which."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "landing": set(),
    "grpc_server": {"landing"},
    "grpc_client": {"landing"},
    "tracing": {"landing"},
    "local_mesh": {"landing", "tracing"},
}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_it_may_know(package: str) -> None:
    found = {
        name
        for file in (ROOT / package).rglob("*.py")
        for name in _imported(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found & MAY_IMPORT.keys() <= MAY_IMPORT[package] | {package}


def test_the_domain_knows_no_grpc() -> None:
    assert _imported(ast.parse((ROOT / "grpc_server/greetings.py").read_text(encoding="utf-8"))) == {
        "collections",
        "landing",
    }


def test_every_package_is_held_to_it_and_shipped() -> None:
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    assert packages == MAY_IMPORT.keys()
    assert all((ROOT / package / "py.typed").is_file() for package in packages)


def test_only_commands_read_the_environment() -> None:
    readers = {
        str(file.relative_to(ROOT))
        for package in MAY_IMPORT
        for file in (ROOT / package).rglob("*.py")
        if "os.environ" in file.read_text(encoding="utf-8")
    }
    # One quiets gRPC, one passes the environment on to the programs that it starts; and two commands look
    # where the system wants files to be.
    assert readers == {
        "landing/command.py",
        "local_mesh/cli.py",
        "local_mesh/process.py",
        "tracing/options.py",
    }


def _imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names
