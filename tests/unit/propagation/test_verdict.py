"""The verdict on a call, from the hop report and what the client sent.

A hop is written here as the contexts that it saw: "w1.2 b1.3" is trace 1 with parent 2 in `traceparent`,
and trace 1 with parent 3 in B3. "-" is no context. "sent" and "drop" are what a relay reports of its outgoing
call: it put trace context on it, or none.
"""

from dataclasses import replace

import pytest

from hello_mesh.propagation.hop_report import Hop, Role
from hello_mesh.propagation.trace_context import TraceContext
from hello_mesh.propagation.verdict import Verdict, VerdictKind, evaluate

CLIENT = "w1.0"


def _trace(number: str) -> str:
    return number * 32


def _contexts(written: str, *, sampled: bool) -> dict[str, TraceContext]:
    contexts = {}
    for word in [word for word in written.split() if word[0] in "wb"]:
        trace, _, parent = word[1:].partition(".")
        context = TraceContext(_trace(trace), f"{int(parent) + 1:016x}", sampled=sampled)
        contexts["w3c" if word[0] == "w" else "b3"] = context
    return contexts


def _path(*seen: str, sampled: bool = True, last: Role = Role.LAST) -> list[Hop]:
    roles = [Role.RELAY] * (len(seen) - 1) + [last]
    hops = []
    for number, (role, written) in enumerate(zip(roles, seen, strict=True), start=1):
        contexts = _contexts(written, sampled=sampled)
        sent = {"sent": True, "drop": False}.get(written.split()[-1])
        hops.append(Hop(f"svc{number}", role, contexts.get("w3c"), contexts.get("b3"), sent=sent))
    return hops


def _sent(written: str, *, sampled: bool = True) -> list[tuple[str, str]]:
    headers = []
    contexts = _contexts(written, sampled=sampled)
    if w3c := contexts.get("w3c"):
        headers.append(("traceparent", w3c.traceparent))
    if b3 := contexts.get("b3"):
        headers += [("x-b3-traceid", b3.trace_id), ("x-b3-spanid", b3.span_id)]
    return headers


def _evaluate(sent: str, *seen: str) -> Verdict:
    return evaluate(_path(*seen), _sent(sent))


@pytest.mark.parametrize(
    ("sent", "seen", "family"),
    [
        pytest.param(CLIENT, ("w1.1",), "W3C", id="one hop"),
        pytest.param(CLIENT, ("w1.1", "w1.2", "w1.3"), "W3C", id="three hops"),
        pytest.param(CLIENT, ("w1.0 b1.1", "w1.0 b1.2", "w1.0 b1.3"), "B3", id="a Zipkin mesh"),
        pytest.param(CLIENT, ("w1.0 b2.1", "w1.0 b2.2"), "B3", id="a stale traceparent in a Zipkin mesh"),
        pytest.param(
            CLIENT,
            ("w1.0 b1.1", "b1.2", "b1.3"),
            "B3",
            id="a Zipkin mesh, hops that propagate only B3",
        ),
        pytest.param("w1.0 b2.0", ("w1.1 b2.0", "w1.2 b2.0"), "W3C", id="B3 from the client in a W3C mesh"),
        pytest.param("w1.0 b1.0", ("w1.1 b1.1", "w1.2 b1.2"), "W3C", id="a mesh that rewrites both families"),
        pytest.param("b1.0", ("b1.1", "b1.2"), "B3", id="a client that sends B3"),
        pytest.param(
            "-", ("w1.1", "w1.2"), "W3C", id="no headers from the client: the trace starts at the first proxy"
        ),
        pytest.param("-", ("b1.1", "b1.2"), "B3", id="no headers from the client, a Zipkin mesh"),
    ],
)
def test_one_trace_with_a_new_parent_at_each_hop_is_connected(
    sent: str, seen: tuple[str, ...], family: str
) -> None:
    verdict = _evaluate(sent, *seen)
    assert (verdict.kind, verdict.hop) == (VerdictKind.CONNECTED, None)
    length = "1 hop" if len(seen) == 1 else f"{len(seen)} hops"
    assert verdict.text == f"connected: one trace ({family}) over {length}, a new parent at each"
    assert verdict.same_parent == ()


@pytest.mark.parametrize(
    ("seen", "trace"),
    [
        (("w1.1", "w1.2"), "1"),
        (("w1.0 b2.1", "w1.0 b2.2"), "2"),
        (("w1.0", "w1.0"), "1"),
    ],
)
def test_the_trace_id_is_that_of_the_family_that_the_mesh_traces_with(
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
        pytest.param("w1.0 b2.0", ("w1.0 b2.0", "b2.0"), "svc1", "none", id="no mesh, only B3 propagated"),
    ],
)
def test_a_hop_that_does_not_propagate_headers_is_named(
    sent: str, seen: tuple[str, ...], hop: str, saw: str
) -> None:
    dropping, after = int(hop[-1]) - 1, f"svc{int(hop[-1]) + 1}"
    reports = [f"{written} {'drop' if at == dropping else 'sent'}" for at, written in enumerate(seen)]
    verdict = _evaluate(sent, *reports)
    assert (verdict.kind, verdict.hop) == (VerdictKind.BROKEN, hop)
    assert verdict.text == f"broken at {hop}: trace headers not propagated, {after} saw {saw}"
    for does, report in (("sent", "sent"), ("saw", "")):
        verdict = _evaluate(sent, *(f"{written} {report}" for written in seen))
        assert (verdict.kind, verdict.hop) == (VerdictKind.BROKEN, None), "innocent until it reports the drop"
        assert verdict.text == f"lost between {hop} and {after}: {hop} {does} the trace, {after} saw {saw}"


def test_the_trace_id_of_a_broken_trace_is_that_of_its_first_fragment() -> None:
    assert _evaluate(CLIENT, "w1.1", "w2.2").trace_id == _trace("1")


@pytest.mark.parametrize(
    ("seen", "saw", "trace"), [(("w2.1", "w2.2"), "another trace", "2"), (("-", "-"), "none", "1")]
)
def test_a_trace_can_break_in_front_of_the_first_hop(seen: tuple[str, ...], saw: str, trace: str) -> None:
    verdict = _evaluate(CLIENT, *seen)
    assert (verdict.kind, verdict.hop) == (VerdictKind.BROKEN, None)
    assert verdict.text == f"broken in front of svc1: the client started a trace, svc1 saw {saw}"
    assert verdict.trace_id == _trace(trace)


def test_a_trace_that_starts_downstream_of_a_hop_is_broken_in_front_of_that_hop() -> None:
    verdict = _evaluate("-", "- drop", "w1.1 sent", "w1.2")
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.BROKEN, None, _trace("1"))
    assert verdict.text == "broken in front of svc1: it saw no trace, svc2 saw a new one"


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
def test_the_same_parent_twice_means_no_sidecar_in_between(
    seen: tuple[str, ...], places: str, hop: str
) -> None:
    verdict = _evaluate(CLIENT, *seen)
    assert (verdict.kind, verdict.hop) == (VerdictKind.NO_SIDECAR, hop)
    assert verdict.text.startswith(f"no sidecar in front of {places}: one trace (W3C) over ")
    assert verdict.trace_id == _trace("1")
    assert verdict.same_parent[0] == hop


def test_no_trace_at_any_hop_means_no_sidecar() -> None:
    verdict = _evaluate("-", "-", "-")
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.NO_SIDECAR, "svc1", None)
    assert verdict.text == "no trace: the client sent no trace headers, and no sidecar added any"


def test_a_gateway_can_sample_a_trace_that_the_client_did_not() -> None:
    assert evaluate(_path("w1.1", "w1.2"), _sent(CLIENT, sampled=False)).kind is VerdictKind.CONNECTED


def test_a_family_that_no_proxy_rewrites_does_not_affect_the_verdict() -> None:
    verdict = _evaluate(CLIENT, "w1.0 b1.1", "w1.0 b1.2 drop", "b2.3")
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.BROKEN, "svc2", _trace("1"))


def test_a_b3_trace_id_of_64_bits_equals_the_one_of_128_bits_with_leading_zeros() -> None:
    ids = ("463ac35c9f6413ad", "463ac35c9f6413ad".rjust(32, "0"))
    hops = [
        Hop("svc", Role.LAST, b3=TraceContext(trace_id, f"{n:016x}")) for n, trace_id in enumerate(ids, 1)
    ]
    assert evaluate(hops, ()).kind is VerdictKind.CONNECTED


def test_an_unsampled_trace_names_the_first_unsampled_hop() -> None:
    hops = _path("w1.1", "w1.2", "w1.3")
    hops[1:] = _path("w1.1", "w1.2", "w1.3", sampled=False)[1:]
    verdict = evaluate(hops, _sent(CLIENT))
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.NOT_SAMPLED, "svc2", _trace("1"))
    assert verdict.text == "not sampled: svc2 received the trace without the sampled flag"


def test_a_client_can_request_no_sampling() -> None:
    verdict = evaluate(_path("w1.1", sampled=False), _sent(CLIENT, sampled=False))
    assert (verdict.kind, verdict.hop) == (VerdictKind.NOT_SAMPLED, "svc1")


def test_a_break_has_priority_over_sampling() -> None:
    assert evaluate(_path("w1.1", "w2.2", sampled=False), _sent(CLIENT)).kind is VerdictKind.BROKEN


def test_unknown_sampling_does_not_make_a_trace_unsampled() -> None:
    context = TraceContext(_trace("1"), f"{1:016x}")
    assert evaluate([Hop("svc1", Role.LAST, context)], []).kind is VerdictKind.CONNECTED


UNREPORTED = "no report: the call was answered, but no hop reported what it saw"


@pytest.mark.parametrize(
    ("sent", "answered", "text"),
    [
        (
            CLIENT,
            True,
            f"{UNREPORTED}: look up the trace id in the mesh's spans",
        ),
        ("-", True, UNREPORTED),
        ("b1.0", False, "no report: no hop reported what it saw"),
    ],
)
def test_without_a_report_the_verdict_has_the_trace_id_that_the_client_sent(
    sent: str, answered: bool, text: str
) -> None:
    trace_id = None if sent == "-" else _trace("1")
    assert evaluate([], _sent(sent), answered=answered) == Verdict(VerdictKind.NO_REPORT, text, trace_id)


def test_the_reason_for_an_unreadable_report_is_part_of_the_verdict() -> None:
    reason = "invalid hop report: x"
    assert evaluate([], (), (reason, "another")).text.endswith(f" what it saw; {reason}")
    verdict = evaluate(_path("w1.1", "w1.2"), _sent(CLIENT), (reason,))
    assert (verdict.kind, verdict.text) == (
        VerdictKind.CONNECTED,
        f"connected: one trace (W3C) over 2 hops, a new parent at each; {reason}",
    )


OPEN_END = "no hop downstream of {} reported: check the mesh's spans"


@pytest.mark.parametrize(
    ("seen", "parents"),
    [
        (("w1.1 sent",), "a new parent at each"),
        (("w1.1",), "a new parent at each"),
        (("w1.0 sent",), "no sidecar in front of svc1"),
        (("w1.1", "w1.2 sent"), "a new parent at each"),
        (("w1.1", "w1.1 sent"), "no sidecar in front of svc2"),
    ],
)
def test_a_report_that_ends_with_a_relay_is_whole_only_that_far(seen: tuple[str, ...], parents: str) -> None:
    verdict = evaluate(_path(*seen, last=Role.RELAY), _sent(CLIENT))
    end, length = f"svc{len(seen)}", "1 hop" if len(seen) == 1 else "2 hops"
    assert (verdict.kind, verdict.trace_id, verdict.sampled) == (VerdictKind.PARTIAL, _trace("1"), True)
    path = f"one trace (W3C) over {length}, {parents}"
    assert verdict.text == f"whole as far as {end}: {path}; {OPEN_END.format(end)}"
    assert ", ".join(verdict.same_parent) == parents.partition("no sidecar in front of ")[2]


@pytest.mark.parametrize(
    ("sent", "seen", "kind"),
    [
        (CLIENT, ("w1.1", "w2.2 sent"), VerdictKind.BROKEN),
        ("-", ("-",), VerdictKind.NO_SIDECAR),
        (CLIENT, ("w1.1 drop",), VerdictKind.BROKEN),
    ],
)
def test_every_verdict_on_an_open_end_says_so(sent: str, seen: tuple[str, ...], kind: VerdictKind) -> None:
    verdict = evaluate(_path(*seen, last=Role.RELAY), _sent(sent))
    assert verdict.kind is kind
    assert verdict.text.endswith(f"; {OPEN_END.format(f'svc{len(seen)}')}")


def test_a_relay_that_sent_nothing_broke_the_trace_even_if_nothing_downstream_reports() -> None:
    verdict = evaluate(_path("w1.1 sent", "w1.2 drop", last=Role.RELAY), _sent(CLIENT))
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.BROKEN, "svc2", _trace("1"))
    assert verdict.text.startswith("broken at svc2: it sent no trace headers; ")


def test_only_relays_send_trace_headers() -> None:
    assert _evaluate(CLIENT, "w1.1 sent", "w1.2 drop").kind is VerdictKind.CONNECTED


def test_a_trace_that_arrives_although_a_relay_sent_nothing_is_whole() -> None:
    """An agent in the relay can add the headers."""
    assert _evaluate(CLIENT, "w1.1 drop", "w1.2").kind is VerdictKind.CONNECTED


# One of ours, a relay of another implementation, one of ours; the client sends both families. The names are
# those of the implementations whose behaviour is imitated.
DROPPED_W3C = "lost between svc1 and svc2: svc1 sent the trace, svc2 saw another trace"
FOREIGN_RELAYS = [
    # Reports from downstream are lost: only svc1 reports.
    pytest.param("w1.1 b1.0 sent", None, VerdictKind.PARTIAL, "whole as far as svc1: ", id="Go, W3C"),
    pytest.param("w1.0 b1.1 sent", None, VerdictKind.PARTIAL, "whole as far as svc1: ", id="Go, B3"),
    pytest.param("w1.1 b1.0 sent", None, VerdictKind.PARTIAL, "whole as far as svc1: ", id="Java, W3C"),
    pytest.param("w1.0 b1.1 sent", None, VerdictKind.PARTIAL, "whole as far as svc1: ", id="Java, B3"),
    pytest.param("w1.1 b1.0 sent", None, VerdictKind.PARTIAL, "whole as far as svc1: ", id="Node.js"),
    pytest.param(
        "w1.1 b1.0 sent", None, VerdictKind.PARTIAL, "whole as far as svc1: ", id="Rust, on success"
    ),
    # Reports from downstream come back.
    pytest.param("w1.1 b1.0 sent", "w2.2", VerdictKind.BROKEN, DROPPED_W3C, id="Rust, on failure, W3C"),
    pytest.param("w1.0 b1.1 sent", "b2.2", VerdictKind.BROKEN, DROPPED_W3C, id="Rust, on failure, B3"),
    pytest.param("w1.1 b1.0 sent", "w1.2 b1.0", VerdictKind.CONNECTED, "connected: ", id="Rust, one to many"),
    pytest.param("w1.1 b1.0 sent", "w1.2 b1.0", VerdictKind.CONNECTED, "connected: ", id="grpc-js, W3C"),
    pytest.param("w1.0 b1.1 sent", "w1.0 b1.2", VerdictKind.CONNECTED, "connected: ", id="grpc-js, B3"),
    # The same with proxies that return the trailers of the last hop.
    pytest.param("w1.1 b1.0 sent", "w2.2 b1.0", VerdictKind.BROKEN, DROPPED_W3C, id="request id and B3, W3C"),
    pytest.param("w1.0 b1.1 sent", "b1.2", VerdictKind.CONNECTED, "connected: ", id="request id and B3, B3"),
]


@pytest.mark.parametrize(("first", "last", "kind", "text"), FOREIGN_RELAYS)
def test_no_hop_is_blamed_for_a_relay_that_does_not_report(
    first: str, last: str | None, kind: VerdictKind, text: str
) -> None:
    hops = _path(first, last=Role.RELAY) if last is None else _path(first, last)
    verdict = evaluate(hops, _sent("w1.0 b1.0"))
    assert (verdict.kind, verdict.hop) == (kind, None)
    assert verdict.text.startswith(text)


@pytest.mark.parametrize(
    ("sent", "seen", "at"),
    [
        pytest.param(
            "w1.0 b1.0", ("w1.1 b1.2", "w1.3 b1.4", "w1.5 b1.4"), "svc1", id="svc1's sidecar B3, others W3C"
        ),
        pytest.param(
            "w1.0 b1.0", ("w1.0 b1.1", "w1.2 b1.1", "w1.3 b1.1"), "svc1", id="gateway B3, others W3C"
        ),
        pytest.param("w1.0", ("w1.1", "w1.2 b2.3"), "svc2", id="only W3C sent"),
        pytest.param("w1.0 b1.0", ("w1.1 b1.0", "w1.2 b1.0", "w1.3 b1.4"), "svc1", id="svc3's sidecar B3"),
        pytest.param("w1.0 b1.0", ("w1.0 b1.1", "w1.2 b1.3"), "svc1", id="an agent in svc1, a Zipkin mesh"),
    ],
)
def test_two_families_rewritten_to_different_ids_are_two_kinds_of_tracers(
    sent: str, seen: tuple[str, ...], at: str
) -> None:
    verdict = _evaluate(sent, *seen)
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.MIXED, None, _trace("1"))
    assert verdict.text == (
        f"mixed: W3C and B3 headers were rewritten to different ids at {at}: tracers of two kinds are on the"
        " path, and their spans are not one tree"
    )


def test_a_hop_that_dropped_the_trace_has_priority_over_mixed_tracers() -> None:
    verdict = _evaluate("w1.0 b1.0", "w1.1 b1.2 drop", "w2.3 b3.4")
    assert (verdict.kind, verdict.hop) == (VerdictKind.BROKEN, "svc1")


def _with_traceparent(value: str) -> list[tuple[str, str]]:
    return [("traceparent", value)]


INVALID = [
    (_with_traceparent(f"00-{'0' * 32}-{'1' * 16}-01"), "the client's traceparent is invalid"),
    (_with_traceparent("ff-" + _sent(CLIENT)[0][1][3:]), "the client's traceparent is invalid"),
    (_with_traceparent("x"), "the client's traceparent is invalid"),
    ([("x-b3-traceid", "x"), ("x-b3-spanid", "y")], "the client's B3 headers are invalid"),
    ([("b3", "x")], "the client's B3 headers are invalid"),
]


@pytest.mark.parametrize("proxied", [True, False])
@pytest.mark.parametrize(("sent", "problem"), INVALID)
def test_invalid_headers_are_not_missing_ones(
    sent: list[tuple[str, str]], problem: str, proxied: bool
) -> None:
    hops = _with_request_id(_path("-", "-")) if proxied else _path("-", "-")
    verdict = evaluate(hops, sent)
    assert (verdict.kind, verdict.trace_id) == (VerdictKind.HEADERS_IGNORED, None)
    assert verdict.text == f"no trace: {problem}, and no hop saw a trace"


@pytest.mark.parametrize("proxied", [True, False])
def test_a_later_version_of_traceparent_is_passed_on_without_spans(proxied: bool) -> None:
    hops = _with_request_id(_path("w1.0", "w1.0")) if proxied else _path("w1.0", "w1.0")
    verdict = evaluate(hops, _with_traceparent("01" + _sent(CLIENT)[0][1][2:]))
    assert (verdict.kind, verdict.trace_id) == (VerdictKind.HEADERS_IGNORED, _trace("1"))
    problem = "the client's traceparent has version 01"
    assert verdict.text == f"not traced: {problem}, and no proxy made a span: one trace (W3C) over 2 hops"


def test_a_proxy_that_continues_a_later_version_is_as_good_as_any() -> None:
    sent = _with_traceparent("01" + _sent(CLIENT)[0][1][2:])
    assert evaluate(_path("w1.1", "w1.2"), sent).kind is VerdictKind.CONNECTED


@pytest.mark.parametrize("sent", [[("b3", "0")], [("x-b3-sampled", "0")], []])
def test_a_sampling_decision_alone_is_no_trace(sent: list[tuple[str, str]]) -> None:
    assert evaluate(_path("-"), sent).text.startswith("no trace: the client sent no trace headers")
    verdict = evaluate(_with_request_id(_path("-")), sent)
    assert (verdict.kind, verdict.text) == (
        VerdictKind.NOT_TRACED,
        "not traced: the client sent no trace headers, and the proxies on the path started no trace",
    )


def test_the_kinds_of_verdict_have_stable_names() -> None:
    assert [str(kind) for kind in VerdictKind] == [
        "connected",
        "partial",
        "broken",
        "mixed",
        "not-sampled",
        "no-sidecar",
        "not-traced",
        "headers-ignored",
        "no-report",
    ]


def _with_request_id(hops: list[Hop]) -> list[Hop]:
    return [replace(hop, request="8f14e45f-ceea-467f-a0e6-d9a1b0c8e6f1") for hop in hops]


@pytest.mark.parametrize("seen", [("w1.0",), ("w1.0", "w1.0", "w1.0")])
def test_a_request_id_without_a_span_means_proxies_without_tracing(seen: tuple[str, ...]) -> None:
    verdict = evaluate(_with_request_id(_path(*seen)), _sent(CLIENT))
    assert (verdict.kind, verdict.hop, verdict.trace_id) == (VerdictKind.NOT_TRACED, "svc1", _trace("1"))
    assert verdict.text.startswith("not traced: a proxy passed the call on without a span: one trace (W3C)")
    assert verdict.sampled is True


def test_a_gateway_that_traces_in_front_of_hops_without_sidecars_is_no_sidecar() -> None:
    verdict = evaluate(_with_request_id(_path("w1.1", "w1.1", "w1.1")), _sent(CLIENT))
    assert (verdict.kind, verdict.hop) == (VerdictKind.NO_SIDECAR, "svc2")


def test_a_request_id_from_the_client_does_not_indicate_a_proxy() -> None:
    sent = [*_sent(CLIENT), ("x-request-id", "mine")]
    assert evaluate(_with_request_id(_path("w1.0", "w1.0")), sent).kind is VerdictKind.NO_SIDECAR


@pytest.mark.parametrize(
    ("seen", "sampled"), [(("w1.1", "w1.2"), True), (("b1.1", "b1.2"), None), (("w1.0", "w1.0"), True)]
)
def test_a_verdict_is_sampled_if_every_hop_saw_a_sampled_trace(
    seen: tuple[str, ...], sampled: bool | None
) -> None:
    hops = [replace(hop, b3=hop.b3 and replace(hop.b3, sampled=None)) for hop in _path(*seen)]
    assert evaluate(hops, _sent("-")).sampled is sampled


def test_b3_has_a_sampling_decision() -> None:
    assert _evaluate("b1.0", "b1.1", "b1.2").sampled is True
    verdict = evaluate(_path("b1.1", "b1.2", sampled=False), _sent("b1.0"))
    assert (verdict.kind, verdict.hop, verdict.sampled) == (VerdictKind.NOT_SAMPLED, "svc1", False)


def test_a_verdict_is_not_sampled_for_sure_if_one_hop_did_not_report_sampling() -> None:
    known, unknown = _path("w1.1", "w1.2")
    assert unknown.w3c is not None
    hops = [known, replace(unknown, w3c=replace(unknown.w3c, sampled=None))]
    assert evaluate(hops, _sent(CLIENT)).sampled is None
