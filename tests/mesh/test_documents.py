"""The shell blocks of the documents that run on one host: each one is run as it is written."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from documents import BLOCKS, ROOT, Block


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files that git knows, in which scripts/setup has nothing to do."""
    folder = tmp_path_factory.mktemp("checkout")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in filter(None, files.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(ROOT / name)
    # The scripts find their folder through the links, so that they use the environment of the tests.
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.tier == "local"], ids=str)
def test_a_local_block_does_what_the_document_says(block: Block, checkout: Path, tmp_path: Path) -> None:
    for name in ("run", "state", "tmp"):
        (tmp_path / name).mkdir(mode=0o700)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GRPC_", "OTEL_"))}
    folders = {"XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state", "TMPDIR": "tmp"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.code],
        cwd=checkout,
        env=clean | {key: str(tmp_path / name) for key, name in folders.items()},
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == block.exit_code, printed
    lines = [_without_values(line) for line in printed.splitlines()]
    for line in block.output.splitlines():
        assert any(_without_values(line) in each for each in lines), f"{line}\n\n{printed}"


def _without_values(line: str) -> str:
    """Return a line without ids and numbers, and without the width that depends on them."""
    return re.sub(r"[0-9a-f]{8,}(?:-[0-9a-f]{4,})*|[0-9]+(?:\.[0-9]+)*", "#", " ".join(line.split()))
