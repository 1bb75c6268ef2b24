#!/usr/bin/env bash
# Deploys the demo to a mesh: ASM, Istio, or one on this host; or removes it. For `local` this is plain POSIX shell, for
# hosts without bash. A cluster needs bash, which takes over here after `sh apply.sh`.
if [ -z "${BASH_VERSION-}" ] && [ "${1-}" != local ]; then
  command -v bash >/dev/null || {
    echo "apply.sh: bash not found: a cluster needs it" >&2
    exit 3
  }
  exec bash "$0" "$@"
fi
set -eu
unset CDPATH # or cd may print, and go elsewhere
root=$(cd "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")" && pwd)

usage() {
  cat <<'TEXT'
Usage: ./apply.sh [asm|istio|local] [logs] [OPTION ...]

Targets:
  asm     an ASM instance and its ACK cluster (default)
  istio   a cluster with open-source Istio
  local   a mesh on this host, in the background until --delete stops it.
          Options: those of `hello-grpc-mesh up`, and with --delete those of
          `hello-grpc-mesh down`: see ./apply.sh local --help

logs      follow the logs of all hops, each line with its hop, until Ctrl-C

Options of asm and istio:
  --kubeconfig FILE         kubeconfig of the cluster; also --ack-kubeconfig or
                            ACK_KUBECONFIG (istio: the default of kubectl)
  --asm-kubeconfig FILE     kubeconfig of the ASM instance; also ASM_KUBECONFIG.
                            Default: the one of the cluster, which then needs
                            data-plane KubeAPI access
  --image IMAGE             image of the pods, see docker/build.sh. Default: the
                            deployed one, or hello-servicemesh-grpc:1.0.0
  --component NAME          also apply kube/components/NAME; repeatable
  --gateway-service NAME    Service of the gateway, [NAMESPACE/]NAME
                            (istio-system/istio-ingressgateway)
  --with-gateway            open port 9999 on the gateway if it is closed
  --timeout SECONDS         timeout of rollouts, of the gateway's port, and of
                            deletions (300)
  --force                   overwrite changes of other field managers
  --dry-run                 show the changes without making them
  --delete                  remove what was applied, and nothing else
  --yes                     remove without confirmation

Preflight checks run first: if one fails, nothing is changed. Applying the same
again changes nothing. A cluster needs kubectl and bash. `local` needs Python
3.11 or newer, and installs everything else into .venv beside this script.

Exit codes: 0 OK; 1 failed; 2 wrong usage; 3 environment error: no kubectl, no
kubeconfig, no connection, no gateway.
TEXT
}

on_this_host() {
  "$root/scripts/setup"
  case "${1-}" in
    logs)
      shift
      exec "$root/.venv/bin/hello-grpc-mesh" logs --follow "$@"
      ;;
    --delete)
      shift
      exec "$root/.venv/bin/hello-grpc-mesh" down "$@"
      ;;
  esac
  exec "$root/.venv/bin/hello-grpc-mesh" up --detach "$@"
}

if [ "${1-}" = local ]; then
  shift
  on_this_host "$@"
fi

set +o posix # the mode of bash after a start as sh
set -Eeuo pipefail
source "$root/scripts/cluster/common.sh"
source "$root/scripts/cluster/manifests.sh"
source "$root/scripts/cluster/preflight.sh"
source "$root/scripts/cluster/changes.sh"
source "$root/scripts/cluster/removal.sh"

command=apply
image=
components=
with_gateway=
dry_run=
delete=
yes=
force=
work=
FIELD_MANAGER=hello-servicemesh-grpc

main() {
  parse_arguments "$@"
  check_arguments
  find_planes
  leave_on_signals
  case "$command" in
    apply) apply ;;
    delete) delete ;;
    logs) follow_logs ;;
  esac
}

own_option() {
  used=1
  case "$1" in
    logs) command=logs ;;
    --with-gateway) with_gateway=yes ;;
    --dry-run) dry_run=yes ;;
    --force) force=yes ;;
    --delete) delete=yes ;;
    --yes | -y) yes=yes ;;
    --image)
      image=$(image_argument "$@")
      used=2
      ;;
    --component)
      components="$components $(component_argument "$@")"
      used=2
      ;;
    *) used=0 ;;
  esac
}

check_arguments() {
  [ -n "$delete" ] || return 0
  [ "$command" = apply ] || usage_error "logs and --delete exclude each other"
  [ -z "$dry_run" ] || usage_error "--delete and --dry-run exclude each other: --delete shows the objects first, and asks"
  command=delete
}

# HOST:PORT/PATH:TAG@DIGEST, where only the path is required.
image_argument() {
  local word='[a-z0-9]+([._-]+[a-z0-9]+)*' pattern
  argument "$@" >/dev/null || exit
  pattern="^($word(:[0-9]+)?/)?$word(/$word)*(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@sha256:[0-9a-f]{64})?\$"
  [[ $2 =~ $pattern ]] || usage_error "invalid image $2: use [HOST[:PORT]/]NAME[:TAG]"
  printf '%s' "$2"
}

component_argument() {
  argument "$@" >/dev/null
  case " $COMPONENTS " in
    *" $2 "*) printf '%s' "$2" ;;
    *) usage_error "unknown component $2: use one of $COMPONENTS" ;;
  esac
}

apply() {
  check_tools
  check_planes
  check_istio
  read_gateway
  check_gateway_pods
  check_components
  keep_image
  render
  check_namespace cluster "$cluster_name"
  check_namespace mesh "$mesh_name"
  check_names_are_free
  find_changes cluster "$cluster_name"
  find_changes mesh "$mesh_name"
  find_stale
  open_gateway
  if [ -n "$dry_run" ]; then
    show_changes
    return
  fi
  interruption='what was applied so far stays: run it again to continue, or with --delete to remove it'
  # Namespaces first: injection must be on before pods are created. Routes are added after pods are ready and removed
  # before pods are deleted.
  apply_namespace cluster "$cluster_name"
  one_plane || apply_namespace mesh "$mesh_name"
  apply_plane cluster "$cluster_name"
  wait_for_rollouts
  apply_plane mesh "$mesh_name"
  prune mesh "$mesh_name"
  prune cluster "$cluster_name"
  find_missing_sidecars # a warning here; test.sh fails because of it
  show_what_next
}

follow_logs() {
  check_answer cluster "$cluster_name"
  local deployments option number pid children='' failed=''
  deployments=$(ask cluster get deployments -n "$NAMESPACE" -l "$SELECTOR" -o name)
  [ -n "$deployments" ] || fail 1 "nothing is deployed in $cluster_name: run ./apply.sh $target$(plane_options)"
  interruption='stopped following the logs'
  option=$(kubeconfig_of cluster)
  for number in 1 2 3; do
    kubectl ${option:+"$option"} logs --follow -n "$NAMESPACE" -l "app=grpc-server-deploy$number" \
      -c "grpc-server-deploy$number" --tail 20 --max-log-requests 50 \
      > >(with_hop "grpc-server-svc$number") 2>&1 </dev/null &
    children="$children $!"
  done
  for pid in $children; do
    wait "$pid" || failed=yes
  done
  [ -z "$failed" ] || fail 1 "cannot follow the logs (see above)"
  warn "the logs ended: run it again to follow the current pods"
}

with_hop() {
  local line
  while IFS= read -r line; do say "$1 | $line"; done
}

main "$@"
