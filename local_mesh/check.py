"""Calls every pattern through a chain with the installed client, which judges each call."""

import subprocess
from collections.abc import Sequence

import click

from local_mesh.chain import HOST, RunningHop
from local_mesh.process import environment, installed, tail


def check(hops: Sequence[RunningHop]) -> bool:
    """Enters the chain at each of its hops, the last one first, so that the first way that fails shows
    which hop is at fault. Prints what the client prints.

    Returns:
        Whether every call was answered rightly, by the hops it should meet, on one trace.
    """
    for start in reversed(range(len(hops))):
        way = [hop.name for hop in hops[start:]]
        click.secho(f"== {' → '.join(way)}", bold=True)
        entry = f"{HOST}:{hops[start].port}"
        client = [installed("hello-grpc-client"), "all", "--server", entry, "--expect-hops", ",".join(way)]
        code = subprocess.run(client, check=False, env=environment()).returncode
        if code:
            click.secho(f"FAILED: {' → '.join(way)} (the client ended with exit code {code})", fg="red")
            for hop in hops[start:]:
                click.echo(f"last lines of {hop.name}:\n{tail(hop.process.log)}")
            return False
    ways = f"{len(hops)} ways" if len(hops) > 1 else "1 way"
    click.secho(f"PASSED: all four patterns on {ways}, each call answered and on one trace", fg="green")
    return True
