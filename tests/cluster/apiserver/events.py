"""Events, which controllers record."""

import time

from apiserver.api import Api
from apiserver.errors import StatusError
from apiserver.incoming import Options, Target, now
from apiserver.kinds import EVENTS, Object, Resource


def record_event(api: Api, kind: str, reason: str, resource: Resource, about: Object, message: str) -> None:
    """Record an event of type `kind` (Normal or Warning), unless the namespace is terminating."""
    meta = about["metadata"]
    event = {
        "metadata": {"name": f"{meta['name']}.{time.time_ns():x}"},
        "involvedObject": {
            "apiVersion": resource.api_version(),
            "kind": resource.kind,
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {
            "component": "kubelet" if resource.kind == "Pod" else f"{resource.kind.lower()}-controller"
        },
        "firstTimestamp": now(),
        "lastTimestamp": now(),
        "count": 1,
    }
    try:
        api.create(Target(EVENTS, "v1", meta["namespace"]), event, Options(manager="kube-controller-manager"))
    except StatusError as error:
        if error.code not in {403, 404}:
            raise
