"""
Options of the daemon that stand before the word of another command: they would be passed over in silence.
"""

from __future__ import annotations

import click
from click.core import ParameterSource


def refuse_daemon_options(context: click.Context) -> None:
    """
    See to it that nobody has said any.

    :param context: of a command that talks to a daemon.
    :raises click.UsageError: somebody has.
    """
    daemon = context.parent
    for parameter in daemon.command.params if daemon is not None else ():
        if daemon is not None and daemon.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} is an option of the daemon. Where that daemon is, is said by --url, behind the "
                "word of the command."
            )
