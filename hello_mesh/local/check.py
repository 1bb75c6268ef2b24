"""Calls every pattern through a mesh with the installed client, and judges each call: the answer, the hop
report, and the whole trace."""

import json
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local.mesh import Mesh
from hello_mesh.local.processes import environment, installed
from hello_mesh.local.topology import GATEWAY_SERVICE, Topology, services
from hello_mesh.tracing import render as report
from hello_mesh.tracing.sources.sqlite import reading
from hello_mesh.tracing.verdict.expect import ExpectedSpan, expected_chain
from hello_mesh.tracing.verdict.verify import TraceVerdict, verify

REQUESTOR = "local-requestor"
"""The service of the client's own spans."""

RECORD = "calls.jsonl"
"""The file in which the client tells how each call went."""

Headers = Literal["w3c", "b3", "both"]

_CALL_SECONDS = 10.0
_TRACE_SECONDS = 10.0

# The client's exit codes for calls that were not as expected, or failed: 1, and 64 + a gRPC status.
_CALL_EXITS = {0, 1, *range(65, 81)}

# Of many traces that are wrong, so many are shown in full.
_SHOWN_TRACES = 3


@dataclass(frozen=True)
class Calls:
    """Which calls to make."""

    headers: Headers = "w3c"
    """In which headers each says where its trace begins."""
    repeat: int = 1
    """How often each pattern is called."""
    concurrency: int = 1
    """How many calls at once."""


@dataclass(frozen=True)
class Call:
    """A call that was made, as the client tells it."""

    rpc: str
    status: int
    trace_id: str
    hops: int
    """How many hops reported."""
    mismatches: tuple[str, ...]
    """What the client found wrong."""


def check(mesh: Mesh, calls: Calls, folder: Path) -> bool:
    """Prints what the client prints, the verdict on the trace of each call, and in one line how it went.

    Args:
        mesh: what to call.
        calls: which calls.
        folder: takes the client's record.

    Returns:
        Whether every call was answered rightly by every hop, or failed as a fault wants, on one whole trace.

    Raises:
        RuntimeEnvironmentError: the client cannot be run, or the spans cannot be read.
    """
    made = make(mesh, calls, folder / RECORD)
    verdicts = judge(mesh, made)
    _show(made, verdicts)
    bad = [
        call for call in made if _is_wrong(mesh.topology, call) or not verdicts[call.trace_id].comparison.ok
    ]
    if bad:
        click.secho(f"FAILED: {len(bad)} of {_count(len(made), 'call')}{_suspect(verdicts)}", fg="red")
    else:
        click.secho(f"PASSED: {_summary(mesh.topology, made)}", fg="green")
    return not bad


def wanted(topology: Topology, hops: int) -> ExpectedSpan:
    """The tree of a call that came as far as the sidecar of the hop with this number."""
    way = services(topology.hops[:hops])
    return expected_chain(way, gateway=GATEWAY_SERVICE, requestor=REQUESTOR)


def reached(topology: Topology, call: Call) -> int:
    """How many hops a call should have a trace of: all, or those up to the fault that failed it."""
    return call.hops + 1 if _is_fault(topology, call) else len(topology.hops)


def make(mesh: Mesh, calls: Calls, record: Path) -> list[Call]:
    """Makes the calls with the installed client, which prints what it prints and writes its record.

    Raises:
        RuntimeEnvironmentError: the client cannot be run.
    """
    command = [installed("hello-grpc-client"), "all", "--server", mesh.gateway, "--record", str(record)]
    command += ["--expect-hops", ",".join(mesh.topology.hops), "--expect-sidecars"]
    command += ["--trace-headers", calls.headers, "--spans-to", f"http://{mesh.collector_grpc}"]
    command += ["--repeat", str(calls.repeat), "--concurrency", str(calls.concurrency)]
    command += ["--timeout", f"{_CALL_SECONDS + _delays(mesh.topology):g}"]
    # A session of its own: Ctrl-C is for us, who end the client.
    code = subprocess.run(command, check=False, env=environment(), start_new_session=True).returncode
    if code not in _CALL_EXITS:
        raise RuntimeEnvironmentError(f"the client ended with exit code {code}")
    return [_call(json.loads(line)) for line in record.read_text(encoding="utf-8").splitlines()]


def _delays(topology: Topology) -> float:
    return sum(fault.delay_ms or 0 for fault in topology.faults) / 1000


def _call(values: dict[str, Any]) -> Call:
    return Call(
        rpc=values["rpc"],
        status=values["status"],
        trace_id=values["sent_trace_id"],
        hops=len(values["hops"]),
        mismatches=tuple(values["mismatches"]),
    )


def _is_fault(topology: Topology, call: Call) -> bool:
    """Whether a call failed where, and as, a fault wants it: at the first hop that does not report."""
    if call.status == 0 or call.hops >= len(topology.hops):
        return False
    hop = topology.hops[call.hops]
    return any(fault.hop == hop and fault.status == call.status for fault in topology.faults)


def _is_wrong(topology: Topology, call: Call) -> bool:
    """Whether a call went otherwise than it should; the client has said how."""
    must_fail = any(fault.status and fault.percent == 100 for fault in topology.faults)  # noqa: PLR2004
    return call.status == 0 and must_fail if not call.mismatches else not _is_fault(topology, call)


def judge(mesh: Mesh, made: Sequence[Call]) -> dict[str, TraceVerdict]:
    """The verdict on the trace of each call, by its id.

    Raises:
        RuntimeEnvironmentError: the spans cannot be read.
    """
    ids: dict[int, list[str]] = defaultdict(list)
    for call in made:
        ids[reached(mesh.topology, call)].append(call.trace_id)
    with reading(mesh.store) as store:
        return {
            verdict.trace_id: verdict
            for hops, trace_ids in ids.items()
            for verdict in verify(store, trace_ids, wanted(mesh.topology, hops), _TRACE_SECONDS)
        }


def _show(made: Sequence[Call], verdicts: dict[str, TraceVerdict]) -> None:
    by_rpc: dict[str, list[Call]] = defaultdict(list)
    for call in made:
        by_rpc[call.rpc].append(call)
    for rpc, calls in by_rpc.items():
        bad = [call for call in calls if not verdicts[call.trace_id].comparison.ok]
        good = len(calls) - len(bad)
        click.secho(f"{rpc}: {good} of {_count(len(calls), 'trace')} as wanted", bold=True)
        for call in bad[:_SHOWN_TRACES]:
            click.echo(f"{report.verdict_text(verdicts[call.trace_id])}\n")
        for what, verdict in _examples(calls, verdicts) if not bad else ():
            click.echo(f"{what}{report.trace_text(verdict.spans)}\n")


def _examples(calls: Sequence[Call], verdicts: dict[str, TraceVerdict]) -> Iterator[tuple[str, TraceVerdict]]:
    """Of traces that are all as wanted, those to look at, each with a word before it."""
    well = [verdicts[call.trace_id] for call in calls if call.status == 0]
    failed = [verdicts[call.trace_id] for call in calls if call.status != 0]
    if well:
        yield "the slowest: " if len(well) > 1 else "", max(well, key=_duration)
    if failed:
        yield f"one of {len(failed)} that failed: " if len(failed) > 1 else "", failed[0]


def _duration(verdict: TraceVerdict) -> int:
    return max(span.end_ns for span in verdict.spans) - min(span.start_ns for span in verdict.spans)


def _suspect(verdicts: dict[str, TraceVerdict]) -> str:
    """The service that most findings name."""
    named = Counter(
        mismatch.service
        for verdict in verdicts.values()
        for mismatch in verdict.comparison.mismatches[:1]
        if mismatch.service
    )
    return f"; look at {named.most_common(1)[0][0]}" if named else ""


def _summary(topology: Topology, made: Sequence[Call]) -> str:
    failed = sum(call.status != 0 for call in made)
    faults = f", {failed} of them failed as --fault wants" if failed else ""
    return (
        f"{_count(len(made), 'call')} over {_count(len(topology.hops), 'hop')}, each one whole trace{faults}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
