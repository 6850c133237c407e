"""
`python -m bench` measures; `python -m bench COMMAND` does what else belongs to measuring.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click

_USUAL = "measure"


class Commands(click.Group):
    """
    Commands, each imported when it is wanted: they do not need the same packages.
    """

    ELSEWHERE: Mapping[str, str] = {
        "measure": "bench.measuring",
        "report": "bench.reporting",
        "flat": "bench.flat",
        "day": "bench.flat_day",
        "guard": "bench.guard",
    }
    """
    The module of each. What it defines there bears the command's name.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        del ctx
        return list(self.ELSEWHERE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        del ctx
        if cmd_name not in self.ELSEWHERE:
            return None
        command: click.Command = getattr(import_module(self.ELSEWHERE[cmd_name]), cmd_name)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Whoever names no command means the one that measures."""
        if not args or (args[0] not in self.ELSEWHERE and args[0] != "--help"):
            args = [_USUAL, *args]
        return super().parse_args(ctx, args)


@click.group(cls=Commands)
def main() -> None:
    """
    How fast and how small dheera is. Without a command: measure.
    """


if __name__ == "__main__":
    main()
