"""One name, one meaning: no two modules define the same name at module level."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Names that mean the same wherever they stand: the entry point of a command, a module's logger, and the
# decoder of each format, which is always called with its module's name in front.
SHARED = {"main", "_logger", "from_json"}


def test_no_name_is_defined_in_two_modules() -> None:
    modules: dict[str, set[str]] = defaultdict(set)
    for package in ("hello_mesh", "grpc_server", "grpc_client"):
        for file in (ROOT / package).rglob("*.py"):
            if file.parent.name != "pb":
                for name in _defined(ast.parse(file.read_text(encoding="utf-8"))):
                    modules[name].add(str(file.relative_to(ROOT)))
    twins = {name: sorted(files) for name, files in modules.items() if len(files) > 1}
    assert {name: files for name, files in twins.items() if name not in SHARED} == {}


def _defined(tree: ast.Module) -> set[str]:
    names = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names
