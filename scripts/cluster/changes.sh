# shellcheck shell=bash
# What changes a cluster, shows what would change, or waits for it. Sourced by apply.sh.
# shellcheck disable=SC2034,SC2153,SC2154 # variables that it shares with apply.sh and the files beside it

FIELD_MANAGER=hello-servicemesh-grpc

show_changes() {
  show_namespace cluster "$cluster_name"
  one_plane || show_namespace mesh "$mesh_name"
  show_file mesh "$mesh_name" "$MESH_KINDS"
  show_file cluster "$cluster_name" "$CLUSTER_KINDS"
  say 'nothing was changed (--dry-run)'
}

show_namespace() {
  local state
  state=$(namespace_state "$1")
  case "$state" in
    absent) say "$2: the namespace $NAMESPACE would be made" ;;
    ours) show_difference "$1" "$2" "$work/namespace.yaml" ;;
    *) say "$2: the namespace $NAMESPACE is somebody else's, and stays as it is" ;;
  esac
}

show_file() {
  local file="$work/$1.yaml" state removed
  [ -s "$file" ] || return 0
  state=$(namespace_state "$1")
  if [ "$state" = absent ]; then
    # A server cannot say what would become of objects in a namespace that is not there: all of them are new.
    say "$2: all of this would be made"
    sed 's/^/+/' "$file"
    return
  fi
  show_difference "$1" "$2" "$file"
  removed=$(stale "$1" "$file" "$3")
  [ -n "$removed" ] || return 0
  say "$2: this would be removed"
  printf '%s\n' "$removed" | as_lines
}

show_difference() {
  local code=0
  ask "$1" diff --server-side --field-manager "$FIELD_MANAGER" ${force:+--force-conflicts} -f "$3" || code=$?
  case "$code" in
    0) say "$2: $(count "$3") as wanted" ;;
    1) ;; # it was shown
    *) fail 1 "$2 cannot say what would change (see above)" ;;
  esac
}

count() {
  local number
  number=$(listed "$1" | wc -l | tr -d ' ')
  case "$number" in
    1) printf '1 object' ;;
    *) printf '%s objects' "$number" ;;
  esac
}

apply_namespace() {
  local state
  state=$(namespace_state "$1")
  [ "$state" = injected ] || apply_file "$1" "$2" "$work/namespace.yaml"
}

# Applies a file where that changes anything.
apply_file() {
  [ -s "$3" ] || return 0
  if ask "$1" diff --server-side --field-manager "$FIELD_MANAGER" -f "$3" >/dev/null 2>&1; then
    say "$2: $(count "$3") as wanted"
    return
  fi
  say "$2: applying $(count "$3")"
  order "$1" apply --server-side --field-manager "$FIELD_MANAGER" ${force:+--force-conflicts} -f "$3" ||
    fail 1 "$2 did not take all of it (see above). What others have changed meanwhile, --force takes back"
}

prune() {
  local found
  found=$(stale "$1" "$work/$1.yaml" "$3")
  [ -n "$found" ] || return 0
  say "$2: removing what is no longer asked for"
  remove "$1" "$found"
}

remove() {
  printf '%s\n' "$2" | as_manifest >"$work/removed.yaml"
  order "$1" delete -f "$work/removed.yaml" --ignore-not-found --timeout "${timeout}s" ||
    fail 1 "not all of it could be removed (see above); run it again"
}

wait_for_rollouts() {
  local deadline=$((SECONDS + timeout)) failed='' left kind name
  while read -r _ kind _ name; do
    [ "$kind" = Deployment ] || continue
    left=$((deadline - SECONDS))
    order cluster rollout status -n "$NAMESPACE" "deployment/$name" --timeout "$((left > 0 ? left : 1))s" ||
      failed="$failed $name"
  done <<<"$(listed "$work/cluster.yaml")"
  [ -z "$failed" ] || fail_rollouts "$failed"
}

fail_rollouts() {
  local pod
  {
    say
    ask cluster get pods -n "$NAMESPACE" -l "$SELECTOR" -o wide || true
    say
    ask cluster get events -n "$NAMESPACE" --field-selector type=Warning --sort-by .metadata.creationTimestamp |
      tail -n 20 || true
    for pod in $(unready_pods || true); do
      say
      say "the last lines of $pod:"
      ask cluster logs -n "$NAMESPACE" "$pod" --tail 20 --all-containers --ignore-errors || true
    done
    say
  } >&2
  warn_of_missing_images
  fail 1 "not ready within $timeout s:$1. Their pods, warnings and logs are above"
}

unready_pods() {
  ask cluster get pods -n "$NAMESPACE" -l "$SELECTOR" -o 'go-template=
{{- range .items}}{{.metadata.name}}{{range .status.conditions}}{{if eq .type "Ready"}} {{.status}}{{end}}{{end}}{{"\n"}}{{end}}' |
    awk '$2 != "True" { print $1 }'
}

warn_of_missing_images() {
  local missing
  missing=$(ask cluster get pods -n "$NAMESPACE" -l "$SELECTOR" -o 'go-template=
{{- range .items}}{{range .status.containerStatuses}}{{with .state.waiting}}{{.reason}}{{end}} {{.image}}{{"\n"}}{{end}}{{end}}' |
    awk '/^(ErrImagePull|ImagePullBackOff|ErrImageNeverPull|InvalidImageName) / { print $2 }' | sort -u)
  [ -z "$missing" ] ||
    warn "the cluster cannot pull ${missing//$'\n'/, }: push it where it can (docker/build.sh --push), and name it with --image"
}

show_what_next() {
  read_gateway
  say
  if [ -n "$gateway_address" ]; then
    say "ready, at $gateway_address:$GATEWAY_PORT. To prove it:"
    say "  ./test.sh $target$(plane_options)"
  else
    say "ready, but the gateway $gateway_service has no address yet. To wait for it and prove the chain, or from inside:"
    say "  ./test.sh $target$(plane_options)"
    say "  ./test.sh $target$(plane_options) --in-cluster"
  fi
}
