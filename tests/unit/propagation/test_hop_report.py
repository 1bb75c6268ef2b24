"""The hop report as text: hops survive encoding, and invalid reports are refused."""

import pytest

from hello_mesh.base.errors import HopReportError
from hello_mesh.propagation.hop_report import (
    HOP_METADATA_KEY,
    Hop,
    HopReport,
    Role,
    decode,
    encode,
    open_end,
    parse_report,
)
from hello_mesh.propagation.trace_context import TraceContext

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
B3_TRACE = "463ac35c9f6413ad48485a3953bb6124"
B3_SPAN = "0020000000000001"
METADATA = (
    ("traceparent", f"00-{TRACE}-{SPAN}-01"),
    ("x-b3-traceid", B3_TRACE),
    ("x-b3-spanid", B3_SPAN),
    ("x-b3-sampled", "1"),
    ("x-request-id", "5d1ac2f1-4d2c-4f3c-9f0e-6d1f2a3b4c5d"),
)
# The form that the contract defines: these keys in this order, values percent-encoded.
WIRE = (
    f"name=grpc-server-svc1;role=relay;trace={TRACE};parent={SPAN};sampled=1"
    f";b3-trace={B3_TRACE};b3-parent={B3_SPAN};b3-sampled=1"
    ";request=5d1ac2f1-4d2c-4f3c-9f0e-6d1f2a3b4c5d;sent=1"
)


def test_the_report_of_a_call_has_the_form_of_the_contract() -> None:
    assert encode(Hop.from_metadata("grpc-server-svc1", Role.RELAY, METADATA)) == WIRE


def test_a_report_decodes_to_the_encoded_hop() -> None:
    hop = decode(WIRE)
    assert hop == Hop.from_metadata("grpc-server-svc1", Role.RELAY, METADATA)
    assert hop.w3c is not None
    assert hop.w3c.sampled is True


def test_keys_that_a_hop_did_not_see_are_left_out() -> None:
    assert encode(Hop.from_metadata("svc3", Role.LAST, ())) == "name=svc3;role=last"
    assert decode("name=svc3;role=last") == Hop("svc3", Role.LAST)
    unsampled = Hop.from_metadata("svc3", Role.LAST, (("traceparent", f"00-{TRACE}-{SPAN}-00"),))
    assert encode(unsampled) == f"name=svc3;role=last;trace={TRACE};parent={SPAN};sampled=0"


def test_a_single_b3_header_is_reported_like_many_headers() -> None:
    single = Hop.from_metadata("a", Role.LAST, (("b3", f"{B3_TRACE}-{B3_SPAN}-0"),))
    assert encode(single) == f"name=a;role=last;b3-trace={B3_TRACE};b3-parent={B3_SPAN};b3-sampled=0"


@pytest.mark.parametrize(
    "hostile",
    ["a;role=last", "a=b", "100%", "%3B", "こんにちは 안녕", "a\nb\r\x1b[31m\0", "", " ", "+", "/&?#", "🙂"],
)
def test_hostile_values_survive_encoding_and_decoding(hostile: str) -> None:
    hop = Hop(hostile, Role.RELAY, TraceContext(TRACE, SPAN, sampled=True), None, hostile or None)
    value = encode(hop)
    assert value.isascii()
    assert value.isprintable()
    assert not set(value) & set(',/:" ')
    assert value.count(";") == len(hop.to_pairs()) - 1
    assert decode(value) == hop


def test_a_name_that_is_not_unicode_can_be_reported() -> None:
    """An environment variable can hold other bytes than UTF-8; Python keeps them as lone surrogates."""
    assert decode(encode(Hop("svc\udcff1", Role.LAST))).name.startswith("svc")


def test_unknown_keys_and_empty_pairs_are_ignored() -> None:
    assert decode("name=a;zone=b;;role=last;x;=y") == Hop("a", Role.LAST)


@pytest.mark.parametrize(
    "value",
    ["", "garbage", "name=a", "role=last", "name=a;role=", "name=a;role=LAST", "name=a;role=proxy", ";;;"],
)
def test_a_report_without_name_and_role_is_refused(value: str) -> None:
    with pytest.raises(HopReportError, match="invalid hop report"):
        decode(value)


def test_the_error_shows_a_hostile_report_on_one_short_line() -> None:
    with pytest.raises(HopReportError) as raised:
        decode("\x1b[31m\n" * 1000)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


def test_a_trace_id_without_a_parent_is_not_a_context() -> None:
    assert decode(f"name=a;role=last;trace={TRACE};b3-parent={B3_SPAN}") == Hop("a", Role.LAST)


def test_missing_sampling_stays_unknown() -> None:
    hop = decode(f"name=a;role=last;trace={TRACE};parent={SPAN}")
    assert hop.w3c is not None
    assert hop.w3c.sampled is None
    assert "sampled" not in hop.to_pairs()


def test_hops_stay_in_order_and_other_metadata_is_ignored() -> None:
    metadata = (
        (HOP_METADATA_KEY, "name=svc1;role=relay"),
        ("x-other", "name=no;role=last"),
        (HOP_METADATA_KEY, "name=svc2;role=relay"),
        ("hello-hop-bin", b"name=no;role=last"),
        ("hello-hop-2", "name=no;role=last"),
        (HOP_METADATA_KEY, "name=svc3;role=last"),
    )
    report = parse_report(metadata)
    assert report.unreadable == ()
    assert [(hop.name, hop.role) for hop in report.hops] == [
        ("svc1", Role.RELAY),
        ("svc2", Role.RELAY),
        ("svc3", Role.LAST),
    ]
    assert parse_report(()) == HopReport()


def test_repeated_trailers_that_a_library_joined_are_separate_hops() -> None:
    """The HTTP/2 client of Node.js joins them with a comma and a space."""
    hops = (Hop("svc,1", Role.RELAY, sent=True), Hop("svc2", Role.RELAY, sent=False), Hop("svc3", Role.LAST))
    first, second, third = map(encode, hops)
    joined = ((HOP_METADATA_KEY, f"{first}, {second},{third}, "),)
    assert parse_report(joined) == HopReport(hops)
    assert parse_report(((HOP_METADATA_KEY, f"{first}, {second}"), (HOP_METADATA_KEY, third))).hops == hops
    assert parse_report(((HOP_METADATA_KEY, ""),)) == HopReport()


def test_an_unreadable_value_does_not_hide_the_others() -> None:
    values = ("name=svc1;role=relay", "garbage", "name=svc3;role=last")
    report = parse_report([(HOP_METADATA_KEY, value) for value in values])
    assert [hop.name for hop in report.hops] == ["svc1", "svc3"]
    (reason,) = report.unreadable
    assert reason.startswith("invalid hop report: ")
    assert "garbage" in reason
    assert parse_report(((HOP_METADATA_KEY, ", ".join(values)),)) == report


def test_ids_in_upper_case_are_the_same_ids() -> None:
    upper = WIRE.replace(TRACE, TRACE.upper()).replace(SPAN, SPAN.upper()).replace(B3_TRACE, B3_TRACE.upper())
    assert upper != WIRE
    assert decode(upper) == decode(WIRE)


@pytest.mark.parametrize(
    ("metadata", "forward", "sent"),
    [
        (METADATA, True, True),
        (METADATA[:1], True, True),
        (METADATA[1:3], True, True),
        (METADATA, False, False),
        (METADATA[-1:], True, False),
        ((("traceparent", "invalid"),), True, False),
    ],
)
def test_a_relay_reports_whether_it_sent_trace_context(
    metadata: tuple[tuple[str, str], ...], forward: bool, sent: bool
) -> None:
    hop = Hop.from_metadata("a", Role.RELAY, metadata, forward=forward)
    assert hop.sent is sent
    assert encode(hop).endswith(f";sent={int(sent)}")
    assert decode(encode(hop)).sent is sent


def test_a_last_hop_sends_nothing_and_an_older_relay_does_not_report_it() -> None:
    assert Hop.from_metadata("a", Role.LAST, METADATA).sent is None
    assert "sent" not in encode(Hop.from_metadata("a", Role.LAST, METADATA))
    assert decode("name=a;role=relay").sent is None
    assert decode("name=a;role=relay;sent=maybe").sent is None


def test_the_report_ends_openly_at_a_relay() -> None:
    relay, last = Hop("svc1", Role.RELAY), Hop("svc2", Role.LAST)
    assert open_end((relay,)) == "svc1"
    assert open_end((relay, last)) is None
    assert open_end(()) is None


def test_a_long_request_id_is_cut() -> None:
    hop = Hop.from_metadata("a", Role.LAST, (("x-request-id", "r" * 8000),))
    assert hop.request is not None
    assert len(hop.request) == 128


def test_the_trace_id_of_a_hop_prefers_w3c_to_b3() -> None:
    assert Hop.from_metadata("a", Role.LAST, METADATA).trace_id == TRACE
    assert Hop.from_metadata("a", Role.LAST, METADATA[1:]).trace_id == B3_TRACE
    assert Hop.from_metadata("a", Role.LAST, ()).trace_id is None


def test_a_value_can_contain_an_equals_sign() -> None:
    assert decode("name=a=b;role=last") == Hop("a=b", Role.LAST)


def test_each_family_has_a_sampling_decision_of_its_own() -> None:
    ids = f"trace={TRACE};parent={SPAN};b3-trace={B3_TRACE};b3-parent={B3_SPAN}"
    for suffix, decisions in {
        ";sampled=1": (True, None),
        ";b3-sampled=0": (None, False),
        ";sampled=0;b3-sampled=1": (False, True),
    }.items():
        hop = decode(f"name=a;role=last;{ids}{suffix}")
        assert hop.w3c is not None
        assert hop.b3 is not None
        assert (hop.w3c.sampled, hop.b3.sampled) == decisions


def test_the_metadata_of_a_hop_can_be_an_iterator() -> None:
    hop = Hop.from_metadata("grpc-server-svc1", Role.RELAY, iter(METADATA))
    assert hop == Hop.from_metadata("grpc-server-svc1", Role.RELAY, METADATA)
