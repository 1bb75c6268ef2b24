"""Zipkin v2: decode spans from a JSON list."""

from collections.abc import Mapping
from typing import Any

from hello_mesh.base.errors import PayloadError, SpanError
from hello_mesh.tracing.formats.batch import Batch, parse_json
from hello_mesh.tracing.span import (
    MAX_EVENTS,
    UNKNOWN_SERVICE,
    Event,
    Origin,
    Span,
    SpanKind,
    Status,
    bounded_attributes,
    bounded_text,
    padded,
)

ZIPKIN_PATH = "/api/v2/spans"

_ZIPKIN_KINDS = {
    kind.upper(): kind for kind in (SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER)
}
_NO_PARENT = (None, "", "0" * 16)


def from_json(body: bytes) -> Batch:
    """Return the spans of a list: all or none, as Zipkin has no partial success.

    Raises:
        PayloadError: the body is not a list of valid spans.
    """
    document = parse_json(body)
    if not isinstance(document, list):
        raise PayloadError("the body is not a JSON list of spans")
    return Batch(tuple(_list_entry(number, entry) for number, entry in enumerate(document)))


def _list_entry(number: int, entry: Any) -> Span:
    try:
        return _zipkin_span(_require(entry, dict, "it"))
    except SpanError as error:
        raise SpanError(f"span {number} of the list: {error}") from error


def _zipkin_span(entry: Mapping[str, Any]) -> Span:
    """Return the span of one entry: https://zipkin.io/zipkin-api/#/default/post_spans."""
    tags = {
        key: _text_of(entry.get("tags") or {}, key) for key in _require(entry.get("tags") or {}, dict, "tags")
    }
    attributes, dropped = bounded_attributes(tags.items())
    annotations = _require(entry.get("annotations") or [], list, "annotations")
    start = _microseconds(entry, "timestamp")
    error = tags.get("error", "false")
    return Span(
        trace_id=padded(_text_of(entry, "traceId").lower()),
        span_id=_text_of(entry, "id").lower(),
        parent_id=None if entry.get("parentId") in _NO_PARENT else _text_of(entry, "parentId").lower(),
        name=bounded_text(_text_of(entry, "name")),
        kind=_ZIPKIN_KINDS.get(_text_of(entry, "kind"), SpanKind.UNSPECIFIED),
        service=_service(entry),
        start_ns=start * 1000,
        end_ns=(start + _microseconds(entry, "duration")) * 1000,
        status=Status.UNSET if error == "false" else Status.ERROR,
        status_message="" if error in ("false", "true") else bounded_text(error),
        attributes=attributes,
        events=tuple(_zipkin_event(annotation) for annotation in annotations[:MAX_EVENTS]),
        dropped=dropped + max(0, len(annotations) - MAX_EVENTS),
        origin=Origin.ZIPKIN,
    )


def _service(entry: Mapping[str, Any]) -> str:
    endpoint = _require(entry.get("localEndpoint") or {}, dict, "localEndpoint")
    return bounded_text(_text_of(endpoint, "serviceName")) or UNKNOWN_SERVICE


def _zipkin_event(annotation: Any) -> Event:
    entry = _require(annotation, dict, "an annotation")
    return Event(_microseconds(entry, "timestamp") * 1000, bounded_text(_text_of(entry, "value")))


def _text_of(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return "" if value is None else str(_require(value, str, key))


def _microseconds(entry: Mapping[str, Any], key: str) -> int:
    """Return a number of microseconds."""
    value = entry.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not 0 <= int(_require(value, int, key)) < 2**53:
        raise SpanError(f"invalid {key}: it must be a number of microseconds")
    return int(value)


def _require(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        names = {dict: "an object", list: "a list", str: "a string", int: "an integer"}
        raise SpanError(f"{bounded_text(what, 40)} is not {names[kind]}")
    return value
