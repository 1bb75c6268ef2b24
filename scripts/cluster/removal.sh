# shellcheck shell=bash
# Removes what apply.sh created, and nothing else. Sourced by apply.sh.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with apply.sh and the files beside it

delete() {
  check_tools
  check_answer cluster "$cluster_name"
  hint=". To remove only what is in the ACK cluster, leave out the kubeconfig of the ASM instance"
  one_plane || check_answer mesh "$mesh_name"
  work=$(mktemp -d) || fail 3 "cannot write into ${TMPDIR:-/tmp}"
  find_ours mesh "$mesh_name" "$MESH_KINDS"
  find_ours cluster "$cluster_name" "$CLUSTER_KINDS"
  warn_of_what_is_out_of_reach
  local namespaces
  namespaces=$(our_namespaces)
  if [ -z "$namespaces" ] && [ ! -s "$work/mesh" ] && [ ! -s "$work/cluster" ]; then
    case "$(namespace_state cluster)" in
      Terminating) say "the namespace $NAMESPACE of $cluster_name is being deleted" ;;
      *) say "nothing to remove: the demo is not deployed" ;;
    esac
    return
  fi
  show_what_goes mesh "$mesh_name"
  show_what_goes cluster "$cluster_name"
  [ -z "$namespaces" ] || say "and the namespace $NAMESPACE, unless it has other objects"
  confirm
  interruption='some objects may be removed: run it again to remove the rest'
  # The mesh first: Istio resources would stay in the ASM instance when the namespace of the cluster is deleted.
  [ ! -s "$work/mesh" ] || remove mesh <"$work/mesh"
  [ ! -s "$work/cluster" ] || remove cluster <"$work/cluster"
  one_plane || delete_namespace mesh "$mesh_name"
  delete_namespace cluster "$cluster_name"
  say 'removed'
}

find_ours() {
  ours "$1" "$3" >"$work/$1" || fail 3 "$2 does not return the demo's objects (see above); nothing was removed"
}

# The planes whose namespace this script created.
our_namespaces() {
  local plane state
  for plane in cluster mesh; do
    state=$(namespace_state "$plane") || exit
    [ "$state" != ours ] || printf ' %s' "$plane"
  done
}

warn_of_what_is_out_of_reach() {
  local served
  served=$(served mesh "$MESH_KINDS")
  [ -n "$served" ] ||
    warn "$mesh_name serves no Istio resources: objects in the ASM instance stay, unless you set its kubeconfig"
}

show_what_goes() {
  [ -s "$work/$1" ] || return 0
  say "to be removed from $2:"
  as_lines <"$work/$1"
}

confirm() {
  [ -z "$yes" ] || return 0
  [ -t 0 ] || usage_error "--delete asks for confirmation: add --yes if there is no terminal"
  local answer=''
  printf 'Remove all of it? [y/N] '
  read -r answer || true
  case "$answer" in
    y | Y | yes) ;;
    *) fail 1 "nothing was removed" ;;
  esac
}

delete_namespace() {
  local state others
  state=$(namespace_state "$1")
  [ "$state" = ours ] || return 0
  others=$(others_in_namespace "$1") ||
    fail 1 "the namespace $NAMESPACE of $2 stays: its other objects cannot be listed (see above)"
  if [ -n "$others" ]; then
    say "the namespace $NAMESPACE of $2 stays, because it has other objects:$others"
    return
  fi
  order "$1" delete namespace "$NAMESPACE" --ignore-not-found --timeout "${timeout}s" ||
    fail 1 "the namespace $NAMESPACE of $2 was not deleted within $timeout s (see above)"
}

# Objects in the namespace that this script did not create, of any kind. Objects with an owner are deleted with it, and
# some objects are in every namespace.
others_in_namespace() {
  local kinds
  kinds=$(ask "$1" api-resources --namespaced --verbs list,delete -o name) || [ -n "$kinds" ] || exit
  kinds=$(printf '%s\n' "$kinds" | grep -v -x -e events -e events.events.k8s.io -e endpoints -e 'leases\..*' | tr '\n' ',')
  ask "$1" get "${kinds%,}" -n "$NAMESPACE" --ignore-not-found -o 'go-template=
{{- range .items}}{{if not .metadata.ownerReferences}}{{.kind}}/{{.metadata.name}} {{.type}}{{"\n"}}{{end}}{{end}}' |
    awk '$2 != "kubernetes.io/service-account-token" && $1 != "ServiceAccount/default" &&
      $1 !~ /^ConfigMap\/(kube-root-ca\.crt|istio-ca-root-cert)$/ { printf " %s", $1 }'
}
