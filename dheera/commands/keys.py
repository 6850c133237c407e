"""
``dheera_ai keys``: making, looking at, changing and ending virtual keys.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any

import click

from dheera.commands.connection import Connection, Exemplified, Failed, connected, note
from dheera.commands.daemon_options import refuse_daemon_options
from dheera.commands.fields import OPTIONS, clearable, fields, said, span, span_or_never
from dheera.commands.key_import import import_keys
from dheera.commands.key_pages import list_keys
from dheera.commands.key_tables import details
from dheera.commands.references import called, sought
from dheera.commands.tables import clean, when
from dheera.keys import KEYS_AT_ONCE
from dheera.remote import Api, Refused

HELP = """
Make and manage the virtual keys of a running dheera.

\b
  export DHEERA_AI_MASTER_KEY=...
  dheera_ai keys create --alias ada --duration 30d --models 'mistral-small*'
  dheera_ai keys list
  dheera_ai keys block ada

\b
Environment:
  DHEERA_AI_MASTER_KEY    the master key, or a key of type management
  DHEERA_AI_URL           where dheera is      [default: this machine]
  DHEERA_AI_PORT          its port there       [default: 4000]

Where a command wants KEY, say its alias, its id (see info), or the SHA-256 of it; or "-", and send any of these, or
keys themselves, on standard input, a line each. Exits 0 when it is done, 1 when it is refused or fails, 2 when the
command is not written as it must be.
"""


@click.group("keys", help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def keys(context: click.Context) -> None:
    """
    Nothing of its own; but options of the daemon that stand before the word would be passed over in silence.
    """
    refuse_daemon_options(context)


keys.command_class = Exemplified
keys.add_command(list_keys)
keys.add_command(import_keys)


@keys.command(
    examples=[
        "dheera_ai keys create --alias ada --duration 30d --models 'mistral-small*'",
        "KEY=$(dheera_ai keys create --alias ci --team search --quiet)",
    ]
)
@fields
@click.option("--service-account", is_flag=True, help="It belongs to a service of the team, and to no user.")
@click.option("-q", "--quiet", is_flag=True, help="Print the key, and nothing beside it.")
@connected
def create(connection: Connection, /, *, service_account: bool, quiet: bool, **given: Any) -> None:
    """
    Make a key.

    The key is printed on standard output, once: dheera does not keep it. A call that may cost more than is left of a
    budget, or goes beyond a limit, is refused with 429.

    What has no option here, as several budgets at once, and budgets and limits of single models, POST /key/generate
    takes.
    """
    path = "/key/service-account/generate" if service_account else "/key/generate"
    made = connection.api.call("POST", path, body=said(given))
    if not quiet and not connection.as_json:
        note(f"Made {clean(called(made))}, {_until(made)}. {_ONCE}")
    _show_key(connection, made)


@keys.command(examples=["dheera_ai keys info ada", 'printf %s "$KEY" | dheera_ai keys info -'])
@click.argument("key", nargs=-1)
@connected
def info(connection: Connection, /, *, key: Sequence[str]) -> None:
    """
    Say all about keys; without KEY, about the key that asks.
    """
    rows = sought(connection.api, key) if key else [_own(connection.api)]
    for nth, row in enumerate(rows):
        if nth and not connection.as_json:
            click.echo()
        connection.show(row, partial(_details, row))


@keys.command(
    examples=[
        "dheera_ai keys update ada --max-budget 50 --budget-duration 1mo",
        "dheera_ai keys update ada --clear models --duration never",
    ]
)
@click.argument("key")
@fields
@click.option(
    "--clear",
    metavar="FIELD",
    callback=clearable,
    multiple=True,
    help="Take back what was said by this option: max-budget; may be given many times.",
)
@connected
def update(connection: Connection, /, *, key: str, clear: Sequence[str], **given: Any) -> None:
    """
    Change a key. What is not named stays as it is.

    Lists (models, routes, tags) and metadata are replaced as a whole. New limits and budgets hold from within a second
    on, on every node; what has been spent stays.

    What has no option here, as several budgets at once, budgets and limits of single models, and a budget that is
    raised for a while, POST /key/update takes.
    """
    changes = said(given)
    for name in clear:
        if name in changes:
            flag = OPTIONS[name][0]
            raise click.UsageError(f"{flag} and --clear {flag.removeprefix('--')} contradict each other.")
    changes |= dict.fromkeys(clear)
    if not changes:
        raise click.UsageError("Say what is to change: see dheera_ai keys update --help.")
    row = _one(connection, key)
    changed = connection.api.call("POST", "/key/update", body={**changes, "key": row["key_id"]})
    connection.show(changed, partial(_details, changed))


@keys.command(examples=["dheera_ai keys block ada"])
@click.argument("key", nargs=-1, required=True)
@connected
def block(connection: Connection, /, *, key: Sequence[str]) -> None:
    """
    Let keys open nothing until they are unblocked.
    """
    _each(connection, key, "/key/block", "Blocked")


@keys.command(examples=["dheera_ai keys unblock ada"])
@click.argument("key", nargs=-1, required=True)
@connected
def unblock(connection: Connection, /, *, key: Sequence[str]) -> None:
    """
    Let blocked keys open again.
    """
    _each(connection, key, "/key/unblock", "Unblocked")


@keys.command(examples=["dheera_ai keys delete ada", "dheera_ai keys delete --yes ada grace"])
@click.argument("key", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@connected
def delete(connection: Connection, /, *, key: Sequence[str], yes: bool) -> None:
    """
    Delete keys for good.

    They open nothing from then on, and their aliases are free.
    """
    rows = sought(connection.api, key)
    if not yes:
        _confirm(rows)
    for start in range(0, len(rows), KEYS_AT_ONCE):
        some = rows[start : start + KEYS_AT_ONCE]
        answer = connection.api.call("POST", "/key/delete", body={"keys": [row["key_id"] for row in some]})
        gone = [row for row in some if row["key_id"] in answer["deleted_keys"]]
        connection.show(answer, partial(_done, "Deleted", gone))


@keys.command(examples=["dheera_ai keys rotate ada --grace-period 24h"])
@click.argument("key")
@click.option(
    "--grace-period",
    metavar="SPAN",
    callback=span,
    help="How long the old key goes on opening: 24h.  [default: it ends at once]",
)
@click.option("--duration", metavar="SPAN", callback=span_or_never, help="How long the new key opens: 30d, or never.")
@click.option("-q", "--quiet", is_flag=True, help="Print the new key, and nothing beside it.")
@connected
def rotate(connection: Connection, /, *, key: str, grace_period: str | None, duration: str | None, quiet: bool) -> None:
    """
    Replace a key by a new one. Its alias, its limits and what it has spent stay; if it is blocked, it stays so.

    Without --grace-period the old key ends at once, and so do older ones that are still in a grace period of theirs. A
    key that has expired needs a new --duration.

    The new key is printed on standard output, once: dheera does not keep it.
    """
    row = _one(connection, key)
    body = {"key": row["key_id"], "grace_period": grace_period, "duration": duration}
    made = connection.api.call(
        "POST", "/key/regenerate", body={name: value for name, value in body.items() if value is not None}
    )
    if not quiet and not connection.as_json:
        old = f"goes on opening for {grace_period}" if grace_period else "opens nothing any more"
        still = "It is still blocked. " if made.get("blocked") else ""
        note(f"Rotated {clean(called(made))}, {_until(made)}. {still}The old key {old}. {_ONCE}")
    _show_key(connection, made)


_ONCE = "The key is shown only this once: keep it where it is safe."


def _own(api: Api) -> dict[str, Any]:
    """
    The key that asks.
    """
    try:
        return dict(api.call("GET", "/key/info")["info"])
    except Refused as refused:
        if refused.status == HTTPStatus.NOT_FOUND:
            raise Failed("The key that asks is the master key, which is not kept as a key. Say which KEY.") from None
        raise


def _until(row: dict[str, Any]) -> str:
    return f"good until {when(row['expires'])} UTC" if row.get("expires") else "good for ever"


def _show_key(connection: Connection, made: dict[str, Any]) -> None:
    connection.show(made, lambda _: [made["key"]])


def _details(row: dict[str, Any], _width: int | None) -> Iterator[str]:
    return details(row)


def _done(word: str, rows: Sequence[dict[str, Any]], _width: int | None) -> Iterator[str]:
    return (f"{word} {clean(called(row))}." for row in rows)


def _one(connection: Connection, word: str) -> dict[str, Any]:
    """
    The one key that *word* names.
    """
    rows = sought(connection.api, [word])
    if len(rows) != 1:
        raise Failed(f"Standard input names {len(rows)} keys, and this is about one.")
    return rows[0]


def _each(connection: Connection, words: Sequence[str], path: str, done: str) -> None:
    for row in sought(connection.api, words):
        answer = connection.api.call("POST", path, body={"key": row["key_id"]})
        connection.show(answer, partial(_done, done, [row]))


def _confirm(rows: Sequence[dict[str, Any]]) -> None:
    """
    Ask whether *rows* are really to go.
    """
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked whether these keys are to go: say so with --yes.")
    for row in rows:
        note(f"  {clean(called(row))}  {row['key_name']}")
    many = "this key" if len(rows) == 1 else f"these {len(rows)} keys"
    click.confirm(f"Delete {many} for good?", abort=True, err=True)
