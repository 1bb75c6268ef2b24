"""How long a user waits: from `up` until the mesh is ready, and for all of `test.sh local`.

python bench/start.py [--times N]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
MESH = Path(sys.executable).with_name("hello-grpc-mesh")

# What the project aims at, on two cores.
GOALS = {"up to ready": 3.0, "test.sh local": 15.0}


def main() -> None:
    """Prints the median and the slowest of several runs of each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5, help="how often to measure each")
    times = parser.parse_args().times
    subprocess.run([ROOT / "scripts/setup", "--dev"], check=True)
    with tempfile.TemporaryDirectory(prefix="hello-grpc-bench-") as folder:
        report("up to ready", [up(folder) for _ in range(times)])
        report("test.sh local", [timed([ROOT / "test.sh", "local"], folder) for _ in range(times)])


def up(folder: str) -> float:
    """Seconds until a mesh in the background is ready; it is ended again."""
    seconds = timed([MESH, "up", "--detach", "--gateway-port", "0"], folder)
    timed([MESH, "down"], folder)
    return seconds


def timed(command: Sequence[str | Path], folder: str) -> float:
    """Seconds that a command takes which must succeed."""
    settings = {"XDG_RUNTIME_DIR": folder, "GRPC_HELLO_TRACES": f"{folder}/traces.db"}
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | settings)
    return time.monotonic() - started


def report(what: str, seconds: Sequence[float]) -> None:
    """A line for what was measured."""
    middle, slowest = statistics.median(seconds), max(seconds)
    sys.stdout.write(f"{what:<14} {middle:5.2f} s, at most {slowest:5.2f} s (aim: {GOALS[what]:g} s)\n")


if __name__ == "__main__":
    main()
