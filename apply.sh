#!/bin/sh
# Starts the demo, or ends it: gateway, servers, their sidecars, and a collector of spans.
# Plain POSIX shell: `sh apply.sh` works where sh is dash, and under the old bash of macOS.
set -eu
unset CDPATH # or cd may go elsewhere, and say so
cd "$(dirname "$0")"

usage() {
  cat <<'TEXT'
Usage: ./apply.sh TARGET [--delete] [OPTION ...]

Targets:
  local   a mesh on this machine, in the background until --delete ends it; ./test.sh local
          exercises it, .venv/bin/hello-grpc-mesh status shows it

Options are those of `hello-grpc-mesh up`; ./apply.sh local --help shows them. With --delete
they are those of `hello-grpc-mesh down`: --name ends a mesh that was started with --name.
Needs Python 3.11 or newer; everything else goes into .venv, beside this script.

Exit codes: 0 all went well; 1 a part of the mesh died; 2 wrong usage; 3 the machine does
not allow it.
TEXT
}

case "${1-}" in
  local)
    shift
    scripts/setup
    if [ "${1-}" = --delete ]; then
      shift
      exec .venv/bin/hello-grpc-mesh down "$@"
    fi
    exec .venv/bin/hello-grpc-mesh up --detach "$@"
    ;;
  '' | -h | --help)
    usage
    ;;
  *)
    echo "apply.sh: unknown target: $1" >&2
    usage >&2
    exit 2
    ;;
esac
