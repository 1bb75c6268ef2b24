"""The controllers of deployments and replica sets, in one pass over all objects."""

import hashlib
import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from apiserver.api import Api
from apiserver.behaviour import Behaviour
from apiserver.errors import StatusError
from apiserver.events import record_event
from apiserver.incoming import Options, Target, now
from apiserver.kinds import DEPLOYMENTS, PODS, REPLICASETS, Object, Resource, copied

_OPTIONS = Options(manager="kube-controller-manager")
_REVISION = "deployment.kubernetes.io/revision"
_SAFE = "bcdfghjklmnpqrstvwxz2456789"


@dataclass
class Progress:
    """The latest progress of a rollout, and its time."""

    reached: Object
    at: float


@dataclass
class Workloads:
    """The controllers of deployments and replica sets."""

    api: Api
    behaviour: Behaviour
    _progress: dict[str, Progress] = field(default_factory=dict)
    _refusals: dict[str, str] = field(default_factory=dict)
    """The last error of pod creation, by uid of the replica set."""

    def step(self) -> float | None:
        """Do one step, and return the seconds until the next one."""
        for replica_set in self.api.store.objects(REPLICASETS):
            self._replica_set(replica_set)
        due = [self._deployment(deployment) for deployment in self.api.store.objects(DEPLOYMENTS)]
        return min((seconds for seconds in due if seconds is not None), default=None)

    # -- deployments

    def _deployment(self, deployment: Object) -> float | None:
        namespace = deployment["metadata"]["namespace"]
        if self.api.is_ending(namespace):
            return None
        sets = _owned(self.api.store.objects(REPLICASETS, namespace), deployment)
        new = next((one for one in sets if _template(one) == _template(deployment)), None)
        if new is None:
            new = self._new_replica_set(deployment)
            sets.append(new)
        self._set_revision(deployment, new, sets)
        old = [one for one in sets if one is not new]
        self._roll(deployment, new, old)
        self._forget_old(deployment, old)
        return self._write_deployment(deployment, new, sets)

    def _new_replica_set(self, deployment: Object) -> Object:
        meta = deployment["metadata"]
        template = copied(deployment["spec"]["template"])
        code = _hash(template)
        name = f"{meta['name']}-{code}"
        labels = {**template["metadata"].get("labels", {}), "pod-template-hash": code}
        template["metadata"]["labels"] = labels
        selector = {**deployment["spec"]["selector"].get("matchLabels", {}), "pod-template-hash": code}
        new = {
            "metadata": {
                "name": name,
                "labels": labels,
                "ownerReferences": [_reference(DEPLOYMENTS, deployment)],
            },
            "spec": {"replicas": 0, "selector": {"matchLabels": selector}, "template": template},
        }
        return self.api.create(Target(REPLICASETS, "v1", meta["namespace"]), new, _OPTIONS)

    def _set_revision(self, deployment: Object, new: Object, sets: list[Object]) -> None:
        """Give the current replica set the highest revision, also after a rollback."""
        others = max((_revision(one) for one in sets if one is not new), default=0)
        number = _revision(new) if _revision(new) > others else others + 1
        for resource, one in ((REPLICASETS, new), (DEPLOYMENTS, deployment)):
            annotations = {**one["metadata"].get("annotations", {}), _REVISION: str(number)}
            self.api.write_status(resource, one, one.get("status", {}), annotations=annotations)
            one["metadata"]["annotations"] = annotations

    def _roll(self, deployment: Object, new: Object, old: list[Object]) -> None:
        """Scale the new set up and the old ones down, as far as the strategy allows."""
        desired, surge, unavailable = _limits(deployment)
        total = sum(_size(one) for one in (new, *old))
        room = desired + surge - total
        size = _size(new)
        if size > desired or room > 0:
            self._scale(deployment, new, min(desired, size + max(room, 0)))
        spare = total - (desired - unavailable) - (_size(new) - _available(new))
        for one in sorted(old, key=_available):
            # Pods that are not available are removed first.
            unready = _size(one) - _available(one)
            removable = unready if spare > 0 else 0
            healthy_spare = sum(_available(each) for each in (new, *old)) - (desired - unavailable)
            removable += max(0, min(_available(one), healthy_spare))
            removed = min(_size(one), removable, max(spare, 0))
            self._scale(deployment, one, _size(one) - removed)
            spare -= removed

    def _scale(self, deployment: Object, replica_set: Object, size: int) -> None:
        was = _size(replica_set)
        if size == was:
            return
        replica_set["spec"]["replicas"] = size
        target = _target(REPLICASETS, replica_set)
        replica_set.update(self.api.patch(target, *_merge({"spec": {"replicas": size}}), _OPTIONS)[0])
        name, direction = replica_set["metadata"]["name"], "up" if size > was else "down"
        message = f"Scaled {direction} replica set {name} from {was} to {size}"
        record_event(self.api, "Normal", "ScalingReplicaSet", DEPLOYMENTS, deployment, message)

    def _forget_old(self, deployment: Object, old: list[Object]) -> None:
        empty = sorted((one for one in old if not _size(one) and not _status(one, "replicas")), key=_revision)
        kept = deployment["spec"]["revisionHistoryLimit"]
        for one in empty[: max(0, len(empty) - kept)]:
            self.api.store.remove(REPLICASETS, one)

    def _write_deployment(self, deployment: Object, new: Object, sets: list[Object]) -> float | None:
        desired, _, unavailable = _limits(deployment)
        total, available = sum(_status(s, "replicas") for s in sets), sum(_available(s) for s in sets)
        counts = {
            "replicas": total,
            "updatedReplicas": _status(new, "replicas"),
            "readyReplicas": sum(_status(s, "readyReplicas") for s in sets),
            "availableReplicas": available,
            "unavailableReplicas": max(0, max(desired, total) - available),
        }
        complete = counts["updatedReplicas"] == total == available == desired
        progressing, due = self._progressing(deployment, new, counts, complete=complete)
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            **{name: count for name, count in counts.items() if count},
            "terminatingReplicas": sum(_status(s, "terminatingReplicas") for s in sets),
            "conditions": _dated(
                deployment,
                [_availability(available >= desired - unavailable), progressing, *self._refusal(new)],
            ),
        }
        self.api.write_status(DEPLOYMENTS, deployment, status)
        return due

    def _progressing(
        self, deployment: Object, new: Object, counts: Object, *, complete: bool
    ) -> tuple[Object, float | None]:
        """Return the condition Progressing, and the seconds until it may change."""
        uid, name = deployment["metadata"]["uid"], new["metadata"]["name"]
        known = self._progress.get(uid)
        reached = {"set": name, **counts}
        if known is None or known.reached != reached or complete:
            known = self._progress[uid] = Progress(reached, time.monotonic())
        limit = self.behaviour.progress_seconds
        if limit is None:
            limit = deployment["spec"]["progressDeadlineSeconds"]
        left = known.at + limit - time.monotonic()
        if complete:
            values = ("True", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
        elif left <= 0:
            values = ("False", "ProgressDeadlineExceeded", f'ReplicaSet "{name}" has timed out progressing.')
        else:
            values = ("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
        condition = dict(zip(("status", "reason", "message"), values, strict=True))
        return {"type": "Progressing", **condition}, None if complete or left <= 0 else left

    # -- replica sets

    def _replica_set(self, replica_set: Object) -> None:
        meta, spec = replica_set["metadata"], replica_set["spec"]
        pods = _owned(self.api.store.objects(PODS, meta["namespace"]), replica_set)
        alive = sorted((pod for pod in pods if "deletionTimestamp" not in pod["metadata"]), key=is_ready)
        for pod in alive[: max(0, len(alive) - spec["replicas"])]:
            self.api.delete(_target(PODS, pod), {}, _OPTIONS)
            message = f"Deleted pod: {pod['metadata']['name']}"
            record_event(self.api, "Normal", "SuccessfulDelete", REPLICASETS, replica_set, message)
            alive.remove(pod)
        missing = spec["replicas"] - len(alive)
        if missing > 0 and not self.api.is_ending(meta["namespace"]):
            alive += self._new_pods(replica_set, missing)
        ready = sum(is_ready(pod) for pod in alive)
        counts = {"readyReplicas": ready, "availableReplicas": ready, "fullyLabeledReplicas": len(alive)}
        status = {
            "replicas": len(alive),
            **{name: count for name, count in counts.items() if count},
            "terminatingReplicas": len(pods) - len(alive),
            "observedGeneration": meta["generation"],
        }
        if refusal := self._refusal(replica_set):
            status["conditions"] = _dated(replica_set, refusal)
        self.api.write_status(REPLICASETS, replica_set, status)

    def _refusal(self, replica_set: Object) -> list[Object]:
        message = self._refusals.get(replica_set["metadata"]["uid"])
        values = {"status": "True", "reason": "FailedCreate", "message": message}
        return [{"type": "ReplicaFailure", **values}] if message else []

    def _new_pods(self, replica_set: Object, number: int) -> list[Object]:
        """Create pods until one is refused; the next step retries."""
        uid, created = replica_set["metadata"]["uid"], []
        try:
            for _ in range(number):
                created.append(self._new_pod(replica_set))  # noqa: PERF401 - an error keeps the earlier ones
        except StatusError as error:
            if uid not in self._refusals:
                self._refusals[uid] = str(error)
                message = f"Error creating: {error}"
                record_event(self.api, "Warning", "FailedCreate", REPLICASETS, replica_set, message)
        else:
            self._refusals.pop(uid, None)
        return created

    def _new_pod(self, replica_set: Object) -> Object:
        meta = replica_set["metadata"]
        template = copied(replica_set["spec"]["template"])
        template["metadata"] |= {
            "generateName": f"{meta['name']}-",
            "ownerReferences": [_reference(REPLICASETS, replica_set)],
        }
        pod = self.api.create(Target(PODS, "v1", meta["namespace"]), template, _OPTIONS)
        message = f"Created pod: {pod['metadata']['name']}"
        record_event(self.api, "Normal", "SuccessfulCreate", REPLICASETS, replica_set, message)
        return pod


def is_ready(pod: Object) -> bool:
    """Return whether the condition Ready of a pod is true."""
    return {"type": "Ready", "status": "True"}.items() <= _condition(pod, "Ready").items()


def _condition(one: Object, kind: str) -> Object:
    conditions = one.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _availability(available: bool) -> Object:
    if available:
        values = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        values = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    return {"type": "Available", **dict(zip(("status", "reason", "message"), values, strict=True))}


def _dated(one: Object, conditions: Iterable[Object]) -> list[Object]:
    """Return conditions with the times of their last update and transition."""
    dated = []
    for condition in conditions:
        before = _condition(one, condition["type"])
        times = {"lastUpdateTime": now(), "lastTransitionTime": now()}
        if before.get("status") == condition["status"]:
            times["lastTransitionTime"] = before["lastTransitionTime"]
        if condition.items() <= before.items():
            times["lastUpdateTime"] = before["lastUpdateTime"]
        dated.append({**condition, **times})
    return dated


def _limits(deployment: Object) -> tuple[int, int, int]:
    """Return the desired replicas, the maximum surge, and the maximum of unavailable pods."""
    spec = deployment["spec"]
    desired = spec["replicas"]
    if spec["strategy"]["type"] == "Recreate":
        return desired, 0, desired
    rolling = spec["strategy"]["rollingUpdate"]
    surge = math.ceil(_share(rolling["maxSurge"], desired))
    unavailable = math.floor(_share(rolling["maxUnavailable"], desired))
    return desired, surge, unavailable if surge or unavailable else 1


def _share(text: Any, of: int) -> float:
    return int(text.rstrip("%")) * of / 100 if isinstance(text, str) else text


def _owned(objects: Iterable[Object], owner: Object) -> list[Object]:
    uid = owner["metadata"]["uid"]
    return [o for o in objects if uid in [r["uid"] for r in o["metadata"].get("ownerReferences", [])]]


def _reference(resource: Resource, owner: Object) -> Object:
    return {
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _template(one: Object) -> Object:
    """Return the pod template without the hash that identifies a replica set."""
    template: Object = copied(one["spec"]["template"])
    template["metadata"].get("labels", {}).pop("pod-template-hash", None)
    return template


def _hash(template: Object) -> str:
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_SAFE[byte % len(_SAFE)] for byte in digest[:10])


def _revision(replica_set: Object) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(_REVISION, 0))


def _size(replica_set: Object) -> int:
    return int(replica_set["spec"]["replicas"])


def _status(one: Object, name: str) -> int:
    return int(one.get("status", {}).get(name, 0))


def _available(replica_set: Object) -> int:
    return _status(replica_set, "availableReplicas")


def _target(resource: Resource, one: Object) -> Target:
    return Target(resource, "v1", one["metadata"]["namespace"], one["metadata"]["name"])


def _merge(patch: Object) -> tuple[str, Object]:
    return "application/merge-patch+json", patch
