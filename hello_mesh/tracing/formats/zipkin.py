"""Zipkin v2: spans from the JSON list that a Zipkin client posts."""

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

_KINDS = {
    kind.upper(): kind for kind in (SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER)
}
_NO_PARENT = (None, "", "0" * 16)


def from_json(body: bytes) -> Batch:
    """The spans of a list. All of them or none: Zipkin knows no partial success.

    Raises:
        PayloadError: where it is no list of spans.
    """
    document = parse_json(body)
    if not isinstance(document, list):
        raise PayloadError("the body is not a JSON list of spans")
    return Batch(tuple(_numbered(number, entry) for number, entry in enumerate(document)))


def _numbered(number: int, entry: Any) -> Span:
    try:
        return _span(_is(entry, dict, "it"))
    except SpanError as error:
        raise SpanError(f"span {number} of the list: {error}") from error


def _span(entry: Mapping[str, Any]) -> Span:
    """https://zipkin.io/zipkin-api/#/default/post_spans"""
    tags = {key: _text(entry.get("tags") or {}, key) for key in _is(entry.get("tags") or {}, dict, "tags")}
    attributes, dropped = bounded_attributes(tags.items())
    annotations = _is(entry.get("annotations") or [], list, "annotations")
    start = _number(entry, "timestamp")
    error = tags.get("error", "false")
    return Span(
        trace_id=padded(_text(entry, "traceId").lower()),
        span_id=_text(entry, "id").lower(),
        parent_id=None if entry.get("parentId") in _NO_PARENT else _text(entry, "parentId").lower(),
        name=bounded_text(_text(entry, "name")),
        kind=_KINDS.get(_text(entry, "kind"), SpanKind.UNSPECIFIED),
        service=_service(entry),
        start_ns=start * 1000,
        end_ns=(start + _number(entry, "duration")) * 1000,
        status=Status.UNSET if error == "false" else Status.ERROR,
        status_message="" if error in ("false", "true") else bounded_text(error),
        attributes=attributes,
        events=tuple(_event(annotation) for annotation in annotations[:MAX_EVENTS]),
        dropped=dropped + max(0, len(annotations) - MAX_EVENTS),
        origin=Origin.ZIPKIN,
    )


def _service(entry: Mapping[str, Any]) -> str:
    endpoint = _is(entry.get("localEndpoint") or {}, dict, "localEndpoint")
    return bounded_text(_text(endpoint, "serviceName")) or UNKNOWN_SERVICE


def _event(annotation: Any) -> Event:
    entry = _is(annotation, dict, "an annotation")
    return Event(_number(entry, "timestamp") * 1000, bounded_text(_text(entry, "value")))


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return "" if value is None else str(_is(value, str, key))


def _number(entry: Mapping[str, Any], key: str) -> int:
    """A count of microseconds."""
    value = entry.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not 0 <= int(_is(value, int, key)) < 2**53:
        raise SpanError(f"{key} is not a number of microseconds")
    return int(value)


def _is(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        names = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}
        raise SpanError(f"{bounded_text(what, 40)} is not {names[kind]}")
    return value
