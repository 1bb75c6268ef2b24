"""Small objects for the tests of the fake API server."""

import yaml
from apiserver.kinds import Object

APPLY = ("apply", "--server-side", "--field-manager", "us", "-f", "-")
DIFF = ("diff", "--server-side", "--field-manager", "us", "-f", "-")


def namespace(**labels: str) -> Object:
    """Return the namespace of the other objects."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "one", "labels": labels}}


def service() -> Object:
    """Return a service with one port."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "svc", "namespace": "one"},
        "spec": {"selector": {"app": "hop"}, "ports": [{"name": "grpc", "port": 9996}]},
    }


def deployment(image: str = "hop:1", replicas: int = 1, **spec: object) -> Object:
    """Return a deployment with one container."""
    container = {"name": "hop", "image": image, "env": [{"name": "A", "value": "1"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "dep", "namespace": "one"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "hop"}},
            "template": {"metadata": {"labels": {"app": "hop"}}, "spec": {"containers": [container]}},
            **spec,
        },
    }


def virtual_service(**spec: object) -> Object:
    """Return a VirtualService."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "vs", "namespace": "one"},
        "spec": {"hosts": ["svc"], "http": [{"route": [{"destination": {"host": "svc"}}]}], **spec},
    }


def gateway(port: Object) -> Object:
    """Return a Gateway with one port."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": "one"},
        "spec": {"selector": {"istio": "ingressgateway"}, "servers": [{"port": port, "hosts": ["*"]}]},
    }


def text(*objects: Object) -> str:
    """Return objects as a YAML file."""
    return yaml.safe_dump_all(objects)


ALL = text(namespace(), service(), deployment(), virtual_service())
