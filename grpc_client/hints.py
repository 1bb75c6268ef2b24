"""Hints for a call that is not as expected: the likely cause in a mesh, and how to fix it."""

from collections.abc import Iterator

import grpc

from grpc_client.calls import Outcome
from grpc_client.expectation import Check, Expectation
from hello_mesh.base.text import excerpt
from hello_mesh.propagation.hop_report import Role
from hello_mesh.propagation.verdict import VerdictKind

_NO_ROUTE = (
    "the gateway has no route for LandingService: check that Gateway `tracing-gateway` selects its pods and"
    " that VirtualService `tracing-vs` exists"
)
_CLOSED = (
    "the connection was accepted, then closed: check that the port speaks HTTP/2 (protocol GRPC) and, if"
    " mutual TLS is STRICT, that the caller has a sidecar"
)
_UNKNOWN_NAME = "the name cannot be resolved: check its spelling and that a Service of this name exists"

# Status texts of gRPC and Envoy, for calls that the chain itself did not answer. The first match counts.
_CAUSES = {
    "HTTP2 header with status: 404": _NO_ROUTE,
    "errors resolving": _UNKNOWN_NAME,
    "DNS resolution failed": _UNKNOWN_NAME,
    "Connection refused": (
        "no process listens there: check that the address is that of the gateway and that its port 9999 is"
        " open (./apply.sh --with-gateway)"
    ),
    "no healthy upstream": "a proxy has no ready pod to call: check that the pods run and are ready",
    "upstream connect error": (
        "a proxy cannot reach its upstream: check that the upstream is ready and, if mutual TLS is STRICT,"
        " that both it and its caller have a sidecar"
    ),
    "RBAC: access denied": "an AuthorizationPolicy of the mesh denies the call: allow the caller in it",
    "Socket closed": _CLOSED,
    "Connection reset": _CLOSED,
    "fault filter abort": (
        "a fault is injected on purpose: apply without --component fault, or start the local mesh without"
        " --fault"
    ),
    "Deadline Exceeded": "no response in time: check the logs of the hops",
    "failed to connect": (
        "cannot connect: check the address, that the port is open, and that it speaks HTTP/2 (protocol GRPC)"
    ),
}

_VERDICT_HINTS = {
    VerdictKind.NO_REPORT: "no hop reported: check that the address is that of this demo",
    VerdictKind.NOT_SAMPLED: (
        "set the sampling percentage of the mesh to 100: with the Telemetry resource `default` for one"
        " namespace, or in the console of the mesh for all"
    ),
    VerdictKind.NOT_TRACED: (
        "tracing is off: enable it in the console of ASM, or with an extension provider in the mesh"
        " configuration of Istio"
    ),
}


def hint(check: Check, outcome: Outcome, expected: Expectation) -> str:
    """Return one line on how to fix a call that failed a check."""
    if not outcome.ok:
        return "; ".join(_failure_hints(outcome))
    if check is Check.ANSWERS:
        return "check the last hop: its responses are not those of this demo"
    if check is Check.PATH and outcome.hops:
        return _path_hint(outcome, expected)
    return _VERDICT_HINTS.get(outcome.verdict.kind) or _trace_hint(outcome)


def _failure_hints(outcome: Outcome) -> Iterator[str]:
    if outcome.hops:
        last = outcome.hops[-1]
        relation = "" if last.role is Role.LAST else "the path downstream of "
        yield f"check {relation}{excerpt(last.name)}, the last hop that reported"
    details = outcome.details.lower()
    cause = next((cause for text, cause in _CAUSES.items() if text.lower() in details), None)
    if cause is not None:
        yield cause
    elif not outcome.hops and outcome.code is grpc.StatusCode.UNIMPLEMENTED:
        yield _NO_ROUTE  # Envoy's response to a gRPC call without a route has no text
    elif not outcome.hops:
        yield (
            "no hop reported: check whether a proxy in front of the first hop responded, and that the address"
            " is that of this demo"
        )


def _path_hint(outcome: Outcome, expected: Expectation) -> str:
    last = outcome.hops[-1]
    if last.role is Role.LAST and len(outcome.hops) < len(expected.hops):
        return f"{excerpt(last.name)} has no next hop: set its GRPC_HELLO_BACKEND"
    return "check GRPC_HELLO_BACKEND and GRPC_HELLO_NAME of each hop, and the routes of the mesh"


def _trace_hint(outcome: Outcome) -> str:
    hop = excerpt(outcome.verdict.hop or "the first hop")
    if outcome.verdict.kind is not VerdictKind.BROKEN:
        return (
            f"the pod of {hop} or the pod of its caller has no sidecar: label the namespace"
            " istio-injection=enabled, then restart the deployments"
        )
    if _is_broken_upstream_of_first_hop(outcome):
        return (
            f"the client's trace did not reach {hop}: send both families with --trace-headers both; if that"
            f" does not help, check the proxies in front of {hop}"
        )
    return (
        f"{hop} does not propagate the trace headers: check that GRPC_HELLO_FORWARD does not turn this off"
        " and that the hop is a server of this demo"
    )


def _is_broken_upstream_of_first_hop(outcome: Outcome) -> bool:
    seen = {context.trace_id for context in (outcome.hops[0].w3c, outcome.hops[0].b3) if context}
    return outcome.sent is not None and outcome.sent.trace_id not in seen
