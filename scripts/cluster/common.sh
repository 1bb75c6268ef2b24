# shellcheck shell=bash
# What apply.sh and test.sh share about a cluster: options, planes, the gateway. Sourced, by bash 3.2 or newer.
#
# A plane is an API server: that of the cluster (ACK) takes pods and services, that of the mesh (ASM) what belongs to
# Istio. With open-source Istio, and with ASM's data-plane KubeAPI access, both are one. Functions that can ask either
# take `cluster` or `mesh` as their first argument.
#
# Here and in the files beside it, what may fail inside $(…) ends with `|| exit`: bash does not heed `set -e` there.
# shellcheck disable=SC2034 # some variables serve only those who source this

# What a user has told kubectl for other purposes must not decide what becomes of the demo.
export KUBERC=off
unset KUBECTL_EXTERNAL_DIFF

NAMESPACE=grpc-tracing
OURS=hello-servicemesh-grpc # the value of app.kubernetes.io/part-of by which we know what is ours
SELECTOR="app.kubernetes.io/part-of=$OURS"
GATEWAY_PORT=9999
USUAL_GATEWAY=istio-system/istio-ingressgateway
QUERY_TIMEOUT=20s # of each question to an API server

ME=$(basename "$0")
target=asm
cluster_config=
mesh_config=
named_cluster_config= # as an option
named_mesh_config=
gateway_service=$USUAL_GATEWAY
timeout=300
children=
hint= # more to say where an API server does not answer
interruption='nothing was changed'

say() { printf '%s\n' "$*"; }

warn() { printf '%s: %s\n' "$ME" "$*" >&2; }

# Ends with an exit code: 1 failed, 2 wrong usage, 3 the environment does not allow it.
fail() {
  local code=$1
  shift
  warn "$*"
  exit "$code"
}

usage_error() { fail 2 "$1; ./$ME --help shows the usage"; }

# -- options

# Reads all arguments. A script reads its own by own_option, which sets `used` to how many words it took.
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

# The options that the next command needs to find the same planes.
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
    fail 3 "kubectl is not on PATH: install it, see https://kubernetes.io/docs/tasks/tools/"
  if [ "$target" = asm ]; then
    cluster_name='the ACK cluster'
    mesh_name='the ASM instance'
    cluster_config=${cluster_config:-${ACK_KUBECONFIG-}}
    mesh_config=${mesh_config:-${ASM_KUBECONFIG-}}
    [ -n "$cluster_config" ] ||
      fail 3 "no kubeconfig: name that of the ACK cluster with --ack-kubeconfig or ACK_KUBECONFIG, and that of the ASM" \
        "instance with --asm-kubeconfig or ASM_KUBECONFIG (or try the demo on this machine: ./$ME local)"
  else
    [ -z "$mesh_config" ] || usage_error "the target istio has one kubeconfig: name it with --kubeconfig"
    cluster_name='the cluster'
    mesh_name='the cluster'
  fi
  mesh_config=${mesh_config:-$cluster_config}
  check_readable "$cluster_config"
  check_readable "$mesh_config"
}

check_readable() {
  [ -z "$1" ] || { [ -f "$1" ] && [ -r "$1" ]; } || fail 3 "cannot read the kubeconfig $1"
}

one_plane() { [ "$mesh_config" = "$cluster_config" ]; }

# The option that leads kubectl to a plane; none where kubectl finds its way itself.
kubeconfig_of() {
  local config=$cluster_config
  [ "$1" = cluster ] || config=$mesh_config
  printf '%s' "${config:+--kubeconfig=$config}"
}

# How a user calls kubectl for a plane.
kubectl_for() {
  local option
  option=$(kubeconfig_of "$1")
  printf 'kubectl'
  [ -z "$option" ] || printf ' %q' "$option"
}

# Asks a plane something, and waits only so long for the answer.
ask() {
  local option
  option=$(kubeconfig_of "$1")
  shift
  kubectl ${option:+"$option"} "--request-timeout=$QUERY_TIMEOUT" "$@"
}

# Has a plane do something that may take long.
order() {
  local option
  option=$(kubeconfig_of "$1")
  shift
  patiently kubectl ${option:+"$option"} "$@"
}

# Runs a program so that a signal to us is heeded at once, and ends it too.
patiently() {
  local code=0
  "$@" </dev/null &
  children=$!
  wait "$children" || code=$?
  children=
  return "$code"
}

# Whether both API servers answer, and to us.
check_planes() {
  check_answer cluster "$cluster_name"
  one_plane || check_answer mesh "$mesh_name"
}

# One request alone: what kubectl asks before others, which kinds there are, it repeats for minutes.
check_answer() {
  local said option
  option=$(kubeconfig_of "$1")
  said=$(ask "$1" get --raw "/api/v1/namespaces/$NAMESPACE" 2>&1) || case "$said" in
    *"\"$NAMESPACE\" not found"*) ;;
    *) fail 3 "$2 does not answer as it should (${option:-kubeconfig: that of kubectl}): $(last_line "$said")$hint" ;;
  esac
}

last_line() { printf '%s\n' "$1" | tail -n 1; }

# -- the gateway

# Sets what the Service of the gateway says: its ports (" 80 443 "), the labels of its pods ("app=…,istio=…"), and
# its address, an IP or a host name, "" as long as the load balancer has none.
read_gateway() {
  local said
  # shellcheck disable=SC2016 # the dollars are the template's
  said=$(ask cluster get service -n "${gateway_service%/*}" "${gateway_service#*/}" --ignore-not-found -o 'go-template=
{{- range .spec.ports}} {{.port}}{{end}} |
{{- range $key, $value := .spec.selector}}{{$key}}={{$value}},{{end}}|
{{- range .status.loadBalancer.ingress}}{{or .ip .hostname}} {{end}}') || fail 3 "$cluster_name does not show the gateway"
  [ -n "$said" ] ||
    fail 3 "no gateway: $cluster_name has no Service ${gateway_service#*/} in ${gateway_service%/*}. Create an ingress" \
      "gateway (kube/asm/ has one for ASM), or name yours with --gateway-service"
  IFS='|' read -r gateway_ports gateway_labels gateway_address <<<"$said"
  gateway_ports=" $gateway_ports "
  gateway_labels=${gateway_labels%,}
  gateway_address=${gateway_address%% *}
}

# Where to call the gateway. An IPv6 address stands in brackets before a port.
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

# Asks again and again, at most for the time of --timeout, and says once what it waits for.
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

# The pods of ours that the mesh should have given a sidecar and has not. A native sidecar is an init container.
pods_without_sidecar() {
  local pods
  pods=$(ask cluster get pods -n "$NAMESPACE" -l "$SELECTOR" -o 'go-template=
{{- range .items}}{{if not .metadata.deletionTimestamp}}
{{- .metadata.name}} inject={{index .metadata.labels "sidecar.istio.io/inject"}}
{{- range .spec.initContainers}} {{.name}}{{end}}{{range .spec.containers}} {{.name}}{{end}} .{{"\n"}}{{end}}{{end}}') ||
    exit
  printf '%s\n' "$pods" | awk 'NF && !/ istio-proxy / && !/ inject=false / { print $1 }'
}

# Sets `missing_sidecars` to them, and says what to do about them.
find_missing_sidecars() {
  missing_sidecars=$(pods_without_sidecar) || fail 3 "$cluster_name does not show the pods in $NAMESPACE (see above)"
  [ -z "$missing_sidecars" ] ||
    warn "no sidecar in ${missing_sidecars//$'\n'/, }: made before the namespace was labelled, or the cluster is not in the" \
      "mesh. New pods get one: $(kubectl_for cluster) rollout restart deployment -n $NAMESPACE -l $SELECTOR"
}

# -- signals

# Makes signals end the script with the usual codes, and every end run `leave`.
leave_on_signals() {
  exec 9>&2 # a signal may come while stderr leads elsewhere
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

# What fails without a word of its own. Those that have one have said it, and end with 2 or 3.
unforeseen() {
  # Inside $(…) it is for the caller to say. The bash of macOS would ask here even where he does, left of ||.
  [ "$BASH_SUBSHELL" = 0 ] || return 0
  case "$1" in
    2 | 3) ;;
    *) warn "this failed: $BASH_COMMAND" ;;
  esac
}

leave() {
  # shellcheck disable=SC2086 # a list
  [ -z "$children" ] || kill $children 2>/dev/null || true
  [ -z "${work-}" ] || rm -rf "$work"
}
