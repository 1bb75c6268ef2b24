"""Lines of the log: keys, trace ids, no forged lines, and no secrets."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest

from grpc_client.plan import RpcMethod
from hello_mesh.base import log

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"

logger = logging.getLogger("tests.log")

Lines = Callable[[], list[str]]


@pytest.fixture(params=["text", "json"])
def log_format(request: pytest.FixtureRequest) -> log.Format:
    """Return each of the two formats."""
    found: log.Format = request.param
    return found


@pytest.fixture
def configure(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Lines]]:
    """Return a function that configures the log. It returns one that stops the log and returns its lines."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's own, which configuring would close

    def configure(log_format: log.Format = "text", name: str = "svc1", level: str = "INFO") -> Lines:
        writer = log.configure(name, log_format, level)

        def lines() -> list[str]:
            writer.close()
            return capfd.readouterr().err.splitlines()

        return lines

    yield configure
    root.handlers[:] = handlers
    root.setLevel(level)
    log._call_handlers.clear()


def _log_with_trace(*args: Any, **kwargs: Any) -> None:
    log.trace_id.set(TRACE)
    logger.info(*args, **kwargs)


def test_a_text_line(configure: Callable[..., Lines]) -> None:
    lines = configure("text")
    log.log_call("Talk", TRACE, "OK", 1.5, "ipv4:127.0.0.1:1")
    copy_context().run(_log_with_trace, "draining %d", 1)
    call, other = lines()
    assert re.fullmatch(rf"{TIME} INFO svc1: Talk trace={TRACE} code=OK ms=1\.5 peer=ipv4:127.0.0.1:1", call)
    assert re.fullmatch(rf"{TIME} INFO svc1: draining 1 trace={TRACE}", other)


def test_a_json_line(configure: Callable[..., Lines]) -> None:
    lines = configure("json")
    log.log_call("Talk", TRACE, "OK", 1.5, "ipv4:127.0.0.1:1")
    copy_context().run(_log_with_trace, "draining %d", 1)
    call, other = map(json.loads, lines())
    assert re.fullmatch(TIME, call.pop("time"))
    assert re.fullmatch(TIME, other.pop("time"))
    assert list(call.items()) == [
        ("level", "INFO"),
        ("name", "svc1"),
        ("logger", "grpc_server.call"),
        ("message", "Talk"),
        ("trace", TRACE),
        ("code", "OK"),
        ("ms", 1.5),
        ("peer", "ipv4:127.0.0.1:1"),
    ]
    assert list(other.items()) == [
        ("level", "INFO"),
        ("name", "svc1"),
        ("logger", "tests.log"),
        ("message", "draining 1"),
        ("trace", TRACE),
    ]


def test_without_a_call_a_line_has_no_trace(configure: Callable[..., Lines], log_format: log.Format) -> None:
    lines = configure(log_format)
    logger.info("ready")
    (line,) = lines()
    assert "trace" not in line


def test_a_trace_id_stays_in_its_own_context(configure: Callable[..., Lines], log_format: log.Format) -> None:
    lines = configure(log_format)
    copy_context().run(_log_with_trace, "inside")
    logger.info("outside")
    inside, outside = lines()
    assert TRACE in inside
    assert TRACE not in outside


def test_lines_below_the_level_are_not_logged(
    configure: Callable[..., Lines], log_format: log.Format
) -> None:
    lines = configure(log_format, level="WARNING")
    logger.info("no")
    log.log_call("Talk", None, "OK", 1.5, "")
    logger.warning("yes")
    (line,) = lines()
    assert "WARNING" in line


FORGED = "x\n2026-01-01T00:00:00.000Z INFO svc1: forged\r\x1b[31m\x85\u2028\x9b"


def test_no_message_can_forge_a_line(configure: Callable[..., Lines], log_format: log.Format) -> None:
    lines = configure(log_format)
    logger.info("%s", FORGED)
    log.log_call("Talk", None, "OK", 1.5, FORGED)
    message, call = lines()
    assert message.isprintable()
    assert call.isprintable()
    if log_format == "json":
        assert json.loads(message)["message"] == FORGED
        assert json.loads(call)["peer"] == FORGED


def test_no_name_can_forge_a_line(configure: Callable[..., Lines], log_format: log.Format) -> None:
    lines = configure(log_format, name=FORGED)
    logger.info("x")
    (line,) = lines()
    assert line.isprintable()


def _fail() -> None:
    raise ValueError(FORGED)


def test_no_exception_can_forge_a_line(configure: Callable[..., Lines], log_format: log.Format) -> None:
    lines = configure(log_format)
    try:
        _fail()
    except ValueError:
        logger.exception("it failed")
    first, *traceback = lines()
    assert "it failed" in first
    assert all(line.isprintable() for line in (first, *traceback))
    if log_format == "json":
        assert traceback == []
        assert "ValueError: x" in json.loads(first)["exception"]
    else:
        assert all(line.startswith("  ") for line in traceback)
        assert any("ValueError: x" in line for line in traceback)


def test_greetings_are_logged_unescaped(configure: Callable[..., Lines], log_format: log.Format) -> None:
    lines = configure(log_format)
    logger.info("こんにちは")
    assert "こんにちは" in lines()[0]


async def test_a_call_is_logged_without_secrets(
    configure: Callable[..., Lines], log_format: log.Format, start_chain: Any, ask: Any, pattern: RpcMethod
) -> None:
    lines = configure(log_format, level="DEBUG")
    chain = await start_chain(2)
    secrets = (("authorization", "Bearer hush"), ("cookie", "hush"), ("x-hush-bin", b"hush"))
    await ask(chain.target, pattern, headers=(("traceparent", TRACEPARENT), *secrets))
    for server in chain.servers:
        await server.drain(5)  # a hop logs a call after its response
    logged = lines()
    assert not [line for line in logged if "hush" in line]
    calls = [line for line in logged if pattern.rpc in line]
    assert len(calls) == 2
    assert all(TRACE in line and "OK" in line for line in calls)
