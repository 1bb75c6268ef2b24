import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from making import OTHER_TRACE, TRACE, whole

from hello_mesh.tracing.cli import main
from hello_mesh.tracing.sources.sqlite import writing

COLLECT = str(Path(sys.executable).with_name("hello-grpc-traces"))

HOPS = ("--hops", "svc1,svc2,svc3", "--gateway", "gateway")

Run = Callable[..., Result]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "traces.db"
    with writing(path) as opened:
        opened.add(whole())
    return path


@pytest.fixture
def run(store: Path) -> Run:
    def run(*arguments: str, **environment: str) -> Result:
        env = {"GRPC_HELLO_TRACES": str(store)} | environment
        return CliRunner(env=env).invoke(main, arguments, prog_name="hello-grpc-traces")

    return run


@contextmanager
def collecting(store: Path) -> Iterator[tuple["subprocess.Popen[str]", int, int]]:
    """A collector as a process of its own, and its two ports."""
    command = [COLLECT, "collect", "--store", str(store)]
    with subprocess.Popen(
        [*command, "--grpc-port", "0", "--http-port", "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        words = process.stdout.readline().split()
        try:
            yield process, *(int(word) for word in words if word.isdigit())  # type: ignore[misc]
        finally:
            process.terminate()


def test_traces_are_listed(run: Run) -> None:
    result = run("list")
    assert (result.exit_code, TRACE in result.output) == (0, True)
    assert json.loads(run("list", "--output", "json").output)["spans"] == 6
    assert run("list", "--failed", "--output", "json").output == ""
    assert run("list", "--since", "1", "--output", "json").output == ""
    assert run("list", "--service", "svc2", "--min-ms", "50", "--limit", "1").output.count(TRACE) == 1


def test_a_trace_is_shown_as_a_tree(run: Run) -> None:
    result = run("show", TRACE.upper())
    assert (result.exit_code, "└─svc3.ns server" in result.output) == (0, True)
    assert len(json.loads(run("show", TRACE, "--output", "json").output)["spans"]) == 6


def test_a_trace_that_is_not_there_is_told_by_the_exit_code(run: Run) -> None:
    for command in (("show", OTHER_TRACE), ("export", OTHER_TRACE, "--endpoint", "http://localhost:1")):
        result = run(*command)
        assert (result.exit_code, result.stderr) == (1, f"trace {OTHER_TRACE} is not there\n")


def test_a_whole_trace_gets_a_good_verdict(run: Run) -> None:
    result = run("verify", TRACE, *HOPS)
    assert (result.exit_code, result.output) == (0, f"trace {TRACE}: as wanted, 6 spans in one tree\n")
    assert json.loads(run("verify", TRACE, *HOPS, "--output", "json").output)["ok"] is True


def test_one_bad_trace_among_good_ones_is_told_by_the_exit_code(run: Run, store: Path) -> None:
    with writing(store) as opened:
        opened.add(replace(each, trace_id=OTHER_TRACE) for each in whole()[:4])
    result = run("verify", TRACE, OTHER_TRACE, *HOPS, "--timeout", "0")
    assert result.exit_code == 1
    assert f"trace {TRACE}: as wanted" in result.output
    assert f"trace {OTHER_TRACE}: not as wanted, 4 spans\n  missing: " in result.output


def test_ctrl_c_is_no_verdict(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hello_mesh.tracing.verdict.verify.time.sleep", interrupt)
    assert run("verify", OTHER_TRACE, *HOPS).exit_code == 130


def test_the_topology_is_shown(run: Run) -> None:
    assert "svc1.ns → svc2.ns" in run("topology").output
    assert len(run("topology", "--output", "json").output.splitlines()) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("show",),
        ("show", "xyz"),
        ("show", "f" * 31),
        ("verify", TRACE),
        ("verify", TRACE, "--hops", " , "),
        ("verify", TRACE, *HOPS, "--timeout", "-1"),
        ("list", "--limit", "0"),
        ("collect", "--grpc-port", "65536"),
        ("export",),
        ("export", "--endpoint", "localhost"),
        ("export", "--endpoint", "http://localhost:1", "--header", "Authentication"),
        ("export", "--endpoint", "http://localhost:1", "--header", "A-bin=eA=="),
        ("export", "--endpoint", "http://localhost:1", "--header", "=x"),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("header", ["Authentication: s3cret", "Authentication=s3cret\n", "s3cret", "A=s3cré"])
def test_a_wrong_header_is_not_repeated(run: Run, header: str) -> None:
    result = run("export", "--endpoint", "http://localhost:1", "--header", header)
    assert "s3cr" not in result.output + result.stderr


def test_a_store_that_is_not_there_ends_with_3(run: Run, tmp_path: Path) -> None:
    result = run("list", GRPC_HELLO_TRACES=str(tmp_path / "none.db"))
    assert (result.exit_code, "no span was collected yet" in result.stderr) == (3, True)


def test_a_store_that_cannot_be_written_ends_with_3(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("collect", "--store", str(tmp_path / "file" / "traces.db"))
    assert (result.exit_code, "cannot be used" in result.stderr) == (3, True)


def test_the_store_of_a_user_lies_in_the_state_folder(tmp_path: Path) -> None:
    with writing(tmp_path / "hello-grpc" / "traces.db") as opened:
        opened.add(whole())
    result = CliRunner(env={"XDG_STATE_HOME": str(tmp_path)}).invoke(main, ["list"])
    assert TRACE in result.output


def test_what_one_collector_keeps_is_exported_to_another(run: Run, tmp_path: Path) -> None:
    there = tmp_path / "there.db"
    with collecting(there) as (process, grpc_port, http_port):
        url = f"http://127.0.0.1:{http_port}"
        over_http = run(
            "export", "--endpoint", url, "--protocol", "http/protobuf", "--header", "Authentication=s3cret"
        )
        assert (over_http.exit_code, over_http.output) == (0, f"{url} took 6 spans of 1 traces\n")
        assert (
            run("export", TRACE, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{grpc_port}").exit_code == 0
        )
        assert run("verify", TRACE, *HOPS, GRPC_HELLO_TRACES=str(there)).exit_code == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert run("show", TRACE, "--store", str(there)).exit_code == 0


def test_what_was_stored_is_there_after_the_collector_was_killed(run: Run, tmp_path: Path) -> None:
    there = tmp_path / "there.db"
    with collecting(there) as (process, grpc_port, _):
        assert run("export", "--endpoint", f"http://127.0.0.1:{grpc_port}").exit_code == 0
        process.kill()
        process.wait(60)
    assert run("verify", TRACE, *HOPS, "--store", str(there)).exit_code == 0


def test_an_endpoint_that_is_not_there_ends_with_3(run: Run, tmp_path: Path) -> None:
    with collecting(tmp_path / "there.db") as (process, grpc_port, _):
        process.terminate()
        assert process.wait(60) == 0
    result = run("export", "--endpoint", f"http://127.0.0.1:{grpc_port}", "--timeout", "5")
    assert (result.exit_code, f"127.0.0.1:{grpc_port} refused: UNAVAILABLE" in result.stderr) == (3, True)


def test_a_taken_port_ends_with_3(store: Path, tmp_path: Path) -> None:
    with collecting(store) as (_, grpc_port, _):
        command = [
            COLLECT,
            "collect",
            "--store",
            str(tmp_path / "other.db"),
        ]
        second = subprocess.run(
            [*command, "--grpc-port", str(grpc_port), "--http-port", "0"],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (second.returncode, "choose another with --grpc-port" in second.stderr) == (3, True)


@pytest.mark.parametrize("command", ["list", "show", "verify", "export", "collect", "topology"])
def test_every_command_explains_itself(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert (result.exit_code, result.output.startswith("Usage: hello-grpc-traces ")) == (0, True)
