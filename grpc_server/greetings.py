"""The domain of the demo: a greeting for a language index. It knows no gRPC."""

from collections.abc import Sequence

from hello_mesh.base.errors import TooManyGreetingsError, UnknownIndexError
from hello_mesh.base.languages import HELLOS
from hello_mesh.base.text import excerpt

MAX_GREETINGS = 10_000
"""The most greetings that one call can request: about one megabyte in a single answer."""

# An answer repeats the index, so its length is bounded, too.
_MAX_INDEX_LENGTH = 8


def greeting(index: str) -> str:
    """Return the greeting for an index in ASCII digits.

    Raises:
        UnknownIndexError: the index is not a number in ASCII digits, or is out of range.
    """
    # int() would accept spaces, signs, underscores and digits of every script.
    if len(index) <= _MAX_INDEX_LENGTH and index.isascii() and index.isdigit():
        digits = index.lstrip("0") or "0"
        if len(digits) == 1 and int(digits) < len(HELLOS):
            return HELLOS[int(digits)]
    raise UnknownIndexError(
        f'invalid language index "{excerpt(index)}": use a number from 0 to {len(HELLOS) - 1}'
    )


def parse_indexes(data: str) -> Sequence[str]:
    """Return the indexes of a comma-separated list, after checking every one of them.

    Raises:
        UnknownIndexError: one of them names no greeting.
        TooManyGreetingsError: the list is too long.
    """
    check_count(data.count(",") + 1)
    indexes = data.split(",")
    for index in indexes:
        greeting(index)
    return indexes


def check_count(requested: int) -> None:
    """Refuse a call that requests more than `MAX_GREETINGS`.

    Raises:
        TooManyGreetingsError: it does.
    """
    if requested > MAX_GREETINGS:
        raise TooManyGreetingsError(
            f"too many greetings in one call ({requested} or more): request at most {MAX_GREETINGS}"
        )
