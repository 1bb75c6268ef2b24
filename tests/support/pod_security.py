"""The profile `restricted` of Pod Security: https://kubernetes.io/docs/concepts/security/pod-security-standards/."""

from collections.abc import Iterator

from manifests import Document

_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_SECCOMP = {"RuntimeDefault", "Localhost"}


def violations(pod: Document) -> list[str]:
    """Return the violations in the spec of a Linux pod."""
    return [
        *_of_pod(pod),
        *(text for container in _containers(pod) for text in _of_container(pod, container)),
    ]


def _of_pod(pod: Document) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    for volume in pod.get("volumes", []):
        if not volume.keys() - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']}"
    if pod.get("securityContext", {}).get("sysctls"):
        yield "sysctls"  # stricter than the profile, which allows some


def _of_container(pod: Document, container: Document) -> Iterator[str]:
    name = container["name"]
    own = container.get("securityContext", {})
    context = pod.get("securityContext", {}) | own
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield f"{name}: privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation"
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name}: capabilities"
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield f"{name}: root"
    if context.get("seccompProfile", {}).get("type") not in _SECCOMP:
        yield f"{name}: seccompProfile"
    if own.get("procMount", "Default") != "Default":
        yield f"{name}: procMount"
    if context.keys() & {"seLinuxOptions", "appArmorProfile", "windowsOptions"}:
        yield f"{name}: another security module"  # stricter than the profile, as with sysctls
    if any("hostPort" in port for port in container.get("ports", [])):
        yield f"{name}: hostPort"


def _containers(pod: Document) -> list[Document]:
    kinds = ("initContainers", "containers", "ephemeralContainers")
    return [container for kind in kinds for container in pod.get(kind, [])]
