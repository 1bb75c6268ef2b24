"""test.sh with the real kubectl and fake API servers. The address of the gateway is that of a local mesh."""

import asyncio
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from meshes import ADDRESS, Meshes, run_in_mesh
from planes import Planes
from script_runs import NAMESPACE, ROOT, PlanesOf, fails, left_running, messages, run, start, succeeds

from hello_mesh.local import envoy
from hello_mesh.local.components import installed_envoy
from hello_mesh.local.envoy import Addresses, Config
from hello_mesh.local.processes import guarded, program_group
from hello_mesh.local.topology import GATEWAY_SERVICE, Topology, hop_names, parse_fault, span_services
from hello_mesh.tracing.sources.sqlite import reading
from hello_mesh.tracing.verdict.expect import expected_chain
from hello_mesh.tracing.verdict.verify import verify

apply = partial(run, "apply.sh")
prove = partial(run, "test.sh")

CHECKS = ("answers", "path", "trace", "sidecars", "sampled")


@pytest.fixture
def deployed(asm: Planes) -> Planes:
    """Apply the demo to an ACK cluster and an ASM instance whose gateway has ADDRESS."""
    asm.cluster.behaviour.load_balancer = {"ip": ADDRESS}
    succeeds(apply(asm))
    return asm


def _checks(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    """Return the state of each check: ok, FAILED or -."""
    return {
        name: state
        for state, name in re.findall(rf"^  (ok|FAILED|-) +({'|'.join(CHECKS)}) ", done.stdout, re.MULTILINE)
    }


def test_a_connected_chain_passes_and_its_traces_are_shown(deployed: Planes, mesh_at: Meshes) -> None:
    mesh = mesh_at()
    done = prove(deployed)
    succeeds(done)
    assert _checks(done) == dict.fromkeys(CHECKS, "ok")
    trace_ids = re.findall(r"^trace id: ([0-9a-f]{32})", done.stdout, re.MULTILINE)
    assert len(set(trace_ids)) == 4
    # The client exports no span, so the span of the gateway is the root.
    expected = expected_chain(span_services(hop_names(3)), gateway=GATEWAY_SERVICE)
    with reading(mesh.mesh.store) as store:
        assert [one.comparison.mismatches for one in verify(store, trace_ids, expected, 10.0)] == [()] * 4
    passed = f"PASSED through the gateway {ADDRESS}:9999: each call was one trace over all hops"
    assert done.stdout.splitlines()[-1] == f"{passed}, with a new parent span at each"


def test_it_changes_nothing(deployed: Planes, mesh_at: Meshes) -> None:
    mesh_at()
    with deployed.cluster.nothing_changes(), deployed.mesh.nothing_changes():
        succeeds(prove(deployed))


@pytest.mark.parametrize("shell", [["sh"], ["dash"], ["bash", "--posix"]], ids=" ".join)
def test_it_runs_in_every_shell(deployed: Planes, mesh_at: Meshes, shell: list[str]) -> None:
    mesh_at()
    succeeds(prove(deployed, under=shell))


def test_many_calls_are_counted_and_available_as_json(deployed: Planes, mesh_at: Meshes) -> None:
    mesh_at()
    options = ("--repeat", "5", "--concurrency", "3")
    done = prove(deployed, *options)
    succeeds(done)
    assert "checks of 20 calls" in done.stdout
    assert len(re.findall(r"^ {12}[0-9a-f]{32}$", done.stdout, re.MULTILINE)) == 16
    done = prove(deployed, *options, "--", "--output", "json")
    succeeds(done)
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len({event["trace_id"] for event in events if event["event"] == "call"}) == 20


@pytest.mark.parametrize("tracer", ["w3c", "b3"])
def test_both_tracers_pass(deployed: Planes, mesh_at: Meshes, tracer: str) -> None:
    mesh_at(tracer=tracer)
    done = prove(deployed)
    succeeds(done)
    assert _checks(done) == dict.fromkeys(CHECKS, "ok")


def test_a_hop_that_drops_the_headers_is_reported(deployed: Planes, mesh_at: Meshes) -> None:
    mesh_at(no_forward_hop="grpc-server-svc2")
    done = prove(deployed)
    fails(done, 1, f"test.sh: FAILED through the gateway {ADDRESS}:9999")
    checks = _checks(done)
    assert (checks["answers"], checks["path"], checks["trace"]) == ("ok", "ok", "FAILED")
    output_text = " ".join(done.stdout.split())
    assert "4 of 4: broken at grpc-server-svc2: trace headers not propagated" in output_text
    assert "→ grpc-server-svc2 does not propagate the trace headers" in output_text


def test_failed_calls_are_reported_with_their_hop(deployed: Planes, mesh_at: Meshes) -> None:
    mesh_at(faults=(parse_fault("svc3=abort:14"),))
    done = prove(deployed)
    fails(done, 1, "FAILED through the gateway", "Talk failed downstream of grpc-server-svc2: UNAVAILABLE")
    assert _checks(done) == {"answers": "FAILED"} | dict.fromkeys(CHECKS[1:], "-")
    assert "a fault is injected on purpose" in " ".join(done.stdout.split())


def test_pods_without_sidecars_fail_the_test(asm: Planes, mesh_at: Meshes) -> None:
    mesh_at()
    asm.cluster.behaviour.load_balancer = {"ip": ADDRESS}
    asm.cluster.behaviour.sidecars = None
    succeeds(apply(asm))
    done = prove(asm)
    fails(done, 1, "no sidecar in grpc-client-", "rollout restart deployment", "and a pod has no sidecar")


def test_a_canary_is_an_accepted_last_hop(asm: Planes, mesh_at: Meshes) -> None:
    mesh_at()
    asm.cluster.behaviour.load_balancer = {"hostname": ADDRESS}  # instead of an IP
    succeeds(apply(asm, "--component", "canary"))
    succeeds(prove(asm))
    done = prove(asm, "--hops", "grpc-server-svc1,grpc-server-svc2,grpc-server-svc3-v2")
    fails(done, 1)
    assert _checks(done)["path"] == "FAILED"


# -- problems of the gateway


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="this host has no IPv6")
def test_an_ipv6_address_of_the_gateway_is_called_in_brackets(deployed: Planes) -> None:
    deployed.cluster.behaviour.load_balancer = {"ip": "::1"}
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "::1"}]}}}
    deployed.cluster.change("services", "istio-ingressgateway", status, "istio-system")
    fails(prove(deployed, "--timeout", "1"), 3, "no connection to dns:///[::1]:9999 within 1 s")


def test_a_gateway_that_does_not_listen(deployed: Planes, mesh_at: Meshes) -> None:
    mesh_at.end()
    done = prove(deployed, "--timeout", "2")
    reason = f"no connection to dns:///{ADDRESS}:9999 within 2 s"
    hint = f"no connection to {ADDRESS}:9999: check that port 9999 is open"
    fails(done, 3, reason, "Connection refused", hint, "./test.sh asm --in-cluster")
    assert "the wrong gateway" not in messages(done)
    selector = {"spec": {"selector": {"istio": "another"}}}
    deployed.mesh.change("gateways", "tracing-gateway", selector, NAMESPACE)
    fails(
        prove(deployed, "--timeout", "2"),
        3,
        reason,
        "the wrong gateway: Gateway tracing-gateway selects istio=another",
    )
    deployed.mesh.delete("gateways", "tracing-gateway", NAMESPACE)
    fails(prove(deployed, "--timeout", "2"), 3, reason, "no Gateway tracing-gateway in the ASM instance")


def test_a_gateway_with_a_closed_port(deployed: Planes) -> None:
    ports = [{"name": "http2", "port": 80}]
    deployed.mesh.change("istiogateways", "ingressgateway", {"spec": {"ports": ports}}, "istio-system")
    deployed.cluster.change("services", "istio-ingressgateway", {"spec": {"ports": ports}}, "istio-system")
    fails(prove(deployed), 3, "port 9999 of the gateway", "is closed: apply again, with --with-gateway")


def test_a_gateway_without_an_address(deployed: Planes) -> None:
    deployed.cluster.behaviour.load_balancer = None
    status = {"status": {"loadBalancer": {"ingress": None}}}
    deployed.cluster.change("services", "istio-ingressgateway", status, "istio-system")
    done = prove(deployed, "--timeout", "2")
    fails(done, 3, "has no address after 2 s", "./test.sh asm --in-cluster")


def test_a_missing_gateway(deployed: Planes) -> None:
    fails(prove(deployed, "--gateway-service", "other"), 3, "no gateway", "no Service other in istio-system")


@contextmanager
def _only_a_gateway(folder: Path, hop: int, *, change: Callable[[Config], None]) -> Iterator[None]:
    """Start the gateway of a mesh at ADDRESS in front of one hop, with a changed HTTP configuration."""
    topology = Topology(("hop",), host=ADDRESS)
    addresses = Addresses(gateway=9999, inbound={"hop": hop}, outbound={}, applications={}, collector=9)
    config = envoy.gateway(topology, addresses)
    (listener,) = config["static_resources"]["listeners"]
    change(listener["filter_chains"][0]["filters"][0]["typed_config"])
    path = folder / "gateway.json"
    path.write_text(json.dumps(config))
    with guarded() as guard, program_group(guard) as started:
        command = [str(installed_envoy()), "--config-path", str(path), "--concurrency", "1"]
        program = started.start("gateway", [*command, "--disable-hot-restart"], folder / "gateway.log")
        program.wait_for(lambda: program.find_line("starting main dispatch loop"))
        yield


def _route_nothing(http: Config) -> None:
    http["route_config"]["virtual_hosts"] = []


def _trace_nothing(http: Config) -> None:
    del http["tracing"]


def test_a_gateway_without_our_route(deployed: Planes, mesh_at: Meshes, tmp_path: Path) -> None:
    mesh_at.end()
    selector = {"spec": {"selector": {"istio": "another"}}}
    with _only_a_gateway(tmp_path, 9, change=_route_nothing):
        done = prove(deployed)
        fails(done, 1, "FAILED through the gateway")
        assert "nothing serves LandingService there" in " ".join(done.stdout.split())
        assert "the wrong gateway" not in messages(done)
        deployed.mesh.change("gateways", "tracing-gateway", selector, NAMESPACE)
        done = prove(deployed)
    fails(
        done,
        1,
        "the wrong gateway: Gateway tracing-gateway selects istio=another, which no pod of istio-system/",
    )


async def test_disabled_tracing(deployed: Planes, mesh_at: Meshes, start_chain: Any, tmp_path: Path) -> None:
    mesh_at.end()
    chain = await start_chain(3)
    with _only_a_gateway(tmp_path, int(chain.target.rpartition(":")[2]), change=_trace_nothing):
        done = await asyncio.to_thread(prove, deployed, "--hops", "svc1,svc2,svc3")
    fails(done, 1)
    assert _checks(done) == dict.fromkeys(CHECKS, "ok") | {"sidecars": "FAILED"}
    output_text = " ".join(done.stdout.split())
    assert "not traced: a proxy passed the call on without a span" in output_text
    assert "→ tracing is off: enable it" in output_text


def test_the_gateway_option_needs_no_cluster(planes_of: PlanesOf, mesh_at: Meshes, tmp_path: Path) -> None:
    mesh_at()
    planes = planes_of()
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "basename", "dirname", "cksum", "cat"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    nothing = {"ACK_KUBECONFIG": "", "ASM_KUBECONFIG": "", "PATH": str(tools)}
    for gateway in (ADDRESS, f"{ADDRESS}:9999"):
        done = prove(planes, "--gateway", gateway, under=[str(tools / "bash")], env=nothing)
        succeeds(done)
        assert f"PASSED through the gateway {ADDRESS}:9999" in done.stdout
        assert done.stdout.splitlines()[-1] == "(pods not checked: no kubeconfig)"
    assert planes.cluster.requests() == []


def test_the_gateway_option_does_not_skip_the_check_of_pods(asm: Planes, mesh_at: Meshes) -> None:
    mesh_at()
    asm.cluster.behaviour.sidecars = None
    succeeds(apply(asm))
    fails(prove(asm, "--gateway", ADDRESS), 1, "no sidecar in grpc-client-", "and a pod has no sidecar")


def test_pods_that_cannot_be_listed_fail_the_check(deployed: Planes, mesh_at: Meshes) -> None:
    mesh_at()
    deployed.cluster.refuse(403, when=lambda request: request.path.endswith(f"{NAMESPACE}/pods"))
    fails(prove(deployed), 3, "the ACK cluster does not return the pods in grpc-tracing (see above)")


# -- inside the cluster


def test_in_cluster_calls_bypass_the_gateway(deployed: Planes, mesh_at: Meshes) -> None:
    mesh_at()
    deployed.cluster.exec_with(run_in_mesh)
    deployed.cluster.behaviour.load_balancer = None
    done = prove(deployed, "--in-cluster", "--repeat", "2")
    succeeds(done)
    assert done.stdout.splitlines()[0] == "== in the cluster, from the pod of grpc-client"
    assert done.stdout.splitlines()[-1].startswith("PASSED in the cluster, without the gateway: each call")
    assert _checks(done) == dict.fromkeys(CHECKS, "ok")


def test_in_cluster_a_failed_check_fails_the_test(deployed: Planes, mesh_at: Meshes) -> None:
    mesh_at(no_forward_hop="grpc-server-svc1")
    deployed.cluster.exec_with(run_in_mesh)
    fails(prove(deployed, "--in-cluster"), 1, "FAILED in the cluster, without the gateway")


def test_in_cluster_a_client_that_cannot_run_is_an_environment_error(deployed: Planes) -> None:
    deployed.cluster.exec_with(lambda *_: (["/nowhere/hello-grpc-client"], {}))
    fails(prove(deployed, "--in-cluster"), 3, "cannot run the client in its pod")


# -- problems of the deployment


def test_without_a_deployment(asm: Planes) -> None:
    done = prove(asm)
    fails(done, 3, "not deployed in the ACK cluster: grpc-server-python-1", "Run first: ./apply.sh asm")


def test_with_a_hop_that_is_not_ready(deployed: Planes) -> None:
    deployed.cluster.deployments_fail("grpc-server-python-2", "CrashLoopBackOff")
    apply(deployed, "--image", "other:1", "--timeout", "1")
    fails(prove(deployed, "--timeout", "1"), 3, "grpc-server-python-2 is not ready after 1 s")


def test_without_a_kubeconfig(planes: Planes) -> None:
    done = prove(planes, env={"ACK_KUBECONFIG": "", "ASM_KUBECONFIG": ""})
    fails(done, 3, "no kubeconfig", "./test.sh local")


def test_ctrl_c_stops_the_test_at_once(deployed: Planes, mesh_at: Meshes) -> None:
    mesh_at.end()
    with start("test.sh", deployed, "--timeout", "100") as started:
        assert started.stdout
        assert started.stdout.readline().startswith("== through the gateway")
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=20)
    assert started.returncode == 130, out + err
    assert "interrupted" in err
    assert left_running(f"--server {ADDRESS}") == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--repeat", "0"), "--repeat takes a whole number"),
        (("--headers", "jaeger"), "--headers takes w3c, b3 or both"),
        (("--gateway",), "--gateway needs a value"),
        (("--gateway", "x", "--in-cluster"), "--in-cluster calls without the gateway"),
        (("--nonsense",), "unknown option: --nonsense"),
        (("nonsense",), "unknown target: nonsense"),
        (("--in-cluster", "local"), "write the target first"),
        (("--gateway", "127.0.0.1:1", "--", "--nonsense"), "No such option"),
        (("--gateway", "127.0.0.1:none"), "invalid port in"),
    ],
)
def test_wrong_usage_is_reported(planes: Planes, arguments: tuple[str, ...], text: str) -> None:
    done = prove(planes, *arguments, env={"ACK_KUBECONFIG": "", "ASM_KUBECONFIG": ""})
    assert done.returncode == 2, done.stdout + done.stderr
    assert text in messages(done)
    assert str(ROOT) not in messages(done)
