"""Options of every command that uses collected spans."""

import os
from pathlib import Path

import click


def _default_store() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "hello-grpc" / "traces.db"


store_option = click.option(
    "--store",
    envvar="GRPC_HELLO_TRACES",
    show_envvar=True,
    type=click.Path(dir_okay=False, path_type=Path),
    default=_default_store,
    show_default="~/.local/state/hello-grpc/traces.db",
    help="File of the collected spans.",
)
