#!/bin/sh
# Builds the demo's image with docker, podman or buildah. Plain POSIX shell.
set -eu
unset CDPATH # or cd may print, and go elsewhere
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
Usage: docker/build.sh [--name NAME] [--tag TAG] [--push] [-- ARGUMENT ...]

Builds the image NAME:TAG with the first of docker, podman and buildah that
answers, and prints its name. Its command is hello-grpc-server; it also has
hello-grpc-client.

Options:
  --name NAME   name of the image, with a registry to push it there
                (default: hello-servicemesh-grpc)
  --tag TAG     (default: the version in pyproject.toml)
  --push        push the image to its registry
  --help        show this text

Arguments after -- go to the build command:
  --build-arg BASE_IMAGE=IMAGE     build on another Python 3.11 or newer
  --build-arg PIP_INDEX_URL=URL    install from another package index
  --platform linux/amd64,linux/arm64

Exit codes: 0 OK; 1 the build or the push failed; 2 wrong usage; 3 no tool
answers.
TEXT
}

say() { echo "docker/build.sh: $1" >&2; } # stdout is for the name of the image

# fail CODE TEXT
fail() {
  say "$2"
  exit "$1"
}

find_tool() {
  for candidate in docker podman buildah; do
    if "$candidate" info >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  fail 3 "none of docker, podman and buildah answers: install one, or start its service"
}

name=hello-servicemesh-grpc push=''
tag=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage && exit 0 ;;
    --push) push=yes ;;
    --name | --tag)
      [ -n "${2-}" ] || fail 2 "$1 has no value: see docker/build.sh --help"
      if [ "$1" = --name ]; then name=$2; else tag=$2; fi
      shift
      ;;
    --) shift && break ;;
    *) fail 2 "unknown option $1: see docker/build.sh --help" ;;
  esac
  shift
done
case "${name##*/}" in
  *[:@]*) fail 2 "invalid name $name: set the tag with --tag" ;;
esac

tool=$(find_tool)
image=$name:$tag
say "building $image with $tool"
"$tool" build --file docker/Dockerfile --tag "$image" "$@" . >&2 || fail 1 "$tool cannot build $image, see above"
if [ -n "$push" ]; then
  "$tool" push "$image" >&2 || fail 1 "$tool cannot push $image, see above: check that you are logged in"
else
  say "to use it in a cluster, build it with --name REGISTRY/NAME and --push"
fi
echo "$image"
