#!/usr/bin/env bash
# Puts the demo behind the ingress gateway of a mesh: of ASM, of Istio, or of one on this machine; or takes it away.
# For `local` it is plain POSIX shell, for machines without bash. A cluster needs bash, which takes over here where
# the script was started as `sh apply.sh` and sh is another.
if [ -z "${BASH_VERSION-}" ] && [ "${1-}" != local ]; then
  command -v bash >/dev/null || {
    echo "apply.sh: a cluster needs bash, and it is not on PATH" >&2
    exit 3
  }
  exec bash "$0" "$@"
fi
set -eu
unset CDPATH # or cd may go elsewhere, and say so
root=$(cd "$(dirname "$(readlink -f "$0" 2>/dev/null || echo "$0")")" && pwd)

usage() {
  cat <<'TEXT'
Usage: ./apply.sh [asm|istio|local] [logs] [OPTION ...]

Targets:
  asm     an ASM instance and its ACK cluster; meant where no target is named
  istio   a cluster with open-source Istio
  local   a mesh on this machine, in the background until --delete ends it.
          Its options are those of `hello-grpc-mesh up`, with --delete those of
          `hello-grpc-mesh down`: ./apply.sh local --help shows them

logs      follow the logs of all hops, each line with its hop, until Ctrl-C

Options of asm and istio:
  --kubeconfig FILE         of the cluster; also --ack-kubeconfig, or
                            ACK_KUBECONFIG. For istio: that of kubectl
  --asm-kubeconfig FILE     of the ASM instance; or ASM_KUBECONFIG. Without it
                            that of the cluster, which then must have
                            data-plane KubeAPI access
  --image IMAGE             what the pods run (hello-servicemesh-grpc:1.0.0);
                            docker/build.sh makes it
  --component NAME          also apply kube/components/NAME; repeatable
  --gateway-service NAME    the Service of the gateway, [NAMESPACE/]NAME
                            (istio-system/istio-ingressgateway)
  --with-gateway            open port 9999 on the gateway where it is closed
  --timeout SECONDS         how long to wait for rollouts, for the gateway, for
                            a deletion (300)
  --force                   take back fields that others have changed since
  --dry-run                 show what would change, and change nothing
  --delete                  remove what was applied, and nothing else
  --yes                     do not ask before that

Nothing is changed before all of the preflight is well, and applied again the
same changes nothing. A cluster needs kubectl and bash; local needs Python 3.11
or newer, everything else goes into .venv, beside this script.

Exit codes: 0 all went well; 1 it failed; 2 wrong usage; 3 the environment does
not allow it: no kubectl, no kubeconfig, no answer, no gateway.
TEXT
}

on_this_machine() {
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
  on_this_machine "$@"
fi

set +o posix # which bash is in where it was started as sh
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
  [ "$command" = apply ] || usage_error "logs and --delete do not go together"
  [ -z "$dry_run" ] || usage_error "--delete and --dry-run do not go together: --delete shows first, and asks"
  command=delete
}

# HOST:PORT/PATH:TAG@DIGEST, of which only a part of the path must be there.
image_argument() {
  local word='[a-z0-9]+([._-]+[a-z0-9]+)*' pattern
  argument "$@" >/dev/null || exit
  pattern="^($word(:[0-9]+)?/)?$word(/$word)*(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@sha256:[0-9a-f]{64})?\$"
  [[ $2 =~ $pattern ]] || usage_error "$2 is no name of an image"
  printf '%s' "$2"
}

component_argument() {
  argument "$@" >/dev/null
  case " $COMPONENTS " in
    *" $2 "*) printf '%s' "$2" ;;
    *) usage_error "no component is named $2: use one of $COMPONENTS" ;;
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
  interruption='what was applied so far stays; run it again to go on, or with --delete to take it away'
  # Both namespaces first: injection must be on before pods are made. Then nobody is sent to pods that are not ready,
  # and none goes that somebody is still sent to.
  apply_namespace cluster "$cluster_name"
  one_plane || apply_namespace mesh "$mesh_name"
  apply_plane cluster "$cluster_name"
  wait_for_rollouts
  apply_plane mesh "$mesh_name"
  prune mesh "$mesh_name"
  prune cluster "$cluster_name"
  find_missing_sidecars # it may be meant so; test.sh fails on it
  show_what_next
}

follow_logs() {
  check_answer cluster "$cluster_name"
  local deployments option number pid failed=''
  deployments=$(ask cluster get deployments -n "$NAMESPACE" -l "$SELECTOR" -o name)
  [ -n "$deployments" ] || fail 1 "nothing is deployed in $cluster_name: ./apply.sh $target$(plane_options)"
  interruption='nothing follows the logs any more'
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
  [ -z "$failed" ] || fail 1 "the logs could not be followed (see above)"
  warn "the pods that were followed are gone; to follow those in their place, run it again"
}

with_hop() {
  local line
  while IFS= read -r line; do say "$1 | $line"; done
}

main "$@"
