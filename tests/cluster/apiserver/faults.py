"""What a server is told to get wrong, and what it was asked."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from apiserver.errors import StatusError

_SAID = {
    401: ("Unauthorized", "Unauthorized"),
    403: ("Forbidden", '{path} is forbidden: User "somebody" cannot {verb} it'),
    429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
    500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
}
_WRITING = {"POST", "PUT", "PATCH", "DELETE"}


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    query: Mapping[str, str]
    agent: str
    """Who asks: `kubectl/v1.37.1 (linux/amd64) …`"""
    status: int = 0
    """How it was answered; 0 as long as it is not."""

    @property
    def writes(self) -> bool:
        """Whether it was to change something. A dry run is not; a command in a pod is no object."""
        dry = "dryRun" in self.query
        return self.method in _WRITING and not dry and not self.path.endswith("/exec")

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


When = Callable[[Asked], bool]


def always(_asked: Asked) -> bool:
    """For each request."""
    return True


@dataclass
class Faults:
    """What becomes of some requests, the latest first."""

    refusals: list[tuple[int, When]] = field(default_factory=list)
    """With which status they are refused."""
    silences: list[When] = field(default_factory=list)
    """They get no answer as long as this is so."""

    def check(self, asked: Asked) -> None:
        """Refuses a request that is to be refused.

        Raises:
            StatusError: it is.
        """
        for status, when in reversed(self.refusals):
            if when(asked):
                reason, text = _SAID[status]
                raise StatusError(status, reason, text.format(path=asked.path, verb=asked.method.lower()))

    def is_silent(self, asked: Asked) -> bool:
        """Whether a request gets no answer."""
        return any(when(asked) for when in self.silences)

    def clear(self) -> None:
        """From now on all goes well."""
        self.refusals.clear()
        self.silences.clear()
