"""Calls every pattern through a mesh with the installed client, and verifies each call: the responses, the
hop report, and the whole trace."""

import json
import subprocess
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import click

from hello_mesh.base.errors import EXIT_FAILED, RuntimeEnvironmentError, exit_code_of_status
from hello_mesh.base.text import LINE_WIDTH, count, excerpt
from hello_mesh.local.mesh import Mesh
from hello_mesh.local.processes import clean_environment, installed_command
from hello_mesh.local.requestor import REQUESTOR, export_spans
from hello_mesh.local.topology import GATEWAY_SERVICE, Topology, span_services
from hello_mesh.propagation.call_record import CallRecord
from hello_mesh.tracing import render
from hello_mesh.tracing.sources.sqlite import reading
from hello_mesh.tracing.verdict.expect import ExpectedSpan, expected_chain
from hello_mesh.tracing.verdict.verify import TraceVerdict, verify

Headers = Literal["w3c", "b3", "both"]

_CALL_SECONDS = 10.0
_TRACE_SECONDS = 10.0

# The client's exit codes if it could make the calls: success, mismatches, or a gRPC status.
_CALL_EXITS = {0, EXIT_FAILED, *map(exit_code_of_status, range(1, 17))}

# How many failed calls of each method are shown.
_SHOWN_CALLS = 3


@dataclass(frozen=True)
class CallPlan:
    """The calls to make."""

    headers: Headers = "w3c"
    """The headers in which each call starts its trace."""
    repeat: int = 1
    """How many times to call each pattern."""
    concurrency: int = 1
    """The maximum number of calls at the same time."""


@dataclass(frozen=True)
class ClientOutput:
    """What the client reported."""

    records: tuple[CallRecord, ...]
    """All calls, in their order."""
    hints: Mapping[str, str]
    """How to fix a mismatch, by the text of the mismatch."""


@dataclass(frozen=True)
class VerifiedCall:
    """A call, and the verdicts on it."""

    record: CallRecord
    expected: bool
    """Whether its status, responses and hop report are as expected, faults included."""
    trace: TraceVerdict

    @property
    def ok(self) -> bool:
        """Whether the call and its trace are as expected."""
        return self.expected and self.trace.comparison.ok


def check(mesh: Mesh, calls: CallPlan) -> bool:
    """Make the calls, print the verdicts, and return whether every call is as expected.

    A call is as expected if every hop handled it on one trace, or if it failed on one trace as a fault of
    the mesh requires.

    Raises:
        RuntimeEnvironmentError: the client cannot be run, the collector rejects the requestor's spans, or
            the spans cannot be read.
    """
    output = make_calls(mesh, calls)
    export_spans(output.records, mesh.collector_http)
    traces = verify_traces(mesh, output.records)
    verified = [
        VerifiedCall(record, is_expected(mesh.topology, record), traces[_trace_id(record)])
        for record in output.records
    ]
    for line in report_lines(verified, output.hints):
        click.echo(line)
    failed = [call for call in verified if not call.ok]
    if failed:
        click.secho(f"FAILED: {len(failed)} of {count(len(verified), 'call')}{suspect(failed)}", fg="red")
    else:
        click.secho(f"PASSED: {_summary(mesh.topology, verified)}", fg="green")
    return not failed


def make_calls(mesh: Mesh, calls: CallPlan) -> ClientOutput:
    """Make the calls with the installed client.

    Raises:
        RuntimeEnvironmentError: the client cannot be run.
    """
    command = [installed_command("hello-grpc-client"), "all", "--server", mesh.gateway, "--output", "json"]
    command += ["--expect-hops", ",".join(mesh.topology.hops), "--expect-sidecars"]
    command += ["--trace-headers", calls.headers]
    command += ["--repeat", str(calls.repeat), "--concurrency", str(calls.concurrency)]
    command += ["--timeout", f"{_CALL_SECONDS + _delay_seconds(mesh.topology):g}"]
    with subprocess.Popen(
        command,
        env={**clean_environment(), "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is for this process, which then kills the client
    ) as client:
        assert client.stdout is not None
        try:
            output = parse_output(client.stdout)
        except BaseException:
            client.kill()
            raise
    if client.returncode not in _CALL_EXITS:
        raise RuntimeEnvironmentError(
            f"hello-grpc-client failed with exit code {client.returncode}: see its message above"
        )
    return output


def parse_output(lines: Iterable[str]) -> ClientOutput:
    """Read the JSON lines of the client; lines of other events are skipped."""
    records: list[CallRecord] = []
    hints: dict[str, str] = {}
    for line in lines:
        values = json.loads(line)
        if values["event"] == "call":
            records.append(CallRecord.from_json(values))
        elif values["event"] == "checks":
            hints = {result["text"]: result["advice"] for result in values["checks"] if result["failed"]}
    return ClientOutput(tuple(sorted(records, key=lambda record: record.number)), hints)


def verify_traces(mesh: Mesh, records: Sequence[CallRecord]) -> dict[str, TraceVerdict]:
    """Return the verdict on the trace of each call, by trace id.

    Raises:
        RuntimeEnvironmentError: the spans cannot be read.
    """
    trace_ids: dict[int, list[str]] = defaultdict(list)
    for record in records:
        trace_ids[traced_hops(mesh.topology, record)].append(_trace_id(record))
    with reading(mesh.store) as store:
        return {
            verdict.trace_id: verdict
            for hops, ids in trace_ids.items()
            for verdict in verify(store, ids, expected_trace(mesh.topology, hops), _TRACE_SECONDS)
        }


def expected_trace(topology: Topology, hops: int) -> ExpectedSpan:
    """Return the span tree of a call that reached the sidecar of this many hops."""
    return expected_chain(span_services(topology.hops[:hops]), gateway=GATEWAY_SERVICE, requestor=REQUESTOR)


def traced_hops(topology: Topology, record: CallRecord) -> int:
    """Return how many hops must be in the trace: all, or those up to the fault that failed the call.

    The sidecar of a hop injects the fault, so this hop has a span but no hop report.
    """
    return len(record.hops) + 1 if _failed_by_fault(topology, record) else len(topology.hops)


def is_expected(topology: Topology, record: CallRecord) -> bool:
    """Return whether a call has the result that the topology gives it, faults included."""
    if record.mismatches:
        return _failed_by_fault(topology, record)
    return not any(fault.status and fault.percent == 100 for fault in topology.faults)  # noqa: PLR2004


def _failed_by_fault(topology: Topology, record: CallRecord) -> bool:
    """Return whether the first hop that did not report has a fault with the status of the call."""
    if record.status == 0 or len(record.hops) >= len(topology.hops):
        return False
    hop = topology.hops[len(record.hops)]
    return any(fault.hop == hop and fault.status == record.status for fault in topology.faults)


def _delay_seconds(topology: Topology) -> float:
    return sum(fault.delay_ms or 0 for fault in topology.faults) / 1000


def _trace_id(record: CallRecord) -> str:
    assert record.sent_trace_id is not None  # make_calls lets each call start a trace
    return record.sent_trace_id


def report_lines(calls: Sequence[VerifiedCall], hints: Mapping[str, str]) -> Iterator[str]:
    """Yield the result for each method: failed calls with a hint, or else one trace as an example.

    A hint is shown once, with the first call that it belongs to.
    """
    unused_hints = dict(hints)
    by_rpc: dict[str, list[VerifiedCall]] = defaultdict(list)
    for call in calls:
        by_rpc[call.record.rpc].append(call)
    for rpc, group in by_rpc.items():
        ok_traces = sum(call.trace.comparison.ok for call in group)
        title = f"{rpc}: {count(len(group), 'call')}, {count(ok_traces, 'OK trace')}"
        yield click.style(title, bold=True)
        failed = [call for call in group if not call.ok]
        for call in failed[:_SHOWN_CALLS]:
            yield from _failure_lines(call, unused_hints)
        if len(failed) > _SHOWN_CALLS:
            yield f"… and {count(len(failed) - _SHOWN_CALLS, 'more failed call')}\n"
        for label, call in () if failed else _examples(group):
            yield _wrapped(call.record.verdict.text)
            yield f"{label}{render.trace_text(call.trace.spans)}\n"


def _failure_lines(call: VerifiedCall, unused_hints: dict[str, str]) -> Iterator[str]:
    record = call.record
    if record.mismatches or call.expected:
        texts = record.mismatches or (record.verdict.text,)
    else:
        texts = ("succeeded, but --fault fails every call",)
    for text in texts:
        yield _wrapped(f"call {record.number}: {text}")
        if hint := unused_hints.pop(text, ""):
            yield _wrapped(f"→ {hint}")
    yield f"{render.verdict_text(call.trace)}\n"


def _examples(calls: Sequence[VerifiedCall]) -> Iterator[tuple[str, VerifiedCall]]:
    """Yield the slowest successful call and a failed one, each with a label if there are several."""
    succeeded = [call for call in calls if call.record.status == 0]
    failed = [call for call in calls if call.record.status != 0]
    if succeeded:
        label = "slowest: " if len(succeeded) > 1 else ""
        yield label, max(succeeded, key=lambda call: call.record.duration_ns)
    if failed:
        yield f"one of {len(failed)} calls that failed as expected: " if len(failed) > 1 else "", failed[0]


def suspect(failed: Iterable[VerifiedCall]) -> str:
    """Return a hint on the service that the first mismatch of most traces names; "" if there is none."""
    named = Counter(
        mismatch.service
        for call in failed
        for mismatch in call.trace.comparison.mismatches[:1]
        if mismatch.service
    )
    return f"; check {named.most_common(1)[0][0]}" if named else ""


def _summary(topology: Topology, calls: Sequence[VerifiedCall]) -> str:
    failed = sum(call.record.status != 0 for call in calls)
    faults = f"; {count(failed, 'call')} failed as --fault requires" if failed else ""
    hops = count(len(topology.hops), "hop")
    return f"{count(len(calls), 'call')} over {hops}, each call one connected trace{faults}"


def _wrapped(text: str) -> str:
    return textwrap.fill(excerpt(text, 300), LINE_WIDTH, subsequent_indent="  ", break_on_hyphens=False)
