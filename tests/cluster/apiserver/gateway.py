"""The ingress gateway: a Service and pods in the cluster, and for ASM an IstioGateway in the mesh."""

from collections.abc import Sequence
from dataclasses import dataclass

from apiserver.kinds import Object
from apiserver.plane import Plane

SYSTEM = "istio-system"
NAME = "istio-ingressgateway"
LABELS = {"app": NAME, "istio": "ingressgateway"}
PORTS = (("http2", 80), ("https", 443))


def add_gateway(
    cluster: Plane,
    mesh: Plane | None = None,
    ports: Sequence[tuple[str, int]] = PORTS,
    *,
    pods: int = 1,
    selector: dict[str, str] | None = None,
) -> None:
    """Create a gateway in istio-system of the cluster, and its IstioGateway in `mesh`."""
    for plane in {cluster.name: cluster, **({mesh.name: mesh} if mesh else {})}.values():
        if plane.get("namespaces", SYSTEM) is None:
            plane.create_namespace(SYSTEM)
    labels = selector or LABELS
    cluster.create("services", _service(ports, labels), SYSTEM)
    cluster.create("deployments", _deployment(pods, LABELS), SYSTEM)
    if mesh is not None:
        mesh.create("istiogateways", _istio_gateway(ports), SYSTEM)
        mesh.controllers.append(GatewayController(mesh, cluster))


@dataclass
class GatewayController:
    """The controller of ASM: it copies the ports of the IstioGateway to the Service."""

    mesh: Plane
    cluster: Plane

    def step(self) -> float | None:
        """Copy the ports if they differ."""
        gateway = self.mesh.get("istiogateways", NAME.removeprefix("istio-"), SYSTEM)
        service = self.cluster.get("services", NAME, SYSTEM)
        if gateway is None or service is None:
            return None
        ports = [_port(port) for port in gateway["spec"]["ports"]]
        if ports != [_port(port) for port in service["spec"]["ports"]]:
            self.cluster.change("services", NAME, {"spec": {"ports": ports}}, SYSTEM, manager="asm")
        return None


def _port(port: Object) -> Object:
    """Return the fields of a port that an IstioGateway and a Service share."""
    target = port.get("targetPort", port["port"])
    return {"name": port["name"], "port": port["port"], "targetPort": target, "protocol": "TCP"}


def _service(ports: Sequence[tuple[str, int]], selector: dict[str, str]) -> Object:
    listed = [{"name": name, "port": number} for name, number in ports]
    spec = {"type": "LoadBalancer", "selector": selector, "ports": listed}
    return {"metadata": {"name": NAME, "labels": LABELS}, "spec": spec}


def _deployment(pods: int, labels: dict[str, str]) -> Object:
    container = {"name": "istio-proxy", "image": "proxyv2:fake"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": pods, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": NAME, "labels": labels}, "spec": spec}


def _istio_gateway(ports: Sequence[tuple[str, int]]) -> Object:
    listed = [{"name": name, "port": number, "targetPort": number} for name, number in ports]
    spec = {"clusterIds": ["c1"], "gatewayType": "ingress", "serviceType": "LoadBalancer", "ports": listed}
    return {"metadata": {"name": NAME.removeprefix("istio-")}, "spec": spec}
