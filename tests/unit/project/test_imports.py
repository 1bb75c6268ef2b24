"""Dependencies point one way: which package, and which room of `hello_mesh`, may import which."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
MAY_IMPORT = {
    "hello_mesh.base": set(),
    "hello_mesh.net": {"hello_mesh.base"},
    "hello_mesh.propagation": {"hello_mesh.base", "hello_mesh.net"},
    "hello_mesh.tracing": {"hello_mesh.base"},
    "hello_mesh.local": {"hello_mesh.base", "hello_mesh.net", "hello_mesh.propagation", "hello_mesh.tracing"},
    "grpc_server": {"hello_mesh.base", "hello_mesh.net", "hello_mesh.propagation"},
    "grpc_client": {"hello_mesh.base", "hello_mesh.net", "hello_mesh.propagation"},
}


def _room(module: str) -> str:
    """Return the room that a module belongs to; "" for a module of another project."""
    names = module.split(".")
    if names[0] == "hello_mesh":
        return ".".join(names[:2])
    return names[0] if names[0] in MAY_IMPORT else ""


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_from_rooms_below_it(room: str) -> None:
    found = {_room(module) for file in _files(room) for module in _imported(file)} - {""}
    assert found <= MAY_IMPORT[room] | {room}


def test_every_package_and_room_is_listed() -> None:
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    rooms = {f"hello_mesh.{file.parent.name}" for file in ROOT.glob("hello_mesh/*/__init__.py")}
    assert packages == {room.partition(".")[0] for room in MAY_IMPORT}
    assert rooms == {room for room in MAY_IMPORT if room.startswith("hello_mesh.")}
    assert all((ROOT / package / "py.typed").is_file() for package in packages)


def test_the_greetings_know_no_grpc() -> None:
    modules = _imported(ROOT / "grpc_server/greetings.py")
    room = "hello_mesh.base"
    assert modules == {"collections.abc", f"{room}.errors", f"{room}.languages", f"{room}.text"}


def test_only_commands_read_the_environment() -> None:
    readers = {
        str(file.relative_to(ROOT))
        for room in MAY_IMPORT
        for file in _files(room)
        if "os.environ" in file.read_text(encoding="utf-8")
    }
    assert readers == {
        "hello_mesh/base/cli.py",  # quiets gRPC
        "hello_mesh/local/processes.py",  # passes the environment on to child processes
        "hello_mesh/local/cli.py",  # default folders
        "hello_mesh/tracing/options.py",
    }


def _files(room: str) -> list[Path]:
    return list((ROOT / room.replace(".", "/")).rglob("*.py"))


def _imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from hello_mesh import base` names a room, too.
            names |= (
                {f"hello_mesh.{alias.name}" for alias in node.names}
                if node.module == "hello_mesh"
                else {node.module}
            )
    return names
