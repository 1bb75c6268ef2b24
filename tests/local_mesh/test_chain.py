"""The chain as processes."""

import subprocess
from typing import Any

import pytest

from landing.errors import MachineError
from local_mesh import chain
from local_mesh.check import check


def test_a_hop_that_fails_is_named_and_what_it_logged_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with chain.running() as hops:
        hops[1].process.popen.kill()
        hops[1].process.popen.wait()
        assert not check(hops)
    shown = capfd.readouterr()
    assert "PASSED" not in shown.out
    assert "FAILED: grpc-server-svc2 → grpc-server-svc3" in shown.out
    assert "UNAVAILABLE" in shown.err
    assert "grpc-server-svc2: Talk" in shown.out or "last lines of grpc-server-svc2" in shown.out


def test_a_hop_that_drops_the_headers_fails_the_check(capfd: pytest.CaptureFixture[str]) -> None:
    with chain.running(drop_at="grpc-server-svc2") as hops:
        assert not check(hops)
    shown = capfd.readouterr()
    assert "broken at grpc-server-svc2: headers not forwarded" in shown.out


def test_a_chain_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    popen = subprocess.Popen

    def remember(*arguments: Any, **settings: Any) -> Any:
        started.append(popen(*arguments, **settings))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", remember)
    with pytest.raises(MachineError, match="ended with exit code 2"):
        with chain.running(("bad\nname", "svc3")):
            raise AssertionError("it never was ready")
    assert [process.poll() is not None for process in started] == [True, True]
