"""The objects that the components ha and network-policy add."""

from manifests import (
    Combination,
    Document,
    Manifests,
    Render,
    name_of,
    pod_of,
    port_number,
    selects,
)

from hello_mesh.local.topology import GATEWAY_NAMESPACE, hop_names

Every = dict[Combination, Manifests]


def test_network_policies_allow_only_the_upstream_hop(every: Every) -> None:
    for chosen, manifests in every.items():
        if "network-policy" not in chosen:
            continue
        calls = _allowed(manifests, "grpc-landing")
        clients = {"grpc-server-deploy1": {"grpc-client", GATEWAY_NAMESPACE}}
        chain = {
            "grpc-server-deploy2": {"grpc-server-deploy1"},
            "grpc-server-deploy3": {"grpc-server-deploy2"},
        }
        assert calls == clients | chain, chosen


def test_network_policies_name_existing_ports(render: Render) -> None:
    manifests = render("network-policy")
    for policy in manifests.of("NetworkPolicy"):
        selector = policy["spec"]["podSelector"].get("matchLabels", {})
        for rule in policy["spec"].get("ingress", []):
            for deployment in manifests.of("Deployment"):
                if selector and selects(selector, deployment):
                    assert [port_number(deployment, port["port"]) for port in rule["ports"]]


def test_network_policies_deny_other_ingress_and_no_egress(render: Render) -> None:
    manifests = render("network-policy")
    assert manifests.one("NetworkPolicy", "default-deny")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
    }
    assert all(policy["spec"]["policyTypes"] == ["Ingress"] for policy in manifests.of("NetworkPolicy"))


def test_ha_doubles_every_hop_and_adds_disruption_budgets(every: Every) -> None:
    for chosen, manifests in every.items():
        replicas = 2 if "ha" in chosen else None
        assert {hop["spec"].get("replicas") for hop in manifests.hops()} == {replicas}, chosen
        budgets = manifests.of("PodDisruptionBudget")
        assert [name_of(budget) for budget in budgets] == (list(hop_names(3)) if replicas else []), chosen
        for budget in budgets:
            assert budget["spec"]["maxUnavailable"] == 1
            # It selects the same pods as the Service of that name: all versions of the hop.
            service = manifests.one("Service", name_of(budget))
            assert budget["spec"]["selector"] == {"matchLabels": service["spec"]["selector"]}, chosen


def test_ha_spreads_each_version_of_a_hop_separately(render: Render) -> None:
    for hop in render("canary", "ha").hops():
        labels = hop["spec"]["template"]["metadata"]["labels"]
        constraints = pod_of(hop)["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in constraints] == [
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        ]
        for each in constraints:
            assert each["whenUnsatisfiable"] == "ScheduleAnyway"  # it must also run on one node
            assert each["labelSelector"]["matchLabels"].items() <= labels.items()
            assert {key: labels[key] for key in each["matchLabelKeys"]} == hop["spec"]["selector"][
                "matchLabels"
            ]


def _allowed(manifests: Manifests, port: str) -> dict[str, set[str]]:
    """Return the allowed callers of each hop on a port, by `app` label or namespace."""
    allowed: dict[str, set[str]] = {}
    for policy in manifests.of("NetworkPolicy"):
        for rule in policy["spec"].get("ingress", []):
            if {"port": port} in rule["ports"]:
                app = policy["spec"]["podSelector"]["matchLabels"]["app"]
                allowed.setdefault(app, set()).update(*(_caller(source) for source in rule["from"]))
    return allowed


def _caller(source: Document) -> set[str]:
    (selector,) = source.values()
    return set(selector["matchLabels"].values())
