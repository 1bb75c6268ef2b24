"""The logs of components: order, names, and lines that are written while they are followed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hello_mesh.local.logs import log_lines


@pytest.fixture
def is_running(tmp_path: Path) -> Callable[[], bool]:
    """Return a stand-in for a mesh that writes a last line, stops, and has its files removed."""

    def steps() -> Iterator[bool]:
        yield True
        with (tmp_path / "svc1.log").open("a") as log:
            log.write("stopped\n")
        (tmp_path / "svc1.log").unlink()
        yield False

    calls = steps()
    return lambda: next(calls)


def test_logs_are_printed_component_by_component(tmp_path: Path) -> None:
    (tmp_path / "svc1.log").write_bytes(b"one\ntwo \xff\nincomplete")
    (tmp_path / "svc2.log").write_text("three\n")
    logs = [(name, tmp_path / f"{name}.log") for name in ("svc1", "svc2", "absent")]
    assert list(log_lines(logs, lambda: False)) == ["svc1 | one", "svc1 | two �", "svc2 | three"]


def test_the_last_lines_are_read_after_the_removal_of_the_files(
    tmp_path: Path, is_running: Callable[[], bool]
) -> None:
    (tmp_path / "svc1.log").write_text("started\n")
    lines = list(log_lines([("svc1", tmp_path / "svc1.log")], is_running))
    assert lines == ["svc1 | started", "svc1 | stopped"]
