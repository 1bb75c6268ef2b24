"""Names and limits of the service on the wire."""

from hello_mesh.net.pb import landing_pb2

LANDING_SERVICE = landing_pb2.DESCRIPTOR.services_by_name["LandingService"]
"""The descriptor: its methods in order, and which of them stream."""

STATUS_ANSWERED = 200
"""`TalkResponse.status` of every answer."""

MAX_REQUEST_BYTES = 256 * 1024
"""The largest request that a hop accepts. A list of 10,000 indexes fits; much more would fill its memory."""

MAX_RESPONSE_BYTES = 4 * 1024 * 1024
"""The largest response that a hop accepts from its next hop: gRPC's default in every language."""

MAX_METADATA_BYTES = 64 * 1024
"""The most metadata that a call can have. W3C Baggage requires that 8,192 bytes are propagated."""

METADATA_OPTIONS = {
    # Between the two limits, gRPC refuses calls at random. Equal limits refuse what is too large, always.
    "grpc.max_metadata_size": MAX_METADATA_BYTES,
    "grpc.absolute_max_metadata_size": MAX_METADATA_BYTES,
}
"""Options of gRPC for servers and channels."""


def method_path(method: str) -> str:
    """Return the HTTP/2 path of a method."""
    return f"/{LANDING_SERVICE.full_name}/{method}"
