"""Which process has a number: a number is given again, a number and a time of birth are not."""

import subprocess
from pathlib import Path

_STARTTIME = 19  # of the fields behind the name, from 0: see proc_pid_stat(5)


def born(pid: int) -> str | None:
    """When the process with this number was started, in the form that the system has; None: there is none."""
    if not Path("/proc/self/stat").exists():
        return _asked(pid)
    try:
        # The name, in brackets, may hold spaces and brackets.
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[_STARTTIME]


def _asked(pid: int) -> str | None:
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip() or None
