"""The verdict on a call, from the hop report and what the client sent.

A hop is written here as what it saw: `w1` is trace 1 in `traceparent`, `b1` trace 1 in B3, and what follows
the dot names the parent: "w1.2 b1.3". "-" saw nothing.
"""

from dataclasses import replace

import pytest

from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.trace_context import TraceContext
from hello_mesh.propagation.verdict import Verdict, VerdictKind, evaluate

CLIENT = "w1.0"


def _trace(number: str) -> str:
    return number * 32


def _contexts(seen: str, *, sampled: bool) -> dict[str, TraceContext]:
    contexts = {}
    for word in seen.replace("-", "").split():
        trace, _, parent = word[1:].partition(".")
        context = TraceContext(_trace(trace), f"{int(parent) + 1:016x}", sampled=sampled)
        contexts["w3c" if word[0] == "w" else "b3"] = context
    return contexts


def _way(*seen: str, sampled: bool = True, last: Role = Role.LAST) -> list[Hop]:
    roles = [Role.RELAY] * (len(seen) - 1) + [last]
    hops = []
    for number, (role, what) in enumerate(zip(roles, seen, strict=True), start=1):
        contexts = _contexts(what, sampled=sampled)
        hops.append(Hop(f"svc{number}", role, contexts.get("w3c"), contexts.get("b3")))
    return hops


def _sent(what: str, *, sampled: bool = True) -> list[tuple[str, str]]:
    headers = []
    contexts = _contexts(what, sampled=sampled)
    if w3c := contexts.get("w3c"):
        headers.append(("traceparent", w3c.traceparent))
    if b3 := contexts.get("b3"):
        headers += [("x-b3-traceid", b3.trace_id), ("x-b3-spanid", b3.span_id)]
    return headers


def _evaluate(sent: str, *seen: str) -> Verdict:
    return evaluate(_way(*seen), _sent(sent))


@pytest.mark.parametrize(
    ("sent", "seen", "family"),
    [
        pytest.param(CLIENT, ("w1.1",), "W3C", id="one hop"),
        pytest.param(CLIENT, ("w1.1", "w1.2", "w1.3"), "W3C", id="three hops"),
        pytest.param(CLIENT, ("w1.0 b1.1", "w1.0 b1.2", "w1.0 b1.3"), "B3", id="a mesh that speaks Zipkin"),
        pytest.param(
            CLIENT, ("w1.0 b2.1", "w1.0 b2.2"), "B3", id="a stale traceparent beside a trace of Zipkin"
        ),
        pytest.param(
            CLIENT,
            ("w1.0 b1.1", "b1.2", "b1.3"),
            "B3",
            id="a mesh that speaks Zipkin, hops that forward B3 alone",
        ),
        pytest.param(
            "w1.0 b2.0", ("w1.1 b2.0", "w1.2 b2.0"), "W3C", id="B3 of the client's own in a W3C mesh"
        ),
        pytest.param("w1.0 b1.0", ("w1.1 b1.1", "w1.2 b1.2"), "W3C", id="a mesh that writes both"),
        pytest.param("b1.0", ("b1.1", "b1.2"), "B3", id="a client that sends B3"),
        pytest.param(
            "-", ("w1.1", "w1.2"), "W3C", id="--trace-headers none: the trace begins at the first proxy"
        ),
        pytest.param("-", ("b1.1", "b1.2"), "B3", id="--trace-headers none in a mesh that speaks Zipkin"),
    ],
)
def test_one_trace_with_a_sidecar_before_each_hop_is_connected(
    sent: str, seen: tuple[str, ...], family: str
) -> None:
    verdict = _evaluate(sent, *seen)
    assert (verdict.kind, verdict.hop) == (VerdictKind.CONNECTED, None)
    length = "1 hop" if len(seen) == 1 else f"{len(seen)} hops"
    assert verdict.text == f"connected: one trace ({family}) over {length}, a sidecar in front of each"


@pytest.mark.parametrize(
    ("seen", "trace"),
    [
        (("w1.1", "w1.2"), "1"),
        (("w1.0 b2.1", "w1.0 b2.2"), "2"),
        (("w1.0", "w1.0"), "1"),
    ],
)
def test_the_trace_to_look_up_is_that_of_the_family_that_the_mesh_speaks(
    seen: tuple[str, ...], trace: str
) -> None:
    assert _evaluate(CLIENT, *seen).trace_id == _trace(trace)


@pytest.mark.parametrize(
    ("sent", "seen", "hop", "saw"),
    [
        pytest.param(CLIENT, ("w1.1", "w2.2", "w2.3"), "svc1", "another trace", id="W3C, the first hop"),
        pytest.param(CLIENT, ("w1.1", "w1.2", "w2.3"), "svc2", "another trace", id="W3C, a middle hop"),
        pytest.param(CLIENT, ("w1.1", "w2.2", "w3.3"), "svc1", "another trace", id="W3C, every hop"),
        pytest.param(CLIENT, ("w1.0", "-", "-"), "svc1", "none", id="no mesh"),
        pytest.param(CLIENT, ("w1.0", "w1.0", "-"), "svc2", "none", id="no mesh, a middle hop"),
        pytest.param(CLIENT, ("w1.1", "-", "w2.1"), "svc1", "none", id="a gap"),
        pytest.param(
            CLIENT, ("w1.0 b1.1", "b2.2", "b2.3"), "svc1", "another trace", id="Zipkin, all dropped"
        ),
        pytest.param(
            CLIENT, ("w1.0 b1.1", "w1.0 b2.2", "w1.0 b2.3"), "svc1", "another trace", id="Zipkin, B3 dropped"
        ),
        pytest.param("-", ("w1.1", "w2.2"), "svc1", "another trace", id="no trace sent"),
        pytest.param("-", ("b1.1", "b1.2", "b2.3"), "svc2", "another trace", id="no trace sent, Zipkin"),
        pytest.param("w1.0 b2.0", ("w1.0 b2.0", "b2.0"), "svc1", "none", id="no mesh, B3 alone forwarded"),
    ],
)
def test_a_hop_that_forgets_the_headers_is_where_it_broke(
    sent: str, seen: tuple[str, ...], hop: str, saw: str
) -> None:
    verdict = _evaluate(sent, *seen)
    assert (verdict.kind, verdict.hop) == (VerdictKind.BROKEN, hop)
    after = f"svc{int(hop[-1]) + 1}"
    assert verdict.text == f"broken at {hop}: trace headers not propagated, {after} saw {saw}"


def test_a_trace_that_broke_is_looked_up_where_it_was_whole() -> None:
    assert _evaluate(CLIENT, "w1.1", "w2.2").trace_id == _trace("1")


@pytest.mark.parametrize(("seen", "saw"), [(("w2.1", "w2.2"), "another trace"), (("-", "-"), "none")])
def test_a_trace_may_break_before_the_first_hop(seen: tuple[str, ...], saw: str) -> None:
    verdict = _evaluate(CLIENT, *seen)
    assert (verdict.kind, verdict.hop) == (VerdictKind.BROKEN, "svc1")
    assert verdict.text == f"broken in front of svc1: the client started a trace, svc1 saw {saw}"


def test_a_trace_that_begins_behind_a_hop_is_broken_at_that_hop() -> None:
    verdict = _evaluate("-", "-", "w1.1", "w1.2")
    assert (verdict.kind, verdict.hop) == (VerdictKind.BROKEN, "svc1")
    assert verdict.text == "broken at svc1: it saw no trace, svc2 saw a new one"


@pytest.mark.parametrize(
    ("seen", "places", "hop"),
    [
        (("w1.0",), "svc1", "svc1"),
        (("w1.0", "w1.0", "w1.0"), "any hop", "svc1"),
        (("w1.0", "w1.1", "w1.2"), "svc1", "svc1"),
        (("w1.1", "w1.1", "w1.2"), "svc2", "svc2"),
        (("w1.1", "w1.1", "w1.1"), "svc2, svc3", "svc2"),
        (("w1.1", "w1.2", "w1.2"), "svc3", "svc3"),
    ],
)
def test_the_same_parent_twice_means_that_no_sidecar_stands_between(
    seen: tuple[str, ...], places: str, hop: str
) -> None:
    verdict = _evaluate(CLIENT, *seen)
    assert (verdict.kind, verdict.hop) == (VerdictKind.NO_SIDECAR, hop)
    assert verdict.text.startswith(f"no sidecar in front of {places}: one trace (W3C) over ")
    assert verdict.trace_id == _trace("1")


def test_no_trace_anywhere_means_that_nobody_made_one() -> None:
    verdict = _evaluate("-", "-", "-")
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.NO_SIDECAR, "svc1", None)
    assert verdict.text == "no trace: the client sent no trace headers, and no sidecar added any"


def test_a_gateway_may_sample_what_the_client_would_not() -> None:
    assert evaluate(_way("w1.1", "w1.2"), _sent(CLIENT, sampled=False)).kind is VerdictKind.CONNECTED


def test_a_family_that_only_fades_away_says_nothing_of_a_mesh_that_speaks_the_other() -> None:
    verdict = _evaluate(CLIENT, "w1.0 b1.1", "w1.0 b1.2", "b2.3")
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.BROKEN, "svc2", _trace("1"))


def test_a_b3_trace_id_of_64_bits_is_the_one_of_128_that_begins_with_zeros() -> None:
    ids = ("463ac35c9f6413ad", "463ac35c9f6413ad".rjust(32, "0"))
    hops = [
        Hop("svc", Role.LAST, b3=TraceContext(trace_id, f"{n:016x}")) for n, trace_id in enumerate(ids, 1)
    ]
    assert evaluate(hops, ()).kind is VerdictKind.CONNECTED


def test_a_trace_that_is_not_sampled_says_from_where_on() -> None:
    hops = _way("w1.1", "w1.2", "w1.3")
    hops[1:] = _way("w1.1", "w1.2", "w1.3", sampled=False)[1:]
    verdict = evaluate(hops, _sent(CLIENT))
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.NOT_SAMPLED, "svc2", _trace("1"))
    assert verdict.text == "not sampled: from svc2 on, the mesh records nothing of this trace"


def test_a_client_may_itself_ask_for_no_sampling() -> None:
    verdict = evaluate(_way("w1.1", sampled=False), _sent(CLIENT, sampled=False))
    assert (verdict.kind, verdict.hop) == (VerdictKind.NOT_SAMPLED, "svc1")


def test_a_break_weighs_more_than_sampling() -> None:
    assert evaluate(_way("w1.1", "w2.2", sampled=False), _sent(CLIENT)).kind is VerdictKind.BROKEN


def test_sampling_that_was_not_read_is_not_held_against_a_trace() -> None:
    context = TraceContext(_trace("1"), f"{1:016x}")
    assert evaluate([Hop("svc1", Role.LAST, context)], []).kind is VerdictKind.CONNECTED


@pytest.mark.parametrize(
    ("unreadable", "text"),
    [
        ("", "no report: no hop reported what it saw"),
        ("invalid hop report: x", "no report: invalid hop report: x"),
    ],
)
def test_without_a_report_there_is_no_judging(unreadable: str, text: str) -> None:
    assert evaluate([], _sent(CLIENT), unreadable) == Verdict(VerdictKind.NO_REPORT, text)


@pytest.mark.parametrize("seen", [("w1.1",), ("w1.0",), ("w1.1", "w1.2"), ("w1.0", "w1.0")])
def test_a_last_reporter_that_is_a_relay_means_that_more_lies_behind(seen: tuple[str, ...]) -> None:
    verdict = evaluate(_way(*seen, last=Role.RELAY), _sent(CLIENT))
    assert verdict.text.endswith(f", as far as svc{len(seen)}, the last hop that reported")


def test_the_verdicts_are_six_and_their_names_are_stable() -> None:
    assert [str(kind) for kind in VerdictKind] == [
        "connected",
        "broken",
        "not-sampled",
        "no-sidecar",
        "not-traced",
        "no-report",
    ]


def _with_request_id(hops: list[Hop]) -> list[Hop]:
    return [replace(hop, request="8f14e45f-ceea-467f-a0e6-d9a1b0c8e6f1") for hop in hops]


@pytest.mark.parametrize("seen", [("w1.0",), ("w1.0", "w1.0", "w1.0")])
def test_a_request_id_without_a_span_means_that_proxies_do_not_trace(seen: tuple[str, ...]) -> None:
    verdict = evaluate(_with_request_id(_way(*seen)), _sent(CLIENT))
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.NOT_TRACED, "svc1", _trace("1"))
    assert verdict.text.startswith("not traced: a proxy passed the call on without a span: one trace (W3C)")


def test_a_gateway_that_traces_before_hops_without_sidecars_is_no_mesh_that_does_not_trace() -> None:
    verdict = evaluate(_with_request_id(_way("w1.1", "w1.1", "w1.1")), _sent(CLIENT))
    assert (verdict.kind, verdict.hop) == (VerdictKind.NO_SIDECAR, "svc2")


def test_a_request_id_of_the_clients_own_says_nothing_of_proxies() -> None:
    sent = [*_sent(CLIENT), ("x-request-id", "mine")]
    assert evaluate(_with_request_id(_way("w1.0", "w1.0")), sent).kind is VerdictKind.NO_SIDECAR


@pytest.mark.parametrize(
    ("seen", "sampled"), [(("w1.1", "w1.2"), True), (("b1.1", "b1.2"), None), (("w1.0", "w1.0"), True)]
)
def test_a_verdict_says_whether_every_hop_was_told_of_sampling(
    seen: tuple[str, ...], sampled: bool | None
) -> None:
    hops = [replace(hop, b3=hop.b3 and replace(hop.b3, sampled=None)) for hop in _way(*seen)]
    assert evaluate(hops, _sent("-")).sampled is sampled
