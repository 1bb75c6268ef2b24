"""The servers that a test meets, and the real kubectl."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apiserver.gateway import add_gateway
from apiserver.kinds import ANY_PLANE, GATEWAY_API, ISTIO, ISTIO_GATEWAYS, WORKLOADS, only
from apiserver.plane import Plane

BIN = Path(sys.executable).parent

ACK = (*ANY_PLANE, *WORKLOADS, *GATEWAY_API)
"""What an ACK cluster serves."""
ASM = (*ANY_PLANE, *ISTIO, ISTIO_GATEWAYS)
"""What an ASM instance serves."""
OLD_ASM = (*ANY_PLANE, *only(ISTIO, v1=False), ISTIO_GATEWAYS)
"""The same before Istio 1.22."""
LATER_ASM = (*ANY_PLANE, *only(ISTIO, v1=True), ISTIO_GATEWAYS)
"""The same when the old versions will have gone."""
BOTH = (*ACK, *ISTIO, ISTIO_GATEWAYS)
"""What a cluster with data-plane KubeAPI access serves."""


@dataclass(frozen=True)
class Planes:
    """The two API servers of ASM; or one that is both."""

    cluster: Plane
    mesh: Plane

    @property
    def environment(self) -> dict[str, str]:
        """The variables of somebody who has their kubeconfigs, and kubectl."""
        ours = ("ACK_KUBECONFIG", "ASM_KUBECONFIG", "KUBECONFIG", "GRPC_")
        mine = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        folder = self.cluster.kubeconfig.parent
        configs = {
            "ACK_KUBECONFIG": str(self.cluster.kubeconfig),
            "ASM_KUBECONFIG": str(self.mesh.kubeconfig),
        }
        return {**mine, **configs, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}

    def add_gateway(self, *ports: tuple[str, int], **more: Any) -> None:
        """Puts an ingress gateway there, with ports 80 and 443 and those that are named."""
        add_gateway(self.cluster, self.mesh, (("http2", 80), ("https", 443), *ports), **more)


PlaneOf = Callable[..., Plane]


@dataclass(frozen=True)
class Kubectl:
    """The real kubectl, towards one server."""

    plane: Plane

    def __call__(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Runs it to its end."""
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            input=stdin,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Starts it."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str) -> list[str]:
        """How it is called."""
        return [str(BIN / "kubectl"), "--kubeconfig", str(self.plane.kubeconfig), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Nobody's settings."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.plane.kubeconfig.parent)}


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits until something is so; fails the test where it does not come to that."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)
