import json
from dataclasses import asdict

import pytest

from hello_mesh.base.errors import UsageError
from hello_mesh.local.topology import (
    Fault,
    Topology,
    hop_names,
    parse_fault,
    service_name,
    topology_from_json,
)

HOPS = hop_names(3)


def test_hops_are_named_as_in_the_cluster() -> None:
    assert HOPS == ("grpc-server-svc1", "grpc-server-svc2", "grpc-server-svc3")
    assert service_name("svc2") == service_name("grpc-server-svc2") == "grpc-server-svc2"


def test_each_hop_but_the_last_has_a_next_hop() -> None:
    topology = Topology(HOPS)
    assert [topology.next_hop(hop) for hop in HOPS] == [HOPS[1], HOPS[2], None]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("svc3=delay:200ms@50%", Fault("grpc-server-svc3", 50.0, delay_ms=200)),
        ("svc3=delay:1.5s", Fault("grpc-server-svc3", 100.0, delay_ms=1500)),
        ("grpc-server-svc1=abort:14@0.1%", Fault("grpc-server-svc1", 0.1, status=14)),
        (" svc1=abort:16 ", Fault("grpc-server-svc1", 100.0, status=16)),
    ],
)
def test_a_fault_is_parsed(text: str, fault: Fault) -> None:
    assert parse_fault(text) == fault
    assert parse_fault(str(fault)) == fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "svc3",
        "svc3=",
        "svc3=abort",
        "svc3=abort:0",
        "svc3=abort:17",
        "svc3=abort:503",
        "svc3=abort:UNAVAILABLE",
        "svc3=delay:200",
        "svc3=delay:0ms",
        "svc3=delay:2h",
        "svc3=delay:-1s",
        "svc3=delay:1s@101%",
        "svc3=delay:1s@50",
        "svc3=delay:99999s",
        "=delay:1s",
        "svc3=abort:14@50%,svc2=abort:14",
    ],
)
def test_an_invalid_fault_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError):
        parse_fault(text)


def test_a_topology_survives_a_round_trip_through_json() -> None:
    topology = Topology(HOPS, 0, "0.0.0.0", "b3", HOPS[0], (parse_fault("svc1=delay:1s"),), access_log=True)
    assert topology_from_json(json.loads(json.dumps(asdict(topology)))) == topology


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"hops": ()}, "use 1 to 8"),
        ({"hops": hop_names(9)}, "use 1 to 8"),
        ({"no_forward_hop": HOPS[2]}, "is the last hop"),
        ({"no_forward_hop": "svc7"}, "unknown hop svc7"),
        ({"faults": (Fault("svc7", status=14),)}, "unknown hop svc7"),
        ({"host": "localhost"}, "invalid IP address"),
    ],
)
def test_an_impossible_mesh_is_wrong_usage(settings: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Topology(**({"hops": HOPS} | settings))  # type: ignore[arg-type]
