"""Showing text that came from somebody else: on one line, without control characters, not too long."""


def shown(value: str, limit: int = 40) -> str:
    """`value` with whatever cannot be printed escaped, cut to about `limit` characters.

    Everything from the wire or the command line that goes into a message or onto a terminal goes
    through here, so that nobody can forge a log line or send escape sequences to a terminal.
    """
    head = value[:limit]
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in head)
    return printable if len(value) <= limit else f"{printable}… ({len(value)} characters)"
