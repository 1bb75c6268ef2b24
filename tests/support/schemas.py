"""Validate objects against their schemas, and refuse unknown fields as API servers do.

kubectl validates nothing without a server.
"""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import kubernetes_validate
from cloudcoil.models.istio import networking, security, telemetry
from jsonschema import Draft202012Validator
from manifests import Document, group_of

KUBERNETES_VERSIONS: tuple[str, ...] = tuple(dict.fromkeys(kubernetes_validate.utils.all_versions()))

_ISTIO = {
    "networking.istio.io/v1": networking.v1,
    "networking.istio.io/v1beta1": networking.v1beta1,
    "security.istio.io/v1": security.v1,
    "security.istio.io/v1beta1": security.v1beta1,
    "telemetry.istio.io/v1": telemetry.v1,
    "telemetry.istio.io/v1alpha1": telemetry.v1alpha1,
}


def problems(document: Document, kubernetes_versions: Sequence[str] = KUBERNETES_VERSIONS) -> list[str]:
    """Return the errors of an object. The versions apply only to Kubernetes' own kinds."""
    return list(_problems(json.dumps(document, sort_keys=True), tuple(kubernetes_versions)))


@cache
def _problems(text: str, kubernetes_versions: tuple[str, ...]) -> tuple[str, ...]:
    # Combinations of components share most of their objects.
    document: Document = json.loads(text)
    if document["apiVersion"] in _ISTIO:
        return _errors(_istio(document["apiVersion"], document["kind"]), document)
    if (group_of(document), document["kind"]) in _OWN_SCHEMAS:
        return _errors(_own_schema(group_of(document), document["kind"]), document)
    return tuple(text for version in kubernetes_versions for text in _kubernetes(document, version))


def _kubernetes(document: Document, version: str) -> Iterator[str]:
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"{version}: {error.json_path}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        yield str(error.message)


def _errors(validator: Draft202012Validator, document: Document) -> tuple[str, ...]:
    return tuple(f"{error.json_path}: {error.message}" for error in validator.iter_errors(document))


@cache
def _istio(api_version: str, kind: str) -> Draft202012Validator:
    """Return Istio's schema of a kind. The models are generated from its CRDs, but allow unknown fields."""
    schema: Document = getattr(_ISTIO[api_version], kind).model_json_schema(by_alias=True)
    _close(schema)
    return Draft202012Validator(schema)


def _close(schema: object) -> None:
    """Change a schema to refuse unknown fields, and null."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        if "anyOf" in schema:
            schema["anyOf"] = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
        for value in schema.values():
            _close(value)
    elif isinstance(schema, list):
        for value in schema:
            _close(value)


def _object(required: str = "", **properties: Any) -> Document:
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


def _list(items: Document) -> Document:
    return {"type": "array", "items": items, "minItems": 1}


def _one_of(*texts: str) -> Document:
    return {"enum": list(texts)}


_TEXT: Document = {"type": "string", "minLength": 1}
_TEXTS: Document = {"type": "object", "additionalProperties": _TEXT}
_PORT: Document = {"type": "integer", "minimum": 1, "maximum": 65535}
_COUNT: Document = {"type": "integer", "minimum": 0}

_MATCH: Document = _object("value", type=_one_of("Exact", "RegularExpression"), name=_TEXT, value=_TEXT)

_NAMESPACES: Document = _object(selector=_object(matchLabels=_TEXTS))
_NAMESPACES["properties"]["from"] = _one_of("All", "Selector", "Same")  # `from` is a keyword of Python

# Only the fields that the demo may use: https://gateway-api.sigs.k8s.io/reference/spec/
_GATEWAY = _object(
    "gatewayClassName listeners",
    gatewayClassName=_TEXT,
    addresses=_list(_object("value", type=_one_of("IPAddress", "Hostname"), value=_TEXT)),
    listeners=_list(
        _object(
            "name port protocol",
            name=_TEXT,
            hostname=_TEXT,
            port=_PORT,
            protocol=_one_of("HTTP", "HTTPS", "TLS", "TCP", "UDP"),
            allowedRoutes=_object(
                namespaces=_NAMESPACES,
                kinds=_list(_object("kind", group=_TEXT, kind=_TEXT)),
            ),
        )
    ),
)
_GRPC_ROUTE = _object(
    parentRefs=_list(
        _object("name", group=_TEXT, kind=_TEXT, namespace=_TEXT, name=_TEXT, sectionName=_TEXT, port=_PORT)
    ),
    hostnames=_list(_TEXT),
    rules=_list(
        _object(
            name=_TEXT,
            matches=_list(
                _object(
                    method=_object(type=_one_of("Exact", "RegularExpression"), service=_TEXT, method=_TEXT),
                    headers=_list(_MATCH),
                )
            ),
            backendRefs=_list(
                _object(
                    "name", group=_TEXT, kind=_TEXT, namespace=_TEXT, name=_TEXT, port=_PORT, weight=_COUNT
                )
            ),
        )
    ),
)
# "CRD fields for an ASM gateway", https://www.alibabacloud.com/help/en/asm/sidecar/crd-fields-for-an-asm-gateway
_ISTIO_GATEWAY = _object(
    "gatewayType ports",
    gatewayType=_one_of("ingress", "egress"),
    clusterIds=_list(_TEXT),
    replicaCount=_COUNT,
    ports=_list(_object("name port targetPort", name=_TEXT, port=_PORT, targetPort=_PORT, protocol=_TEXT)),
    serviceType=_one_of("LoadBalancer", "NodePort", "ClusterIP"),
    serviceAnnotations=_TEXTS,
    externalTrafficPolicy=_one_of("Cluster", "Local"),
    podLabels=_TEXTS,
    resources=_object(requests=_TEXTS, limits=_TEXTS),
)

_OWN_SCHEMAS: dict[tuple[str, str], tuple[str, Document]] = {
    ("gateway.networking.k8s.io", "Gateway"): ("v1", _GATEWAY),
    ("gateway.networking.k8s.io", "GRPCRoute"): ("v1", _GRPC_ROUTE),
    ("istio.alibabacloud.com", "IstioGateway"): ("v1beta1", _ISTIO_GATEWAY),
}
"""Schemas of kinds without a schema in any package: the version and the spec, by group and kind."""


@cache
def _own_schema(group: str, kind: str) -> Draft202012Validator:
    version, spec = _OWN_SCHEMAS[group, kind]
    schema = _object(
        "apiVersion kind metadata spec",
        apiVersion={"const": f"{group}/{version}"},
        kind={"const": kind},
        metadata=_object("name namespace", name=_TEXT, namespace=_TEXT, labels=_TEXTS, annotations=_TEXTS),
        spec=spec,
    )
    return Draft202012Validator(schema)
