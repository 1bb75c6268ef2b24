"""Trace contexts that are read from headers, and new ones."""

import pytest

from hello_mesh.propagation.trace_context import (
    TraceContext,
    first_text,
    from_b3,
    from_w3c,
    new_trace_context,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
SHORT = "463ac35c9f6413ad"


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"fe-{TRACE}-{SPAN}-01-what-the-future-brings", True),
        (f"cc-{TRACE}-{SPAN}-00-", False),
    ],
)
def test_a_traceparent_is_read(value: str, sampled: bool) -> None:
    context = from_w3c((("traceparent", value),))
    assert context == TraceContext(TRACE, SPAN)
    assert context is not None
    assert context.sampled is sampled


@pytest.mark.parametrize(
    "value",
    [
        "",
        "garbage",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN[1:]}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"0-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01x",
        f"00-{TRACE}-{SPAN}-01 ",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"٠٠-{TRACE}-{SPAN}-01",
    ],
)
def test_an_invalid_traceparent_is_not_a_context(value: str) -> None:
    assert from_w3c((("traceparent", value),)) is None


def test_a_context_writes_the_traceparent_that_it_was_read_from() -> None:
    for flags in ("00", "01"):
        value = f"00-{TRACE}-{SPAN}-{flags}"
        context = from_w3c((("traceparent", value),))
        assert context is not None
        assert context.traceparent == value


@pytest.mark.parametrize(
    "metadata",
    [
        (("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)),
        (("x-b3-spanid", SPAN), ("x-b3-sampled", "1"), ("x-b3-traceid", TRACE)),
        (("x-b3-traceid", TRACE.upper()), ("x-b3-spanid", SPAN.upper())),
        (("b3", f"{TRACE}-{SPAN}"),),
        (("b3", f"{TRACE}-{SPAN}-0"),),
        (("b3", f"{TRACE}-{SPAN}-1"),),
        (("b3", f"{TRACE}-{SPAN}-d"),),
        (("b3", f"{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90"),),
        (("b3", f"{TRACE}-{SPAN}-1".upper()),),
        (("x-b3-traceid", TRACE), ("b3", f"{TRACE}-{SPAN}")),
        (("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("b3", f"{SHORT}-{SHORT}")),
        (("b3", f"{SHORT}-{SHORT}"), ("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)),
    ],
)
def test_both_forms_of_b3_are_read_and_the_many_headers_win(metadata: tuple[tuple[str, str], ...]) -> None:
    assert from_b3(metadata) == TraceContext(TRACE, SPAN)


MANY = (("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN))


@pytest.mark.parametrize(
    ("metadata", "sampled"),
    [
        (MANY, None),
        ((*MANY, ("x-b3-sampled", "1")), True),
        ((*MANY, ("x-b3-sampled", "0")), False),
        ((*MANY, ("x-b3-sampled", "True")), True),
        ((*MANY, ("x-b3-sampled", "false")), False),
        ((*MANY, ("x-b3-sampled", "yes")), None),
        ((*MANY, ("x-b3-flags", "1")), True),
        ((*MANY, ("x-b3-flags", "0"), ("x-b3-sampled", "0")), False),
        ((*MANY, ("b3", f"{TRACE}-{SPAN}-0")), None),
        ((("b3", f"{TRACE}-{SPAN}"),), None),
        ((("b3", f"{TRACE}-{SPAN}-0"),), False),
        ((("b3", f"{TRACE}-{SPAN}-1"),), True),
        ((("b3", f"{TRACE}-{SPAN}-D"),), True),
        ((("b3", f"{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90"),), True),
    ],
)
def test_the_sampling_decision_of_b3_is_read(
    metadata: tuple[tuple[str, str], ...], sampled: bool | None
) -> None:
    context = from_b3(metadata)
    assert context is not None
    assert context.sampled is sampled


@pytest.mark.parametrize(
    "metadata",
    [
        (("x-b3-traceid", SHORT), ("x-b3-spanid", SPAN)),
        (("b3", f"{SHORT}-{SPAN}-1"),),
    ],
)
def test_b3_trace_ids_of_64_bits_are_read(metadata: tuple[tuple[str, str], ...]) -> None:
    assert from_b3(metadata) == TraceContext(SHORT, SPAN)


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("b3", "0"),),
        (("b3", "1"),),
        (("b3", "d"),),
        (("b3", ""),),
        (("b3", TRACE),),
        (("b3", f"{'0' * 32}-{SPAN}-1"),),
        (("b3", f"{'0' * 16}-{SPAN}-1"),),
        (("b3", f"{TRACE}-{'0' * 16}-1"),),
        (("b3", f"{TRACE}-{SPAN}-2"),),
        (("b3", f"{TRACE}-{SPAN}-1-short"),),
        (("b3", f"{TRACE[:24]}-{SPAN}-1"),),
        (("x-b3-traceid", TRACE),),
        (("x-b3-spanid", SPAN),),
        (("x-b3-traceid", "0" * 32), ("x-b3-spanid", SPAN)),
        (("x-b3-traceid", TRACE), ("x-b3-spanid", "0" * 16)),
        (("x-b3-traceid", "g" * 32), ("x-b3-spanid", SPAN)),
        (("x-b3-sampled", "0"),),
        (("traceparent", f"00-{TRACE}-{SPAN}-01"),),
    ],
)
def test_invalid_b3_headers_are_not_a_context(metadata: tuple[tuple[str, str], ...]) -> None:
    assert from_b3(metadata) is None


def test_an_id_can_start_with_zeros() -> None:
    padded = f"{'0' * 16}{SHORT}"
    assert from_b3((("x-b3-traceid", padded), ("x-b3-spanid", SPAN))) == TraceContext(padded, SPAN)
    assert from_w3c((("traceparent", f"00-{padded}-{SPAN}-01"),)) == TraceContext(padded, SPAN)


def test_new_contexts_are_valid_sampled_and_unique() -> None:
    contexts = [new_trace_context() for _ in range(1000)]
    for context in contexts:
        assert context.sampled
        assert context.traceparent.endswith("-01")
        assert from_w3c((("traceparent", context.traceparent),)) == context
    assert len({context.trace_id for context in contexts}) == len(contexts)
    assert len({context.span_id for context in contexts}) == len(contexts)


def test_sampling_does_not_make_two_contexts_different() -> None:
    assert TraceContext(TRACE, SPAN, sampled=True) == TraceContext(TRACE, SPAN, sampled=False)
    assert TraceContext(TRACE, SPAN) != TraceContext(TRACE, SHORT)


def test_the_first_text_value_wins() -> None:
    metadata = (("k", b"bytes"), ("other", "o"), ("k", "one"), ("k", "two"))
    assert first_text(metadata, "k") == "one"
    assert first_text(metadata, "missing") == ""


@pytest.mark.parametrize(("sampled", "value"), [(True, "1"), (False, "0"), (None, "0")])
def test_a_context_writes_many_b3_headers(sampled: bool | None, value: str) -> None:
    headers = TraceContext(TRACE, SPAN, sampled).b3
    assert headers == (("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", value))
    assert from_b3(headers) == TraceContext(TRACE, SPAN)


def test_metadata_can_be_an_iterator() -> None:
    assert from_b3(iter((("x-b3-spanid", SPAN), ("x-b3-traceid", TRACE)))) == TraceContext(TRACE, SPAN)
    assert from_w3c(iter((("other", "o"), ("traceparent", f"00-{TRACE}-{SPAN}-01")))) == TraceContext(
        TRACE, SPAN
    )
