# shellcheck shell=bash
# Changes a cluster, shows what would change, or waits for it. Sourced by apply.sh.
# shellcheck disable=SC2034,SC2153,SC2154 # variables shared with apply.sh and the files beside it

show_changes() {
  show_plane cluster "$cluster_name"
  show_plane mesh "$mesh_name"
  say 'nothing was changed (--dry-run)'
}

show_plane() {
  local state
  state=$(<"$work/namespace-$1")
  if [ "$state" = absent ]; then
    say "$2: all of this would be created"
    sed 's/^/+/' "$work/whole-$1.yaml"
  elif [ -s "$work/changes-$1" ]; then
    cat "$work/changes-$1"
  else
    say "$2: $(count "$1") unchanged"
  fi
  [ -s "$work/stale-$1" ] || return 0
  say "$2: this would be removed"
  as_lines <"$work/stale-$1"
}

count() {
  local number
  number=$(listed "$work/$1.yaml" | wc -l | tr -d ' ')
  case "$number" in
    1) printf '1 object' ;;
    *) printf '%s objects' "$number" ;;
  esac
}

# Creates the namespace, or updates the labels of one that this script created. Any other stays unchanged.
apply_namespace() {
  case "$(<"$work/namespace-$1")" in
    absent) ;;
    ours) [ -s "$work/changes-$1" ] || return 0 ;;
    *) return 0 ;;
  esac
  apply_file "$1" "$2" "$work/namespace.yaml"
}

# Applies the objects of a plane, if that changes anything.
apply_plane() {
  [ -s "$work/$1.yaml" ] || return 0
  if [ "$(<"$work/namespace-$1")" != absent ] && [ ! -s "$work/changes-$1" ]; then
    say "$2: $(count "$1") unchanged"
    return
  fi
  say "$2: applying $(count "$1")"
  apply_file "$1" "$2" "$work/$1.yaml"
}

apply_file() {
  order "$1" apply --server-side --field-manager "$FIELD_MANAGER" ${force:+--force-conflicts} -f "$3" ||
    fail 1 "not all objects were applied to $2 (see above)"
}

prune() {
  [ -s "$work/stale-$1" ] || return 0
  say "$2: removing objects that are no longer configured"
  remove "$1" <"$work/stale-$1"
}

# Removes the objects of a list.
remove() {
  as_manifest >"$work/removed.yaml"
  order "$1" delete -f "$work/removed.yaml" --ignore-not-found --timeout "${timeout}s" ||
    fail 1 "not everything was removed (see above): run it again"
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
  fail 1 "not ready within $timeout s:$1. See their pods, warnings and logs above"
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
    awk '/^(ErrImagePull|ImagePullBackOff|ErrImageNeverPull|InvalidImageName) / && !seen[$2]++ { print $2 }' |
    grep -F -f - "$work/cluster.yaml" | awk '$1 == "image:" && !seen[$2]++ { print $2 }') || missing=
  [ -z "$missing" ] ||
    warn "the cluster cannot pull ${missing//$'\n'/, }: push it to a registry (docker/build.sh --push), and set it with --image"
}

show_what_next() {
  read_gateway
  say
  if [ -n "$gateway_address" ]; then
    say "ready at $(gateway_target). Test it:"
    say "  ./test.sh $target$(plane_options)"
  else
    say "ready, but the gateway $gateway_service has no address yet. Wait for it and test, or test from inside:"
    say "  ./test.sh $target$(plane_options)"
    say "  ./test.sh $target$(plane_options) --in-cluster"
  fi
}
