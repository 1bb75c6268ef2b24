# shellcheck shell=bash
# What is to be in each plane, as files below $work, and what is there, as lists of objects. Sourced by apply.sh.
#
# A list has a line for each object: apiVersion, kind, namespace, name.
# shellcheck disable=SC2034,SC2153,SC2154 # variables that it shares with apply.sh and the files beside it

# In the order in which they are applied, whatever the order in which they are named: a later one may change what an
# earlier one brings.
COMPONENTS='canary fault ha network-policy gateway-api legacy-api'

# Every kind that kube/ can bring, by plane: what is looked for when something is to go.
CLUSTER_KINDS='deployments.apps services serviceaccounts poddisruptionbudgets.policy
networkpolicies.networking.k8s.io gateways.gateway.networking.k8s.io grpcroutes.gateway.networking.k8s.io'
MESH_KINDS='gateways.networking.istio.io virtualservices.networking.istio.io destinationrules.networking.istio.io
peerauthentications.security.istio.io telemetries.telemetry.istio.io'
has_component() { case " $components " in *" $1 "*) ;; *) return 1 ;; esac }

# Writes namespace.yaml, cluster.yaml and mesh.yaml: base, mesh and components as kubectl renders them.
render() {
  # kustomize takes what lies below its root, and beside it only whole folders by relative paths.
  work=$(mktemp -d "$root/kube/.apply.XXXXXX") || fail 3 "cannot write into $root/kube"
  {
    say 'apiVersion: kustomize.config.k8s.io/v1beta1'
    say 'kind: Kustomization'
    say 'resources: [../base, ../mesh]'
    kustomize_components
    kustomize_image
    kustomize_gateway
  } >"$work/kustomization.yaml"
  kubectl kustomize "$work" >"$work/all.yaml" || fail 3 "kubectl cannot render kube/ (see above): is it too old?"
  : >"$work/cluster.yaml"
  : >"$work/mesh.yaml"
  split_by_plane <"$work/all.yaml"
}

kustomize_components() {
  local name
  [ -z "$components" ] || say 'components:'
  for name in $COMPONENTS; do
    ! has_component "$name" || say "- ../components/$name"
  done
}

# Without --image, what is deployed stays: whoever adds a component need not name the image again.
keep_image() {
  [ -z "$image" ] || return 0
  image=$(ask cluster get deployment -n "$NAMESPACE" -l "$SELECTOR,app=grpc-server-deploy1" -o 'go-template=
{{- range .items}}{{(index .spec.template.spec.containers 0).image}}{{end}}' --ignore-not-found)
  [ -z "$image" ] || say "image: $image, as deployed"
}

# NAME[:TAG][@DIGEST] as kustomize wants it. A colon before the last slash is that of a registry's port.
kustomize_image() {
  [ -n "$image" ] || return 0
  local name=${image%%@*} tag=latest
  case "${name##*/}" in
    *:*)
      tag=${name##*:}
      name=${name%:*}
      ;;
  esac
  say 'images:'
  say '- name: hello-servicemesh-grpc'
  say "  newName: \"$name\""
  case "$image" in
    *@*) say "  digest: \"${image#*@}\"" ;;
    *) say "  newTag: \"$tag\"" ;;
  esac
}

# Another gateway than the one that kube/ names: our Gateway is bound to that.
kustomize_gateway() {
  if has_component gateway-api; then
    [ "$gateway_service" = "$USUAL_GATEWAY" ] ||
      kustomize_patch gateway.networking.k8s.io /spec/addresses/0/value "\"${gateway_service#*/}\""
    return
  fi
  case ",$gateway_labels," in
    *,istio=ingressgateway,*) ;;
    *) kustomize_patch networking.istio.io /spec/selector "{$(as_json "$gateway_labels")}" ;;
  esac
}

kustomize_patch() {
  say 'patches:'
  say "- target: {group: $1, kind: Gateway, name: tracing-gateway}"
  say "  patch: '[{\"op\": \"replace\", \"path\": \"$2\", \"value\": $3}]'"
}

as_json() { printf '"%s"' "$1" | sed 's/=/": "/g; s/,/", "/g'; }

# kustomize separates documents by a line of dashes, and only keys of the top level begin a line.
split_by_plane() {
  awk -v folder="$work" '
    function end() {
      file = kind == "Namespace" ? "namespace" : api ~ /\.istio\.io\// ? "mesh" : "cluster"
      if (text != "") printf "---\n%s", text > (folder "/" file ".yaml")
      text = ""
    }
    /^---$/ { end(); next }
    /^apiVersion: / { api = $2 }
    /^kind: / { kind = $2 }
    { text = text $0 "\n" }
    END { end() }'
}

# The objects of a file that split_by_plane wrote.
listed() {
  awk '
    function end() { if (name != "") print api, kind, space, name; name = "" }
    /^---$/ { end() }
    /^apiVersion: / { api = $2 }
    /^kind: / { kind = $2 }
    /^[^ ]/ { inside = /^metadata:/ }
    inside && /^  name: / { name = $2 }
    inside && /^  namespace: / { space = $2 }
    END { end() }' "$1"
}

# The objects of ours that a plane has, of some kinds: with our label, and applied by us. A label alone is copied, as by
# kubectl expose.
ours() {
  local served namespace
  served=$(served "$1" "$2") || return
  [ -n "$served" ] || return 0
  # The second is for the Gateway of the Gateway API.
  for namespace in "$NAMESPACE" "${USUAL_GATEWAY%/*}"; do
    # shellcheck disable=SC2016 # the dollars are the template's
    ask "$1" get "$served" -n "$namespace" -l "$SELECTOR" --ignore-not-found -o 'go-template=
{{- range $one := .items}}{{range .metadata.managedFields}}{{if eq .manager "'"$FIELD_MANAGER"'"}}
{{- $one.apiVersion}} {{$one.kind}} {{$one.metadata.namespace}} {{$one.metadata.name}}{{"\n"}}{{end}}{{end}}{{end}}' |
      awk '!seen[$0]++' || return
  done
}

# Those of some kinds that a plane serves, with commas between: to ask for another is an error.
served() {
  local all kind found=''
  # It ends with an error where any API service of the cluster is down, and lists the others all the same.
  all=$(ask "$1" api-resources --verbs list -o name) || [ -n "$all" ] || exit
  all=" $(printf '%s' "$all" | tr '\n' ' ') "
  for kind in $2; do
    case "$all" in *" $kind "*) found="$found,$kind" ;; esac
  done
  printf '%s' "${found#,}"
}

# Writes stale-cluster and stale-mesh: what is ours and no longer to be there, as that of a component that was applied
# once and is not now.
find_stale() {
  stale cluster "$cluster_name" "$CLUSTER_KINDS" >"$work/stale-cluster"
  stale mesh "$mesh_name" "$MESH_KINDS" >"$work/stale-mesh"
}

stale() {
  ours "$1" "$3" >"$work/ours" || fail 3 "$2 does not show what of ours is there (see above); nothing was changed"
  listed "$work/$1.yaml" >"$work/wanted"
  # The version of an API does not matter: v1 and v1beta1 name the same object.
  awk '{ group = $1; if (!sub(/\/.*/, "", group)) group = ""; key = group " " $2 " " $3 " " $4 }
    FILENAME == ARGV[1] { wanted[key]; next }
    !(key in wanted)' "$work/wanted" "$work/ours"
}

# A list as files name objects, so that kubectl can delete them.
as_manifest() {
  awk '{ printf "---\napiVersion: %s\nkind: %s\nmetadata:\n  name: %s\n  namespace: %s\n", $1, $2, $4, $3 }'
}

# A list for people.
as_lines() { awk '{ printf "  %s %s\n", $2, $4 }'; }
