"""The lines of the log: their keys, their trace ids, and what never gets into them."""

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
    """Both ways of output."""
    found: log.Format = request.param
    return found


@pytest.fixture
def configure(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Lines]]:
    """Configures the log for the length of a test; what it returns gives the lines so far."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()  # pytest's own, which configuring would close

    def configure(log_format: log.Format = "text", name: str = "svc1", level: str = "INFO") -> Lines:
        log.configure(name, log_format, level)
        return lambda: capsys.readouterr().err.splitlines()  # noqa: PLW0108

    yield configure
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("grpc._common").setLevel(logging.NOTSET)


def _log_with_trace(*args: Any, **kwargs: Any) -> None:
    log.trace_id.set(TRACE)
    logger.info(*args, **kwargs)


def test_a_line_for_people(configure: Callable[..., Lines]) -> None:
    lines = configure("text")
    copy_context().run(_log_with_trace, "Talk %d", 1, extra=log.fields(code="OK", ms=1.5, peer=None))
    (line,) = lines()
    assert re.fullmatch(rf"{TIME} INFO svc1: Talk 1 trace={TRACE} code=OK ms=1\.5", line)


def test_a_line_for_programs(configure: Callable[..., Lines]) -> None:
    lines = configure("json")
    copy_context().run(_log_with_trace, "Talk %d", 1, extra=log.fields(code="OK", ms=1.5, peer=None))
    (line,) = lines()
    values = json.loads(line)
    assert re.fullmatch(TIME, values.pop("time"))
    assert list(values.items()) == [
        ("level", "INFO"),
        ("name", "svc1"),
        ("logger", "tests.log"),
        ("message", "Talk 1"),
        ("trace", TRACE),
        ("code", "OK"),
        ("ms", 1.5),
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


def test_a_level_keeps_the_rest_away(configure: Callable[..., Lines], log_format: log.Format) -> None:
    lines = configure(log_format, level="WARNING")
    logger.info("no")
    logger.warning("yes")
    (line,) = lines()
    assert "WARNING" in line


FORGED = "x\n2026-01-01T00:00:00.000Z INFO svc1: forged\r\x1b[31m\x85\u2028\x9b"


def test_no_message_forges_a_line(configure: Callable[..., Lines], log_format: log.Format) -> None:
    lines = configure(log_format)
    logger.info("%s", FORGED, extra=log.fields(peer=FORGED))
    (line,) = lines()
    assert line.isprintable()
    if log_format == "json":
        values = json.loads(line)
        assert (values["message"], values["peer"]) == (FORGED, FORGED)


def test_no_name_forges_a_line(configure: Callable[..., Lines], log_format: log.Format) -> None:
    lines = configure(log_format, name=FORGED)
    logger.info("x")
    (line,) = lines()
    assert line.isprintable()


def _fail() -> None:
    raise ValueError(FORGED)


def test_no_exception_forges_a_line(configure: Callable[..., Lines], log_format: log.Format) -> None:
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


def test_greetings_stay_readable(configure: Callable[..., Lines], log_format: log.Format) -> None:
    lines = configure(log_format)
    logger.info("こんにちは")
    assert "こんにちは" in lines()[0]


async def test_a_call_leaves_its_line_and_no_secret(
    configure: Callable[..., Lines],
    log_format: log.Format,
    start_chain: Any,
    ask: Any,
    pattern: RpcMethod,
    eventually: Any,
) -> None:
    configure(log_format, level="DEBUG")
    records = _Kept()
    logging.getLogger().addHandler(records)
    formatter = logging.getLogger().handlers[0].formatter
    assert formatter is not None
    chain = await start_chain(2, at={"svc1": {"call_log": True}, "svc2": {"call_log": True}})
    secrets = (("authorization", "Bearer hush"), ("cookie", "hush"), ("x-hush-bin", b"hush"))
    await ask(chain.target, pattern, headers=(("traceparent", TRACEPARENT), *secrets))
    await eventually(lambda: len(records.of_calls()) == 2)
    for line in map(formatter.format, records.kept):
        assert "hush" not in line
    for line in map(formatter.format, records.of_calls()):
        assert pattern.rpc in line
        assert TRACE in line
        assert "OK" in line


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        record.trace = log.trace_id.get()
        self.kept.append(record)

    def of_calls(self) -> list[logging.LogRecord]:
        return [record for record in self.kept if record.name == "grpc_server.call"]
