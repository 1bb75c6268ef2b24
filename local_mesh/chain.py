"""A chain of servers, each the next one's caller."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from local_mesh.process import Running, installed, program

HOST = "127.0.0.1"
NAMES = ("grpc-server-svc1", "grpc-server-svc2", "grpc-server-svc3")
"""The hops of the demo, first hop first."""


@dataclass(frozen=True)
class RunningHop:
    """A server that accepts calls on loopback."""

    name: str
    port: int
    process: Running


@contextmanager
def running(names: Sequence[str] = NAMES, drop_at: str | None = None) -> Iterator[tuple[RunningHop, ...]]:
    """The chain `names`, first hop first, on free ports; nothing of it is left when the context ends.

    Args:
        names: the hops, each the next one's caller.
        drop_at: the hop that forwards no headers, where there is to be one.

    Raises:
        MachineError: a server cannot be started.
    """
    with ExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory(prefix="hello-grpc-")))
        hops: list[RunningHop] = []
        for name in reversed(names):  # a hop is told its next hop's port, so the last one comes first
            command = [installed("hello-grpc-server"), "--name", name, "--host", HOST, "--port", "0"]
            if hops:
                command += ["--backend", f"{HOST}:{hops[-1].port}"]
            if name == drop_at:
                command.append("--no-forward")
            process = stack.enter_context(program(name, command, logs / f"{name}.log", "listening on port"))
            hops.append(RunningHop(name, int(process.ready_line.rpartition(" ")[2]), process))
        yield tuple(reversed(hops))
