"""The headers that are propagated, those that never are, and those that a user can set."""

import pytest

from hello_mesh.base.errors import UsageError
from hello_mesh.propagation.headers import (
    FAMILIES,
    ExtraHeaders,
    check_header,
    propagated_headers,
    propagated_trailers,
)

# Copied from the contract, not from the code.
CONTRACT = {
    "request id": ("x-request-id",),
    "W3C Trace Context": ("traceparent", "tracestate"),
    "W3C Baggage": ("baggage",),
    "B3, many headers": (
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-b3-flags",
    ),
    "B3, one header": ("b3",),
    "OpenTracing": ("x-ot-span-context",),
    "OpenCensus": ("grpc-trace-bin", "x-cloud-trace-context"),
    "SkyWalking": ("sw8", "sw8-correlation", "sw8-x"),
    "Datadog": (
        "x-datadog-trace-id",
        "x-datadog-parent-id",
        "x-datadog-sampling-priority",
        "x-datadog-origin",
        "x-datadog-tags",
    ),
    "ASM lanes": ("x-asm-prefer-tag",),
}
CONTRACT_KEYS = [key for keys in CONTRACT.values() for key in keys]

NEVER_FORWARDED = (
    "grpc-timeout",
    "te",
    "content-type",
    "user-agent",
    "grpc-encoding",
    "grpc-status-details-bin",
    "grpc-tags-bin",
    ":authority",
    ":path",
    "host",
    "connection",
    "x-envoy-attempt-count",
    "x-envoy-peer-metadata-id",
    "x-forwarded-for",
    "x-forwarded-proto",
)


def _value(key: str) -> str | bytes:
    return b"\x00\xff" if key.endswith("-bin") else "value"


def test_the_families_are_those_of_the_contract() -> None:
    assert {family.name: family.keys for family in FAMILIES} == CONTRACT


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_has_a_reason(family: object) -> None:
    assert getattr(family, "reason", "").strip()


@pytest.mark.parametrize("key", CONTRACT_KEYS)
def test_each_key_of_the_contract_is_propagated(key: str) -> None:
    assert propagated_headers(((key, _value(key)),)) == ((key, _value(key)),)


@pytest.mark.parametrize("key", ["authorization", "cookie", "x-user-id", "x-b3", "traceparent2", "sw8-y"])
def test_other_keys_are_not_propagated(key: str) -> None:
    assert propagated_headers(((key, "value"),)) == ()


@pytest.mark.parametrize("key", NEVER_FORWARDED)
def test_transport_headers_are_not_propagated_even_if_configured(key: str) -> None:
    extra = ExtraHeaders(frozenset({key}), (key, ":", "grpc-", "x-"))
    assert propagated_headers(((key, _value(key)),), extra) == ()


@pytest.mark.parametrize("key", [key for key in NEVER_FORWARDED if not key.startswith(":")])
def test_configured_names_of_transport_headers_are_listed_as_denied(key: str) -> None:
    assert ExtraHeaders.parse(f"x-user-id,{key}").denied == (key,)


def test_configured_prefixes_of_transport_headers_are_listed_as_denied() -> None:
    assert ExtraHeaders.parse("x-envoy-*, grpc-*, x-canary-*").denied == ("grpc-*", "x-envoy-*")
    assert ExtraHeaders.parse("grpc-trace-bin").denied == ()


def test_a_broad_prefix_does_not_include_transport_headers() -> None:
    metadata = (("x-envoy-a", "1"), ("x-forwarded-for", "1"), ("x-mine", "1"))
    assert propagated_headers(metadata, ExtraHeaders.parse("x-*")) == (("x-mine", "1"),)


def test_repeated_keys_are_all_propagated_in_order() -> None:
    metadata = (("baggage", "b=2"), ("traceparent", "t"), ("baggage", "a=1"), ("baggage", "b=2"))
    assert propagated_headers(metadata) == metadata


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tracestate", ""),
        ("grpc-trace-bin", b""),
        ("baggage", "k=ü"),
        ("baggage", "a\nb"),
        ("baggage", "a\tb"),
        ("baggage", "a\x7fb"),
        ("baggage", b"bytes"),
    ],
)
def test_only_a_value_that_grpc_cannot_send_is_dropped(key: str, value: str | bytes) -> None:
    assert propagated_headers((("traceparent", "t"), (key, value), ("b3", "0"))) == (
        ("traceparent", "t"),
        ("b3", "0"),
    )


def test_bytes_are_propagated_unchanged() -> None:
    every = bytes(range(256))
    extra = ExtraHeaders.parse("x-session-bin")
    metadata = (("grpc-trace-bin", every), ("x-session-bin", every))
    assert propagated_headers(metadata, extra) == metadata


@pytest.mark.parametrize(
    ("text", "exact", "prefixes"),
    [
        ("", set(), ()),
        (" , ,", set(), ()),
        ("x-user-id", {"x-user-id"}, ()),
        (" X-User-Id , x-canary-* ", {"x-user-id"}, ("x-canary-",)),
        ("a,b,a,c*,d.*", {"a", "b"}, ("c", "d.")),
    ],
)
def test_extra_names_are_a_list_of_names_and_prefixes(
    text: str, exact: set[str], prefixes: tuple[str, ...]
) -> None:
    assert ExtraHeaders.parse(text) == ExtraHeaders(frozenset(exact), prefixes)


@pytest.mark.parametrize("text", ["*", "x-**", "x-*-y", "x user", "x:y", ":path", "ü", "x\ny", "a,;b"])
def test_an_invalid_header_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="invalid header name") as raised:
        ExtraHeaders.parse(f"x-fine,{text}")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("key", "within"),
    [
        ("x-user-id", True),
        ("x-user-id2", False),
        ("x-canary-", True),
        ("x-canary-a", True),
        ("x-canary", False),
        ("my-x-canary-a", False),
        ("my-x-user-id", False),
    ],
)
def test_a_name_matches_whole_and_a_prefix_from_the_left(key: str, within: bool) -> None:
    assert (key in ExtraHeaders.parse("x-user-id,x-canary-*")) is within
    assert key not in ExtraHeaders()


def test_a_response_returns_the_metadata_that_the_application_set() -> None:
    kept = (
        ("x-any", "1"),
        ("hello-hop", "name=a"),
        ("x-any", "2"),
        ("grpc-status-details-bin", b"\x08"),
        ("set-cookie", "c"),
    )
    own = (
        ("server", "envoy"),
        ("date", "today"),
        ("content-length", "0"),
        ("via", "1.1 proxy"),
        ("content-type", "application/grpc"),
        ("grpc-encoding", "gzip"),
        ("grpc-status", "0"),
        ("x-envoy-upstream-service-time", "1"),
        ("x-empty", ""),
        ("x-foreign", "ü"),
    )
    assert propagated_trailers((*kept[:2], *own, *kept[2:])) == kept


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("x-user-id", "me"),
        ("authorization", "Bearer x"),
        ("x_y.z-0", " ~"),
        ("x-bin", b"\x00\n\xff"),
        ("grpc-trace-bin", b"\x00"),
        ("traceparent", "not one"),
    ],
)
def test_a_caller_can_set_headers_that_grpc_can_carry(key: str, value: str | bytes) -> None:
    check_header(key, value)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("", "v", "invalid header name"),
        ("X-Upper", "v", "invalid header name"),
        ("x y", "v", "invalid header name"),
        ("x\ny", "v", "invalid header name"),
        (":path", "v", "invalid header name"),
        ("ü", "v", "invalid header name"),
        ("user-agent", "v", "belongs to the transport"),
        ("grpc-timeout", "1S", "belongs to the transport"),
        ("x-envoy-retry-on", "5xx", "belongs to the transport"),
        ("te", "trailers", "belongs to the transport"),
        ("x-user-id", "", "printable ASCII"),
        ("x-user-id", "a\nb", "printable ASCII"),
        ("x-user-id", "ü", "printable ASCII"),
        ("x-user-id", b"bytes", "printable ASCII"),
        ("x-bin", b"", "invalid value of header"),
    ],
)
def test_a_caller_cannot_set_other_headers(key: str, value: str | bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why) as raised:
        check_header(key, value)
    assert str(raised.value).isprintable()
