"""The writer of log lines: it loses no line when it is closed, and never blocks its caller."""

import os
import time

from hello_mesh.base.line_writer import LineWriter


def test_closing_writes_every_line_in_order() -> None:
    reader, descriptor = os.pipe()
    writer = LineWriter(descriptor)
    for number in range(1000):
        writer.write(f"line {number}")
    writer.close()
    os.close(descriptor)
    with os.fdopen(reader) as lines:
        assert lines.read().splitlines() == [f"line {number}" for number in range(1000)]


def test_lines_beyond_the_bound_are_dropped_and_counted() -> None:
    reader, descriptor = os.pipe()
    writer = LineWriter(descriptor, max_waiting=3)
    for number in range(10):
        writer.write(str(number))
    writer.close()
    os.close(descriptor)
    with os.fdopen(reader) as lines:
        *kept, dropped = lines.read().splitlines()
    assert kept == ["0", "1", "2"]
    assert dropped.startswith("7 lines dropped")


def test_an_unread_pipe_blocks_neither_writing_nor_closing() -> None:
    reader, descriptor = os.pipe()
    writer = LineWriter(descriptor)
    started = time.monotonic()
    for _ in range(10_000):
        writer.write("x" * 1000)
    assert time.monotonic() - started < 2
    writer.close()
    assert time.monotonic() - started < 10
    os.close(reader)  # which ends the thread's write


def test_a_closed_reader_is_not_an_error() -> None:
    reader, descriptor = os.pipe()
    os.close(reader)
    writer = LineWriter(descriptor)
    writer.write("unread")
    writer.close()
    os.close(descriptor)


def test_text_that_is_not_unicode_is_escaped() -> None:
    reader, descriptor = os.pipe()
    writer = LineWriter(descriptor)
    writer.write("name \udcff")
    writer.close()
    os.close(descriptor)
    with os.fdopen(reader) as lines:
        assert lines.read() == "name \\udcff\n"
