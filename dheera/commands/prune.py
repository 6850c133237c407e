"""
``dheera_ai prune``: old calls leave the ledger.
"""

from __future__ import annotations

import sys
from datetime import datetime

import click

from dheera.commands.connection import Connection, Exemplified, Failed, connected, note
from dheera.commands.daemon_options import refuse_daemon_options
from dheera.commands.moments import as_moment, before
from dheera.entities import now
from dheera.remote import CallFailed


@click.command(
    "prune",
    cls=Exemplified,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=["dheera_ai prune --keep 90d", "dheera_ai prune --before 2026-01-01 --yes"],
)
@click.option(
    "--before", "limit", metavar="TIME", help="Delete calls that began before: 2026-01-01, or a time in RFC 3339."
)
@click.option("--keep", metavar="SPAN", help="Delete calls that are older than this: 90d, 1mo.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@connected
def prune(connection: Connection, /, *, limit: str | None, keep: str | None, yes: bool) -> None:
    """
    Delete old calls from the ledger of a running dheera.

    What stays: the sums by day, which dheera_ai spend shows, and what keys, users, teams and customers have spent. A
    dheera does the same by itself, after [ledger] keep_days.
    """
    context = click.get_current_context()
    refuse_daemon_options(context)
    until = _limit(limit, keep)
    page = connection.api.call("GET", "/spend/logs/v2", query={"end_date": until, "page_size": "1"})
    total = page["total"]
    if total and not yes:
        _confirm(total, until)
    deleted = _delete(connection, until, total) if total else 0
    connection.show({"deleted": deleted, "before": until}, lambda _: [f"Deleted {_calls(deleted)}."])


def _limit(limit: str | None, keep: str | None) -> str:
    """
    The first instant that is not pruned, as the API takes it.
    """
    if (limit is None) == (keep is None):
        raise click.UsageError("Say either --before TIME or --keep SPAN: dheera_ai prune --keep 90d.")
    at = now()
    if keep is not None:
        try:
            return as_moment(before(at, keep).isoformat(), at)
        except ValueError:
            raise click.UsageError("--keep: wanted a span such as 90d, 12w or 6mo.") from None
    try:
        told = as_moment(limit or "", at)
    except click.BadParameter as error:
        raise click.UsageError(f"--before: {error.message}") from None
    return told if "T" in told else f"{told}T00:00:00Z"


def _confirm(total: int, until: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked whether these calls are to go: say so with --yes.")
    day = datetime.fromisoformat(until).strftime("%Y-%m-%d %H:%M")
    note("The sums by day stay, and so does what keys have spent.")
    click.confirm(f"Delete {_calls(total)} from before {day} UTC for good?", abort=True, err=True)


def _delete(connection: Connection, until: str, total: int) -> int:
    """
    Delete, call by call of the API, until there is nothing left.
    """
    loud = sys.stderr.isatty() and not connection.as_json
    deleted: int = 0
    while True:
        try:
            answer = connection.api.call("POST", "/spend/prune", body={"before": until})
        except CallFailed as failed:
            if not deleted:
                raise
            raise Failed(
                f"{str(failed).removesuffix('.')}. {_calls(deleted)} deleted so far; run it again for the rest."
            ) from None
        deleted += answer["deleted"]
        if not answer["more"]:
            break
        if loud:
            click.echo(f"\r{deleted:,} of {max(total, deleted):,}", nl=False, err=True)
    if loud:
        click.echo("\r\x1b[K", nl=False, err=True)
    return deleted


def _calls(number: int) -> str:
    return f"{number:,} call{'' if number == 1 else 's'}"
