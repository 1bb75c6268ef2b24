"""The hops and the client, against each other and against the programs in the image."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import Any

import click
import pytest
from manifests import (
    Document,
    Manifests,
    Render,
    container_of,
    name_of,
    pod_of,
    port_number,
    selects,
    values,
    variables_of,
)

import grpc_client.cli
import grpc_server.cli
from grpc_server.config import ServerConfig
from hello_mesh.base.cli import DEFAULT_PORT
from hello_mesh.local.topology import APP_PORT, GATEWAY_PORT, NAMESPACE, hop_names
from hello_mesh.net.rpc import LANDING_SERVICE


def test_the_names_are_those_of_the_original(base: Manifests) -> None:
    assert NAMESPACE == "grpc-tracing"
    assert name_of(base.of("Namespace")[0]) == NAMESPACE
    assert base.of("Namespace")[0]["metadata"]["labels"]["istio-injection"] == "enabled"
    assert [name_of(account) for account in base.of("ServiceAccount")] == ["grpc-tracing-sa"]
    assert [name_of(service) for service in base.of("Service")] == [
        "grpc-server-svc1",
        "grpc-server-svc2",
        "grpc-server-svc3",
    ]
    assert [name_of(deployment) for deployment in base.hops()] == [
        "grpc-server-python-1",
        "grpc-server-python-2",
        "grpc-server-python-3",
    ]
    assert [container_of(deployment)["name"] for deployment in base.hops()] == [
        "grpc-server-deploy1",
        "grpc-server-deploy2",
        "grpc-server-deploy3",
    ]
    assert [deployment["spec"]["selector"]["matchLabels"] for deployment in base.hops()] == [
        {"app": "grpc-server-deploy1", "version": "v1"},
        {"app": "grpc-server-deploy2", "version": "v1"},
        {"app": "grpc-server-deploy3", "version": "v1"},
    ]
    assert container_of(base.one("Deployment", "grpc-client"))["name"] == "grpc-client"


def test_the_hops_differ_in_nothing_but_names_and_the_next_hop(base: Manifests) -> None:
    first, second, third = (dict(values(hop)) for hop in base.hops())
    names = {
        ".metadata.name",
        ".metadata.labels.app",
        ".spec.selector.matchLabels.app",
        ".spec.template.metadata.labels.app",
        ".spec.template.spec.containers[0].name",
        ".spec.template.spec.containers[0].env[0].value",
    }
    backend = ".spec.template.spec.containers[0].env[1]"
    assert _differing(first, second) == names | {f"{backend}.value"}
    assert _differing(first, third) == names | {f"{backend}.name", f"{backend}.value"}


def test_a_hop_is_what_its_variables_make_of_the_server(
    base: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = hop_names(3)
    for number, hop in enumerate(base.hops()):
        options = _server_options(hop, monkeypatch)
        backend = base.one("Service", options["backend"]) if options["backend"] else None
        assert options["name"] == names[number]
        assert (backend and name_of(backend)) == (names[number + 1] if number < 2 else None)
        assert options["port"] == port_number(hop, "grpc-landing")
        if backend:
            assert options["backend_port"] == backend["spec"]["ports"][0]["port"]


def test_every_variable_is_one_that_the_program_knows(base: Manifests) -> None:
    known = _variables(grpc_server.cli.main)
    for hop in base.hops():
        assert variables_of(hop).keys() <= known, name_of(hop)
    assert variables_of(base.one("Deployment", "grpc-client")).keys() <= _variables(grpc_client.cli.main)


def _variables(command: click.Command) -> set[object]:
    """Return the environment variables that a command reads."""
    prefix = command.context_settings.get("auto_envvar_prefix")
    return {
        option.envvar or (prefix and f"{prefix}_{option.name}".upper())
        for option in command.params
        if isinstance(option, click.Option)
    }


def test_a_service_reaches_its_hop_and_no_other(base: Manifests) -> None:
    assert APP_PORT == DEFAULT_PORT == ServerConfig.port == 9996
    for number, service in enumerate(base.of("Service")):
        reached = [hop for hop in base.of("Deployment") if selects(service["spec"]["selector"], hop)]
        assert reached == [base.hops()[number]]
        (port,) = service["spec"]["ports"]
        assert port_number(reached[0], port["targetPort"]) == DEFAULT_PORT
        assert port["port"] == (GATEWAY_PORT if number == 0 else DEFAULT_PORT)
        # Istio knows the protocol by either; some meshes only by the name.
        assert port["appProtocol"] == "grpc"
        assert port["name"].startswith("grpc-")


def test_the_client_calls_the_first_hop(base: Manifests) -> None:
    variables = variables_of(base.one("Deployment", "grpc-client"))
    service = base.one("Service", variables["GRPC_SERVER"])
    assert name_of(service) == hop_names(1)[0]
    assert int(variables["GRPC_SERVER_PORT"]) == service["spec"]["ports"][0]["port"]


def test_probes_ask_what_the_server_answers(base: Manifests) -> None:
    for hop in base.hops():
        container = container_of(hop)
        for probe in ("startupProbe", "readinessProbe"):
            assert container[probe]["grpc"] == {"port": DEFAULT_PORT, "service": LANDING_SERVICE.full_name}
        assert container["livenessProbe"]["grpc"] == {"port": DEFAULT_PORT}


def test_nothing_is_killed_before_it_has_drained(base: Manifests) -> None:
    for hop in base.hops():
        command, pause = container_of(hop)["lifecycle"]["preStop"]["exec"]["command"]
        assert command == "sleep"
        drained = int(pause) + ServerConfig.grace
        assert pod_of(hop)["terminationGracePeriodSeconds"] >= drained + 5
        annotations = hop["spec"]["template"]["metadata"]["annotations"]
        # The sidecar gets SIGTERM when the pause begins.
        key, seconds = annotations["proxy.istio.io/config"].split()
        assert key == "terminationDrainDuration:"
        assert drained < int(seconds.removesuffix("s")) < pod_of(hop)["terminationGracePeriodSeconds"]


def test_a_hop_is_replaced_before_it_goes(base: Manifests) -> None:
    for hop in base.hops():
        assert hop["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_client_pod_waits_and_ends_at_once(base: Manifests) -> None:
    command = container_of(base.one("Deployment", "grpc-client"))["command"]
    with subprocess.Popen(command, start_new_session=True) as shell:
        try:
            _until_it_has_a_child(shell.pid)  # its trap is set then
            shell.send_signal(signal.SIGTERM)
            assert shell.wait(timeout=5) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # the sleep; in a container it goes with the shell


def test_a_canary_is_a_hop_like_the_one_beside_it(render: Render) -> None:
    manifests = render("canary")
    v1 = dict(values(manifests.one("Deployment", "grpc-server-python-3")))
    v2 = dict(values(manifests.one("Deployment", "grpc-server-python-3-v2")))
    assert _differing(v1, v2) == {
        ".metadata.name",
        ".metadata.labels.version",
        ".spec.selector.matchLabels.version",
        ".spec.template.metadata.labels.version",
        ".spec.template.spec.containers[0].env[0].value",
    }
    assert v2[".spec.template.spec.containers[0].env[0].value"] == "grpc-server-svc3-v2"


def test_the_hops_before_a_canary_forward_what_asks_for_it(
    render: Render, monkeypatch: pytest.MonkeyPatch
) -> None:
    hops = render("canary").hops()
    forwarded = [_server_options(hop, monkeypatch)["forward_headers"].exact for hop in hops]
    assert forwarded == [{"x-canary"}, {"x-canary"}, set(), set()]


def _differing(first: dict[str, object], second: dict[str, object]) -> set[str]:
    return {path for path in first.keys() | second.keys() if first.get(path) != second.get(path)}


def _server_options(hop: Document, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the server's command line makes of a hop's variables."""
    with monkeypatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("GRPC_HELLO_")]:
            patch.delenv(variable)
        for variable, value in variables_of(hop).items():
            patch.setenv(variable, value)
        return grpc_server.cli.main.make_context("hello-grpc-server", []).params


def _until_it_has_a_child(pid: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        parents = subprocess.run(
            ["ps", "-A", "-o", "ppid="], capture_output=True, text=True, check=True
        ).stdout
        if str(pid) in parents.split():
            return
    raise AssertionError("it runs nothing")
