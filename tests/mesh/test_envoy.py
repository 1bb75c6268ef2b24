"""The configuration of each Envoy, validated by the real one."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hello_mesh.local.certificates import write_identities
from hello_mesh.local.components import installed_envoy
from hello_mesh.local.envoy import GATEWAY_IDENTITY, HOP_IDENTITY, Addresses, Config, gateway, sidecar
from hello_mesh.local.mesh import bootstraps
from hello_mesh.local.topology import Topology, hop_names, parse_fault

HOPS = hop_names(3)
FAULTS = tuple(map(parse_fault, ("svc3=delay:200ms@50%", "svc3=abort:14@10%", "svc1=abort:7@0.05%")))


def addresses(tls: Path | None = None) -> Addresses:
    found = write_identities(tls, {"hop": HOP_IDENTITY, "gateway": GATEWAY_IDENTITY}) if tls else {}
    return Addresses(
        gateway=9999,
        inbound={hop: 20001 + number for number, hop in enumerate(HOPS)},
        outbound={hop: 20011 + number for number, hop in enumerate(HOPS)},
        applications={hop: 20021 + number for number, hop in enumerate(HOPS)},
        collector=20031,
        hop_identity=found.get("hop"),
        gateway_identity=found.get("gateway"),
    )


def listeners(config: Config) -> list[Config]:
    found: list[Config] = config["static_resources"]["listeners"]
    return found


def http(listener: Config) -> Config:
    found: Config = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def clusters(config: Config) -> dict[str, Config]:
    return {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}


def port(listener: Config) -> int:
    found: int = listener["address"]["socket_address"]["port_value"]
    return found


def address(listener: Config) -> str:
    found: str = listener["address"]["socket_address"]["address"]
    return found


def host(cluster: Config) -> str:
    (locality,) = cluster["load_assignment"]["endpoints"]
    return address(locality["lb_endpoints"][0]["endpoint"])


def endpoint(cluster: Config) -> int:
    (locality,) = cluster["load_assignment"]["endpoints"]
    return port(locality["lb_endpoints"][0]["endpoint"])


def route(listener: Config) -> Config:
    (host,) = http(listener)["route_config"]["virtual_hosts"]
    (found,) = host["routes"]
    result: Config = found
    return result


def values(config: Any, key: str) -> Iterator[Any]:
    """Yield all values with this key, at any depth."""
    if isinstance(config, dict):
        yield from (config[key],) if key in config else ()
    for inner in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        yield from values(inner, key)


def test_a_sidecar_routes_inbound_calls_to_its_application_and_outbound_calls_to_the_next_hop() -> None:
    config = sidecar(Topology(HOPS), HOPS[1], addresses())
    inbound, outbound = listeners(config)
    assert (inbound["traffic_direction"], port(inbound)) == ("INBOUND", 20002)
    assert (outbound["traffic_direction"], port(outbound)) == ("OUTBOUND", 20012)
    assert endpoint(clusters(config)[route(inbound)["route"]["cluster"]]) == 20022
    assert endpoint(clusters(config)[route(outbound)["route"]["cluster"]]) == 20003


def test_the_last_sidecar_has_no_outbound_listener() -> None:
    config = sidecar(Topology(HOPS), HOPS[2], addresses())
    assert [listener["traffic_direction"] for listener in listeners(config)] == ["INBOUND"]


def test_the_gateway_routes_to_the_first_hop() -> None:
    config = gateway(Topology(HOPS), addresses())
    (listener,) = listeners(config)
    assert port(listener) == 9999
    assert endpoint(clusters(config)[route(listener)["route"]["cluster"]]) == 20001


def test_operations_and_services_are_named_as_istio_names_them() -> None:
    config = sidecar(Topology(HOPS), HOPS[1], addresses())
    assert [route(listener)["decorator"]["operation"] for listener in listeners(config)] == [
        "grpc-server-svc2.grpc-tracing:9996/*",
        "grpc-server-svc3.grpc-tracing:9996/*",
    ]
    assert set(values(config, "service_name")) == {"grpc-server-svc2.grpc-tracing"}
    assert config["node"]["cluster"] == "grpc-server-svc2.grpc-tracing"
    first = route(listeners(gateway(Topology(HOPS), addresses()))[0])
    assert first["decorator"]["operation"] == "grpc-server-svc1.grpc-tracing:9999/*"


@pytest.mark.parametrize("tracer", ["w3c", "b3"])
def test_every_call_is_traced_and_no_stream_has_a_timeout(tracer: Any) -> None:
    for config in bootstraps(Topology(HOPS, tracer=tracer), addresses()).values():
        for listener in listeners(config):
            assert http(listener)["tracing"]["overall_sampling"] == {"value": 100}
            assert http(listener)["generate_request_id"] is True
            assert http(listener)["stream_idle_timeout"] == "0s"
            assert route(listener)["route"]["timeout"] == "0s"


def test_only_the_gateway_listens_outside_loopback() -> None:
    configs = bootstraps(Topology(HOPS, host="0.0.0.0"), addresses())
    for name, config in configs.items():
        expected = {"0.0.0.0", "127.0.0.1"} if name == "gateway" else {"127.0.0.1"}
        assert {each for each in values(config, "address") if isinstance(each, str)} == expected


def test_a_hop_with_a_host_is_called_by_its_name() -> None:
    hosts = {HOPS[1]: "two.example", "collector": "spans.example"}
    configs = bootstraps(Topology(HOPS), replace(addresses(), hosts=hosts))
    found = {
        name: {
            cluster: (host(each), each.get("type", "by name")) for cluster, each in clusters(config).items()
        }
        for name, config in configs.items()
    }
    on_loopback, spans = ("127.0.0.1", "STATIC"), ("spans.example", "by name")
    assert found["gateway"] == {
        "outbound|9999||grpc-server-svc1.grpc-tracing": on_loopback,
        "collector": spans,
    }
    assert found["grpc-server-svc1-sidecar"] == {
        "inbound|9996||": on_loopback,
        "outbound|9996||grpc-server-svc2.grpc-tracing": ("two.example", "by name"),
        "collector": spans,
    }
    # A sidecar that others call by name listens on all addresses; its outbound listener stays on loopback.
    assert [address(each) for each in listeners(configs["grpc-server-svc2-sidecar"])] == [
        "0.0.0.0",
        "127.0.0.1",
    ]
    assert [address(each) for each in listeners(configs["grpc-server-svc1-sidecar"])] == ["127.0.0.1"] * 2


def test_a_fault_is_only_in_the_inbound_listener_of_its_hop() -> None:
    for name, config in bootstraps(Topology(HOPS, faults=FAULTS), addresses()).items():
        found = [
            (
                listener["traffic_direction"],
                sum("fault" in each["name"] for each in http(listener)["http_filters"]),
            )
            for listener in listeners(config)
        ]
        count = {"grpc-server-svc1-sidecar": 1, "grpc-server-svc3-sidecar": 2}.get(name, 0)
        assert [number for direction, number in found if direction == "INBOUND"] in ([count], [])
        assert all(number == 0 for direction, number in found if direction == "OUTBOUND")


def test_fractions_of_a_per_cent_are_kept() -> None:
    config = sidecar(Topology(HOPS, faults=FAULTS), HOPS[0], addresses())
    (abort,) = values(config, "abort")
    assert abort == {"grpc_status": 7, "percentage": {"numerator": 500, "denominator": "MILLION"}}


def test_sidecars_present_and_require_certificates(tmp_path: Path) -> None:
    config = sidecar(Topology(HOPS), HOPS[1], addresses(tmp_path))
    inbound, outbound = listeners(config)
    downstream = inbound["filter_chains"][0]["transport_socket"]["typed_config"]
    assert downstream["require_client_certificate"] is True
    assert "transport_socket" not in outbound["filter_chains"][0]  # the application speaks plaintext
    upstream = clusters(config)[route(outbound)["route"]["cluster"]]["transport_socket"]["typed_config"]
    assert list(values(upstream, "matcher")) == [{"exact": HOP_IDENTITY}]


def test_only_their_owner_can_read_keys(tmp_path: Path) -> None:
    addresses(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert sorted(path.name for path in tmp_path.glob("*key*")) == ["gateway-key.pem", "hop-key.pem"]


@pytest.mark.parametrize("mtls", [True, False], ids=["mtls", "plain"])
@pytest.mark.parametrize("tracer", ["w3c", "b3"])
def test_envoy_accepts_each_variant(tracer: Any, mtls: bool, tmp_path: Path) -> None:
    topology = Topology(HOPS, tracer=tracer, faults=FAULTS, access_log=mtls)
    for name, config in bootstraps(topology, addresses(tmp_path if mtls else None)).items():
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(config))
        command = [str(installed_envoy()), "--mode", "validate", "-l", "warning", "-c", str(file)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout.strip()) == (0, f"configuration '{file}' OK"), done.stderr
        assert "deprecated" not in done.stderr
