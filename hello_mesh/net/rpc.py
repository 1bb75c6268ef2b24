"""Names and limits of the service on the wire."""

from hello_mesh.net.pb import landing_pb2

LANDING_SERVICE = landing_pb2.DESCRIPTOR.services_by_name["LandingService"]
"""The descriptor: its methods in order, and which of them stream."""

STATUS_ANSWERED = 200
"""`TalkResponse.status` of every answer."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""The largest message that a hop receives.

It is the default of gRPC in every language: a hop in another language accepts what this one let pass."""


def method_path(method: str) -> str:
    """Return the HTTP/2 path of a method."""
    return f"/{LANDING_SERVICE.full_name}/{method}"
