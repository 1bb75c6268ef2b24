"""What to do about a call that is not as expected: its likely cause in a mesh, and where to look."""

from collections.abc import Iterator

import grpc

from grpc_client.calls import Outcome
from grpc_client.expectation import Check, Expectation
from hello_mesh.base.text import excerpt
from hello_mesh.propagation.hop_report import Role
from hello_mesh.propagation.verdict import VerdictKind

_NO_ROUTE = (
    "a gateway answers that has no route for LandingService: is it the right one? Gateway tracing-gateway"
    " must select its pods, and VirtualService tracing-vs must be there"
)
_CLOSED = (
    "somebody takes the connection and closes it: does the port speak HTTP/2 (protocol GRPC)? Where mutual"
    " TLS is STRICT, has the caller a sidecar?"
)
_UNKNOWN_NAME = "the name is not known here: is it spelled right, and is there such a Service?"

# What gRPC and Envoy say where the chain does not answer itself, and what that means. The first that is found
# in the text of a status counts.
_CAUSES = {
    "HTTP2 header with status: 404": _NO_ROUTE,
    "errors resolving": _UNKNOWN_NAME,
    "DNS resolution failed": _UNKNOWN_NAME,
    "Connection refused": (
        "nothing listens there: is the address that of the gateway, and port 9999 open on it"
        " (./apply.sh --with-gateway)?"
    ),
    "no healthy upstream": "a proxy answers, and no pod stands behind it: do the pods run, are they ready?",
    "upstream connect error": (
        "a proxy answers, and cannot reach what stands behind it: is that ready? Where mutual TLS is STRICT,"
        " have both it and its caller a sidecar?"
    ),
    "RBAC: access denied": "an AuthorizationPolicy of the mesh refuses the call",
    "Socket closed": _CLOSED,
    "Connection reset": _CLOSED,
    "fault filter abort": "a fault is injected on purpose: apply without --component fault",
    "Deadline Exceeded": "somebody took the call and did not answer in time: look at the hops' logs",
    "failed to connect": (
        "nobody takes the call: is the address right, is the port open, does it speak HTTP/2 (protocol GRPC)?"
    ),
}

_VERDICTS = {
    VerdictKind.NO_REPORT: "no hop of this demo answered: is it another service that was called?",
    VerdictKind.NOT_SAMPLED: (
        "set the sampling percentage of the mesh to 100: the Telemetry resource `default` does it for a"
        " namespace, the mesh's console for all"
    ),
    VerdictKind.NOT_TRACED: (
        "tracing is off: switch it on, in the console of ASM, or as an extension provider in Istio's mesh"
        " configuration"
    ),
}


def advise(check: Check, outcome: Outcome, expected: Expectation) -> str:
    """One line on what to do about a check that an outcome failed."""
    if not outcome.ok:
        return "; ".join(_on_failure(outcome))
    if check is Check.ANSWERS:
        return "look at the last hop: it answers otherwise than this demo does"
    if check is Check.WAY and outcome.hops:
        return _on_way(outcome, expected)
    return _VERDICTS.get(outcome.verdict.kind) or _on_trace(outcome)


def _on_failure(outcome: Outcome) -> Iterator[str]:
    if outcome.hops:
        last = outcome.hops[-1]
        yield f"look {'at' if last.role is Role.LAST else 'behind'} {excerpt(last.name)}, the last to report"
    details = outcome.details.lower()
    cause = next((advice for said, advice in _CAUSES.items() if said.lower() in details), None)
    if cause is not None:
        yield cause
    elif not outcome.hops and outcome.code is grpc.StatusCode.UNIMPLEMENTED:
        yield _NO_ROUTE  # so an Envoy answers a gRPC call for which it knows no way, without a word
    elif not outcome.hops:
        yield "no hop reported: a proxy before the first one answered, or it is another service"


def _on_way(outcome: Outcome, expected: Expectation) -> str:
    last = outcome.hops[-1]
    if last.role is Role.LAST and len(outcome.hops) < len(expected.hops):
        return f"{excerpt(last.name)} has no next hop: set its GRPC_HELLO_BACKEND"
    return "look at GRPC_HELLO_BACKEND and GRPC_HELLO_NAME of each hop, and at the routes of the mesh"


def _on_trace(outcome: Outcome) -> str:
    hop = excerpt(outcome.verdict.hop or "the first hop")
    if outcome.verdict.kind is not VerdictKind.BROKEN:
        return (
            f"the pod of {hop} has no sidecar, or that of its caller has none: label the namespace"
            " istio-injection=enabled, then restart the deployments"
        )
    if _is_lost_before_the_first_hop(outcome):
        return f"the proxy before {hop} begins a trace of its own, as it speaks other headers: send them too"
    return (
        f"{hop} does not forward the trace headers: is it told not to (GRPC_HELLO_FORWARD), or is it another"
        " server?"
    )


def _is_lost_before_the_first_hop(outcome: Outcome) -> bool:
    seen = {context.trace_id for context in (outcome.hops[0].w3c, outcome.hops[0].b3) if context}
    return outcome.sent_trace_id is not None and outcome.sent_trace_id not in seen
