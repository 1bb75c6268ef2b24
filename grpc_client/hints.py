"""Hints for a call that is not as expected: the likely cause in a mesh, and how to fix it.

A hint follows from who reported and from the text of the status. Without a known cause, there is no hint.
"""

from collections.abc import Iterator, Mapping

import grpc

from grpc_client.calls import Outcome
from grpc_client.expectation import Check, Expectation
from grpc_client.plan import UNREPORTED
from hello_mesh.base.text import excerpt
from hello_mesh.propagation.hop_report import Role, open_end
from hello_mesh.propagation.verdict import VerdictKind

_UNKNOWN_NAME = "the name cannot be resolved: check its spelling and that a Service of this name exists"
_NO_ROUTE = (
    "nothing serves LandingService there: check the address and, in a cluster, that Gateway `tracing-gateway`"
    " selects the gateway's pods and that VirtualService `tracing-vs` exists"
)
_CLOSED = (
    "the connection was accepted, then closed: check that the port speaks HTTP/2 (protocol GRPC) and, if"
    " mutual TLS is STRICT, that the caller has a sidecar"
)
_METADATA = "the headers are larger than a server or a proxy accepts: send less with --header"

# Parts of status texts of gRPC and Envoy, wherever the call failed. The first match counts.
_CAUSES = {
    "certificate has expired": "the certificate of the called server has expired: renew it",
    "certificate is not yet valid": "the certificate of the called server is not valid yet: check its dates",
    "hostname verification check failed": (
        "the server's certificate has another name: issue it for hello.grpc.io"
    ),
    "certificate_verify_failed": (
        "the server's certificate is not trusted: put the authority that signed it into myssl_root.cer"
    ),
    "wrong_version_number": (
        "the server does not speak TLS: start it with --secure, or call it with --plaintext"
    ),
    "handshake failed": "the TLS handshake failed: check the certificates of both sides in CERT_BASE_PATH",
    "metadata size exceeds": _METADATA,
    "http2 header with status: 431": _METADATA,
    "message larger than max": "a message is larger than a server accepts: send fewer indexes in one call",
    "invalid language index": "an index is not valid: use a number from 0 to 5 in --data",
    "errors resolving": _UNKNOWN_NAME,
    "dns resolution failed": _UNKNOWN_NAME,
    "no healthy upstream": "a proxy has no ready pod to call: check that the pods run and are ready",
    "upstream connect error": (
        "a proxy cannot reach its upstream: check that the upstream is ready and, if mutual TLS is STRICT,"
        " that both it and its caller have a sidecar"
    ),
    "rbac: access denied": "an AuthorizationPolicy of the mesh denies the call: allow the caller in it",
    "fault filter abort": (
        "a fault is injected on purpose: apply without --component fault, or start the local mesh without"
        " --fault"
    ),
    "deadline exceeded": "no response in time: check the logs of the hops",
}

# The same for calls of which no hop reported: they failed in front of the first one.
_CAUSES_AT_ENTRY = {
    "http2 header with status: 404": _NO_ROUTE,
    "connection refused": (
        "no process listens there: check the address; in a cluster it is that of the gateway, whose port 9999"
        " must be open (./apply.sh --with-gateway)"
    ),
    "socket closed": _CLOSED,
    "connection reset": _CLOSED,
    "failed to connect": (
        "cannot connect: check the address, that the port is open, and that it speaks HTTP/2 (protocol GRPC)"
    ),
}

# The same for calls that the last relay that reported could not pass on.
_CAUSES_DOWNSTREAM = dict.fromkeys(
    ("connection refused", "socket closed", "connection reset", "failed to connect"),
    "its next hop cannot be reached: check that it runs, and GRPC_HELLO_BACKEND of the relay",
)

_VERDICT_HINTS = {
    VerdictKind.NO_REPORT: (
        "look up the trace id in the spans of the mesh: servers of other implementations do not report"
    ),
    VerdictKind.NOT_SAMPLED: (
        "set the sampling percentage of the mesh to 100: with the Telemetry resource `default` for one"
        " namespace, or in the console of the mesh for all"
    ),
    VerdictKind.NOT_TRACED: (
        "tracing is off: enable it in the console of ASM, or with an extension provider in the mesh"
        " configuration of Istio"
    ),
    VerdictKind.HEADERS_IGNORED: (
        "send a valid traceparent of version 00, or none: the client then starts a trace itself"
    ),
    VerdictKind.MIXED: (
        "let all proxies trace with one header family: restart pods whose sidecars are older than the tracing"
        " settings of the mesh; an OpenTelemetry agent in a hop is a tracer, too"
    ),
}


def hint(check: Check, outcome: Outcome, expected: Expectation) -> str:
    """Return one line on how to fix a call that failed a check, "" if that is not known."""
    if not outcome.ok:
        return "; ".join(_failure_hints(outcome))
    if check is Check.ANSWERS:
        return "the responses are not those of this demo: check the last hop"
    if check is Check.PATH and outcome.hops:
        return _path_hint(outcome, expected)
    return _VERDICT_HINTS.get(outcome.verdict.kind) or _trace_hint(outcome)


def _failure_hints(outcome: Outcome) -> Iterator[str]:
    """Yield where the call failed, as far as it is known, and the cause that the status text names."""
    details = outcome.details.lower()
    if outcome.code is grpc.StatusCode.INVALID_ARGUMENT:
        yield from _matches(_CAUSES, details)
    elif outcome.hops:
        end = open_end(outcome.hops)
        relation = "check the path downstream of" if end else "check"
        yield f"{relation} {excerpt(outcome.hops[-1].name)}, the last hop that reported"
        yield from _matches(_CAUSES | (_CAUSES_DOWNSTREAM if end else {}), details)
    elif outcome.code is grpc.StatusCode.UNIMPLEMENTED:
        # Envoy's response to a gRPC call without a route has no text. Other servers name the service.
        yield "the server there has no LandingService: check the address" if details else _NO_ROUTE
    else:
        yield from _matches(_CAUSES | _CAUSES_AT_ENTRY, details)


def _matches(causes: Mapping[str, str], details: str) -> Iterator[str]:
    """Yield the first cause whose text is part of the status text."""
    yield from [cause for text, cause in causes.items() if text in details][:1]


def _path_hint(outcome: Outcome, expected: Expectation) -> str:
    last, end = outcome.hops[-1], open_end(outcome.hops)
    if outcome.unreadable:
        return "the report of a hop cannot be read: check which server sends it"
    if end and UNREPORTED not in expected.hops[-1].split("|"):
        return (
            f"no hop downstream of {excerpt(end)} reported: if it has another implementation, name it"
            f" {UNREPORTED} in --expect-hops"
        )
    if last.role is Role.LAST and len(outcome.hops) < len(expected.hops):
        return f"{excerpt(last.name)} has no next hop: set its GRPC_HELLO_BACKEND"
    return "check GRPC_HELLO_BACKEND and GRPC_HELLO_NAME of each hop, and the routes of the mesh"


def _trace_hint(outcome: Outcome) -> str:
    verdict = outcome.verdict
    if verdict.kind is not VerdictKind.BROKEN:
        return (
            f"the pod of {excerpt(verdict.hop or 'the first hop')} or the pod of its caller has no sidecar:"
            " label the namespace istio-injection=enabled, then restart the deployments"
        )
    if verdict.hop is None:
        return (
            "a proxy there, or a hop that does not report, dropped the trace headers: send both families with"
            " --trace-headers both, and check the spans of the mesh"
        )
    return (
        f"{excerpt(verdict.hop)} does not propagate the trace headers: check that GRPC_HELLO_FORWARD does not"
        " turn this off"
    )
