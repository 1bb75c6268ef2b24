"""Istio's objects, against the hops that they are about."""

import re
from collections.abc import Iterator

import pytest
from manifests import (
    KUBE,
    NAMESPACE,
    Combination,
    Document,
    Manifests,
    Render,
    kustomize,
    name_of,
    selects,
)

from hello_mesh.local.topology import GATEWAY_NAME, GATEWAY_NAMESPACE, GATEWAY_PORT, Fault, hop_names

Every = dict[Combination, Manifests]

_ISTIO = "networking.istio.io"
_ONLY_WHAT_NO_APPLICATION_SAW = {"attempts": 2, "retryOn": "connect-failure,refused-stream"}


def test_the_names_are_those_of_the_original(base: Manifests) -> None:
    assert [name_of(gateway) for gateway in base.of("Gateway")] == ["tracing-gateway"]
    assert name_of(base.one("VirtualService", "tracing-vs")) == "tracing-vs"
    # ASM and Istio heed them under this name only.
    assert [name_of(each) for each in base.of("Telemetry", "PeerAuthentication")] == ["default", "default"]


def test_the_gateway_takes_grpc_on_the_port_that_is_called(base: Manifests) -> None:
    gateway = base.one("Gateway", "tracing-gateway", _ISTIO)
    (server,) = gateway["spec"]["servers"]
    assert (server["port"]["number"], server["port"]["protocol"]) == (GATEWAY_PORT, "GRPC")
    assert gateway["spec"]["selector"] == {"istio": GATEWAY_NAME.removeprefix("istio-")}
    (port,) = base.one("Service", hop_names(1)[0])["spec"]["ports"]
    route = base.one("VirtualService", "tracing-vs")
    assert route["spec"]["gateways"] == ["tracing-gateway"]
    assert [target["host"] for target in _destinations(route)] == list(hop_names(1))
    assert [target["port"]["number"] for target in _destinations(route)] == [port["port"]]


def test_every_call_of_a_hop_is_repeated_only_where_no_application_saw_it(every: Every) -> None:
    for chosen, manifests in every.items():
        hosts: list[str] = []
        for service in manifests.of("VirtualService"):
            hosts += service["spec"]["hosts"]
            for route in service["spec"]["http"]:
                assert route["retries"] == _ONLY_WHAT_NO_APPLICATION_SAW, f"{chosen}: {name_of(service)}"
        entrance = [] if "gateway-api" in chosen else ["*"]
        assert sorted(hosts) == [*entrance, *hop_names(3)], chosen


def test_every_host_is_the_short_name_of_a_service_with_pods_behind(every: Every) -> None:
    for chosen, manifests in every.items():
        for rule in manifests.of("DestinationRule"):
            assert _pods_behind(manifests, rule["spec"]["host"]), f"{chosen}: {name_of(rule)}"
        for service in manifests.of("VirtualService"):
            for target in _destinations(service):
                assert _pods_behind(manifests, target["host"], target.get("subset")), (
                    f"{chosen}: {name_of(service)} → {target}"
                )
        rules = [rule["spec"]["host"] for rule in manifests.of("DestinationRule")]
        assert sorted(rules) == list(hop_names(3)), chosen


def test_sidecars_take_mutual_tls_only(base: Manifests) -> None:
    assert base.one("PeerAuthentication", "default")["spec"] == {"mtls": {"mode": "STRICT"}}


def test_every_call_is_traced_wherever_the_mesh_sends_traces(base: Manifests) -> None:
    assert base.one("Telemetry", "default")["spec"] == {"tracing": [{"randomSamplingPercentage": 100}]}


def test_the_legacy_api_changes_the_versions_of_istio_and_nothing_else(every: Every) -> None:
    versions = {
        "networking.istio.io/v1": "networking.istio.io/v1beta1",
        "security.istio.io/v1": "security.istio.io/v1beta1",
        "telemetry.istio.io/v1": "telemetry.istio.io/v1alpha1",
    }
    for chosen in every:
        if "legacy-api" not in chosen:
            legacy = tuple(sorted((*chosen, "legacy-api")))
            if legacy not in every:
                continue
            for before, after in zip(every[chosen], every[legacy], strict=True):
                version = before["apiVersion"]
                assert after == before | {"apiVersion": versions.get(version, version)}, legacy


def test_the_gateway_api_has_the_same_entrance(every: Every) -> None:
    for chosen, manifests in every.items():
        if "gateway-api" not in chosen:
            continue
        assert not manifests.of("Gateway", group=_ISTIO), chosen
        (gateway,) = manifests.of("Gateway")
        (listener,) = gateway["spec"]["listeners"]
        (route,) = manifests.of("GRPCRoute")
        (parent,) = route["spec"]["parentRefs"]
        assert parent == {
            "name": name_of(gateway),
            "namespace": gateway["metadata"]["namespace"],
            "sectionName": listener["name"],
        }
        assert (listener["port"], listener["protocol"]) == (GATEWAY_PORT, "HTTP")
        allowed = listener["allowedRoutes"]["namespaces"]["selector"]["matchLabels"]
        assert allowed == {"kubernetes.io/metadata.name": NAMESPACE}
        # A short name counts in the Gateway's own namespace.
        assert gateway["metadata"]["namespace"] == GATEWAY_NAMESPACE
        assert gateway["spec"]["addresses"] == [{"type": "Hostname", "value": GATEWAY_NAME}]
        ((target,),) = ([*rule["backendRefs"]] for rule in route["spec"]["rules"])
        (port,) = manifests.one("Service", target["name"])["spec"]["ports"]
        assert target == {"name": hop_names(1)[0], "port": port["port"]}


def test_the_gateway_of_the_example_is_the_one_that_is_meant() -> None:
    (gateway,) = kustomize(KUBE / "asm")
    assert (f"istio-{name_of(gateway)}", gateway["metadata"]["namespace"]) == (
        GATEWAY_NAME,
        GATEWAY_NAMESPACE,
    )
    assert [port["port"] for port in gateway["spec"]["ports"]] == [80, 443, GATEWAY_PORT]
    assert all(port["targetPort"] == port["port"] for port in gateway["spec"]["ports"])


def test_a_canary_gets_one_call_in_ten_and_those_that_ask_for_it(render: Render) -> None:
    asked_for, by_weight = render("canary").one("VirtualService", hop_names(3)[2])["spec"]["http"]
    weights = [
        {target["destination"]["subset"]: target.get("weight") for target in route["route"]}
        for route in (asked_for, by_weight)
    ]
    assert weights == [{"v2": None}, {"v1": 90, "v2": 10}]
    assert "match" not in by_weight
    header, baggage = asked_for["match"]
    assert header == {"headers": {"x-canary": {"exact": "v2"}}}
    assert baggage["headers"].keys() == {"baggage"}


@pytest.mark.parametrize(
    ("baggage", "asked_for"),
    [
        ("canary=v2", True),
        ("a=b,canary=v2", True),
        ("a=b , canary = v2 ; ttl=1, c=d", True),
        ("canary=v2,a=b", True),
        ("canary=v1", False),
        ("canary=v22", False),
        ("my-canary=v2", False),
        ("a=canary=v2", False),
        ("a=b;canary=v2", False),
        ("", False),
    ],
)
def test_baggage_asks_for_the_canary_by_a_member_of_its_own(
    baggage: str, asked_for: bool, render: Render
) -> None:
    match = render("canary").one("VirtualService", hop_names(3)[2])["spec"]["http"][0]["match"][1]
    # Envoy matches the whole value.
    assert bool(re.fullmatch(match["headers"]["baggage"]["regex"], baggage)) is asked_for


def test_a_fault_meets_every_call_of_the_last_hop_and_of_no_other(every: Every) -> None:
    for chosen, manifests in every.items():
        faulty = {
            (name_of(service), index): route["fault"]
            for service in manifests.of("VirtualService")
            for index, route in enumerate(service["spec"]["http"])
            if "fault" in route
        }
        routes = {(hop_names(3)[2], index) for index in range(2 if "canary" in chosen else 1)}
        assert faulty.keys() == (routes if "fault" in chosen else set()), chosen


def test_the_fault_is_one_that_the_local_mesh_can_have_too(render: Render) -> None:
    (route,) = render("fault").one("VirtualService", hop_names(3)[2])["spec"]["http"]
    delay, abort = route["fault"]["delay"], route["fault"]["abort"]
    milliseconds = round(float(delay["fixedDelay"].removesuffix("s")) * 1000)
    assert str(Fault("svc3", delay["percentage"]["value"], delay_ms=milliseconds)) == "svc3=delay:200ms@50%"
    assert (abort["grpcStatus"], abort["percentage"]["value"]) == ("UNAVAILABLE", 10)


def _destinations(service: Document) -> Iterator[Document]:
    for route in service["spec"]["http"]:
        for target in route["route"]:
            yield target["destination"]


def _pods_behind(manifests: Manifests, host: str, subset: str | None = None) -> list[Document]:
    """The hops that a host's Service selects, and its subset where one is named."""
    selector: dict[str, str] = dict(manifests.one("Service", host)["spec"]["selector"])
    if subset:
        rule = manifests.one("DestinationRule", host)
        (labels,) = (each["labels"] for each in rule["spec"]["subsets"] if each["name"] == subset)
        selector |= labels
    return [hop for hop in manifests.hops() if selects(selector, hop)]
