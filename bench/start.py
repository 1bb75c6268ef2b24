"""Measure how long a user waits: until `up` is ready, and until `test.sh local` is done.

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

# The goals of the project in seconds, on two cores.
GOALS = {"up to ready": 3.0, "test.sh local": 15.0}


def main() -> None:
    """Print the median and the maximum of several runs of each command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5, help="how many times to measure each")
    times = parser.parse_args().times
    subprocess.run([ROOT / "scripts/setup", "--dev"], check=True)
    with tempfile.TemporaryDirectory(prefix="hello-grpc-bench-") as folder:
        report("up to ready", [seconds_to_ready(folder) for _ in range(times)])
        report("test.sh local", [run_timed([ROOT / "test.sh", "local"], folder) for _ in range(times)])


def seconds_to_ready(folder: str) -> float:
    """Start a mesh in the background, stop it, and return the seconds until it was ready."""
    seconds = run_timed([MESH, "up", "--detach", "--gateway-port", "0"], folder)
    run_timed([MESH, "down"], folder)
    return seconds


def run_timed(command: Sequence[str | Path], folder: str) -> float:
    """Run a command that must succeed, and return its duration in seconds."""
    settings = {"GRPC_HELLO_RUN_DIR": f"{folder}/run", "GRPC_HELLO_TRACES": f"{folder}/traces.db"}
    started = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | settings)
    return time.monotonic() - started


def report(name: str, seconds: Sequence[float]) -> None:
    """Print a line with the results."""
    median, maximum = statistics.median(seconds), max(seconds)
    sys.stdout.write(f"{name:<14} median {median:5.2f} s, max {maximum:5.2f} s (goal: {GOALS[name]:g} s)\n")


if __name__ == "__main__":
    main()
