"""
``dheera_ai spend logs``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from dheera.commands.connection import Connection, Exemplified, connected, note
from dheera.commands.moments import moment
from dheera.commands.sheets import sheet
from dheera.commands.spend_filters import filters, query
from dheera.commands.spend_tables import money
from dheera.commands.tables import NOTHING, Column, count, table
from dheera.remote import Api

LARGEST_PAGE = 1000

COLUMNS = (
    Column(title="BEGAN (UTC)"),
    Column(title="KEY", least=8),
    Column(title="MODEL", least=10),
    Column(title="ENDPOINT", least=8, spare=True),
    Column(title="ANSWER"),
    Column(title="TOKENS IN", right=True),
    Column(title="TOKENS OUT", right=True),
    Column(title="TOOK", right=True),
    Column(title="SPEND USD", right=True),
    Column(title="CALL", spare=True),
)
SHEET = (
    "request_id",
    "startTime",
    "endTime",
    "completionStartTime",
    "key_id",
    "key_alias",
    "user",
    "team_id",
    "end_user",
    "model",
    "endpoint",
    "status",
    "status_code",
    "outcome",
    "error",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "estimated",
    "price_list",
    "spend",
    "request_tags",
    "requester_ip_address",
    "upstream_id",
    "node",
)


@click.command(
    "logs",
    cls=Exemplified,
    examples=[
        "dheera_ai spend logs --key ada --since 12h",
        "dheera_ai spend logs --status failure --limit 100",
        "dheera_ai spend logs --since 2026-03-01 --until 2026-03-31 --limit 1000000 --csv > march.csv",
    ],
)
@filters
@click.option("--status", type=click.Choice(["success", "failure"]), help="Only calls that ended so.")
@click.option("--call", "request_id", metavar="ID", help="Only this call: what its client saw as x-dheera-call-id.")
@click.option(
    "--since", "start_date", metavar="TIME", callback=moment, help="From then on: 2026-03-01, a time, or 12h ago."
)
@click.option(
    "--until", "end_date", metavar="TIME", callback=moment, help="To the end of that day, or before that time."
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, the newest first.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for spreadsheets.")
@connected
def logs(connection: Connection, /, *, limit: int, as_csv: bool, **given: Any) -> None:
    """
    List the latest calls.

    A call is there a second or so after it has ended. "~" marks what was estimated, since upstream did not say it.
    """
    if as_csv and connection.as_json:
        raise click.UsageError("--csv and --json contradict each other.")
    rows, more = _rows(connection.api, query(connection.api, given), limit)
    if as_csv:
        click.echo(sheet(SHEET, [_sheet_row(row) for row in rows]), nl=False)
    else:
        connection.show({"data": rows, "has_more": more}, lambda width: table(COLUMNS, list(_cells(rows)), width))
    if more and not connection.as_json:
        note(f"The newest {len(rows):,}; there are more: see --limit.")


def _rows(api: Api, wanted: Mapping[str, str], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """
    The newest calls, and whether there are more.
    """
    rows: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        size = min(limit - len(rows), LARGEST_PAGE)
        answer = api.call("GET", "/spend/logs/v2", query={**wanted, **after, "page_size": str(size)})
        rows += answer["data"]
        if answer["next"] is None or len(rows) >= limit:
            return rows, answer["next"] is not None
        after = {"after": answer["next"]}


def _cells(rows: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    for row, spend in zip(rows, money([row["spend"] for row in rows]), strict=True):
        about = row["metadata"]
        mark = "~" if about["estimated"] else ""
        yield [
            _when(row["startTime"]),
            about["key_alias"] or NOTHING,
            row["model"] or NOTHING,
            about["endpoint"],
            _answer(row),
            mark + count(row["prompt_tokens"]),
            mark + count(row["completion_tokens"]),
            f"{row['request_duration_ms'] / 1000:,.2f} s",
            (mark if row["spend"] is not None else "") + spend,
            row["request_id"],
        ]


def _answer(row: Mapping[str, Any]) -> str:
    """
    How it went, in a word or two: the status, and who ended it if that was before its time.
    """
    about = row["metadata"]
    words = [str(about["status_code"] or NOTHING)]
    if about["outcome"] != "complete":
        words.append(about["outcome"].replace("_", " "))
    elif row["status"] == "failure" and about["error"]:
        words.append(about["error"])
    return " ".join(words)


def _when(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _sheet_row(row: Mapping[str, Any]) -> list[object]:
    known = {**row["metadata"], **row, "request_tags": " ".join(row["request_tags"])}
    return [known[name] for name in SHEET]
