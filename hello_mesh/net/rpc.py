"""The service as both sides name it on the wire."""

from hello_mesh.net.pb import landing_pb2

LANDING_SERVICE = landing_pb2.DESCRIPTOR.services_by_name["LandingService"]
"""The descriptor: its methods in order, and which of them stream."""

STATUS_ANSWERED = 200
"""`TalkResponse.status` of every answer."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""The largest message that is received: the default of gRPC in every language, so that no hop of another
language refuses what one of ours let pass."""


def method_path(method: str) -> str:
    """The path that HTTP/2 carries for one of the methods."""
    return f"/{LANDING_SERVICE.full_name}/{method}"
