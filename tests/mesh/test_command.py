"""hello-grpc-mesh, as users have it."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hello_mesh.local.envoy import COLLECTOR
from hello_mesh.local.mesh import GATEWAY, Mesh
from hello_mesh.tracing.sources.sqlite import reading

PARTS = [
    COLLECTOR,
    "grpc-server-svc1",
    "grpc-server-svc2",
    "grpc-server-svc1-sidecar",
    "grpc-server-svc2-sidecar",
    GATEWAY,
]

Alive = Callable[[Mesh], list[str]]


def error(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line by which a command says what is wrong."""
    *usage, last = done.stderr.splitlines()
    assert all(line.startswith(("Usage:", "Try ")) or not line for line in usage), done.stderr
    return last


def test_a_mesh_in_the_background_is_shown_used_and_ended(user: Any, still_alive: Alive) -> None:
    up = user.mesh("up", "--detach", "--hops", "2", "--gateway-port", "0", "--access-log")
    assert (up.returncode, up.stderr) == (0, "")
    mesh = user.state()
    assert up.stdout.startswith("mesh default is ready: 2 hops, W3C headers, mTLS\n")
    assert mesh.gateway in up.stdout

    status = user.mesh("status")
    assert status.returncode == 0
    rows = [line.split() for line in status.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == PARTS == still_alive(mesh)
    assert {row[2] for row in rows} == {"ready"}

    test = user.mesh("test", "--repeat", "2")  # through the mesh that runs
    assert test.returncode == 0, test.stdout + test.stderr
    assert test.stdout.splitlines()[-1] == "PASSED: 8 calls over 2 hops, each call one connected trace"
    assert user.state() == mesh

    logs = user.mesh("logs").stdout.splitlines()
    assert {line.partition(" | ")[0] for line in logs} == set(PARTS)
    assert "/org.feuyeux.grpc.LandingService/Talk grpc=OK" in user.mesh("logs", "svc2-sidecar").stdout
    only = user.mesh("logs", "svc2").stdout.splitlines()
    assert {line.partition(" | ")[0] for line in only} == {"grpc-server-svc2"}

    down = user.mesh("down")
    assert (down.returncode, down.stdout) == (0, "mesh default has ended\n")
    assert still_alive(mesh) == []
    assert [path.name for path in (user.folder / "run/hello-grpc").iterdir()] == ["default.lock"]
    assert [user.mesh(command).returncode for command in ("status", "down")] == [1, 0]


def test_config_prints_what_envoy_was_given(user: Any) -> None:
    user.up("--hops", "2", "--headers", "b3")
    folder = user.place().folder
    for part, name in (("svc1", "grpc-server-svc1-sidecar"), (GATEWAY, GATEWAY)):
        text = user.mesh("config", part).stdout
        assert text == (folder / f"{name}.json").read_text()
    everything = json.loads(user.mesh("config").stdout)
    assert list(everything) == PARTS[3:]
    assert everything[GATEWAY] == json.loads(user.mesh("config", GATEWAY).stdout)
    wrong = user.mesh("config", "svc3")
    assert (wrong.returncode, "no part is named svc3" in error(wrong)) == (2, True)


def test_without_a_mesh_its_config_and_logs_cannot_be_had(user: Any) -> None:
    for command in ("config", "logs"):
        done = user.mesh(command)
        assert (done.returncode, error(done)) == (
            3,
            "Error: mesh default does not run: start it with hello-grpc-mesh up",
        )


def test_logs_follow_until_the_mesh_ends(user: Any) -> None:
    user.up("--hops", "1")
    follower = user.start("hello-grpc-mesh", "logs", "--follow", "svc1")
    assert "listening on port" in follower.stdout.readline()
    user.mesh("test", "--hops", "1")
    assert "Talk trace=" in follower.stdout.readline()
    user.mesh("down")
    rest, _ = follower.communicate(timeout=30)
    assert follower.returncode == 0
    assert "stopped" in rest


def test_two_meshes_run_side_by_side(user: Any, still_alive: Alive) -> None:
    _, one = user.up("--hops", "1")
    done = user.mesh(
        "up", "--detach", "--name", "two", "--hops", "2", "--gateway-port", "0", "--headers", "b3"
    )
    assert done.returncode == 0, done.stderr
    two = user.state("two")
    tests = [user.mesh("test", "--name", name) for name in ("default", "two")]
    assert [test.stdout.splitlines()[-1] for test in tests] == [
        "PASSED: 4 calls over 1 hop, each call one connected trace",
        "PASSED: 4 calls over 2 hops, each call one connected trace",
    ]
    user.mesh("down", "--name", "two")
    assert still_alive(two) == []
    assert len(still_alive(one)) == len(one.parts)


def test_a_name_is_taken_once(user: Any, still_alive: Alive) -> None:
    _, mesh = user.up("--hops", "1")
    for more in ((), ("--detach",)):
        again = user.mesh("up", "--gateway-port", "0", *more)
        assert (again.returncode, "a mesh named default runs already" in error(again)) == (3, True)
    assert len(still_alive(mesh)) == len(mesh.parts)


@pytest.mark.parametrize("more", [(), ("--detach",)], ids=["foreground", "background"])
def test_a_taken_port_is_told_in_a_line(user: Any, more: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = user.mesh("up", "--gateway-port", str(port), *more)
    assert done.returncode == 3
    assert error(done) == (
        f"Error: cannot listen on 127.0.0.1 port {port}: it is taken; choose another with --gateway-port"
    )
    assert user.state() is None


@pytest.mark.parametrize("command", ["up", "test"])
def test_what_the_machine_does_not_allow_is_told_in_a_line(user: Any, command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below_a_file = str(tmp_path / "file/below")
    missing = user.mesh(command, "--envoy", "/nowhere/envoy")
    assert (missing.returncode, "No such file" in error(missing)) == (3, True)
    unwritable = user.mesh(command, "--store", f"{below_a_file}/traces.db")
    assert (unwritable.returncode, "cannot be used: Not a directory" in error(unwritable)) == (3, True)
    assert user.state() is None
    assert list((user.folder / "tmp").iterdir()) == []


def test_a_run_directory_that_cannot_be_made_is_told_in_a_line(user: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = user.mesh("up", "--run-dir", str(tmp_path / "file/below"))
    assert (done.returncode, "cannot be used: Not a directory" in error(done)) == (3, True)


def test_a_full_disk_is_told_in_a_line(user: Any) -> None:
    mesh = Path(sys.executable).with_name("hello-grpc-mesh")
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", mesh, "up", "--gateway-port", "0"],
        env=user.environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, "File too large" in error(done)) == (3, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("up", "--hops", "0"),
        ("up", "--hops", "9"),
        ("up", "--name", "../other"),
        ("up", "--host", "example.org"),
        ("up", "--fault", "svc3=teapot"),
        ("up", "--fault", "svc4=abort:14"),
        ("test", "--drop-at", "svc3"),
        ("test", "--drop-at", "svc4"),
        ("test", "--headers", "jaeger"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_told(user: Any, arguments: tuple[str, ...]) -> None:
    done = user.mesh(*arguments)
    assert (done.returncode, error(done).startswith("Error: ")) == (2, True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_all_of_it(user: Any, still_alive: Alive, number: signal.Signals) -> None:
    process, mesh = user.up("--hops", "2")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (128 + number, "")
    assert still_alive(mesh) == []
    assert not user.place().folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_signal_amid_the_start_leaves_nothing(user: Any) -> None:
    process = user.start("hello-grpc-mesh", "up", "--gateway-port", "0")
    log = user.place().folder / "grpc-server-svc3.log"
    while not log.exists():
        assert process.poll() is None
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    marker = str(user.folder).encode()
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    assert [line for line in lines if marker in line] == []


def test_what_a_killed_watcher_left_is_ended_by_down(user: Any, still_alive: Alive) -> None:
    process, mesh = user.up("--hops", "1")
    process.kill()
    process.wait()
    assert still_alive(mesh)
    assert user.mesh("status").returncode == 1
    assert user.mesh("down").stdout == "mesh default has ended\n"
    assert still_alive(mesh) == []


@pytest.mark.parametrize("part", ["grpc-server-svc2-sidecar", "grpc-server-svc2", COLLECTOR, GATEWAY])
def test_a_part_that_dies_during_traffic_is_named_and_all_ends(
    user: Any, still_alive: Alive, kill: Any, lines_of: Any, part: str
) -> None:
    process, mesh = user.up("--hops", "2")
    record = user.folder / "calls.jsonl"
    with record.open("w") as output:
        client = user.start(
            "hello-grpc-client",
            *("all", "--server", mesh.gateway, "--repeat", "1000000", "--concurrency", "4"),
            *("--timeout", "5", "--output", "json"),
            stdout=output,
        )
    first = _calls(lines_of(record, 24))[:4]
    _wait_until_stored(mesh, first)
    kill(mesh, part)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"mesh default ends: {part} was ended by SIGKILL; its last lines:\n  " in stderr
    assert "Traceback" not in stdout + stderr
    assert still_alive(mesh) == []
    assert user.state() is None
    # The client got a status for each call, also for those that were under way, and goes on.
    calls = _calls(lines_of(record, len(lines_of(record, 24)) + 24))
    assert calls[0]["code"] == "OK"
    assert calls[-1]["code"] == "UNAVAILABLE"
    assert max(call["ms"] for call in calls) < 5500
    client.send_signal(signal.SIGINT)
    client.communicate(timeout=30)
    with reading(mesh.store) as store:
        assert all(len(store.trace(call["sent_trace_id"])) >= 4 for call in first)


def _calls(events: list[Any]) -> list[Any]:
    return [event for event in events if event["event"] == "call"]


def _wait_until_stored(mesh: Mesh, calls: list[Any]) -> None:
    """Until the spans of calls are there: the gateway, svc1 in and out, svc2 in."""
    with reading(mesh.store) as store:
        while not all(len(store.trace(call["sent_trace_id"])) >= 4 for call in calls):
            pass


def test_a_mesh_in_the_background_that_dies_leaves_word(user: Any, kill: Any, still_alive: Alive) -> None:
    user.mesh("up", "--detach", "--hops", "1", "--gateway-port", "0")
    mesh = user.state()
    kill(mesh, "grpc-server-svc1")
    while user.place().watcher() is not None:
        pass
    status = user.mesh("status")
    assert status.returncode == 1
    assert "grpc-server-svc1 was ended by SIGKILL" in status.stderr
    assert still_alive(mesh) == []
    assert user.mesh("down").returncode == 0
    assert user.mesh("status").stderr == "mesh default does not run\n"


def test_a_dropping_hop_fails_the_test_and_is_named(user: Any) -> None:
    done = user.mesh("test", "--drop-at", "svc2")
    assert done.returncode == 1
    assert "broken at grpc-server-svc2" in done.stdout
    assert "not-forwarded: grpc-server-svc2.grpc-tracing did not forward traceparent" in done.stdout
    assert done.stdout.count("\n2 spans, 2 services") == 4  # the piece that was torn off, of each call
    assert done.stdout.splitlines()[-1] == "FAILED: 4 of 4 calls; check grpc-server-svc2.grpc-tracing"


def test_both_sorts_of_headers_are_tested_one_after_the_other(user: Any) -> None:
    done = user.mesh("test", "--headers", "both", "--hops", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    headlines = [line for line in done.stdout.splitlines() if line.startswith(("==", "PASSED"))]
    assert headlines == [
        "== 2 hops, W3C headers, mTLS",
        "PASSED: 4 calls over 2 hops, each call one connected trace",
        "== 2 hops, B3 headers, mTLS",
        "PASSED: 4 calls over 2 hops, each call one connected trace",
    ]


def test_spans_are_found_afterwards_where_everybody_looks(user: Any) -> None:
    assert user.mesh("test", "--hops", "1").returncode == 0
    listed = user.run("hello-grpc-traces", "list", "--output", "json").stdout.splitlines()
    assert len(listed) == 4
    assert {json.loads(line)["service"] for line in listed} == {"local-requestor"}
