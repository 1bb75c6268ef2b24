"""What a test says of the cluster behind a server: how its pods fare, what its network gives."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from apiserver.kinds import Object

Run = Callable[[Object, Object, Sequence[str]], tuple[Sequence[str], Mapping[str, str]]]
"""From a pod, its container and a command that is to run there: what to run here, and its variables."""

Failure = Literal["ImagePullBackOff", "Pending", "CrashLoopBackOff", "Unready"]
"""Why a pod does not get ready. The first two do not befall one that runs."""

Sidecars = Literal["container", "native"]
"""How a mesh puts them into pods: as another container, or as an init container that stays."""


def run_here(
    _pod: Object, container: Object, command: Sequence[str]
) -> tuple[Sequence[str], Mapping[str, str]]:
    """The same command, on this machine, with our own commands on PATH and the variables of the container."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}
    return command, {"PATH": path, **variables}


@dataclass
class Behaviour:
    """All of it; a test changes it whenever it likes."""

    ready_after: float = 0.05
    """Seconds from a pod's making until it is ready."""
    gone_after: float = 0.05
    """Seconds from a pod's deletion until it is gone."""
    namespaces_end_after: float = 0.3
    """Seconds from a namespace's deletion until what is in it goes."""
    progress_seconds: float | None = None
    """How long a rollout may stand still; None: what its deployment says."""
    sidecars: Sidecars | None = "container"
    """How the mesh puts sidecars into pods of injected namespaces; None: it does not."""
    cni: bool = False
    """Whether the mesh has a CNI plugin, and its sidecars need no privileged `istio-init`."""
    failures: dict[str, Failure] = field(default_factory=dict)
    """By deployment or by image, why such pods do not get ready."""
    mesh_outlives_namespaces: bool = False
    """Whether a namespace that goes leaves the mesh's resources, as with data-plane KubeAPI access."""
    load_balancer: Object | None = field(default_factory=lambda: {"ip": "127.0.0.1"})
    """Where a load balancer is: {"ip": …} or {"hostname": …}; None: it is still being made."""
    logs: dict[str, list[str]] = field(default_factory=dict)
    """By name of the container, or by pod/container, what it has written."""
    run: Run = run_here
    """How `kubectl exec` runs its command."""
