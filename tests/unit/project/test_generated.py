"""The generated files: what is committed is what scripts/generate writes."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GENERATED = {
    "docker/compose.yaml",
    *(f"docker/envoy/{file.name}" for file in (ROOT / "docker/envoy").iterdir()),
    "docs/reference.md",
    *(f"hello_mesh/net/pb/landing_pb2{ending}" for ending in (".py", ".pyi", "_grpc.py", "_grpc.pyi")),
}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with newly generated files."""
    folder = tmp_path_factory.mktemp("generated")
    subprocess.run([ROOT / "scripts/generate", folder], check=True)
    return folder


def test_every_generated_file_is_listed(fresh: Path) -> None:
    files = (file for file in fresh.rglob("*") if file.is_file())
    assert {str(file.relative_to(fresh)) for file in files} == GENERATED


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_a_generated_file_is_up_to_date(fresh: Path, name: str) -> None:
    expected, committed = ((folder / name).read_text(encoding="utf-8") for folder in (fresh, ROOT))
    assert committed == expected, "run scripts/generate"
