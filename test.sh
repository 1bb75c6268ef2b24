#!/usr/bin/env bash
# Tests the demo: calls all four patterns through the gateway of a mesh, and verifies that each call is one connected
# trace. The mesh is ASM, Istio, or one on this host. For `local` this is plain POSIX shell, for hosts without bash. A
# cluster needs bash, which takes over here after `sh test.sh`.
if [ -z "${BASH_VERSION-}" ] && [ "${1-}" != local ]; then
  command -v bash >/dev/null || {
    echo "test.sh: bash not found: a cluster needs it" >&2
    exit 3
  }
  exec bash "$0" "$@"
fi
set -eu
unset CDPATH # or cd may print, and go elsewhere
root=$(cd "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")" && pwd)

usage() {
  cat <<'TEXT'
Usage: ./test.sh [asm|istio|local] [OPTION ...] [-- CLIENT OPTION ...]

Targets:
  asm     an ASM instance and its ACK cluster (default)
  istio   a cluster with open-source Istio
  local   call all four patterns through the running mesh of this host, or one
          that is started for the test: gateway, svc1, svc2, svc3, each with
          its Envoy. Verify each answer, hop report and trace. Options: those
          of `hello-grpc-mesh test`: see ./test.sh local --help

Options of asm and istio:
  --kubeconfig FILE         kubeconfig of the cluster; also --ack-kubeconfig or
                            ACK_KUBECONFIG (istio: the default of kubectl)
  --asm-kubeconfig FILE     kubeconfig of the ASM instance; also ASM_KUBECONFIG
  --gateway HOST[:PORT]     call this gateway, without a kubeconfig.
                            Default: the address of the gateway's Service
  --gateway-service NAME    Service of the gateway, [NAMESPACE/]NAME
                            (istio-system/istio-ingressgateway)
  --in-cluster              call from the client's pod, without the gateway
  --repeat N                calls of each pattern (1)
  --concurrency N           calls in flight at once (1)
  --hops NAME,NAME,...      expected hops of each call, in order; NAME|NAME
                            accepts either, ? is a hop that does not report
  --headers FAMILY          headers in which each call starts its trace: w3c,
                            b3 or both (both)
  --timeout SECONDS         timeout of rollouts, of the gateway's address, and
                            of a connection to it (300)

Arguments after -- go to hello-grpc-client: -- --output json

Checks the answers, the order of the hops, one trace id at all of them, a new
parent span at each (as a sidecar in front of it makes), and the sampled flag.
With a kubeconfig, it also checks that all pods have sidecars. Needs
Python 3.11 or newer, and installs everything else into .venv beside this
script. A cluster also needs bash, and kubectl unless --gateway is set.

Exit codes: 0 OK; 1 a check failed; 2 wrong usage; 3 environment error: no
kubectl, no kubeconfig, no gateway, no connection to it.
TEXT
}

if [ "${1-}" = local ]; then
  shift
  "$root/scripts/setup"
  exec "$root/.venv/bin/hello-grpc-mesh" test "$@"
fi

set +o posix # the mode of bash after a start as sh
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
checked_pods=
missing_sidecars=

main() {
  parse_arguments "$@"
  [ -z "$gateway" ] || [ -z "$in_cluster" ] || usage_error "--in-cluster calls without the gateway: leave out --gateway"
  interruption='the calls were cancelled'
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

# Checks that the demo is deployed and ready. Finds the expected hops, and pods without a sidecar.
check_deployments() {
  local deployments name missing=''
  deployments=$(ask cluster get deployments -n "$NAMESPACE" -l "$SELECTOR" -o 'go-template=
{{- range .items}}{{.metadata.name}} {{end}}')
  for name in grpc-server-python-1 grpc-server-python-2 grpc-server-python-3; do
    case " $deployments" in *" $name "*) ;; *) missing="$missing $name" ;; esac
  done
  [ -z "$missing" ] || fail 3 "not deployed in $cluster_name:$missing. Run first: ./apply.sh $target$(plane_options)"
  for name in $deployments; do
    order cluster rollout status -n "$NAMESPACE" "deployment/$name" --timeout "${timeout}s" >&2 ||
      fail 3 "$name is not ready after $timeout s: check its pods, and ./apply.sh $target$(plane_options) logs"
  done
  case " $deployments" in
    *" grpc-server-python-3-v2 "*) hops=${hops:-$HOPS|${HOPS##*,}-v2} ;; # --component canary
  esac
  find_missing_sidecars
  checked_pods=yes
}

# -- calls through the gateway, or from inside the cluster

test_gateway() {
  [ -n "$gateway" ] || find_gateway
  "$root/scripts/setup" || exit 3 # it has printed the reason
  say "== through the gateway $gateway"
  # A client waits at most an hour for a connection.
  call "$root/.venv/bin/hello-grpc-client" all --server "$gateway" --port "$GATEWAY_PORT" \
    --connect-timeout "$((timeout < 3600 ? timeout : 3600))"
  case "$code" in
    0 | 1) ;;
    *) check_gateway_binding ;;
  esac
  [ "$code" != 3 ] || fail 3 "no connection to $gateway: check that port $GATEWAY_PORT is open (security group, firewall), and that the" \
    "address is reachable from here. Without the gateway: ./test.sh $target$(plane_options) --in-cluster"
  conclude "through the gateway $gateway"
}

find_gateway() {
  gateway_has_port ||
    fail 3 "port $GATEWAY_PORT of the gateway $gateway_service is closed: apply again, with --with-gateway"
  wait_until 'an address of the gateway' gateway_has_address ||
    fail 3 "the gateway $gateway_service has no address after $timeout s: check its load balancer. Without the gateway:" \
      "./test.sh $target$(plane_options) --in-cluster"
  gateway=$(gateway_target)
}

test_in_cluster() {
  local option
  option=$(kubeconfig_of cluster)
  say '== in the cluster, from the pod of grpc-client'
  set -- kubectl ${option:+"$option"} exec -n "$NAMESPACE" deployment/grpc-client -c grpc-client -- hello-grpc-client
  # kubectl fails with 1, like a failed check. So check first that it works.
  "$@" --version >/dev/null || fail 3 "cannot run the client in its pod (see above)"
  call "$@" all --server grpc-server-svc1 --port "$GATEWAY_PORT"
  [ "$code" != 3 ] || fail 3 "the client in its pod has no connection (see above)"
  conclude 'in the cluster, without the gateway'
}

# Calls with a client, and sets `code` to its exit code.
call() {
  code=0
  set -- "$@" --expect-hops "${hops:-$HOPS}" --expect-sidecars --trace-headers "$headers" --repeat "$repeat" \
    --concurrency "$concurrency" ${client_options[@]+"${client_options[@]}"}
  patiently "$@" || code=$?
  case "$code" in
    0 | 1 | 3 | 6[5-9] | 7[0-9] | 80) ;; # OK, a mismatch, no connection, or a gRPC status
    2 | 130) exit "$code" ;;             # it has printed the reason
    *) fail 3 "the client exited with code $code" ;;
  esac
}

# Calls failed: checks whether Gateway tracing-gateway selects the pods of the gateway that was called.
check_gateway_binding() {
  local selected pods
  [ -n "${gateway_labels-}" ] || return 0
  # shellcheck disable=SC2016 # dollar signs of the template
  selected=$(ask mesh get gateways.networking.istio.io tracing-gateway -n "$NAMESPACE" -o 'go-template=
{{- range $key, $value := .spec.selector}},{{$key}}={{$value}}{{end}}' 2>&1) || case "$selected" in
    *NotFound*)
      warn "no Gateway tracing-gateway in $mesh_name: apply again"
      return
      ;;
    *) return ;; # this is only a hint
  esac
  pods=$(ask cluster get pods -n "${gateway_service%/*}" -l "$gateway_labels$selected" -o name) || return 0
  [ -n "$pods" ] ||
    warn "the wrong gateway: Gateway tracing-gateway selects ${selected#,}, which no pod of $gateway_service has." \
      "Apply again, and set your gateway with --gateway-service"
}

conclude() {
  [ "$code" = 0 ] && [ -z "$missing_sidecars" ] ||
    fail 1 "FAILED $1${missing_sidecars:+, and a pod has no sidecar (see above)}"
  say "PASSED $1: each call was one trace over all hops, with a new parent span at each"
  [ -n "$checked_pods" ] || say "(pods not checked: no kubeconfig)"
}

main "$@"
