"""Whole meshes: real calls through real Envoys."""

import contextlib
import itertools
import re
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from grpc_client.calls import Outcome
from grpc_client.plan import RPC_METHODS
from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local.check import CallPlan, check, make_calls, verify_traces
from hello_mesh.local.components import installed_envoy
from hello_mesh.local.mesh import RunningMesh, running_mesh
from hello_mesh.local.ports import reserved_ports
from hello_mesh.local.requestor import REQUESTOR, export_spans
from hello_mesh.local.topology import Topology, hop_names, parse_fault
from hello_mesh.propagation.call_record import CallRecord
from hello_mesh.propagation.hop_report import encode
from hello_mesh.tracing.sources.sqlite import reading
from hello_mesh.tracing.span import SpanKind
from hello_mesh.tracing.verdict.expect import MismatchKind
from hello_mesh.tracing.verdict.verify import TraceVerdict

MeshOf = Callable[..., RunningMesh]
TRACERS = ("w3c", "b3")


def called(live: RunningMesh, calls: CallPlan) -> tuple[tuple[CallRecord, ...], dict[str, TraceVerdict]]:
    """Return the records of the calls and the verdicts on their traces."""
    records = make_calls(live.mesh, calls).records
    export_spans(records, live.mesh.collector_http)
    return records, verify_traces(live.mesh, records)


@pytest.mark.parametrize(("tracer", "hops"), list(itertools.product(TRACERS, (1, 3, 5))))
def test_every_call_is_one_tree_of_the_expected_shape(mesh_of: MeshOf, tracer: Any, hops: int) -> None:
    live = mesh_of(hops, tracer=tracer)
    records, verdicts = called(live, CallPlan(tracer, repeat=20))
    assert [record.mismatches for record in records if record.mismatches] == []
    assert [verdict for verdict in verdicts.values() if not verdict.comparison.ok] == []
    assert len(verdicts) == len(records) == 20 * len(RPC_METHODS)
    # The requestor, the gateway, each hop in and out; the last calls nobody.
    assert {len(verdict.spans) for verdict in verdicts.values()} == {1 + 1 + 2 * hops - 1}
    assert {record.verdict.kind for record in records} == {"connected"}
    contexts = [(record, getattr(hop, tracer)) for record in records for hop in record.hops]
    assert len(contexts) == hops * len(records)
    assert all(context.trace_id == record.sent_trace_id for record, context in contexts)


DROPS = [(tracer, hops, at) for tracer in TRACERS for hops in (3, 5) for at in range(1, hops)]


@pytest.mark.parametrize(("tracer", "hops", "at"), DROPS)
def test_a_hop_that_drops_the_headers_is_named_by_every_verdict(
    mesh_of: MeshOf, tracer: Any, hops: int, at: int
) -> None:
    dropping = f"grpc-server-svc{at}"
    live = mesh_of(hops, tracer=tracer, no_forward_hop=dropping)
    records, verdicts = called(live, CallPlan(tracer, repeat=5))
    assert len(records) == 20
    assert {(record.verdict.kind, record.verdict.hop) for record in records} == {("broken", dropping)}
    for verdict in verdicts.values():
        first = verdict.comparison.mismatches[0]
        assert (first.kind, first.service) == (MismatchKind.NOT_FORWARDED, f"{dropping}.grpc-tracing")
        assert verdict.fragments


def test_two_hundred_concurrent_calls_share_no_span(mesh_of: MeshOf) -> None:
    live = mesh_of(3)
    records, verdicts = called(live, CallPlan("w3c", repeat=50, concurrency=200))
    assert len(records) == len(verdicts) == 200
    assert [verdict for verdict in verdicts.values() if not verdict.comparison.ok] == []
    spans = [span for verdict in verdicts.values() for span in verdict.spans]
    assert len({span.span_id for span in spans}) == len(spans) == 200 * 7
    requests = [{span.request_id for span in verdict.spans} - {None} for verdict in verdicts.values()]
    assert all(len(ids) == 1 for ids in requests)
    assert len(set.union(*requests)) == 200


def test_a_client_may_send_both_families_in_one_call(mesh_of: MeshOf) -> None:
    for tracer in TRACERS:
        live = mesh_of(2, tracer=tracer)
        records, verdicts = called(live, CallPlan("both"))
        assert all(verdict.comparison.ok for verdict in verdicts.values())
        for record in records:
            assert record.mismatches == ()
            families = [(hop.w3c, hop.b3) for hop in record.hops]
            assert {context and context.trace_id for both in families for context in both} == {
                record.sent_trace_id
            }


def test_the_span_of_the_requestor_is_the_call_as_the_client_saw_it(mesh_of: MeshOf) -> None:
    live = mesh_of(3)
    records, verdicts = called(live, CallPlan())
    for record in records:
        (root,) = [span for span in verdicts[record.sent_trace_id or ""].spans if span.service == REQUESTOR]
        assert (root.span_id, root.parent_id, root.kind) == (record.sent_span_id, None, SpanKind.CLIENT)
        assert (root.start_ns, root.duration_ns) == (record.start_ns, record.duration_ns)
        assert root.name == f"org.feuyeux.grpc.LandingService/{record.rpc}"
        assert root.attributes["hello.hops"] == [encode(hop) for hop in record.hops]
        assert len(record.hops) == 3


def test_a_delay_is_seen_at_its_hop(mesh_of: MeshOf) -> None:
    live = mesh_of(3, faults=(parse_fault("svc2=delay:300ms"),))
    records, verdicts = called(live, CallPlan())
    assert [record.mismatches for record in records if record.mismatches] == []
    for verdict in verdicts.values():
        assert verdict.comparison.ok
        by_hop = {(span.service, span.kind): span.duration_ns / 1e6 for span in verdict.spans}
        assert by_hop["grpc-server-svc2.grpc-tracing", SpanKind.SERVER] >= 300
        assert by_hop["grpc-server-svc3.grpc-tracing", SpanKind.SERVER] < 300


def test_a_call_that_a_fault_fails_is_one_tree_up_to_the_fault(
    mesh_of: MeshOf, capfd: pytest.CaptureFixture[str]
) -> None:
    live = mesh_of(3, faults=(parse_fault("svc2=abort:14@50%"),))
    assert check(live.mesh, CallPlan(repeat=25))
    shown = capfd.readouterr().out
    assert re.search(r"^PASSED: 100 calls .*; \d+ calls? failed as --fault requires$", shown, re.MULTILINE)
    assert "slowest: trace " in shown
    assert "✗ 14 UNAVAILABLE" in shown


def test_a_call_that_fails_with_another_status_than_the_fault_is_a_mismatch(mesh_of: MeshOf) -> None:
    live = mesh_of(2, faults=(parse_fault("svc2=abort:7"),))
    assert check(live.mesh, CallPlan())
    other = Topology(live.mesh.topology.hops, faults=(parse_fault("svc2=abort:14"),))
    pretended = type(live.mesh)(**(vars(live.mesh) | {"topology": other}))
    assert not check(pretended, CallPlan())


def test_a_successful_call_that_a_fault_should_fail_is_a_mismatch(mesh_of: MeshOf) -> None:
    live = mesh_of(2)
    faulty = Topology(live.mesh.topology.hops, faults=(parse_fault("svc2=abort:14"),))
    assert not check(type(live.mesh)(**(vars(live.mesh) | {"topology": faulty})), CallPlan())


def test_a_failed_check_shows_mismatches_a_hint_once_and_the_broken_trace(
    mesh_of: MeshOf, capfd: pytest.CaptureFixture[str]
) -> None:
    live = mesh_of(3, no_forward_hop="grpc-server-svc2")
    assert not check(live.mesh, CallPlan(repeat=10))
    shown = capfd.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == "Talk: 10 calls, 0 OK traces"
    assert lines[1].startswith("call 1: broken at grpc-server-svc2: ")
    assert shown.count("→ grpc-server-svc2 does not propagate the trace headers") == 1
    assert shown.count("… and 7 more failed calls\n") == len(RPC_METHODS)
    assert lines[-1] == "FAILED: 40 of 40 calls; check grpc-server-svc2.grpc-tracing"


def test_a_passed_check_of_many_calls_is_short(mesh_of: MeshOf, capfd: pytest.CaptureFixture[str]) -> None:
    live = mesh_of(3)
    assert check(live.mesh, CallPlan(repeat=50, concurrency=8))
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) < 60
    assert max(map(len, lines)) <= 80
    assert lines[0] == "Talk: 50 calls, 50 OK traces"
    assert lines[1].startswith("connected: one trace (W3C) over 3 hops")
    assert lines[-1] == "PASSED: 200 calls over 3 hops, each call one connected trace"


Ask = Callable[..., Any]


def _inbound(live: RunningMesh, hop: str) -> str:
    return next(each.address for each in live.mesh.components if each.name == f"{hop}-sidecar")


@pytest.mark.parametrize("tracer", TRACERS)
async def test_plaintext_to_a_sidecar_is_refused(mesh_of: MeshOf, ask: Ask, tracer: Any) -> None:
    live = mesh_of(2, tracer=tracer)
    for hop in live.mesh.topology.hops:
        outcome: Outcome = await ask(_inbound(live, hop), RPC_METHODS[0])
        assert (outcome.code, outcome.hops) == (grpc.StatusCode.UNAVAILABLE, ())
    assert (await ask(live.mesh.gateway, RPC_METHODS[0])).ok


def test_a_caller_without_a_certificate_is_refused(mesh_of: MeshOf) -> None:
    live = mesh_of(2)
    host, _, port = _inbound(live, "grpc-server-svc1").rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as encrypted:
        # In TLS 1.3 a client learns of the refusal when it reads.
        with pytest.raises(ssl.SSLError, match="certificate required"):
            encrypted.recv(1)


def _files(pid: int) -> Iterator[str]:
    """Yield the open files of a process."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed by now
            yield str(link.readlink())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_everything_listens_on_loopback_only(mesh_of: MeshOf) -> None:
    live = mesh_of(2)
    pids = {each.pid for each in live.mesh.components}
    inodes = {name for pid in pids for name in _files(pid)}
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes
    ]
    assert len(listening) >= len(pids)
    # 127.0.0.1, as it is or as an IPv6 address
    assert {address.partition(":")[0][-16:] for address in listening} <= {"0100007F", "FFFF00000100007F"}


def test_a_mesh_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    false = tmp_path / "envoy"
    false.write_text("#!/bin/sh\necho no such option >&2\nexit 1\n")
    false.chmod(0o755)
    topology = Topology(hop_names(2), gateway_port=0)
    with pytest.raises(RuntimeEnvironmentError, match=r"svc1-sidecar exited with code 1 .*: no such option"):
        with running_mesh(topology, tmp_path, tmp_path / "traces.db", false):
            raise AssertionError("it never was ready")
    assert "stopped" in (tmp_path / "grpc-server-svc1.log").read_text()


def test_when_a_mesh_stops_its_processes_exit_and_its_spans_stay(tmp_path: Path, still_alive: Any) -> None:
    topology = Topology(hop_names(1), gateway_port=0)
    with running_mesh(topology, tmp_path, tmp_path / "traces.db", installed_envoy()) as live:
        records, verdicts = called(live, CallPlan())
        assert live.first_exited() is None
    assert still_alive(live.mesh) == []
    assert all(verdict.comparison.ok for verdict in verdicts.values())
    with reading(tmp_path / "traces.db") as store:
        assert all(len(store.trace(record.sent_trace_id or "")) == 3 for record in records)


def test_no_other_program_gets_a_reserved_port() -> None:
    with reserved_ports(3) as ports:
        assert len(set(ports)) == 3
        for port in ports:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))


def test_a_mesh_that_is_ready_answers_its_first_calls(tmp_path: Path) -> None:
    """A listener that accepts is ready: no call right after the start fails."""
    topology = Topology(hop_names(2), gateway_port=0)
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        with running_mesh(topology, folder, folder / "traces.db", installed_envoy()) as live:
            records, _ = called(live, CallPlan())
        assert [record.code for record in records] == ["OK"] * 4
