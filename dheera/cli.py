"""
The command line: ``dheera_ai`` serves, ``dheera_ai check`` says whether it would, ``dheera_ai keys`` manages keys.

Nothing is configured here; that is `dheera.config`. The reactor comes in when the serving begins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any, TypeVar

import click
from twisted.logger import Logger

from dheera import __version__, logs
from dheera.config import ConfigurationError, load
from dheera.run import Run, Served, announce, endpoint_problems, ignore_early, raise_file_limit
from dheera.settings import Config
from dheera.sparing import shows_no_certificate, without_openssl

log = Logger()


def main() -> None:
    """
    The program ``dheera_ai``.
    """
    dheera_ai()


Command = TypeVar("Command", bound=Callable[..., Any])


def _configuration_options(command: Command) -> Command:
    options = (
        click.option("--host", metavar="ADDRESS", help="Listen on this address.  [default: 0.0.0.0]"),
        click.option("--port", metavar="NUMBER", help="Listen on this port; 0 takes any free one.  [default: 4000]"),
        click.option(
            "--listen",
            metavar="ENDPOINT",
            multiple=True,
            help="Listen on this Twisted endpoint in place of address and port; may be given many times.",
        ),
        click.option(
            "--workers",
            metavar="NUMBER",
            help='Serve from so many processes; "auto": one on each processor.  [default: 1]',
        ),
        click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Read settings from this file."),
        click.option("--demo", is_flag=True, help="Serve from a built-in stand-in for Mistral: no key, no network."),
        click.option(
            "--log-format",
            metavar="text|json",
            help="How events are written to standard error.  [default: text]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


class Commands(click.Group):
    """
    Commands that are imported when they are wanted: whoever serves needs none of them.
    """

    ELSEWHERE = ("doctor", "keys", "prices", "prune", "sinks", "spend")
    """
    Each is in a module of `dheera.commands`, and bears the name of that.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """
        All of them.
        """
        return sorted([*super().list_commands(ctx), *self.ELSEWHERE])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """
        The command of that name.
        """
        if cmd_name in self.ELSEWHERE:
            command: click.Command = getattr(import_module(f"dheera.commands.{cmd_name}"), cmd_name)
            return command
        return super().get_command(ctx, cmd_name)


# "\b" tells click to leave the lines of a paragraph as they are.
HELP = """
Serve the Mistral API at http://HOST:PORT/mistral, with the real key kept here.

\b
Try it without a key:
  dheera_ai --demo
Serve:
  export MISTRAL_API_KEY=...         the real key, sent to Mistral alone
  export DHEERA_AI_MASTER_KEY=...    the key that makes keys
  dheera_ai
Make a key for a developer, in another terminal:
  dheera_ai keys create --alias ada
Elsewhere:
  dheera_ai --host 127.0.0.1 --port 8080
  dheera_ai --listen tls:/etc/dheera/tls:443 --listen unix:/run/dheera.sock

\b
Environment (a variable that is set to the empty string is not set):
  MISTRAL_API_KEY         the real key
  MISTRAL_API_KEYS        several, between commas; calls are spread over them
  MISTRAL_API_BASE        where requests go    [default: https://api.mistral.ai]
  DHEERA_AI_MASTER_KEY    the key that may do everything, and makes the others;
                          without one any key passes, but only from this machine
  DATABASE_URL            where keys are kept: postgresql://... or sqlite:///path
                          [default: a file in the state directory]
  DHEERA_AI_STATE_DIR     the state directory  [default: ~/.local/state/dheera]
  CREDENTIALS_DIRECTORY   files with secrets, as systemd's LoadCredential= makes them:
                          mistral.api_key, master_key, store.url
  DHEERA_AI_CONFIG        as --config
  DHEERA_AI_HOST          as --host
  DHEERA_AI_PORT          as --port

The file overrides the defaults, the credentials the file, the environment these, and options the environment.

\b
Signals:
  SIGTERM, Ctrl-C   stop: what is under way may finish; a second one ends it
  SIGHUP            read the configuration anew; open streams go on
  SIGUSR2           start the program anew at the same sockets, then stop

Exits 0 after SIGTERM or Ctrl-C, 1 when it cannot start, 2 when the configuration is wrong.
"""


@click.group(
    "dheera_ai",
    cls=Commands,
    invoke_without_command=True,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@_configuration_options
@click.version_option(__version__, prog_name="dheera_ai", message="%(prog)s %(version)s")
@click.pass_context
def dheera_ai(context: click.Context, /, **given: Any) -> None:
    """
    Serves, unless a sub-command says otherwise.
    """
    if context.invoked_subcommand is None:
        serve(given)
    context.obj = given


@dheera_ai.command()
@_configuration_options
@click.pass_context
def check(context: click.Context, /, **given: Any) -> None:
    """
    Check the configuration, say what would be served, and exit.

    Takes the options of dheera_ai, before or after the word "check". Exits 2, and says all that is wrong, when the
    configuration cannot be used. Nothing is listened on and nobody is called.
    """
    config = _configuration({name: value or context.obj[name] for name, value in given.items()})
    # systemd hands its sockets to the service, not to whoever checks its file.
    _require_endpoints([each for each in config.listen.endpoints if not each.startswith("systemd:")])
    click.echo(description(config, _place_of_keys(config)))


def _place_of_keys(config: Config) -> str:
    """
    Where keys, and the ledger, would be kept; read with all else that a start reads before it opens anything.
    """
    from twisted.internet import reactor

    from dheera.choices import read_all, read_choices, tools_for  # noqa: PLC0415 - --help does without all of these
    from dheera.entities import now  # noqa: PLC0415
    from dheera.sinks.courier import HttpCourier  # noqa: PLC0415
    from dheera.stores import make_stores, place_of  # noqa: PLC0415

    tools = tools_for(reactor, config, os.environ, HttpCourier(reactor, now))
    try:
        read_all(lambda: make_stores(reactor, config, os.environ), lambda: read_choices(config, os.environ, tools))
    except ConfigurationError as error:
        raise _Refused(error.problems) from None
    return place_of(config, os.environ)


def description(config: Config, place_of_keys: str) -> str:
    """
    What would be served, where, and to whom, in a sentence or two without a secret.
    """
    upstream = "the built-in demo" if config.demo else config.mistral.api_base
    if config.master_key is not None:
        mode = f"with a master key, and virtual keys in {place_of_keys}"
    elif config.listen.open_to_network:
        mode = "in open mode, to the whole network (no master key; open_to_network is true)"
    else:
        mode = "in open mode, to this machine alone (no master key)"
    sentence = f"Would serve {upstream} on {' and '.join(_addresses(config))}, {mode}."
    if config.sinks:
        sentence += f" Calls would be told to {', '.join(config.sinks)}."
    if not config.demo and config.mistral.api_key is None:
        sentence += " Requests would be answered 503: MISTRAL_API_KEY is not set."
    return sentence


def _addresses(config: Config) -> Sequence[str]:
    if config.listen.endpoints:
        return config.listen.endpoints
    host = f"[{config.listen.host}]" if ":" in config.listen.host else config.listen.host
    scheme = "http" if config.listen.tls_certificate is None else "https"
    return [f"{scheme}://{host}:{config.listen.port or '(any free port)'}"]


class _Refused(click.ClickException):
    """
    The configuration cannot be used: told as it is, exit 2.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n  ".join(["dheera_ai: the configuration cannot be used", *problems]))

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(self.message, file=file, err=True)


def _read(given: Mapping[str, Any]) -> Config:
    said = {name: value for name, value in given.items() if name != "config"}
    return load(given["config"], os.environ, said)


def _configuration(given: Mapping[str, Any]) -> Config:
    try:
        return _read(given)
    except ConfigurationError as error:
        raise _Refused(error.problems) from None


def _require_endpoints(endpoints: Sequence[str]) -> None:
    from twisted.internet import reactor

    problems = endpoint_problems(reactor, endpoints)
    if problems:
        raise _Refused(problems)


def serve(given: Mapping[str, Any]) -> None:
    """
    Serve until told to stop, then exit.

    :param given: what the command line says.
    """
    ignore_early()
    config = _configuration(given)
    with without_openssl() if _needs_no_openssl(config) else nullcontext():
        _serve(given, config)


def _needs_no_openssl(config: Config) -> bool:
    from dheera.sinks.catalogue import KINDS  # noqa: PLC0415 - other commands do without

    # What the sinks of others need, nobody knows.
    kinds = {table.get("kind") or name for name, table in config.sinks.items()}
    return shows_no_certificate(config.listen) and kinds <= KINDS.keys()


def _serve(given: Mapping[str, Any], config: Config) -> None:
    from dheera.reactor import install  # noqa: PLC0415 - other commands run Twisted's

    install()
    from twisted.internet import reactor

    _require_endpoints(config.listen.endpoints)
    raise_file_limit()
    logs.begin(config.log_format, sys.stderr)
    try:
        served = _served(reactor, given, config)
    except ConfigurationError as error:
        raise _Refused(error.problems) from None
    sys.exit(Run(reactor, served).to_the_end())


def _served(reactor: Any, given: Mapping[str, Any], config: Config) -> Served:
    from dheera.service import build, build_crew  # noqa: PLC0415 - --help and check do without the whole program
    from dheera.supervisor.room import WORKER_VARIABLE  # noqa: PLC0415

    command = [sys.executable, *sys.orig_argv[1:]]
    # Whoever takes records from standard output wants nothing else there.
    is_for_records = any((table.get("kind") or name) == "stdout" for name, table in config.sinks.items())
    if WORKER_VARIABLE in os.environ:
        return build(reactor, config, lambda line: log.debug("{line}", line=line), read=partial(_read, given))
    tell = _log_line if is_for_records else announce
    if config.workers != 1:
        return build_crew(reactor, config, tell, read=partial(_read, given), command=command)
    return build(reactor, config, tell, read=partial(_read, given), command=command)


def _log_line(line: str) -> None:
    log.info("{line}", line=line)
