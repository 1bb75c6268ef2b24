#!/bin/sh
# Exercises the demo: calls all four patterns and says whether each call was one connected trace.
# Plain POSIX shell: `sh test.sh` works where sh is dash, and under the old bash of macOS.
set -eu
unset CDPATH # or cd may go elsewhere, and say so
cd "$(dirname "$0")"

usage() {
  cat <<'TEXT'
Usage: ./test.sh TARGET [OPTION ...]

Targets:
  local   call all four patterns through the mesh that runs on this machine, or through one
          that is started for it and ended again: gateway, svc1, svc2, svc3, each with its
          Envoy; judge each answer, each hop report and each whole trace

Options are those of `hello-grpc-mesh test`; ./test.sh local --help shows them.
Needs Python 3.11 or newer; everything else goes into .venv, beside this script.

Exit codes: 0 all went well; 1 a check failed; 2 wrong usage; 3 the machine does not allow it.
TEXT
}

case "${1-}" in
  local)
    shift
    scripts/setup
    exec .venv/bin/hello-grpc-mesh test "$@"
    ;;
  '' | -h | --help)
    usage
    ;;
  *)
    echo "test.sh: unknown target: $1" >&2
    usage >&2
    exit 2
    ;;
esac
