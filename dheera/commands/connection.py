"""
The options by which each command reaches a dheera, and the ways in which it shows what that answers.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import click
import msgspec
from attrs import frozen

from dheera.keys import Secret
from dheera.kinds import API_BASE, KEY, Unfit
from dheera.remote import Api, CallFailed, Remote, is_loopback, to_json

MASTER_KEY = "DHEERA_AI_MASTER_KEY"
STANDARD_INPUT = "-"

Command = TypeVar("Command", bound=Callable[..., Any])


class Failed(click.ClickException):
    """
    What was asked for was not done: one sentence, exit 1.
    """

    def show(self, file: IO[Any] | None = None) -> None:
        """
        Tell it.
        """
        click.echo(f"dheera_ai: {self.message}", file=file, err=True)


class Exemplified(click.Command):
    """
    A command whose help ends with examples, written as they are.
    """

    def __init__(self, *arguments: Any, examples: Sequence[str] = (), **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """
        The examples.
        """
        super().format_epilog(ctx, formatter)
        if self._examples:
            with formatter.section("Examples"):
                for each in self._examples:
                    formatter.write(f"{' ' * formatter.current_indent}{each}\n")


@frozen(kw_only=True)
class Connection:
    """
    A dheera that can be asked, and somebody who wants to see the answer.

    :param as_json: a script wants it, not a person.
    """

    api: Api
    as_json: bool

    def show(self, answer: object, lines: Callable[[int | None], Iterable[str]]) -> None:
        """
        Write to standard output: *answer* for a script, *lines* for a person.

        :param lines: called with the width of the terminal, ``None`` if the output goes elsewhere.
        """
        if self.as_json:
            click.echo(msgspec.json.format(to_json(answer), indent=2))
            return
        for each in lines(terminal_width()):
            click.echo(each)


def connected(command: Command) -> Command:
    """
    *command* with the options that say which dheera it talks to; it is called with a `Connection` first.

    What goes wrong with a call ends it with `Failed`.
    """

    @functools.wraps(command)
    def wrapped(url: str | None, key_file: str | None, ca_file: Path | None, as_json: bool, **given: Any) -> None:  # noqa: FBT001 - click passes names
        base = _base(url)
        key = _key(key_file)
        if base.startswith("http:") and not is_loopback(base):
            note(f"Warning: the key travels to {base} unencrypted. Use https, or a tunnel.")
        try:
            command(Connection(api=Remote.at(base, key, ca_file=ca_file), as_json=as_json), **given)
        except CallFailed as failed:
            raise Failed(str(failed)) from None

    options = (
        click.option(
            "--url",
            envvar="DHEERA_AI_URL",
            metavar="URL",
            help="Where dheera is.  [default: DHEERA_AI_URL, else port DHEERA_AI_PORT or 4000 of this machine]",
        ),
        click.option(
            "--key-file",
            metavar="FILE",
            help=f"Read the master key from here; - asks for it.  [default: {MASTER_KEY}]",
        ),
        click.option(
            "--ca-file",
            metavar="FILE",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Trust these certificate authorities (PEM) in place of the system's.",
        ),
        click.option(
            "--json", "as_json", is_flag=True, help="Print JSON, for scripts; of several keys, one value after another."
        ),
    )
    decorated: Any = wrapped
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep what they are given


def note(text: str) -> None:
    """
    Tell a person something that no script should read: on standard error.
    """
    click.echo(text, err=True)


def first_line() -> str:
    """
    The next line of standard input, without its end.
    """
    return sys.stdin.buffer.readline().decode("utf-8", "replace").rstrip("\r\n")


def terminal_width() -> int | None:
    """
    How wide the terminal is; ``None`` if standard output is none.
    """
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _base(url: str | None) -> str:
    if url is None:
        return f"http://127.0.0.1:{_port(os.environ.get('DHEERA_AI_PORT') or '4000')}"
    try:
        return str(API_BASE.read(url))
    except Unfit as unfit:
        raise click.UsageError(f"--url, or DHEERA_AI_URL: {API_BASE.problem(url, unfit)}.") from None


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 2**16:
        raise click.UsageError("DHEERA_AI_PORT names no port that could be called: say where dheera is with --url.")
    return int(text)


def _key(file: str | None) -> Secret:
    if file is None:
        source, text = MASTER_KEY, os.environ.get(MASTER_KEY, "")
        if not text:
            raise click.UsageError(
                f"There is no key to manage with: set {MASTER_KEY} to the master key of that dheera, or name a "
                "file that holds it with --key-file."
            )
    else:
        source, text = f"--key-file {file}", _read_key(file)
    try:
        key = KEY.read(text.strip())
    except Unfit as unfit:
        raise click.UsageError(f"{source}: {KEY.problem(text, unfit)}.") from None
    if not isinstance(key, Secret):
        raise click.UsageError(f"{source}: found nothing, wanted {KEY.wanted}.")
    return key


def _read_key(file: str) -> str:
    if file == STANDARD_INPUT:
        return str(click.prompt("Master key", hide_input=True, err=True)) if sys.stdin.isatty() else first_line()
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise click.UsageError(
            f"--key-file {file}: cannot be read ({getattr(error, 'strerror', 'no text')})."
        ) from None
