"""Injected faults, and a record of the requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from apiserver.errors import StatusError

_TEXTS = {
    401: ("Unauthorized", "Unauthorized"),
    403: ("Forbidden", '{path} is forbidden: User "user" cannot {verb} it'),
    429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
    500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
}
_WRITING = {"POST", "PUT", "PATCH", "DELETE"}


@dataclass
class RecordedRequest:
    """A request that the server received."""

    method: str
    path: str
    query: Mapping[str, str]
    agent: str
    """The User-Agent header: `kubectl/v1.37.1 (linux/amd64) …`"""
    status: int = 0
    """The status of the response; 0 before it."""

    @property
    def writes(self) -> bool:
        """Return whether it writes objects. A dry run and a command in a pod do not."""
        dry = "dryRun" in self.query
        return self.method in _WRITING and not dry and not self.path.endswith("/exec")

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


When = Callable[[RecordedRequest], bool]


def always(_request: RecordedRequest) -> bool:
    """Match every request."""
    return True


@dataclass
class Faults:
    """Faults of matching requests. The latest rule wins."""

    refusals: list[tuple[int, When]] = field(default_factory=list)
    """Statuses with which requests are refused."""
    silences: list[When] = field(default_factory=list)
    """Requests without a response while they match."""

    def check(self, request: RecordedRequest) -> None:
        """Refuse a matching request.

        Raises:
            StatusError: a rule matches.
        """
        for status, when in reversed(self.refusals):
            if when(request):
                reason, text = _TEXTS[status]
                raise StatusError(status, reason, text.format(path=request.path, verb=request.method.lower()))

    def is_silent(self, request: RecordedRequest) -> bool:
        """Return whether a request gets no response."""
        return any(when(request) for when in self.silences)

    def clear(self) -> None:
        """Remove all faults."""
        self.refusals.clear()
        self.silences.clear()
