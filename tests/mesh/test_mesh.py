"""Whole meshes: what real Envoys make of real calls."""

import contextlib
import itertools
import json
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from grpc_client.calls import Outcome
from grpc_client.plan import PATTERNS
from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.local.check import RECORD, Call, Calls, check, judge, make
from hello_mesh.local.identity import born
from hello_mesh.local.mesh import RunningMesh, installed_envoy, running_mesh
from hello_mesh.local.ports import reserved
from hello_mesh.local.topology import Topology, hop_names, parse_fault
from hello_mesh.tracing.sources.sqlite import reading
from hello_mesh.tracing.span import SpanKind
from hello_mesh.tracing.verdict.expect import MismatchKind
from hello_mesh.tracing.verdict.verify import TraceVerdict

MeshOf = Callable[..., RunningMesh]
TRACERS = ("w3c", "b3")
TRACE_OF_A_HOP = {"w3c": "trace", "b3": "b3-trace"}


def called(
    live: RunningMesh, calls: Calls, folder: Path
) -> tuple[list[Call], dict[str, TraceVerdict], list[Any]]:
    """What the calls of a test became: as the client tells, the verdicts on their traces, and the record."""
    made = make(live.mesh, calls, folder / RECORD)
    record = [json.loads(line) for line in (folder / RECORD).read_text().splitlines()]
    return made, judge(live.mesh, made), record


@pytest.mark.parametrize(("tracer", "hops"), list(itertools.product(TRACERS, (1, 3, 5))))
def test_every_call_is_one_tree_of_the_wanted_shape(
    mesh_of: MeshOf, tracer: Any, hops: int, tmp_path: Path
) -> None:
    live = mesh_of(hops, tracer=tracer)
    made, verdicts, record = called(live, Calls(tracer, repeat=20), tmp_path)
    assert [call.mismatches for call in made if call.mismatches] == []
    assert [verdict for verdict in verdicts.values() if not verdict.comparison.ok] == []
    assert len(verdicts) == len(made) == 20 * len(PATTERNS)
    # The requestor, the gateway, each hop in and out; the last calls nobody.
    assert {len(verdict.spans) for verdict in verdicts.values()} == {1 + 1 + 2 * hops - 1}
    assert {line["verdict"]["kind"] for line in record} == {"connected"}
    key = TRACE_OF_A_HOP[tracer]
    assert all(hop[key] == line["sent_trace_id"] for line in record for hop in line["hops"])


DROPS = [(tracer, hops, at) for tracer in TRACERS for hops in (3, 5) for at in range(1, hops)]


@pytest.mark.parametrize(("tracer", "hops", "at"), DROPS)
def test_a_hop_that_drops_the_headers_is_named_by_every_verdict(
    mesh_of: MeshOf, tracer: Any, hops: int, at: int, tmp_path: Path
) -> None:
    dropping = f"grpc-server-svc{at}"
    live = mesh_of(hops, tracer=tracer, drop_at=dropping)
    made, verdicts, record = called(live, Calls(tracer, repeat=5), tmp_path)
    assert len(made) == 20
    assert {(line["verdict"]["kind"], line["verdict"]["hop"]) for line in record} == {("broken", dropping)}
    for verdict in verdicts.values():
        first = verdict.comparison.mismatches[0]
        assert (first.kind, first.service) == (MismatchKind.NOT_FORWARDED, f"{dropping}.grpc-tracing")
        assert verdict.pieces


def test_two_hundred_calls_at_once_share_no_span(mesh_of: MeshOf, tmp_path: Path) -> None:
    live = mesh_of(3)
    made, verdicts, _ = called(live, Calls("w3c", repeat=50, concurrency=200), tmp_path)
    assert len(made) == len(verdicts) == 200
    assert [verdict for verdict in verdicts.values() if not verdict.comparison.ok] == []
    spans = [span for verdict in verdicts.values() for span in verdict.spans]
    assert len({span.span_id for span in spans}) == len(spans) == 200 * 7
    requests = [{span.request_id for span in verdict.spans} - {None} for verdict in verdicts.values()]
    assert all(len(ids) == 1 for ids in requests)
    assert len(set.union(*requests)) == 200


def test_a_client_may_send_both_families(mesh_of: MeshOf, tmp_path: Path) -> None:
    for tracer in TRACERS:
        assert check(mesh_of(2, tracer=tracer).mesh, Calls("both"), tmp_path)


def test_a_delay_is_seen_at_its_hop(mesh_of: MeshOf, tmp_path: Path) -> None:
    live = mesh_of(3, faults=(parse_fault("svc2=delay:300ms"),))
    made, verdicts, _ = called(live, Calls(), tmp_path)
    assert [call.mismatches for call in made if call.mismatches] == []
    for verdict in verdicts.values():
        assert verdict.comparison.ok
        by_hop = {(span.service, span.kind): span.duration_ns / 1e6 for span in verdict.spans}
        assert by_hop["grpc-server-svc2.grpc-tracing", SpanKind.SERVER] >= 300
        assert by_hop["grpc-server-svc3.grpc-tracing", SpanKind.SERVER] < 300


def test_a_call_that_a_fault_fails_is_one_tree_down_to_it(
    mesh_of: MeshOf, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    live = mesh_of(3, faults=(parse_fault("svc2=abort:14@50%"),))
    assert check(live.mesh, Calls(repeat=25), tmp_path)
    shown = capfd.readouterr().out
    assert "of them failed as --fault wants" in shown
    assert "✗ 14 UNAVAILABLE" in shown
    codes = {json.loads(line)["code"] for line in (tmp_path / RECORD).read_text().splitlines()}
    assert codes == {"OK", "UNAVAILABLE"}


def test_a_call_that_fails_otherwise_than_the_fault_is_wrong(mesh_of: MeshOf, tmp_path: Path) -> None:
    live = mesh_of(2, faults=(parse_fault("svc2=abort:7"),))
    assert check(live.mesh, Calls(), tmp_path)
    other = Topology(live.mesh.topology.hops, faults=(parse_fault("svc2=abort:14"),))
    pretended = type(live.mesh)(**(vars(live.mesh) | {"topology": other}))
    assert not check(pretended, Calls(), tmp_path)


def test_calls_that_a_fault_should_fail_and_that_go_well_are_wrong(mesh_of: MeshOf, tmp_path: Path) -> None:
    live = mesh_of(2)
    faulty = Topology(live.mesh.topology.hops, faults=(parse_fault("svc2=abort:14"),))
    assert not check(type(live.mesh)(**(vars(live.mesh) | {"topology": faulty})), Calls(), tmp_path)


Ask = Callable[..., Any]


def _inbound(live: RunningMesh, hop: str) -> str:
    return next(part.address for part in live.mesh.parts if part.name == f"{hop}-sidecar")


@pytest.mark.parametrize("tracer", TRACERS)
async def test_plaintext_to_a_sidecar_is_refused(mesh_of: MeshOf, ask: Ask, tracer: Any) -> None:
    live = mesh_of(2, tracer=tracer)
    for hop in live.mesh.topology.hops:
        outcome: Outcome = await ask(_inbound(live, hop), PATTERNS[0])
        assert (outcome.code, outcome.hops) == (grpc.StatusCode.UNAVAILABLE, ())
    assert (await ask(live.mesh.gateway, PATTERNS[0])).ok


async def test_without_mtls_a_sidecar_takes_plaintext(mesh_of: MeshOf, ask: Ask) -> None:
    live = mesh_of(2, mtls=False)
    assert (await ask(_inbound(live, "grpc-server-svc1"), PATTERNS[0])).ok


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
    """What a process has open, as the system names it."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed by now
            yield str(link.readlink())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_is_on_other_addresses_than_loopback(mesh_of: MeshOf) -> None:
    live = mesh_of(2)
    pids = {part.pid for part in live.mesh.parts}
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
    with pytest.raises(
        RuntimeEnvironmentError, match=r"svc1-sidecar ended with exit code 1 .*: no such option"
    ):
        with running_mesh(topology, tmp_path, tmp_path / "traces.db", false):
            raise AssertionError("it never was ready")
    assert "stopped" in (tmp_path / "grpc-server-svc1.log").read_text()


def test_when_it_ends_all_of_it_ends_and_the_spans_stay(tmp_path: Path) -> None:
    topology = Topology(hop_names(1), gateway_port=0)
    with running_mesh(topology, tmp_path, tmp_path / "traces.db", installed_envoy()) as live:
        made, verdicts, _ = called(live, Calls(), tmp_path)
        pids = [part.pid for part in live.mesh.parts]
        assert live.dead() is None
    assert [pid for pid in pids if born(pid) is not None] == []
    assert all(verdict.comparison.ok for verdict in verdicts.values())
    with reading(tmp_path / "traces.db") as store:
        assert all(len(store.trace(call.trace_id)) == 3 for call in made)


def test_reserved_ports_are_nobody_elses() -> None:
    with reserved(3) as ports:
        assert len(set(ports)) == 3
        for port in ports:
            with socket.socket() as other, pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
