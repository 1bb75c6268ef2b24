# shellcheck shell=bash
# The preflight checks, which run before the first change. Sourced by apply.sh.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with apply.sh and the files beside it

# Checks the tools that are needed in addition to kubectl.
check_tools() {
  local tool
  for tool in awk diff; do
    command -v "$tool" >/dev/null || fail 3 "$tool is not on PATH: install it"
  done
}

# Checks that the mesh serves the Istio resources in the version that is applied.
check_istio() {
  local versions
  versions=$(ask mesh get --raw /apis/networking.istio.io 2>/dev/null) || fail_without_istio
  if has_component legacy-api; then
    check_version "$versions" networking.istio.io/v1beta1 'leave out --component legacy-api'
  else
    check_version "$versions" networking.istio.io/v1 'add --component legacy-api, if the mesh is older than Istio 1.22'
  fi
  if has_component gateway-api; then
    case "$(ask cluster get --raw /apis/gateway.networking.k8s.io/v1 2>/dev/null || true)" in
      *'"grpcroutes"'*) ;;
      *) fail 3 "$cluster_name does not serve GRPCRoute: install the resources of Gateway API, 1.1 or newer" ;;
    esac
  fi
}

# Prerequisites of components.
check_components() {
  local name
  for name in gateway-api network-policy; do # these name the namespace of the gateway
    ! has_component "$name" || [ "${gateway_service%/*}" = "${USUAL_GATEWAY%/*}" ] ||
      usage_error "--component $name needs a gateway in ${USUAL_GATEWAY%/*}, not $gateway_service"
  done
}

# Checks that an API group has a version.
check_version() {
  case "$1" in *"\"$2\""*) ;; *) fail 3 "$2 is not served: $3" ;; esac
}

fail_without_istio() {
  if [ "$target" = istio ]; then
    fail 3 "the cluster does not serve Istio resources (networking.istio.io): install Istio"
  elif one_plane; then
    fail 3 "the ACK cluster does not serve Istio resources (networking.istio.io): set the kubeconfig of the ASM instance" \
      "with --asm-kubeconfig or ASM_KUBECONFIG, or switch on data-plane KubeAPI access for the instance"
  fi
  fail 3 "the API server of $mesh_config serves no Istio resources (networking.istio.io): check that it is the kubeconfig of an ASM instance"
}

# The gateway's pods must have the labels that Gateway tracing-gateway selects: the ones that their Service selects.
check_gateway_pods() {
  [ -n "$gateway_labels" ] || fail 3 "the Service $gateway_service selects no pods: set the Service of your gateway with --gateway-service"
  local pods
  pods=$(ask cluster get pods -n "${gateway_service%/*}" -l "$gateway_labels" -o name)
  [ -n "$pods" ] ||
    fail 3 "the gateway $gateway_service has no pods: no pod has the labels $gateway_labels"
}

# Port 9999 must be open on the gateway. Opening it is the only change to an object that this script did not create,
# and needs --with-gateway. Existing ports stay.
open_gateway() {
  ! gateway_has_port || return 0
  local namespace=${gateway_service%/*} name=${gateway_service#*/} plane=mesh kind=istiogateway ports patch advice=''
  if [ "$target" = asm ]; then
    name=${name#istio-}
    advice='. Open it in the console of ASM, or set the kubeconfig of the ASM instance'
  else
    plane=cluster kind=service
  fi
  ports=$(ask "$plane" get "$kind" -n "$namespace" "$name" -o 'jsonpath={.spec.ports}' 2>&1) ||
    fail 3 "port $GATEWAY_PORT of the gateway is closed, and $kind $name, which can open it, cannot be read:" \
      "$(last_line "$ports")$advice"
  case "$ports" in
    *"\"port\":$GATEWAY_PORT"['},']*) patch='' ;; # already configured
    *) patch=$(patch_of_ports "$ports") ;;
  esac
  if [ -z "$with_gateway" ] || [ -n "$dry_run" ]; then
    warn_of_closed_port "$plane" "patch $kind -n $namespace $name --type json -p '$patch'"
    [ -n "$with_gateway" ] || exit 3
    return 0
  fi
  interruption='the port of the gateway may have changed, and nothing else'
  [ -z "$patch" ] || order "$plane" patch "$kind" -n "$namespace" "$name" --type json -p "$patch" ||
    fail 1 "cannot open the port (see above); nothing else was changed"
  wait_until "port $GATEWAY_PORT of the gateway" gateway_has_port ||
    fail 1 "port $GATEWAY_PORT of $gateway_service is still closed after $timeout s"
}

# A patch that adds the port. An IstioGateway without ports has those of its Service; with ports, it has only those, so
# the whole list is written.
patch_of_ports() {
  local ours="{\"name\":\"grpc-tracing\",\"port\":$GATEWAY_PORT,\"targetPort\":$GATEWAY_PORT,\"protocol\":\"TCP\"}" ports
  if [ -n "$1" ] && [ "$1" != '[]' ]; then
    printf '[{"op":"add","path":"/spec/ports/-","value":%s}]' "$ours"
    return
  fi
  ports=$(ask cluster get service -n "${gateway_service%/*}" "${gateway_service#*/}" -o 'jsonpath={.spec.ports}') || exit
  printf '[{"op":"add","path":"/spec/ports","value":%s,%s]}]' "${ports%]}" "$ours"
}

warn_of_closed_port() {
  if [ -z "$patch" ]; then
    warn "port $GATEWAY_PORT of the gateway $gateway_service is closed, although its IstioGateway has it: try again soon"
    return
  fi
  warn "port $GATEWAY_PORT of the gateway $gateway_service is closed. Open it with --with-gateway, or with this command:"
  say "  $(kubectl_for "$1") $2" >&2
}

# The state of the namespace in a plane: absent, ours, injected (of another creator, with sidecar injection), foreign
# (without), or Terminating.
namespace_state() {
  local said phase part_of injection revision
  said=$(ask "$1" get namespace "$NAMESPACE" --ignore-not-found -o 'go-template={{.status.phase}}
{{- with .metadata.labels}} {{or (index . "app.kubernetes.io/part-of") "-"}}
{{- " "}}{{or (index . "istio-injection") "-"}} {{or (index . "istio.io/rev") "-"}}{{end}}') || exit
  read -r phase part_of injection revision <<<"$said"
  case "$phase/${part_of--}/${injection--}/${revision--}" in
    /*) printf absent ;;
    Terminating/*) printf Terminating ;;
    */"$OURS"/*) printf ours ;;
    */*/enabled/* | */*/-/[!-]*) printf injected ;;
    *) printf foreign ;;
  esac
}

check_namespace() {
  local state
  state=$(namespace_state "$1")
  case "$state" in
    Terminating) fail 3 "the namespace $NAMESPACE of $2 is being deleted: try again later" ;;
    foreign)
      fail 3 "the namespace $NAMESPACE of $2 was not created by this script, and has no sidecar injection. Switch it on:" \
        "$(kubectl_for "$1") label namespace $NAMESPACE --overwrite istio-injection=enabled"
      ;;
  esac
  printf '%s' "$state" >"$work/namespace-$1"
}

# Checks that no object of another creator has a name of the demo.
check_names_are_free() {
  local of_cluster of_mesh
  of_cluster=$(foreign_objects cluster)
  of_mesh=$(foreign_objects mesh)
  [ -z "$of_cluster$of_mesh" ] ||
    fail 3 "these objects exist and were not created by this script:$of_cluster$of_mesh. Remove or rename them"
}

foreign_objects() {
  [ -s "$work/$1.yaml" ] || return 0
  # shellcheck disable=SC2016 # dollar signs of the template
  ask "$1" get -f "$work/$1.yaml" --ignore-not-found -o 'go-template={{define "object"}}{{.kind}}/{{.metadata.name}}
{{- range .metadata.managedFields}} {{.manager}}{{end}} {{with .metadata.labels}}{{index . "app.kubernetes.io/part-of"}}{{end}}
{{- "\n"}}{{end -}}
{{if eq .kind "List"}}{{range .items}}{{template "object" .}}{{end}}{{else}}{{template "object" .}}{{end}}' |
    awk -v label="$OURS" -v manager="$FIELD_MANAGER" '{
      applied = 0
      for (word = 2; word < NF; word++) if ($word == manager) applied = 1
      if (!applied || $NF != label) printf " %s", $1
    }'
}

# Finds the changes. In a dry run, the server checks whether it would accept them.
find_changes() {
  local file="$work/$1.yaml" state code=0
  state=$(<"$work/namespace-$1")
  case "$state" in
    ours | absent) { [ "$1" = mesh ] && one_plane; } || cat "$work/namespace.yaml" ;;
  esac >"$work/whole-$1.yaml"
  # A server cannot check objects in a namespace that does not exist.
  [ "$state" = absent ] || cat "$file" >>"$work/whole-$1.yaml"
  if [ -s "$work/whole-$1.yaml" ]; then
    ask "$1" diff --server-side --field-manager "$FIELD_MANAGER" ${force:+--force-conflicts} -f "$work/whole-$1.yaml" \
      >"$work/changes-$1" 2>"$work/refused" || code=$?
  fi
  [ "$state" != absent ] || cat "$file" >>"$work/whole-$1.yaml"
  [ "$code" -gt 1 ] || return 0
  cat "$work/refused" >&2
  case "$(<"$work/refused")" in
    *conflict*) fail 1 "other field managers have changed objects in $2 (see above): --force overwrites that; nothing was changed" ;;
    *) fail 3 "the dry run in $2 failed (see above); nothing was changed" ;;
  esac
}
