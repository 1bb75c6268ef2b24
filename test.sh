#!/usr/bin/env bash
# Proves the demo: calls all four patterns through the gateway of a mesh and says whether each call was one connected
# trace. Of ASM, of Istio, or of a mesh on this machine.
# For `local` it is plain POSIX shell, for machines without bash. A cluster needs bash, which takes over here where
# the script was started as `sh test.sh` and sh is another.
if [ -z "${BASH_VERSION-}" ] && [ "${1-}" != local ]; then
  command -v bash >/dev/null || {
    echo "test.sh: a cluster needs bash, and it is not on PATH" >&2
    exit 3
  }
  exec bash "$0" "$@"
fi
set -eu
unset CDPATH # or cd may go elsewhere, and say so
root=$(cd "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")" && pwd)

usage() {
  cat <<'TEXT'
Usage: ./test.sh [asm|istio|local] [OPTION ...] [-- CLIENT OPTION ...]

Targets:
  asm     an ASM instance and its ACK cluster; meant where no target is named
  istio   a cluster with open-source Istio
  local   call all four patterns through the mesh that runs on this machine, or
          through one that is started for it and ended again: gateway, svc1,
          svc2, svc3, each with its Envoy; judge each answer, each hop report
          and each whole trace. Its options are those of `hello-grpc-mesh test`:
          ./test.sh local --help shows them

Options of asm and istio:
  --kubeconfig FILE         of the cluster; also --ack-kubeconfig, or
                            ACK_KUBECONFIG. For istio: that of kubectl
  --asm-kubeconfig FILE     of the ASM instance; or ASM_KUBECONFIG
  --gateway HOST[:PORT]     call this gateway; no kubeconfig is needed then.
                            Without it: the address of the gateway's Service
  --gateway-service NAME    that Service, [NAMESPACE/]NAME
                            (istio-system/istio-ingressgateway)
  --in-cluster              call from the client's pod, past the gateway
  --repeat N                how often to call each pattern (1)
  --concurrency N           how many calls at once (1)
  --hops NAME,NAME,...      the hops that each call is to take, in order;
                            NAME|NAME where either will do
  --headers FAMILY          in which headers each call begins its trace: w3c,
                            b3 or both (both)
  --timeout SECONDS         how long to wait for rollouts, for the gateway's
                            address, for a connection to it (300)

What stands behind -- goes to hello-grpc-client: -- --output json

Checked are the answers, the order of the hops, one trace id at all of them,
another parent span at each (a sidecar before each), and that the trace is
sampled; and, where there is a kubeconfig, that all pods have sidecars. Needs
Python 3.11 or newer, everything else goes into .venv, beside this script; for
a cluster also bash, and kubectl unless --gateway is given.

Exit codes: 0 all went well; 1 a check failed; 2 wrong usage; 3 the environment
does not allow it: no kubectl, no kubeconfig, no gateway, no connection to it.
TEXT
}

if [ "${1-}" = local ]; then
  shift
  "$root/scripts/setup"
  exec "$root/.venv/bin/hello-grpc-mesh" test "$@"
fi

set +o posix # which bash is in where it was started as sh
set -Eeuo pipefail
source "$root/scripts/cluster/common.sh"

HOPS=grpc-server-svc1,grpc-server-svc2,grpc-server-svc3

gateway=
in_cluster=
repeat=1
concurrency=1
hops=
headers=both
client_options=()
code=0
looked_at_pods=
missing_sidecars=

main() {
  parse_arguments "$@"
  [ -z "$gateway" ] || [ -z "$in_cluster" ] || usage_error "--in-cluster goes past the gateway: leave out --gateway"
  interruption='the calls were cut off'
  leave_on_signals
  if [ -z "$gateway" ] || [ -n "$cluster_config" ] || { [ "$target" = asm ] && [ -n "${ACK_KUBECONFIG-}" ]; }; then
    find_planes
    check_answer cluster "$cluster_name"
    check_deployments
  fi
  if [ -n "$in_cluster" ]; then
    test_in_cluster
  else
    test_gateway
  fi
}

own_option() {
  used=2
  case "$1" in
    --gateway) gateway=$(gateway_argument "$@") ;;
    --repeat) repeat=$(number_argument "$@") ;;
    --concurrency) concurrency=$(number_argument "$@") ;;
    --hops) hops=$(argument "$@") ;;
    --headers) headers=$(headers_argument "$@") ;;
    --in-cluster)
      in_cluster=yes
      used=1
      ;;
    --)
      client_options=("${@:2}")
      used=$#
      ;;
    *) used=0 ;;
  esac
}

gateway_argument() {
  argument "$@" >/dev/null || exit
  case "$2" in
    *:*) printf '%s' "$2" ;;
    *) printf '%s' "$2:$GATEWAY_PORT" ;;
  esac
}

headers_argument() {
  argument "$@" >/dev/null || exit
  case "$2" in
    w3c | b3 | both) printf '%s' "$2" ;;
    *) usage_error "$1 takes w3c, b3 or both, not $2" ;;
  esac
}

# Whether the demo is deployed and ready. Finds out which hops a call is to take, and whether all pods have sidecars.
check_deployments() {
  local deployments name missing=''
  deployments=$(ask cluster get deployments -n "$NAMESPACE" -l "$SELECTOR" -o 'go-template=
{{- range .items}}{{.metadata.name}} {{end}}')
  for name in grpc-server-python-1 grpc-server-python-2 grpc-server-python-3; do
    case " $deployments" in *" $name "*) ;; *) missing="$missing $name" ;; esac
  done
  [ -z "$missing" ] || fail 3 "not deployed in $cluster_name:$missing. First: ./apply.sh $target$(plane_options)"
  for name in $deployments; do
    order cluster rollout status -n "$NAMESPACE" "deployment/$name" --timeout "${timeout}s" >&2 ||
      fail 3 "$name is not ready after $timeout s: see ./apply.sh $target$(plane_options) logs, and its pods"
  done
  case " $deployments" in
    *" grpc-server-python-3-v2 "*) hops=${hops:-$HOPS|${HOPS##*,}-v2} ;; # --component canary
  esac
  find_missing_sidecars
  looked_at_pods=yes
}

# -- the two ways to call

test_gateway() {
  [ -n "$gateway" ] || find_gateway
  "$root/scripts/setup" || exit 3 # it has said why
  say "== through the gateway $gateway"
  # A client waits an hour for a connection, at most.
  call "$root/.venv/bin/hello-grpc-client" all --server "$gateway" --port "$GATEWAY_PORT" \
    --connect-timeout "$((timeout < 3600 ? timeout : 3600))"
  case "$code" in
    0 | 1) ;;
    *) look_at_gateway ;;
  esac
  [ "$code" != 3 ] || fail 3 "no connection to $gateway: is port $GATEWAY_PORT let through (security group, firewall), is the address" \
    "reachable from here? To go past the gateway: ./test.sh $target$(plane_options) --in-cluster"
  conclude "through the gateway $gateway"
}

find_gateway() {
  gateway_has_port ||
    fail 3 "port $GATEWAY_PORT of the gateway $gateway_service is closed: apply as before, with --with-gateway"
  wait_until 'an address of the gateway' gateway_has_address ||
    fail 3 "the gateway $gateway_service has no address after $timeout s: has its load balancer one? To go past it:" \
      "./test.sh $target$(plane_options) --in-cluster"
  gateway=$(gateway_target)
}

test_in_cluster() {
  local option
  option=$(kubeconfig_of cluster)
  say '== in the cluster, from the pod of grpc-client'
  set -- kubectl ${option:+"$option"} exec -n "$NAMESPACE" deployment/grpc-client -c grpc-client -- hello-grpc-client
  # What kubectl itself cannot do ends as a failed call does, with 1. So it has to show first that it can.
  "$@" --version >/dev/null || fail 3 "cannot run the client in its pod (see above)"
  call "$@" all --server grpc-server-svc1 --port "$GATEWAY_PORT"
  [ "$code" != 3 ] || fail 3 "the client cannot call in its pod (see above)"
  conclude 'in the cluster, past the gateway'
}

# Calls with the client that a command starts, and sets `code` to how it ended.
call() {
  code=0
  set -- "$@" --expect-hops "${hops:-$HOPS}" --expect-sidecars --trace-headers "$headers" --repeat "$repeat" \
    --concurrency "$concurrency" ${client_options[@]+"${client_options[@]}"}
  patiently "$@" || code=$?
  case "$code" in
    0 | 1 | 3 | 6[5-9] | 7[0-9] | 80) ;; # went well, not as expected, no connection, or failed with a status of gRPC
    2 | 130) exit "$code" ;;             # it has said why
    *) fail 3 "the client ended with exit code $code" ;;
  esac
}

# Calls failed: is it because our Gateway is not that of the gateway that was called?
look_at_gateway() {
  local wanted pods
  [ -n "${gateway_labels-}" ] || return 0
  # shellcheck disable=SC2016 # the dollars are the template's
  wanted=$(ask mesh get gateways.networking.istio.io tracing-gateway -n "$NAMESPACE" -o 'go-template=
{{- range $key, $value := .spec.selector}},{{$key}}={{$value}}{{end}}' 2>&1) || case "$wanted" in
    *NotFound*)
      warn "no Gateway tracing-gateway in $mesh_name: apply as before"
      return
      ;;
    *) return ;; # it is not asked for more than a hint
  esac
  pods=$(ask cluster get pods -n "${gateway_service%/*}" -l "$gateway_labels$wanted" -o name) || return 0
  [ -n "$pods" ] ||
    warn "the wrong gateway: Gateway tracing-gateway selects ${wanted#,}, which no pod of $gateway_service carries." \
      "Apply as before, with the gateway that is meant as --gateway-service"
}

conclude() {
  [ "$code" = 0 ] && [ -z "$missing_sidecars" ] ||
    fail 1 "FAILED $1${missing_sidecars:+, and a pod has no sidecar (see above)}"
  say "PASSED $1: every call was one trace over all hops, with a sidecar before each"
  [ -n "$looked_at_pods" ] || say "(the pods were not looked at: there is no kubeconfig)"
}

main "$@"
