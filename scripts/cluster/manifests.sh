# shellcheck shell=bash
# The configured objects of each plane, as files in $work, and the existing ones, as lists. Sourced by apply.sh.
#
# A list has one line per object: apiVersion, kind, namespace, name.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with apply.sh and the files beside it

# In the order in which they are applied, in any order of the options: a later one may change what an earlier one adds.
COMPONENTS='canary fault ha network-policy gateway-api legacy-api'

# Every kind in kube/, by plane: these are searched for objects to remove.
CLUSTER_KINDS='deployments.apps services serviceaccounts poddisruptionbudgets.policy
networkpolicies.networking.k8s.io gateways.gateway.networking.k8s.io grpcroutes.gateway.networking.k8s.io'
MESH_KINDS='gateways.networking.istio.io virtualservices.networking.istio.io destinationrules.networking.istio.io
peerauthentications.security.istio.io telemetries.telemetry.istio.io'
has_component() { case " $components " in *" $1 "*) ;; *) return 1 ;; esac }

# Writes namespace.yaml, cluster.yaml and mesh.yaml: base, mesh and components, rendered by kubectl.
render() {
  # kustomize reads files below its root, and other folders only by relative paths.
  work=$(mktemp -d "$root/kube/.apply.XXXXXX") || fail 3 "cannot write into $root/kube"
  {
    say 'apiVersion: kustomize.config.k8s.io/v1beta1'
    say 'kind: Kustomization'
    say 'resources: [../base, ../mesh]'
    kustomize_components
    kustomize_image
    kustomize_gateway
  } >"$work/kustomization.yaml"
  kubectl kustomize "$work" >"$work/all.yaml" || fail 3 "kubectl cannot render kube/ (see above): update kubectl"
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

# Without --image, the deployed image stays, so that adding a component needs no --image.
keep_image() {
  [ -z "$image" ] || return 0
  image=$(ask cluster get deployment -n "$NAMESPACE" -l "$SELECTOR,app=grpc-server-deploy1" -o 'go-template=
{{- range .items}}{{(index .spec.template.spec.containers 0).image}}{{end}}' --ignore-not-found)
  [ -z "$image" ] || say "image: $image, as deployed"
}

# NAME[:TAG][@DIGEST] for kustomize. A colon before the last slash belongs to the port of a registry.
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

# Binds Gateway tracing-gateway to another gateway than the one in kube/.
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

# kustomize separates documents by a line of dashes, and only top-level keys start a line.
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

# The demo's objects of some kinds in a plane: with its label and its field manager. A label alone can be copied, as by
# kubectl expose.
ours() {
  local served namespace
  served=$(served "$1" "$2") || return
  [ -n "$served" ] || return 0
  # The second has the Gateway of the Gateway API.
  for namespace in "$NAMESPACE" "${USUAL_GATEWAY%/*}"; do
    # shellcheck disable=SC2016 # dollar signs of the template
    ask "$1" get "$served" -n "$namespace" -l "$SELECTOR" --ignore-not-found -o 'go-template=
{{- range $one := .items}}{{range .metadata.managedFields}}{{if eq .manager "'"$FIELD_MANAGER"'"}}
{{- $one.apiVersion}} {{$one.kind}} {{$one.metadata.namespace}} {{$one.metadata.name}}{{"\n"}}{{end}}{{end}}{{end}}' |
      awk '!seen[$0]++' || return
  done
}

# The kinds among some that a plane serves, comma-separated: a request for any other is an error.
served() {
  local all kind found=''
  # It fails if any API service of the cluster is down, but still lists the others.
  all=$(ask "$1" api-resources --verbs list -o name) || [ -n "$all" ] || exit
  all=" $(printf '%s' "$all" | tr '\n' ' ') "
  for kind in $2; do
    case "$all" in *" $kind "*) found="$found,$kind" ;; esac
  done
  printf '%s' "${found#,}"
}

# Writes stale-cluster and stale-mesh: the demo's objects that are no longer configured, such as those of a component
# that was applied earlier.
find_stale() {
  stale cluster "$cluster_name" "$CLUSTER_KINDS" >"$work/stale-cluster"
  stale mesh "$mesh_name" "$MESH_KINDS" >"$work/stale-mesh"
}

stale() {
  ours "$1" "$3" >"$work/ours" || fail 3 "$2 does not return the demo's objects (see above); nothing was changed"
  listed "$work/$1.yaml" >"$work/configured"
  # The version of an API does not matter: v1 and v1beta1 name the same object.
  awk '{ group = $1; if (!sub(/\/.*/, "", group)) group = ""; key = group " " $2 " " $3 " " $4 }
    FILENAME == ARGV[1] { configured[key]; next }
    !(key in configured)' "$work/configured" "$work/ours"
}

# A list as a manifest, so that kubectl can delete the objects.
as_manifest() {
  awk '{ printf "---\napiVersion: %s\nkind: %s\nmetadata:\n  name: %s\n  namespace: %s\n", $1, $2, $4, $3 }'
}

# A list as text.
as_lines() { awk '{ printf "  %s %s\n", $2, $4 }'; }
