"""Settings of the cluster: states of pods, sidecars, the load balancer, logs and commands."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from apiserver.kinds import Object

Run = Callable[[Object, Object, Sequence[str]], tuple[Sequence[str], Mapping[str, str]]]
"""Maps a pod, its container and a command to the command to run on this host, and its environment."""

Failure = Literal["ImagePullBackOff", "Pending", "CrashLoopBackOff", "Unready"]
"""Why a pod is not ready. The first two never affect a running pod."""

Sidecars = Literal["container", "native"]
"""How the mesh injects a sidecar: as a container, or as an init container that keeps running."""


def run_here(
    _pod: Object, container: Object, command: Sequence[str]
) -> tuple[Sequence[str], Mapping[str, str]]:
    """Run the command on this host, with our commands on PATH and the container's environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}
    return command, {"PATH": path, **variables}


@dataclass
class Behaviour:
    """The settings. A test may change them at any time."""

    ready_after: float = 0.05
    """Seconds from a pod's creation until it is ready."""
    gone_after: float = 0.05
    """Seconds from a pod's deletion until it is removed."""
    namespaces_end_after: float = 0.3
    """Seconds from a namespace's deletion until its objects are deleted."""
    progress_seconds: float | None = None
    """Progress deadline of rollouts in seconds; None: the deployment's own."""
    sidecars: Sidecars | None = "container"
    """How the mesh injects sidecars; None: not at all."""
    cni: bool = False
    """Whether the mesh has a CNI plugin, so that sidecars need no privileged `istio-init`."""
    failures: dict[str, Failure] = field(default_factory=dict)
    """The failure of pods, by deployment or image."""
    mesh_outlives_namespaces: bool = False
    """Whether deleting a namespace keeps Istio resources, as with data-plane KubeAPI access."""
    load_balancer: Object | None = field(default_factory=lambda: {"ip": "127.0.0.1"})
    """Address of a load balancer: {"ip": …} or {"hostname": …}; None: not assigned yet."""
    logs: dict[str, list[str]] = field(default_factory=dict)
    """Log lines, by container or pod/container."""
    run: Run = run_here
    """How `kubectl exec` runs its command."""
