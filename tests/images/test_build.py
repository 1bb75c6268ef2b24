"""docker/build.sh: what it understands, and what it asks of which tool. Tools that write down how they are
called stand for the real ones, which the other tests use."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

# Takes any command; where a file `down` lies beside it, it does not answer, and with `broken` it fails.
_TOOL = """\
#!/bin/sh
here=$(dirname "$0")
echo "$(basename "$0") $*" >>"$here/calls"
case "$1" in
  info) [ ! -e "$here/down" ] ;;
  *) [ ! -e "$here/broken" ] ;;
esac
"""


@pytest.fixture
def with_tools(tools: Path) -> Path:
    """The folder for PATH, with a docker, a podman and a buildah."""
    for name in ("docker", "podman", "buildah"):
        (tools / name).write_text(_TOOL, encoding="ascii")
        (tools / name).chmod(0o755)
    return tools


def build(path: Path, *arguments: str, shell: str = "sh") -> "subprocess.CompletedProcess[str]":
    """Runs the script from another folder, with `path` as PATH."""
    return subprocess.run(
        [path / shell, ROOT / "docker/build.sh", *arguments],
        cwd=path,
        env={"PATH": str(path)},
        check=False,
        capture_output=True,
        text=True,
    )


def calls(path: Path) -> list[str]:
    """How the tools were called, without the questions whether they are there."""
    lines = (path / "calls").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.endswith(" info")]


WRONG = {
    "--nonsense x": "unknown option: --nonsense",
    "nonsense": "not understood: nonsense",
    "--tag": "--tag is unknown, or lacks its value",
    "--tag=": "--tag lacks its value",
    "--name registry.example:5000/demo:1": "--name is without a tag, which is for --tag",
    "--target sidecar": "--target is server, client or all, not sidecar",
    "--tool kaniko": "--tool is docker, podman or buildah, not kaniko",
    "--tool docker --platform linux/amd64,linux/arm64": "docker keeps no images of several platforms",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_usage_is_one_line_that_names_it(with_tools: Path, arguments: str) -> None:
    done = build(with_tools, *arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"docker/build.sh: {WRONG[arguments]}")
    assert not (with_tools / "calls").exists() or calls(with_tools) == []


def test_the_help_tells_every_option(tools: Path) -> None:
    done = build(tools, "--help")
    script = (ROOT / "docker/build.sh").read_text(encoding="utf-8")
    taken = {word for line in script.splitlines() for word in line.split() if word.startswith("--")}
    handled = {word.rstrip(")") for word in taken if word.endswith(")")} - {"--*=*", "--*", "--"}
    assert done.returncode == 0
    assert handled <= set(done.stdout.split())
    assert len(handled) == 10


def test_a_machine_without_any_tool_is_told_so(tools: Path) -> None:
    done = build(tools)
    assert (done.returncode, done.stderr) == (
        3,
        "docker/build.sh: none of docker, podman and buildah is on PATH\n",
    )
    assert build(tools, "--tool", "podman").stderr == "docker/build.sh: podman is not on PATH\n"


def test_a_tool_that_does_not_answer_is_named(with_tools: Path) -> None:
    (with_tools / "down").touch()
    done = build(with_tools, "--tool", "docker")
    assert done.returncode == 3
    assert done.stderr == "docker/build.sh: docker does not answer; is it running? see docker info\n"


def test_a_build_that_fails_ends_it(with_tools: Path) -> None:
    (with_tools / "broken").touch()
    done = build(with_tools)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "docker/build.sh: docker could not build hello-servicemesh-grpc:1.0.0, see above"
    )
    assert len(calls(with_tools)) == 1


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_without_options_both_images_are_built_and_named(with_tools: Path, shell: str) -> None:
    done = build(with_tools, shell=shell)
    assert done.stdout.split() == ["hello-servicemesh-grpc:1.0.0", "hello-servicemesh-grpc-client:1.0.0"]
    assert done.stderr.splitlines()[-1] == (
        "docker/build.sh: next: ./apply.sh asm --image hello-servicemesh-grpc:1.0.0"
    )
    server, client = calls(with_tools)
    assert server.startswith("docker build --tag hello-servicemesh-grpc:1.0.0 --file docker/Dockerfile")
    assert " --target server " in server
    assert " --target client " in client


def test_options_and_arguments_reach_the_tool_whole(with_tools: Path) -> None:
    done = build(
        with_tools,
        *("--tool", "podman", "--name=mirror.example:5000/a/demo", "--tag", "7", "--target", "server"),
        *("--base-image", "mirror.example/python:3.12", "--pip-index-url=https://pypi.example/simple?a=b"),
        *("--build-arg", "PIP_TRUSTED_HOST=pypi.example", "--push", "--", "--network", "host"),
    )
    built, pushed = calls(with_tools)
    assert built.startswith("podman build --layers --tag mirror.example:5000/a/demo:7 ")
    for wanted in (
        "--build-arg VERSION=1.0.0 ",
        "--build-arg BASE_IMAGE=mirror.example/python:3.12 ",
        "--build-arg PIP_INDEX_URL=https://pypi.example/simple?a=b ",
        "--build-arg PIP_TRUSTED_HOST=pypi.example ",
        "--network host .",
    ):
        assert wanted in built
    assert pushed == "podman push mirror.example:5000/a/demo:7"
    assert done.stdout == "mirror.example:5000/a/demo:7\n"
    assert "a cluster must be able to pull it" not in done.stderr


PLATFORMS = "linux/amd64,linux/arm64"


def test_docker_builds_and_pushes_several_platforms_at_once(with_tools: Path) -> None:
    build(with_tools, "--platform", PLATFORMS, "--push", "--target", "server", "--name", "r.example/demo")
    (called,) = calls(with_tools)
    start = f"docker buildx build --platform {PLATFORMS} --push --tag r.example/demo:1.0.0 "
    assert called.startswith(start)


@pytest.mark.parametrize("tool", ["podman", "buildah"])
def test_the_others_make_one_list_of_several_platforms_and_push_it_whole(with_tools: Path, tool: str) -> None:
    build(
        with_tools,
        "--tool",
        tool,
        "--platform",
        PLATFORMS,
        "--push",
        "--target=client",
        "--name=r.example/demo",
    )
    image = "r.example/demo-client:1.0.0"
    removed, built, pushed = calls(with_tools)
    assert removed == f"{tool} rmi {image}"
    assert built.startswith(f"{tool} build --layers --platform {PLATFORMS} --manifest {image} ")
    assert pushed == f"{tool} manifest push --all {image} docker://{image}"


def test_the_first_tool_that_answers_is_taken(with_tools: Path) -> None:
    (with_tools / "docker").write_text("#!/bin/sh\nexit 1\n", encoding="ascii")
    build(with_tools, "--target", "client")
    (called,) = calls(with_tools)
    assert called.startswith("podman build ")
