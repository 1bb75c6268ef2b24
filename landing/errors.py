"""The errors that a user can cause and mend. Each is one line that says what was wrong and what to do."""


class HelloError(Exception):
    """The root. Whoever catches it may show its text to a user as it is."""


class UsageError(HelloError):
    """An option, a variable or an argument is wrong. A command line ends with exit code 2."""


class MachineError(HelloError):
    """The request was right, the machine does not allow it: a taken port, an unreadable file. Exit code 3."""
