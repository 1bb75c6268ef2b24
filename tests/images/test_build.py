"""docker/build.sh: its options, and how it calls a tool.

The tools here record their calls; other tests use the real ones.
"""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

# Accepts any command; with a file `broken` beside it, it fails.
_TOOL = """\
#!/bin/sh
here=$(dirname "$0")
echo "$(basename "$0") $*" >>"$here/calls"
case "$1" in
  info) ;;
  *) [ ! -e "$here/broken" ] ;;
esac
"""


@pytest.fixture
def with_tools(tools: Path) -> Path:
    """Return a folder for PATH, with a docker, a podman and a buildah."""
    for name in ("docker", "podman", "buildah"):
        (tools / name).write_text(_TOOL, encoding="ascii")
        (tools / name).chmod(0o755)
    return tools


def build(path: Path, *arguments: str, shell: str = "sh") -> "subprocess.CompletedProcess[str]":
    """Run the script from another folder, with `path` as PATH."""
    return subprocess.run(
        [path / shell, ROOT / "docker/build.sh", *arguments],
        cwd=path,
        env={"PATH": str(path)},
        check=False,
        capture_output=True,
        text=True,
    )


def calls(path: Path) -> list[str]:
    """Return how the tools were called, without the checks whether they answer."""
    lines = (path / "calls").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.endswith(" info")]


WRONG = {
    "--nonsense": "unknown option --nonsense",
    "nonsense": "unknown option nonsense",
    "--tag": "--tag has no value",
    "--name registry.example:5000/demo:1": "invalid name registry.example:5000/demo:1: set",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_usage_is_reported_in_one_line(with_tools: Path, arguments: str) -> None:
    done = build(with_tools, *arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"docker/build.sh: {WRONG[arguments]}")
    assert not (with_tools / "calls").exists()


def test_the_help_names_every_option(tools: Path) -> None:
    done = build(tools, "--help")
    assert done.returncode == 0
    assert {"--name", "--tag", "--push", "--help", "--"} <= set(done.stdout.split())


def test_without_a_tool_nothing_is_built(tools: Path) -> None:
    done = build(tools)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("docker/build.sh: none of docker, podman and buildah answers")


def test_the_first_tool_that_answers_is_used(with_tools: Path) -> None:
    (with_tools / "docker").write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
    build(with_tools)
    (called,) = calls(with_tools)
    assert called.startswith("podman build ")


def test_a_failed_build_is_reported(with_tools: Path) -> None:
    (with_tools / "broken").touch()
    done = build(with_tools, "--push")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "docker/build.sh: docker cannot build hello-servicemesh-grpc:1.0.0, see above"
    )
    assert len(calls(with_tools)) == 1


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_without_options_the_image_is_built_and_named(with_tools: Path, shell: str) -> None:
    done = build(with_tools, shell=shell)
    assert (done.returncode, done.stdout) == (0, "hello-servicemesh-grpc:1.0.0\n")
    assert calls(with_tools) == ["docker build --file docker/Dockerfile --tag hello-servicemesh-grpc:1.0.0 ."]
    assert "build it with --name REGISTRY/NAME and --push" in done.stderr


def test_options_and_arguments_reach_the_tool(with_tools: Path) -> None:
    done = build(
        with_tools,
        *("--name", "mirror.example:5000/a/demo", "--tag", "7", "--push"),
        *("--", "--build-arg", "BASE_IMAGE=mirror.example/python:3.12", "--network", "host"),
    )
    built, pushed = calls(with_tools)
    assert built == (
        "docker build --file docker/Dockerfile --tag mirror.example:5000/a/demo:7"
        " --build-arg BASE_IMAGE=mirror.example/python:3.12 --network host ."
    )
    assert pushed == "docker push mirror.example:5000/a/demo:7"
    assert done.stdout == "mirror.example:5000/a/demo:7\n"
