"""What the demo says: a greeting for a language index. Knows nothing of gRPC."""

from collections.abc import Sequence

from hello_mesh.base.errors import TooManyGreetingsError, UnknownIndexError
from hello_mesh.base.text import excerpt

HELLOS = ("Hello", "Bonjour", "Hola", "こんにちは", "Ciao", "안녕하세요")


def greeting(index: str) -> str:
    """The greeting for an index in ASCII digits.

    Raises:
        UnknownIndexError: anything else, or an index out of range.
    """
    # Not int(index): it takes spaces, signs, underscores and the digits of every script, and it refuses
    # thousands of zeros with an error of its own.
    if index.isascii() and index.isdigit():
        digits = index.lstrip("0") or "0"
        if len(digits) == 1 and int(digits) < len(HELLOS):
            return HELLOS[int(digits)]
    raise UnknownIndexError(
        f'"{excerpt(index)}" is no language index: use a number from 0 to {len(HELLOS) - 1}'
    )


def listed(data: str, at_most: int) -> Sequence[str]:
    """The indexes of a comma-separated list, every one of them checked.

    Raises:
        UnknownIndexError: one of them is none.
        TooManyGreetingsError: there are more than `at_most`.
    """
    check_count(data.count(",") + 1, at_most)
    indexes = data.split(",")
    for index in indexes:
        greeting(index)
    return indexes


def check_count(asked: int, at_most: int) -> None:
    """Refuses a call that asks for more than `at_most` greetings.

    Raises:
        TooManyGreetingsError: it does.
    """
    if asked > at_most:
        raise TooManyGreetingsError(
            f"one call may ask for {at_most} greetings, this one asks for {asked} or more"
        )
