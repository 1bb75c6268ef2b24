"""The Istio resources."""

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
_RETRIES = {"attempts": 2, "retryOn": "connect-failure,refused-stream"}


def test_istio_resources_have_the_names_of_the_contract(base: Manifests) -> None:
    assert [name_of(gateway) for gateway in base.of("Gateway")] == ["tracing-gateway"]
    assert name_of(base.one("VirtualService", "tracing-vs")) == "tracing-vs"
    # ASM and Istio apply them only under this name.
    assert [name_of(each) for each in base.of("Telemetry", "PeerAuthentication")] == ["default", "default"]


def test_the_gateway_routes_grpc_on_its_port_to_the_first_hop(base: Manifests) -> None:
    gateway = base.one("Gateway", "tracing-gateway", _ISTIO)
    (server,) = gateway["spec"]["servers"]
    assert (server["port"]["number"], server["port"]["protocol"]) == (GATEWAY_PORT, "GRPC")
    assert gateway["spec"]["selector"] == {"istio": GATEWAY_NAME.removeprefix("istio-")}
    (port,) = base.one("Service", hop_names(1)[0])["spec"]["ports"]
    route = base.one("VirtualService", "tracing-vs")
    assert route["spec"]["gateways"] == ["tracing-gateway"]
    assert [target["host"] for target in _destinations(route)] == list(hop_names(1))
    assert [target["port"]["number"] for target in _destinations(route)] == [port["port"]]


def test_every_route_retries_only_calls_that_no_application_saw(every: Every) -> None:
    for chosen, manifests in every.items():
        hosts: list[str] = []
        for service in manifests.of("VirtualService"):
            hosts += service["spec"]["hosts"]
            for route in service["spec"]["http"]:
                assert route["retries"] == _RETRIES, f"{chosen}: {name_of(service)}"
        entrance = [] if "gateway-api" in chosen else ["*"]
        assert sorted(hosts) == [*entrance, *hop_names(3)], chosen


def test_every_host_is_the_short_name_of_a_service_with_pods(every: Every) -> None:
    for chosen, manifests in every.items():
        for rule in manifests.of("DestinationRule"):
            assert _selected_pods(manifests, rule["spec"]["host"]), f"{chosen}: {name_of(rule)}"
        for service in manifests.of("VirtualService"):
            for target in _destinations(service):
                assert _selected_pods(manifests, target["host"], target.get("subset")), (
                    f"{chosen}: {name_of(service)} → {target}"
                )
        rules = [rule["spec"]["host"] for rule in manifests.of("DestinationRule")]
        assert sorted(rules) == list(hop_names(3)), chosen


def test_sidecars_accept_only_mutual_tls(base: Manifests) -> None:
    assert base.one("PeerAuthentication", "default")["spec"] == {"mtls": {"mode": "STRICT"}}


def test_every_call_is_sampled(base: Manifests) -> None:
    assert base.one("Telemetry", "default")["spec"] == {"tracing": [{"randomSamplingPercentage": 100}]}


def test_legacy_api_changes_only_the_versions_of_istio_resources(every: Every) -> None:
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


def test_the_gateway_api_has_the_same_port_and_first_hop(every: Every) -> None:
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
        # A short name refers to the Gateway's own namespace.
        assert gateway["metadata"]["namespace"] == GATEWAY_NAMESPACE
        assert gateway["spec"]["addresses"] == [{"type": "Hostname", "value": GATEWAY_NAME}]
        ((target,),) = ([*rule["backendRefs"]] for rule in route["spec"]["rules"])
        (port,) = manifests.one("Service", target["name"])["spec"]["ports"]
        assert target == {"name": hop_names(1)[0], "port": port["port"]}


def test_the_example_gateway_is_the_one_that_the_manifests_use() -> None:
    (gateway,) = kustomize(KUBE / "asm")
    assert (f"istio-{name_of(gateway)}", gateway["metadata"]["namespace"]) == (
        GATEWAY_NAME,
        GATEWAY_NAMESPACE,
    )
    assert [port["port"] for port in gateway["spec"]["ports"]] == [80, 443, GATEWAY_PORT]
    assert all(port["targetPort"] == port["port"] for port in gateway["spec"]["ports"])


def test_a_canary_gets_one_call_in_ten_and_every_matching_call(render: Render) -> None:
    matching, by_weight = render("canary").one("VirtualService", hop_names(3)[2])["spec"]["http"]
    weights = [
        {target["destination"]["subset"]: target.get("weight") for target in route["route"]}
        for route in (matching, by_weight)
    ]
    assert weights == [{"v2": None}, {"v1": 90, "v2": 10}]
    assert "match" not in by_weight
    header, baggage = matching["match"]
    assert header == {"headers": {"x-canary": {"exact": "v2"}}}
    assert baggage["headers"].keys() == {"baggage"}


@pytest.mark.parametrize(
    ("baggage", "matching"),
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
def test_the_canary_matches_one_member_of_the_baggage(baggage: str, matching: bool, render: Render) -> None:
    match = render("canary").one("VirtualService", hop_names(3)[2])["spec"]["http"][0]["match"][1]
    # Envoy matches the regex against the whole value.
    assert bool(re.fullmatch(match["headers"]["baggage"]["regex"], baggage)) is matching


def test_a_fault_is_in_every_route_of_the_last_hop_and_in_no_other(every: Every) -> None:
    for chosen, manifests in every.items():
        faulty = {
            (name_of(service), index): route["fault"]
            for service in manifests.of("VirtualService")
            for index, route in enumerate(service["spec"]["http"])
            if "fault" in route
        }
        routes = {(hop_names(3)[2], index) for index in range(2 if "canary" in chosen else 1)}
        assert faulty.keys() == (routes if "fault" in chosen else set()), chosen


def test_the_local_mesh_can_inject_the_same_fault(render: Render) -> None:
    (route,) = render("fault").one("VirtualService", hop_names(3)[2])["spec"]["http"]
    delay, abort = route["fault"]["delay"], route["fault"]["abort"]
    milliseconds = round(float(delay["fixedDelay"].removesuffix("s")) * 1000)
    assert str(Fault("svc3", delay["percentage"]["value"], delay_ms=milliseconds)) == "svc3=delay:200ms@50%"
    assert (abort["grpcStatus"], abort["percentage"]["value"]) == ("UNAVAILABLE", 10)


def _destinations(service: Document) -> Iterator[Document]:
    for route in service["spec"]["http"]:
        for target in route["route"]:
            yield target["destination"]


def _selected_pods(manifests: Manifests, host: str, subset: str | None = None) -> list[Document]:
    """Return the hops that the Service of a host, and the subset, select."""
    selector: dict[str, str] = dict(manifests.one("Service", host)["spec"]["selector"])
    if subset:
        rule = manifests.one("DestinationRule", host)
        (labels,) = (each["labels"] for each in rule["spec"]["subsets"] if each["name"] == subset)
        selector |= labels
    return [hop for hop in manifests.hops() if selects(selector, hop)]
