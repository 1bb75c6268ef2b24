# shellcheck shell=bash
# Shared by apply.sh and test.sh: options, planes, the gateway. Sourced by bash 3.2 or newer.
#
# A plane is an API server. The one of the cluster (ACK) has pods and services, the one of the mesh (ASM) has the Istio
# resources. With open-source Istio, and with data-plane KubeAPI access of ASM, both are the same. Functions for either
# plane take `cluster` or `mesh` as their first argument.
#
# Here and in the files beside it, a command that may fail inside $(…) ends with `|| exit`: bash ignores `set -e` there.
# shellcheck disable=SC2034 # some variables are used only by the scripts that source this file

# The user's own settings of kubectl must not change what is applied.
export KUBERC=off
unset KUBECTL_EXTERNAL_DIFF

NAMESPACE=grpc-tracing
OURS=hello-servicemesh-grpc # the value of app.kubernetes.io/part-of on every object of the demo
SELECTOR="app.kubernetes.io/part-of=$OURS"
GATEWAY_PORT=9999
USUAL_GATEWAY=istio-system/istio-ingressgateway
QUERY_TIMEOUT=20s # for each request to an API server

ME=$(basename "$0")
target=asm
cluster_config=
mesh_config=
named_cluster_config= # from an option
named_mesh_config=
gateway_service=$USUAL_GATEWAY
timeout=300
hint= # appended if an API server does not answer
interruption='nothing was changed'

say() { printf '%s\n' "$*"; }

warn() { printf '%s: %s\n' "$ME" "$*" >&2; }

# Exits with a code: 1 failed, 2 wrong usage, 3 environment error.
fail() {
  local code=$1
  shift
  warn "$*"
  exit "$code"
}

usage_error() { fail 2 "$1; ./$ME --help shows the usage"; }

# -- options

# Reads all arguments. A script reads its own in own_option, which sets `used` to the number of words that it read.
parse_arguments() {
  while [ $# -gt 0 ]; do
    used=0
    own_option "$@"
    [ "$used" != 0 ] || common_option "$@"
    shift "$used"
  done
}

common_option() {
  used=2
  case "$1" in
    -h | --help)
      usage
      exit 0
      ;;
    asm | istio)
      target=$1
      used=1
      ;;
    --ack-kubeconfig | --kubeconfig) cluster_config=$(argument "$@") ;;
    --asm-kubeconfig) mesh_config=$(argument "$@") ;;
    --gateway-service) gateway_service=$(service_argument "$@") ;;
    --timeout) timeout=$(number_argument "$@") ;;
    local) usage_error "write the target first: ./$ME local" ;;
    -*) usage_error "unknown option: $1" ;;
    *)
      warn "unknown target: $1"
      usage >&2
      exit 2
      ;;
  esac
}

argument() {
  [ -n "${2-}" ] || usage_error "$1 needs a value"
  printf '%s' "$2"
}

number_argument() {
  argument "$@" >/dev/null || exit
  case "$2" in
    *[!0-9]* | 0* | ???????*) usage_error "$1 takes a whole number from 1 to 999999, not $2" ;;
  esac
  printf '%s' "$2"
}

service_argument() {
  argument "$@" >/dev/null || exit
  case "$2" in
    */*/* | /* | */ | *[!a-z0-9/.-]*) usage_error "$1 takes NAME or NAMESPACE/NAME, not $2" ;;
    */*) printf '%s' "$2" ;;
    *) printf '%s' "${USUAL_GATEWAY%/*}/$2" ;;
  esac
}

# The options with which the next command finds the same planes.
plane_options() {
  [ -z "$named_cluster_config" ] || printf ' --kubeconfig %q' "$named_cluster_config"
  [ -z "$named_mesh_config" ] || printf ' --asm-kubeconfig %q' "$named_mesh_config"
  [ "$gateway_service" = "$USUAL_GATEWAY" ] || printf ' --gateway-service %s' "$gateway_service"
}

# -- planes

# Finds kubectl, and the kubeconfig of each plane.
find_planes() {
  named_cluster_config=$cluster_config
  named_mesh_config=$mesh_config
  command -v kubectl >/dev/null ||
    fail 3 "kubectl not found: install it, see https://kubernetes.io/docs/tasks/tools/"
  if [ "$target" = asm ]; then
    cluster_name='the ACK cluster'
    mesh_name='the ASM instance'
    cluster_config=${cluster_config:-${ACK_KUBECONFIG-}}
    mesh_config=${mesh_config:-${ASM_KUBECONFIG-}}
    [ -n "$cluster_config" ] ||
      fail 3 "no kubeconfig: set the one of the ACK cluster with --ack-kubeconfig or ACK_KUBECONFIG, and the one of the ASM" \
        "instance with --asm-kubeconfig or ASM_KUBECONFIG (or try the demo on this host: ./$ME local)"
  else
    [ -z "$mesh_config" ] || usage_error "the target istio has one kubeconfig: set it with --kubeconfig"
    cluster_name='the cluster'
    mesh_name='the cluster'
  fi
  mesh_config=${mesh_config:-$cluster_config}
  check_readable "$cluster_config"
  check_readable "$mesh_config"
}

check_readable() {
  [ -z "$1" ] || { [ -f "$1" ] && [ -r "$1" ]; } || fail 3 "cannot read kubeconfig $1: check the path and its permissions"
}

one_plane() { [ "$mesh_config" = "$cluster_config" ]; }

# The option with which kubectl reaches a plane; none if kubectl's own configuration does.
kubeconfig_of() {
  local config=$cluster_config
  [ "$1" = cluster ] || config=$mesh_config
  printf '%s' "${config:+--kubeconfig=$config}"
}

# The kubectl command of a user for a plane.
kubectl_for() {
  local option
  option=$(kubeconfig_of "$1")
  printf 'kubectl'
  [ -z "$option" ] || printf ' %q' "$option"
}

# Sends a request to a plane, with a timeout.
ask() {
  local option
  option=$(kubeconfig_of "$1")
  shift
  kubectl ${option:+"$option"} "--request-timeout=$QUERY_TIMEOUT" "$@"
}

# Sends a request to a plane that may take long.
order() {
  local option
  option=$(kubeconfig_of "$1")
  shift
  patiently kubectl ${option:+"$option"} "$@"
}

# Runs a program so that a signal to this script takes effect at once, and stops the program, too.
patiently() {
  local code=0
  "$@" </dev/null &
  wait "$!" || code=$?
  return "$code"
}

# Checks that both API servers answer, with these credentials.
check_planes() {
  check_answer cluster "$cluster_name"
  one_plane || check_answer mesh "$mesh_name"
}

# One raw request: kubectl repeats its discovery requests for minutes.
check_answer() {
  local said option
  option=$(kubeconfig_of "$1")
  said=$(ask "$1" get --raw "/api/v1/namespaces/$NAMESPACE" 2>&1) || case "$said" in
    *"\"$NAMESPACE\" not found"*) ;;
    *) fail 3 "no usable response from $2 (${option:-kubeconfig of kubectl}): $(last_line "$said")$hint" ;;
  esac
}

last_line() { printf '%s\n' "$1" | tail -n 1; }

# -- the gateway

# Reads the Service of the gateway: its ports (" 80 443 "), the labels of its pods ("app=…,istio=…"), and its address,
# an IP or a host name, "" while the load balancer has none.
read_gateway() {
  local said
  # shellcheck disable=SC2016 # dollar signs of the template
  said=$(ask cluster get service -n "${gateway_service%/*}" "${gateway_service#*/}" --ignore-not-found -o 'go-template=
{{- range .spec.ports}} {{.port}}{{end}} |
{{- range $key, $value := .spec.selector}}{{$key}}={{$value}},{{end}}|
{{- range .status.loadBalancer.ingress}}{{or .ip .hostname}} {{end}}') || fail 3 "$cluster_name does not return the Service of the gateway (see above)"
  [ -n "$said" ] ||
    fail 3 "no gateway: $cluster_name has no Service ${gateway_service#*/} in ${gateway_service%/*}. Create an ingress" \
      "gateway (kube/asm/ has one for ASM), or set yours with --gateway-service"
  IFS='|' read -r gateway_ports gateway_labels gateway_address <<<"$said"
  gateway_ports=" $gateway_ports "
  gateway_labels=${gateway_labels%,}
  gateway_address=${gateway_address%% *}
}

# The address to call. An IPv6 address is in brackets in front of a port.
gateway_target() {
  case "$gateway_address" in
    *:*) printf '%s' "[$gateway_address]:$GATEWAY_PORT" ;;
    *) printf '%s' "$gateway_address:$GATEWAY_PORT" ;;
  esac
}

gateway_has_port() {
  read_gateway
  case "$gateway_ports" in *" $GATEWAY_PORT "*) ;; *) return 1 ;; esac
}

gateway_has_address() {
  read_gateway
  [ -n "$gateway_address" ]
}

# Repeats a check for at most --timeout seconds, and prints once what it waits for.
wait_until() {
  local deadline=$((SECONDS + timeout)) what=$1
  shift
  ! "$@" || return 0
  say "waiting up to $timeout s for $what"
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    patiently sleep 1
  done
}

# -- pods

# The pods of the demo without the sidecar that they should have. A native sidecar is an init container.
pods_without_sidecar() {
  local pods
  pods=$(ask cluster get pods -n "$NAMESPACE" -l "$SELECTOR" -o 'go-template=
{{- range .items}}{{if not .metadata.deletionTimestamp}}
{{- .metadata.name}} inject={{index .metadata.labels "sidecar.istio.io/inject"}}
{{- range .spec.initContainers}} {{.name}}{{end}}{{range .spec.containers}} {{.name}}{{end}} .{{"\n"}}{{end}}{{end}}') ||
    exit
  printf '%s\n' "$pods" | awk 'NF && !/ istio-proxy / && !/ inject=false / { print $1 }'
}

# Sets `missing_sidecars` to them, and prints the fix.
find_missing_sidecars() {
  missing_sidecars=$(pods_without_sidecar) || fail 3 "$cluster_name does not return the pods in $NAMESPACE (see above)"
  [ -z "$missing_sidecars" ] ||
    warn "no sidecar in ${missing_sidecars//$'\n'/, }: created before the namespace was labelled, or the cluster is not in" \
      "the mesh. Create new pods: $(kubectl_for cluster) rollout restart deployment -n $NAMESPACE -l $SELECTOR"
}

# -- signals

# Lets signals end the script with the usual exit codes, and runs `leave` at every exit.
leave_on_signals() {
  exec 9>&2 # a signal may arrive while stderr is redirected
  trap leave EXIT
  trap 'interrupted 130' INT
  trap 'interrupted 143' TERM
  trap 'interrupted 129' HUP
  trap 'unforeseen $?' ERR
}

interrupted() {
  trap '' INT TERM HUP
  warn "interrupted: $interruption" 2>&9
  exit "$1"
}

# A command that failed without a message. Commands with a message exit with 2 or 3.
unforeseen() {
  # Inside $(…), the caller reports it. The bash of macOS calls this even on the left of ||.
  [ "$BASH_SUBSHELL" = 0 ] || return 0
  case "$1" in
    2 | 3) ;;
    *) warn "command failed: $BASH_COMMAND" ;;
  esac
}

leave() {
  local pid tries
  # bash can lose a signal to a child that it is just starting, so repeat the signal.
  for pid in $(jobs -p); do
    for ((tries = 0; tries < 50; tries++)); do
      kill "$pid" 2>/dev/null || break
      sleep 0.1
    done
  done
  [ -z "${work-}" ] || rm -rf "$work"
}
