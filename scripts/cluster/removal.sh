# shellcheck shell=bash
# Taking away again what apply.sh brought, and nothing else. Sourced by apply.sh.
# shellcheck disable=SC2034,SC2153,SC2154 # variables that it shares with apply.sh and the files beside it

delete() {
  check_planes
  work=$(mktemp -d)
  local of_mesh of_cluster namespaces
  of_mesh=$(ours mesh "$MESH_KINDS")
  of_cluster=$(ours cluster "$CLUSTER_KINDS")
  namespaces=$(namespace_state cluster)/$(namespace_state mesh)
  warn_of_what_is_out_of_reach
  case "$of_mesh$of_cluster$namespaces" in
    *ours*) ;; # a namespace
    absent/* | injected/* | foreign/* | Terminating/*)
      say "nothing of this demo is there"
      return
      ;;
  esac
  show_what_goes "$mesh_name" "$of_mesh"
  show_what_goes "$cluster_name" "$of_cluster"
  case "$namespaces" in *ours*) say "and the namespace $NAMESPACE, unless somebody else uses it" ;; esac
  confirm
  interruption='some of it may be gone; run it again to remove the rest'
  # The mesh first: Istio's resources would stay behind in the ASM instance when the namespace of the cluster goes.
  [ -z "$of_mesh" ] || remove mesh "$of_mesh"
  [ -z "$of_cluster" ] || remove cluster "$of_cluster"
  one_plane || delete_namespace mesh "$mesh_name"
  delete_namespace cluster "$cluster_name"
  say 'removed'
}

warn_of_what_is_out_of_reach() {
  local served
  served=$(served mesh "$MESH_KINDS")
  [ -n "$served" ] ||
    warn "$mesh_name serves no Istio resources here. What was applied to it stays, unless its kubeconfig is named"
}

show_what_goes() {
  [ -n "$2" ] || return 0
  say "to be removed from $1:"
  printf '%s\n' "$2" | as_lines
}

confirm() {
  [ -z "$yes" ] || return 0
  [ -t 0 ] || usage_error "--delete asks before it removes anything: add --yes where nobody can answer"
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
  others=$(others_in_namespace "$1")
  if [ -n "$others" ]; then
    say "the namespace $NAMESPACE of $2 stays, as it holds what is not ours:$others"
    return
  fi
  order "$1" delete namespace "$NAMESPACE" --ignore-not-found --timeout "${timeout}s" ||
    fail 1 "the namespace $NAMESPACE of $2 is not gone after $timeout s"
}

# What somebody else has put into our namespace. What a controller made for another object goes with that one, and some
# things are in every namespace.
others_in_namespace() {
  local served
  served=$(served "$1" "$OTHER_KINDS $MESH_KINDS") || exit
  [ -n "$served" ] || return 0
  ask "$1" get "$served" -n "$NAMESPACE" --ignore-not-found -o 'go-template=
{{- range .items}}{{if not .metadata.ownerReferences}}{{.kind}}/{{.metadata.name}} {{.type}}{{"\n"}}{{end}}{{end}}' |
    awk '$2 != "kubernetes.io/service-account-token" && $1 !~ /^ConfigMap\/(kube-root-ca\.crt|istio-ca-root-cert)$/ {
      printf " %s", $1
    }'
}
