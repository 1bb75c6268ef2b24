"""hello-grpc-mesh as its users run it."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hello_mesh.local.components import GATEWAY
from hello_mesh.local.envoy import COLLECTOR
from hello_mesh.local.mesh import Mesh
from hello_mesh.local.run_dir import RunDir
from hello_mesh.tracing.sources.sqlite import reading

COMPONENTS = [
    COLLECTOR,
    "grpc-server-svc1",
    "grpc-server-svc2",
    "grpc-server-svc1-sidecar",
    "grpc-server-svc2-sidecar",
    GATEWAY,
]

Alive = Callable[[Mesh], list[str]]


def error(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the one line with which a command reports an error."""
    *usage, last = done.stderr.splitlines()
    assert all(line.startswith(("Usage:", "Try ")) or not line for line in usage), done.stderr
    return last


def test_a_mesh_in_the_background_can_be_shown_used_and_stopped(user: Any, still_alive: Alive) -> None:
    up = user.mesh("up", "--detach", "--hops", "2", "--gateway-port", "0", "--access-log")
    assert (up.returncode, up.stderr) == (0, "")
    mesh = user.state()
    assert up.stdout.startswith("mesh is ready: 2 hops, W3C headers, mTLS\n")
    assert mesh.gateway in up.stdout

    status = user.mesh("status")
    assert status.returncode == 0
    rows = [line.split() for line in status.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == COMPONENTS == still_alive(mesh)
    assert {row[2] for row in rows} == {"ready"}

    test = user.mesh("test", "--repeat", "2")  # through the mesh that runs
    assert test.returncode == 0, test.stdout + test.stderr
    assert test.stdout.splitlines()[-1] == "PASSED: 8 calls over 2 hops, each call one connected trace"
    assert user.state() == mesh

    logs = user.mesh("logs").stdout.splitlines()
    assert {line.partition(" | ")[0] for line in logs} == set(COMPONENTS)
    assert "/org.feuyeux.grpc.LandingService/Talk grpc=OK" in user.mesh("logs", "svc2-sidecar").stdout
    only = user.mesh("logs", "svc2").stdout.splitlines()
    assert {line.partition(" | ")[0] for line in only} == {"grpc-server-svc2"}

    down = user.mesh("down")
    assert (down.returncode, down.stdout) == (0, "mesh stopped\n")
    assert still_alive(mesh) == []
    assert [path.name for path in user.run_dir.path.iterdir()] == ["hello-grpc-mesh.lock"]
    assert [user.mesh(command).returncode for command in ("status", "down")] == [1, 0]


def test_config_prints_the_configuration_of_envoy(user: Any) -> None:
    user.up("--hops", "2", "--headers", "b3")
    folder = user.run_dir.folder
    for component, name in (("svc1", "grpc-server-svc1-sidecar"), (GATEWAY, GATEWAY)):
        text = user.mesh("config", component).stdout
        assert text == (folder / f"{name}.json").read_text()
    everything = json.loads(user.mesh("config").stdout)
    assert list(everything) == COMPONENTS[3:]
    assert everything[GATEWAY] == json.loads(user.mesh("config", GATEWAY).stdout)
    wrong = user.mesh("config", "svc3")
    assert (wrong.returncode, "unknown component svc3" in error(wrong)) == (2, True)


def test_config_and_logs_need_a_running_mesh(user: Any) -> None:
    for command in ("config", "logs"):
        done = user.mesh(command)
        assert (done.returncode, error(done)) == (
            3,
            f"Error: no mesh is running in {user.run_dir.path}: start one with hello-grpc-mesh up",
        )


def test_logs_follow_until_the_mesh_stops(user: Any) -> None:
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
    other = ("--run-dir", str(user.folder / "other"))
    done = user.mesh("up", "--detach", *other, "--hops", "2", "--gateway-port", "0", "--headers", "b3")
    assert done.returncode == 0, done.stderr
    two = RunDir(user.folder / "other").read()
    assert two is not None
    tests = [user.mesh("test", *options) for options in ((), other)]
    assert [test.stdout.splitlines()[-1] for test in tests] == [
        "PASSED: 4 calls over 1 hop, each call one connected trace",
        "PASSED: 4 calls over 2 hops, each call one connected trace",
    ]
    user.mesh("down", *other)
    assert still_alive(two) == []
    assert len(still_alive(one)) == len(one.components)


def test_a_run_directory_has_one_mesh(user: Any, still_alive: Alive) -> None:
    _, mesh = user.up("--hops", "1")
    for more in ((), ("--detach",)):
        again = user.mesh("up", "--gateway-port", "0", *more)
        assert (again.returncode, "a mesh is already running in" in error(again)) == (3, True)
    assert len(still_alive(mesh)) == len(mesh.components)


@pytest.mark.parametrize("more", [(), ("--detach",)], ids=["foreground", "background"])
def test_a_port_in_use_is_reported_in_one_line(user: Any, more: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = user.mesh("up", "--gateway-port", str(port), *more)
    assert done.returncode == 3
    assert error(done) == (
        f"Error: cannot listen on 127.0.0.1:{port}: the port is in use; choose another with --gateway-port"
    )
    assert user.state() is None


@pytest.mark.parametrize("command", ["up", "test"])
def test_an_environment_error_is_reported_in_one_line(user: Any, command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below_a_file = str(tmp_path / "file/below")
    missing = user.mesh(command, "--envoy", "/nowhere/envoy")
    assert (missing.returncode, "No such file" in error(missing)) == (3, True)
    unwritable = user.mesh(command, "--store", f"{below_a_file}/traces.db")
    assert (unwritable.returncode, "Not a directory" in error(unwritable)) == (3, True)
    assert user.state() is None
    assert list((user.folder / "tmp").iterdir()) == []


def test_a_run_directory_that_cannot_be_created_is_reported_in_one_line(user: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = user.mesh("up", "--run-dir", str(tmp_path / "file/below"))
    assert (done.returncode, "Not a directory" in error(done)) == (3, True)


def test_a_full_disk_is_reported_in_one_line(user: Any) -> None:
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
        ("up", "--host", "example.org"),
        ("up", "--fault", "svc3=teapot"),
        ("up", "--fault", "svc4=abort:14"),
        ("test", "--drop-at", "svc3"),
        ("test", "--drop-at", "svc4"),
        ("test", "--headers", "jaeger"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_reported(user: Any, arguments: tuple[str, ...]) -> None:
    done = user.mesh(*arguments)
    assert (done.returncode, error(done).startswith("Error: ")) == (2, True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_stops_all_of_it(user: Any, still_alive: Alive, number: signal.Signals) -> None:
    process, mesh = user.up("--hops", "2")
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (128 + number, "")
    assert still_alive(mesh) == []
    assert not user.run_dir.folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_signal_during_the_start_leaves_nothing(user: Any) -> None:
    process = user.start("hello-grpc-mesh", "up", "--gateway-port", "0")
    log = user.run_dir.folder / "grpc-server-svc3.log"
    while not log.exists():
        assert process.poll() is None
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    assert _processes_of(user) == []


def test_a_killed_watcher_leaves_nothing(user: Any, still_alive: Alive) -> None:
    process, mesh = user.up("--hops", "1")
    process.kill()
    process.wait()
    again, _ = user.up("--hops", "1")  # at once: it waits until the last component is gone
    assert still_alive(mesh) == []
    again.kill()
    again.wait()
    _wait_until(lambda: user.run_dir.watcher() is None)
    assert user.mesh("status").returncode == 1
    assert user.mesh("down").returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("started", ["collector.log", "grpc-server-svc3.log", "gateway.log"])
def test_a_watcher_killed_during_the_start_leaves_nothing(user: Any, started: str) -> None:
    process = user.start("hello-grpc-mesh", "up", "--gateway-port", "0")
    log = user.run_dir.folder / started
    _wait_until(log.exists)
    process.kill()
    process.wait()
    _wait_until(lambda: _processes_of(user) == [])
    assert user.mesh("up", "--detach", "--hops", "1", "--gateway-port", "0").returncode == 0


def _processes_of(user: Any) -> list[bytes]:
    """Return the command lines of processes that use the user's folders."""
    marker = str(user.folder).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_bytes())
    return [line for line in found if marker in line]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("more", [(), ("--detach",)], ids=["foreground", "background"])
def test_a_folder_with_other_files_is_refused_and_left_as_it_is(user: Any, more: tuple[str, ...]) -> None:
    folder = user.folder / "home"
    (folder / "mesh/precious").mkdir(parents=True)
    for name in ("up.log", "lock"):
        (folder / name).write_text("the user's own")
    up = user.mesh("up", "--gateway-port", "0", "--run-dir", str(folder), *more)
    assert (up.returncode, "has files that hello-grpc-mesh did not create" in error(up)) == (3, True)
    down = user.mesh("down", "--run-dir", str(folder))
    assert (down.returncode, down.stdout) == (0, f"no mesh is running in {folder}\n")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        *("lock", "mesh", "mesh/precious", "up.log")
    ]
    assert {(folder / name).read_text() for name in ("up.log", "lock")} == {"the user's own"}


@pytest.mark.parametrize("command", ["up", "status", "down", "logs"])
def test_a_run_directory_that_others_can_write_to_is_refused(user: Any, command: str) -> None:
    shared = user.folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    done = user.mesh(command, "--run-dir", str(shared))
    assert (done.returncode, "other users can write to" in error(done)) == (3, True)


@pytest.mark.parametrize("component", ["grpc-server-svc2-sidecar", "grpc-server-svc2", COLLECTOR, GATEWAY])
def test_a_component_that_exits_under_traffic_is_named_and_the_mesh_stops(
    user: Any, still_alive: Alive, kill: Any, lines_of: Any, component: str
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
    kill(mesh, component)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"stopping the mesh: {component} was killed by SIGKILL; its last lines:\n  " in stderr
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


def test_status_reports_why_a_mesh_in_the_background_stopped(
    user: Any, kill: Any, still_alive: Alive
) -> None:
    user.mesh("up", "--detach", "--hops", "1", "--gateway-port", "0")
    mesh = user.state()
    kill(mesh, "grpc-server-svc1")
    while user.run_dir.watcher() is not None:
        pass
    status = user.mesh("status")
    assert status.returncode == 1
    assert "grpc-server-svc1 was killed by SIGKILL" in status.stderr
    assert still_alive(mesh) == []
    assert user.mesh("down").returncode == 0
    assert user.mesh("status").stderr.startswith(f"no mesh is running in {user.run_dir.path}: start one")


def test_a_dropping_hop_fails_the_test_and_is_named(user: Any) -> None:
    done = user.mesh("test", "--drop-at", "svc2")
    assert done.returncode == 1
    assert "broken at grpc-server-svc2" in done.stdout
    assert "not-forwarded: grpc-server-svc2.grpc-tracing did not propagate traceparent" in done.stdout
    assert done.stdout.count("\n2 spans, 2 services") == 4  # the detached fragment of each call
    assert done.stdout.splitlines()[-1] == "FAILED: 4 of 4 calls; check grpc-server-svc2.grpc-tracing"


def test_both_header_families_travel_in_one_call(user: Any) -> None:
    done = user.mesh("test", "--headers", "both", "--hops", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith(("==", "PASSED"))] == [
        "== 2 hops, W3C headers, mTLS",
        "PASSED: 4 calls over 2 hops, each call one connected trace",
    ]


def test_spans_are_in_the_default_store_afterwards(user: Any) -> None:
    assert user.mesh("test", "--hops", "1").returncode == 0
    listed = user.run("hello-grpc-traces", "list", "--output", "json").stdout.splitlines()
    assert len(listed) == 4
    assert {json.loads(line)["service"] for line in listed} == {"local-requestor"}
