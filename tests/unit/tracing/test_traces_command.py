import json
import signal
import subprocess
import sys
import urllib.request
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
    """Run a collector as a process, and yield it and its two ports."""
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
    assert run("list", "--min-ms", "98.5", "--output", "json").output == ""
    assert run("list", "--since", "1", "--output", "json").output == ""
    assert run("list", "--service", "svc2", "--min-ms", "50", "--limit", "1").output.count(TRACE) == 1


def test_a_trace_is_shown_as_a_tree(run: Run) -> None:
    result = run("show", TRACE.upper())
    assert (result.exit_code, "└─svc3.ns server" in result.output) == (0, True)
    assert len(json.loads(run("show", TRACE, "--output", "json").output)["spans"]) == 6


@pytest.mark.parametrize("found", [(), (TRACE,)])
def test_a_missing_trace_exits_with_1(run: Run, found: tuple[str, ...]) -> None:
    result = run("show", *found, OTHER_TRACE)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"trace {OTHER_TRACE} not found: check the id with hello-grpc-traces list\n"


def test_a_whole_trace_is_ok(run: Run) -> None:
    result = run("verify", TRACE, *HOPS)
    assert (result.exit_code, result.output) == (0, f"trace {TRACE}: OK: 6 spans, one tree\n")
    assert json.loads(run("verify", TRACE, *HOPS, "--output", "json").output)["ok"] is True


def test_one_mismatch_among_whole_traces_exits_with_1(run: Run, store: Path) -> None:
    with writing(store) as opened:
        opened.add(replace(each, trace_id=OTHER_TRACE) for each in whole()[:4])
    assert run("verify", OTHER_TRACE, TRACE, *HOPS, "--timeout", "0").exit_code == 1
    result = run("verify", TRACE, OTHER_TRACE, *HOPS, "--timeout", "0")
    assert result.exit_code == 1
    assert f"trace {TRACE}: OK" in result.output
    assert f"trace {OTHER_TRACE}: mismatch: 4 spans\n  missing: " in result.output


def test_ctrl_c_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("show", TRACE, "--output", "yaml"),
    ],
)
def test_wrong_usage_exits_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_missing_store_exits_with_3(run: Run, tmp_path: Path) -> None:
    result = run("list", GRPC_HELLO_TRACES=str(tmp_path / "none.db"))
    assert (result.exit_code, "run hello-grpc-traces collect" in result.stderr) == (3, True)


def test_a_store_that_cannot_be_written_exits_with_3(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("collect", "--store", str(tmp_path / "file" / "traces.db"))
    assert (result.exit_code, "cannot use span store" in result.stderr) == (3, True)


def test_the_default_store_is_in_the_state_folder(tmp_path: Path) -> None:
    with writing(tmp_path / "hello-grpc" / "traces.db") as opened:
        opened.add(whole())
    result = CliRunner(env={"XDG_STATE_HOME": str(tmp_path)}).invoke(main, ["list"])
    assert TRACE in result.output


def _post(port: int, body: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/traces", body.encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
        status: int = response.status
        return status


def test_traces_shown_as_otlp_are_accepted_by_another_collector(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with collecting(other) as (process, _, http_port):
        exported = run("show", TRACE, "--output", "otlp")
        assert exported.exit_code == 0
        assert len(exported.output.splitlines()) == 1
        assert _post(http_port, exported.output) == 200
        assert run("verify", TRACE, *HOPS, GRPC_HELLO_TRACES=str(other)).exit_code == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert run("show", TRACE, "--store", str(other), "--output", "json").output == (
        run("show", TRACE, "--output", "json").output
    )


def test_several_traces_are_one_otlp_request(run: Run, store: Path) -> None:
    with writing(store) as opened:
        opened.add(replace(span, trace_id=OTHER_TRACE) for span in whole())
    (line,) = run("show", TRACE, OTHER_TRACE, "--output", "otlp").output.splitlines()
    spans = [
        span
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    assert {span["traceId"] for span in spans} == {TRACE, OTHER_TRACE}
    assert len(spans) == 12


def test_stored_spans_survive_the_kill_of_the_collector(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with collecting(other) as (process, _, http_port):
        assert _post(http_port, run("show", TRACE, "--output", "otlp").output) == 200
        process.kill()
        process.wait(60)
    assert run("verify", TRACE, *HOPS, "--store", str(other)).exit_code == 0


HOSTILE = "svc\x1b[2J\x9b\u202e\u2028"


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("show", OTHER_TRACE),
        ("topology",),
        ("verify", OTHER_TRACE, *HOPS, "--timeout", "0"),
    ],
    ids=lambda command: command[0],
)
@pytest.mark.parametrize("output", ["text", "json"])
def test_a_hostile_service_name_is_never_printed_raw(
    run: Run, store: Path, command: tuple[str, ...], output: str
) -> None:
    _check_hostile_output(run, store, *command, "--output", output)


def test_a_hostile_service_name_is_never_printed_raw_in_otlp(run: Run, store: Path) -> None:
    _check_hostile_output(run, store, "show", OTHER_TRACE, "--output", "otlp")


def _check_hostile_output(run: Run, store: Path, *command: str) -> None:
    with writing(store) as opened:
        opened.add(replace(span, trace_id=OTHER_TRACE, service=HOSTILE, name=HOSTILE) for span in whole())
    output = run(*command).output
    assert "svc" in output
    # Not splitlines: it also splits at characters that must not be printed.
    assert all(line.isprintable() for line in output.split("\n"))


BARE = """
import sys
for name in ("aiohttp", "google", "grpc", "opentelemetry"):
    sys.modules[name] = None
from hello_mesh.tracing.cli import main
main(prog_name="hello-grpc-traces")
"""


def _run_without_extras(store: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", BARE, *arguments, "--store", str(store)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "command",
    [("list",), ("show", TRACE), ("verify", TRACE, *HOPS), ("topology",)],
    ids=lambda command: command[0],
)
def test_a_command_that_reads_needs_no_extra(store: Path, command: tuple[str, ...]) -> None:
    done = _run_without_extras(store, *command)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command", [("collect",), ("show", TRACE, "--output", "otlp")], ids=lambda command: command[0]
)
def test_a_missing_extra_exits_with_3(store: Path, command: tuple[str, ...]) -> None:
    done = _run_without_extras(store, *command)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("Error: the extra 'traces' is not installed (")


def test_a_port_in_use_exits_with_3(store: Path, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("command", ["list", "show", "verify", "collect", "topology"])
def test_every_command_has_a_help_page(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert (result.exit_code, result.output.startswith("Usage: hello-grpc-traces ")) == (0, True)
