"""The committed code is what the contract generates."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    subprocess.run([ROOT / "scripts/generate", tmp_path], check=True)
    fresh = {
        file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "hello_mesh/net/pb").iterdir()
    }
    committed = {
        file.name: file.read_text(encoding="utf-8")
        for file in (ROOT / "hello_mesh/net/pb").glob("landing_pb2*")
        if file.is_file()
    }
    assert committed.keys() == {
        "landing_pb2.py",
        "landing_pb2.pyi",
        "landing_pb2_grpc.py",
        "landing_pb2_grpc.pyi",
    }
    assert fresh == committed, "run scripts/generate"
