"""The API servers of a test, and the real kubectl."""

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
"""Resources of an ACK cluster."""
ASM = (*ANY_PLANE, *ISTIO, ISTIO_GATEWAYS)
"""Resources of an ASM instance."""
OLD_ASM = (*ANY_PLANE, *only(ISTIO, v1=False), ISTIO_GATEWAYS)
"""Resources of an ASM instance before Istio 1.22."""
FUTURE_ASM = (*ANY_PLANE, *only(ISTIO, v1=True), ISTIO_GATEWAYS)
"""Resources of an ASM instance without the old versions."""
BOTH = (*ACK, *ISTIO, ISTIO_GATEWAYS)
"""Resources of a cluster with data-plane KubeAPI access."""


@dataclass(frozen=True)
class Planes:
    """The two API servers of ASM, or one in both roles."""

    cluster: Plane
    mesh: Plane

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of a script: the kubeconfigs, and kubectl on PATH."""
        replaced = ("ACK_KUBECONFIG", "ASM_KUBECONFIG", "KUBECONFIG", "GRPC_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(replaced)}
        folder = self.cluster.kubeconfig.parent
        configs = {
            "ACK_KUBECONFIG": str(self.cluster.kubeconfig),
            "ASM_KUBECONFIG": str(self.mesh.kubeconfig),
        }
        return {**inherited, **configs, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}

    def add_gateway(self, *ports: tuple[str, int], **more: Any) -> None:
        """Create an ingress gateway with ports 80, 443 and the given ones."""
        add_gateway(self.cluster, self.mesh, (("http2", 80), ("https", 443), *ports), **more)


PlaneOf = Callable[..., Plane]


@dataclass(frozen=True)
class Kubectl:
    """The real kubectl with one server."""

    plane: Plane

    def __call__(self, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run kubectl and wait for it."""
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
        """Start kubectl."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str) -> list[str]:
        """Return the command line."""
        return [str(BIN / "kubectl"), "--kubeconfig", str(self.plane.kubeconfig), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Return an environment without settings of the user."""
        return {"PATH": os.environ["PATH"], "HOME": str(self.plane.kubeconfig.parent)}


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition; fail the test at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"condition not met after {seconds} s"
        time.sleep(0.02)
