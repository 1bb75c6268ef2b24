#!/bin/sh
# Builds the demo's images with docker, podman or buildah.
# Plain POSIX shell: `sh docker/build.sh` works where sh is dash, and under the old bash of macOS.
set -eu
unset CDPATH # or cd may go elsewhere, and say so
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
Usage: docker/build.sh [OPTION ...] [-- ARGUMENT ...]

Builds two images: NAME:TAG, whose command is hello-grpc-server, and NAME-client:TAG, whose
command is hello-grpc-client.

Options:
  --name NAME            the image; with a registry before it, it can be pushed there
                         (default: hello-servicemesh-grpc)
  --tag TAG              (default: the version in pyproject.toml)
  --target TARGET        server, client or all (default: all)
  --push                 push what was built to its registry
  --platform LIST        for which platforms: linux/amd64,linux/arm64 (default: this machine's);
                         with docker, more than one need --push
  --base-image IMAGE     build and run on this Python (default: what docker/Dockerfile says)
  --pip-index-url URL    install from this package index (default: pip's own)
  --build-arg KEY=VALUE  any other ARG of docker/Dockerfile; repeatable
  --tool TOOL            docker, podman or buildah (default: the first that answers)
  --help                 this text

Arguments after -- go to the tool's build as they are: -- --network host

Exit codes: 0 all went well; 1 a build or a push failed; 2 wrong usage; 3 no tool, or one that
does not answer.
TEXT
}

# say TEXT: to people; what is printed to stdout can be read by programs.
say() { echo "docker/build.sh: $1" >&2; }

# fail CODE TEXT
fail() {
  say "$2"
  exit "$1"
}

wrong() { fail 2 "$1; see docker/build.sh --help"; }

find_tool() {
  found=''
  for candidate in ${tool:-docker podman buildah}; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" info >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
    found=$candidate
  done
  [ -z "$found" ] || fail 3 "$found does not answer; is it running? see $found info"
  fail 3 "${tool:-none of docker, podman and buildah} is ${tool:+not }on PATH"
}

# The commit that the images are made of; nothing where this is no repository of its own.
revision() {
  if [ -e .git ] && git rev-parse HEAD 2>/dev/null; then
    [ -z "$(git status --porcelain)" ] || echo -dirty
  fi | tr -d '\n'
}

# build TARGET IMAGE [ARGUMENT ...]
build() (
  target=$1 image=$2
  shift 2
  say "building $image with $tool"
  set -- --file docker/Dockerfile --target "$target" --build-arg "VERSION=$version" \
    --build-arg "REVISION=$revision" --build-arg "CREATED=$created" "$@" .
  case "$tool" in
    docker)
      case "$platforms" in
        *,*) set -- buildx build --platform "$platforms" --push --tag "$image" "$@" ;;
        *) set -- build ${platforms:+--platform "$platforms"} --tag "$image" "$@" ;;
      esac
      ;;
    *)
      # A list of that name from an earlier build would keep its old images beside the new ones.
      case "$platforms" in
        *,*)
          "$tool" rmi "$image" >/dev/null 2>&1 || true
          set -- build --layers --platform "$platforms" --manifest "$image" "$@"
          ;;
        *) set -- build --layers ${platforms:+--platform "$platforms"} --tag "$image" "$@" ;;
      esac
      ;;
  esac
  "$tool" "$@" >&2 || fail 1 "$tool could not build $image, see above"
)

# push IMAGE
push() {
  case "$tool $platforms" in
    docker*,*) return ;; # buildx has pushed it
    *,*) set -- manifest push --all "$1" "docker://$1" ;;
    *) set -- push "$1" ;;
  esac
  "$tool" "$@" >&2 || fail 1 "$tool could not push, see above; are you logged in?"
}

name=hello-servicemesh-grpc tag='' targets=all push='' platforms='' tool=''
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)
revision=$(revision)
created=$(date -u +%Y-%m-%dT%H:%M:%SZ)

left=$# # arguments still to be read; behind them is collected what the tool gets
while [ "$left" -gt 0 ]; do
  option=$1
  shift
  left=$((left - 1))
  case "$option" in
    -h | --help)
      usage
      exit 0
      ;;
    --push)
      push=yes
      continue
      ;;
    --)
      while [ "$left" -gt 0 ]; do
        set -- "$@" "$1"
        shift
        left=$((left - 1))
      done
      continue
      ;;
    --*=*)
      value=${option#*=}
      option=${option%%=*}
      ;;
    --*)
      [ "$left" -gt 0 ] || wrong "$option is unknown, or lacks its value"
      value=$1
      shift
      left=$((left - 1))
      ;;
    *) wrong "not understood: $option" ;;
  esac
  [ -n "$value" ] || wrong "$option lacks its value"
  case "$option" in
    --name) name=$value ;;
    --tag) tag=$value ;;
    --target) targets=$value ;;
    --platform) platforms=$value ;;
    --tool) tool=$value ;;
    --base-image) set -- "$@" --build-arg "BASE_IMAGE=$value" ;;
    --pip-index-url) set -- "$@" --build-arg "PIP_INDEX_URL=$value" ;;
    --build-arg) set -- "$@" --build-arg "$value" ;;
    *) wrong "unknown option: $option" ;;
  esac
done

case "$targets" in
  all) targets='server client' ;;
  server | client) ;;
  *) wrong "--target is server, client or all, not $targets" ;;
esac
case "$tool" in
  '' | docker | podman | buildah) ;;
  *) wrong "--tool is docker, podman or buildah, not $tool" ;;
esac
case "${name##*/}" in
  *[:@]*) wrong "--name is without a tag, which is for --tag: $name" ;;
esac
tool=$(find_tool)
case "$tool $platforms ${push:-no}" in
  docker*,*no) wrong "docker keeps no images of several platforms: add --push, or name one" ;;
esac

for target in $targets; do
  image=$name:${tag:-$version}
  [ "$target" = server ] || image=$name-client:${tag:-$version}
  build "$target" "$image" "$@"
  [ -z "$push" ] || push "$image"
  built="${built-}${built:+ }$image"
done

for image in $built; do
  echo "$image"
done
case "$targets" in
  *server*)
    [ -n "$push" ] || say "a cluster must be able to pull it: name a registry with --name, and --push"
    say "next: ./apply.sh asm --image $name:${tag:-$version}"
    ;;
esac
