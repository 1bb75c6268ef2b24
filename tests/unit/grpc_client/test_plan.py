"""The calls that options ask for, and their deadline."""

import math

import pytest

from grpc_client.plan import DEFAULT_TIMEOUT, RPC_METHODS, Plan, call_spec, deadline


@pytest.mark.parametrize(
    ("rpc", "data", "count", "messages"),
    [
        ("Talk", None, None, ("0",)),
        ("Talk", "1,2", None, ("1,2",)),
        ("Talk", "1", 5, ("1",)),
        ("TalkOneAnswerMore", None, None, ("0,1,2",)),
        ("TalkOneAnswerMore", "4,5", 3, ("4,5,4",)),
        ("TalkOneAnswerMore", "0,,1", None, ("0,,1",)),
        ("TalkMoreAnswerOne", None, None, ("0", "1", "2")),
        ("TalkMoreAnswerOne", "4,5", 3, ("4", "5", "4")),
        ("TalkMoreAnswerOne", "4,5", 1, ("4",)),
        ("TalkBidirectional", "", None, ("",)),
        ("TalkBidirectional", "0,,1", None, ("0", "", "1")),
        ("TalkBidirectional", "x", 2, ("x", "x")),
    ],
)
def test_data_is_sent_as_the_user_wrote_it(
    rpc: str, data: str | None, count: int | None, messages: tuple[str, ...]
) -> None:
    (method,) = (method for method in RPC_METHODS if method.rpc == rpc)
    assert call_spec(method, data, count=count).messages == messages


@pytest.mark.parametrize(
    ("interval", "timeout", "expected"),
    [
        (0.0, None, DEFAULT_TIMEOUT),
        (5.0, None, DEFAULT_TIMEOUT + 10.0),
        (5.0, 3.0, 3.0),
        (5.0, 0.0, None),
    ],
)
def test_the_default_deadline_includes_the_intervals(
    interval: float, timeout: float | None, expected: float | None
) -> None:
    calls = tuple(call_spec(method, interval=interval) for method in RPC_METHODS)
    found = deadline(calls, timeout)
    assert (found is None) if expected is None else (found is not None and math.isclose(found, expected))


def test_a_run_repeats_all_its_calls() -> None:
    calls = tuple(call_spec(method) for method in RPC_METHODS)
    assert Plan("localhost:9996", calls, repeat=3).total_calls == 12
