"""
``dheera_ai spend``: who has spent what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import click

from dheera.commands.connection import Connection, Exemplified, connected, note
from dheera.commands.daemon_options import refuse_daemon_options
from dheera.commands.moments import day
from dheera.commands.sheets import sheet
from dheera.commands.spend_filters import filters, query
from dheera.commands.spend_logs import logs
from dheera.commands.spend_tables import sums_head, sums_table
from dheera.remote import Api

DIMENSIONS = ("key", "user", "team", "end-user", "model", "tag", "day", "endpoint")
MOST_DIMENSIONS = 3
LARGEST_PAGE = 1000
SINCE = "30d"

HELP = """
Say who has spent what, from the ledger of a running dheera.

\b
  export DHEERA_AI_MASTER_KEY=...
  dheera_ai spend                            by key, the last 30 days
  dheera_ai spend --by team --by model --since 2026-03-01
  dheera_ai spend --by day --key ada --since 7d
  dheera_ai spend logs --status failure

Options that stand right behind the word are those of "report": see dheera_ai spend report --help.

\b
Environment:
  DHEERA_AI_MASTER_KEY    the master key, or a key of type management or read_only
  DHEERA_AI_URL           where dheera is      [default: this machine]
  DHEERA_AI_PORT          its port there       [default: 4000]

Exits 0 when it is done, 1 when it is refused or fails, 2 when the command is not written as it must be.
"""


class _Reporting(click.Group):
    """
    A group that does one of its commands where none is named.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """
        Put in what was left out.
        """
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["report", *args]
        return super().parse_args(ctx, args)


@click.group("spend", cls=_Reporting, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def spend(context: click.Context) -> None:
    """
    Nothing of its own.
    """
    refuse_daemon_options(context)


spend.command_class = Exemplified
spend.add_command(logs)


def _dimensions(_context: click.Context, _parameter: click.Parameter, value: Sequence[str]) -> list[str]:
    names = [name for each in value for name in each.split(",")]
    if not set(names) <= set(DIMENSIONS):
        raise click.BadParameter(f"wanted one of {', '.join(DIMENSIONS)}.")
    if len(names) > MOST_DIMENSIONS or len(set(names)) < len(names):
        raise click.BadParameter(f"wanted at most {MOST_DIMENSIONS}, each once.")
    return [name.replace("-", "_") for name in names]


@spend.command(
    examples=[
        "dheera_ai spend --by team,model --since 1mo",
        "dheera_ai spend --by end-user --tag batch --since 2026-03-01 --until 2026-03-31",
        "dheera_ai spend --by day --key ada --csv > ada.csv",
    ]
)
@click.option(
    "--by",
    metavar="WHAT",
    multiple=True,
    default=["key"],
    callback=_dimensions,
    help=f"One of {', '.join(DIMENSIONS)}; up to {MOST_DIMENSIONS} of them, with commas or given again.  "
    "[default: key]",
)
@filters
@click.option(
    "--since",
    "start_date",
    metavar="DAY",
    default=SINCE,
    callback=day,
    show_default=True,
    help="The first day in UTC, or how long ago it was: 2026-03-01, 7d, 1mo.",
)
@click.option("--until", "end_date", metavar="DAY", callback=day, help="The last day, included.  [default: today]")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many lines.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for spreadsheets.")
@connected
def report(connection: Connection, /, *, by: Sequence[str], limit: int, as_csv: bool, **given: Any) -> None:
    """
    Add up what was spent. The largest spend comes first; by day, the latest day.

    Calls without a price are counted, and are in no sum. A call with two tags counts under each, and once in the
    total; by tag there can be key, model and day, and no user, team, end user or endpoint.
    """
    if as_csv and connection.as_json:
        raise click.UsageError("--csv and --json contradict each other.")
    wanted = query(connection.api, given) | {"group_by": ",".join(by)}
    answer = _report(connection.api, wanted, limit)
    rows = answer["results"]
    if as_csv:
        head = sums_head(by)
        click.echo(sheet(head, [[row[name] for name in head] for row in rows]), nl=False)
    else:
        connection.show(answer, partial(sums_table, by, rows, answer["totals"]))
    if not connection.as_json:
        _explain(answer, given)


def _report(api: Api, wanted: Mapping[str, str], limit: int) -> dict[str, Any]:
    """
    The first sums, whatever pages they are on.
    """
    size = min(limit, LARGEST_PAGE)
    rows: list[dict[str, Any]] = []
    page = 0
    while True:
        page += 1
        answer = api.call("GET", "/spend/report", query={**wanted, "page": str(page), "size": str(size)})
        rows += answer["results"]
        if not answer["has_more"] or len(rows) >= limit:
            return {
                "group_by": answer["group_by"],
                "results": rows[:limit],
                "totals": answer["totals"],
                "has_more": answer["has_more"] or len(rows) > limit,
            }


def _explain(answer: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """
    Tell what a person might take for something else.
    """
    totals = answer["totals"]
    note(f"Days of UTC, from {given['start_date']} to {given['end_date'] or 'today'}.")
    if answer["has_more"]:
        note(f"The first {len(answer['results']):,} lines, and the total of all: see --limit.")
    if totals["unpriced_requests"]:
        note(
            f"{totals['unpriced_requests']:,} unpriced: there is no price, and they are in no sum. "
            "dheera_ai prices shows what has one."
        )
    if totals["estimated_requests"]:
        note(f"{totals['estimated_requests']:,} estimated: upstream did not say what was used.")
