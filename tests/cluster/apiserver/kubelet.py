"""The only node of the cluster: it starts and stops the pods."""

import time
from dataclasses import dataclass, field

from apiserver.api import Api
from apiserver.behaviour import Behaviour, Failure
from apiserver.events import record_event
from apiserver.incoming import now
from apiserver.kinds import PODS, Object

NODE = "node-1"

_WAITING = {
    "ImagePullBackOff": 'Back-off pulling image "{image}": ErrImagePull: {image}: not found',
    "CrashLoopBackOff": "back-off 10s restarting failed container={container} pod={pod}_{namespace}({uid})",
    "ContainerCreating": "",
    "PodInitializing": "",
}
_EVENTS = {
    "ImagePullBackOff": [
        ("Failed", 'Failed to pull image "{image}": not found'),
        ("BackOff", 'Back-off pulling image "{image}"'),
    ],
    "CrashLoopBackOff": [
        ("BackOff", "Back-off restarting failed container {container} in pod {pod}_{namespace}({uid})")
    ],
    "Unready": [("Unhealthy", 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")')],
    "Pending": [("FailedScheduling", "0/1 nodes are available: 1 Insufficient memory.")],
}

_BEFORE_START = {"ImagePullBackOff", "Pending"}
"""Failures that never affect a running pod."""


@dataclass
class Kubelet:
    """The scheduler and the kubelet."""

    api: Api
    behaviour: Behaviour
    _seen: dict[str, float] = field(default_factory=dict)
    """When a pod, or its deletion, was first seen."""
    _recorded: set[tuple[str, str]] = field(default_factory=set)
    _addresses: int = 1

    def step(self) -> float | None:
        """Update all pods, and return the seconds until the next step."""
        due = [self._update(pod) for pod in self.api.store.objects(PODS)]
        return min((seconds for seconds in due if seconds is not None), default=None)

    def _update(self, pod: Object) -> float | None:
        terminating = "deletionTimestamp" in pod["metadata"]
        age = self._age(pod["metadata"]["uid"] + ("-" if terminating else ""))
        if terminating:
            if age < self.behaviour.gone_after:
                return self.behaviour.gone_after - age
            self.api.store.remove(PODS, pod)
            return None
        failure = self._failure(pod)
        if failure == "Pending":
            self._record(pod, failure)
            return None
        if not pod["spec"].get("nodeName"):
            pod["spec"]["nodeName"] = NODE
            pod = self.api.store.put(PODS, pod)
        if failure:
            self._record(pod, failure)
            self._write(pod, failure)
            return None
        if age < self.behaviour.ready_after:
            self._write(pod, "ContainerCreating")
            return self.behaviour.ready_after - age
        self._write(pod, None)
        return None

    def _failure(self, pod: Object) -> Failure | None:
        images = [container["image"] for container in pod["spec"]["containers"]]
        known = (self.behaviour.failures.get(name) for name in (deployment_of(pod), *images))
        failure = next((one for one in known if one), None)
        runs = pod["status"]["phase"] == "Running"
        return None if runs and failure in _BEFORE_START else failure

    def _age(self, key: str) -> float:
        return time.monotonic() - self._seen.setdefault(key, time.monotonic())

    def _record(self, pod: Object, failure: str) -> None:
        key = (pod["metadata"]["uid"], failure)
        if key in self._recorded:
            return
        self._recorded.add(key)
        for reason, message in _EVENTS.get(failure, []):
            text = _worded(message, pod, pod["spec"]["containers"][0])
            record_event(self.api, "Warning", reason, PODS, pod, text)

    def _write(self, pod: Object, failure: str | None) -> None:
        """Write the status of a pod. A failure of the application does not affect the sidecar."""
        spec, status = pod["spec"], pod["status"]
        address = status.get("podIP") or self._address()
        running = failure in {None, "Unready", "CrashLoopBackOff"}
        new: Object = {
            "phase": "Running" if running else "Pending",
            "startTime": status.get("startTime") or now(),
            "qosClass": "Burstable",
            "hostIP": "10.0.0.1",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "containerStatuses": [_container(pod, c, _failure_of(c, failure)) for c in spec["containers"]],
        }
        if spec.get("initContainers"):
            early = "ContainerCreating" if failure == "ContainerCreating" else None
            new["initContainerStatuses"] = [_init_container(pod, c, early) for c in spec["initContainers"]]
        ready = all(one["ready"] for one in new["containerStatuses"])
        new["conditions"] = _conditions(pod, ready=ready)
        self.api.write_status(PODS, pod, new)

    def _address(self) -> str:
        self._addresses += 1
        return f"10.244.0.{self._addresses}"


def deployment_of(pod: Object) -> str:
    """Return the name of a pod's deployment, or an empty string."""
    owners = pod["metadata"].get("ownerReferences", [])
    return str(owners[0]["name"].rpartition("-")[0]) if owners else ""


def _failure_of(container: Object, failure: str | None) -> str | None:
    return failure if container["name"] != "istio-proxy" or failure == "ContainerCreating" else None


def _container(pod: Object, container: Object, failure: str | None) -> Object:
    known = {one["name"]: one for one in pod["status"].get("containerStatuses", [])}
    before = known.get(container["name"], {}).get("state", {})
    if failure in _WAITING:
        message = _worded(_WAITING[failure], pod, container)
        state: Object = {"waiting": {"reason": failure, **({"message": message} if message else {})}}
    else:
        state = {"running": before.get("running") or {"startedAt": now()}}
    crashed = failure == "CrashLoopBackOff"
    last = {"terminated": {"exitCode": 1, "reason": "Error"}} if crashed else {}
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "state": state,
        "lastState": last,
        "ready": failure is None,
        "started": "running" in state,
        "restartCount": 3 if crashed else 0,
    }


def _init_container(pod: Object, container: Object, failure: str | None) -> Object:
    status = _container(pod, container, failure)
    if failure is None and container.get("restartPolicy") != "Always":
        status["state"] = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    return status


def _conditions(pod: Object, *, ready: bool) -> list[Object]:
    before = {one["type"]: one for one in pod["status"].get("conditions", [])}
    states = {
        "PodReadyToStartContainers": True,
        "Initialized": True,
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": True,
    }
    conditions = []
    for kind, holds in states.items():
        one = {"type": kind, "status": "True" if holds else "False"}
        if not holds:
            names = " ".join(container["name"] for container in pod["spec"]["containers"])
            one |= {"reason": "ContainersNotReady", "message": f"containers with unready status: [{names}]"}
        same = before.get(kind, {}).get("status") == one["status"]
        conditions.append(
            {**one, "lastTransitionTime": before[kind]["lastTransitionTime"] if same else now()}
        )
    return conditions


def _worded(text: str, pod: Object, container: Object) -> str:
    meta = pod["metadata"]
    return text.format(
        image=container["image"],
        container=container["name"],
        pod=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
    )
