"""
``dheera_ai keys import``: LiteLLM's table of keys, from a file to a dheera.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import IO, Any

import click
from attrs import define, field, frozen

from dheera.commands.connection import Connection, Exemplified, Failed, connected, note
from dheera.commands.records import Misfit, Record, Records, Unreadable, records
from dheera.commands.tables import clean
from dheera.commands.token_rows import TOKEN, Unusable, shown, token_row
from dheera.keys import KEYS_AT_ONCE
from dheera.remote import Api, CallFailed, Refused, to_json

ROWS_AT_ONCE = KEYS_AT_ONCE  # they are looked for first
BYTES_AT_ONCE = 1024 * 1024
"""
Of rows in one call, where the API takes four times as much.
"""
REASONS_KEPT = 1000
"""
How many failures ``--json`` names; all are counted.
"""
_SPLIT = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


@click.command(
    "import",
    cls=Exemplified,
    examples=[
        """psql litellm -c '\\copy "LiteLLM_VerificationToken" to keys.csv csv header'""",
        "dheera_ai keys import keys.csv --dry-run",
        "dheera_ai keys import keys.csv",
    ],
)
@click.argument("file", type=click.File("rb"))
@click.option("--format", "form", type=click.Choice(["csv", "json"]), help="What FILE is.  [default: looks]")
@click.option("--dry-run", is_flag=True, help="Read FILE, ask which keys are there already, and change nothing.")
@connected
def import_keys(connection: Connection, /, *, file: IO[bytes], form: str | None, dry_run: bool) -> None:
    """
    Import keys from LiteLLM's database.

    Developers go on with the keys that they have. FILE ("-": standard input) is the table LiteLLM_VerificationToken,
    as CSV with the names of the columns in the first line, or as JSON: an array of objects, or one object after
    another. The keys themselves are neither there nor needed.

    Teams and budgets do not come along: make those that the rows name first, with their models and limits (POST
    /team/new with the team_id, POST /budget/new with the budget_id), or their rows fail. Users need not exist. A key
    whose routes let it manage is not imported: make it anew.

    Keys that are there already are passed over, so it can be run again; but keys that were deleted here meanwhile would
    come back. Each row that fails is told with its line, and makes the exit code 1. What dheera thinks of the values in
    a row is not known before it is sent, so a dry run may promise too much.
    """
    results = Results(loud=not connection.as_json, dry_run=dry_run)
    trouble: Exception | None = None
    try:
        for batch in _batches(records(file, TOKEN, form), results):
            _bring(connection.api, batch, results)
            results.progress()
    except (Unreadable, CallFailed) as error:
        trouble = error
    results.finish()
    if isinstance(trouble, Unreadable) and not results.rows:
        raise Failed(f"{trouble}.")
    connection.show(results.told(), lambda _: [results.sentence()])
    if trouble is not None:
        again = " Run it again when that is mended: keys that are there are passed over."
        raise Failed(f"{str(trouble).removesuffix('.')}.{'' if dry_run else again}")
    if results.failed:
        click.get_current_context().exit(1)


@frozen
class Row:
    """
    A row on its way.

    :param size: bytes of it in a call.
    """

    line: int
    name: str
    content: dict[str, Any] = field(repr=False)
    size: int


@define(eq=False)
class Results:
    """
    What has become of the rows so far, told as it happens.

    :param loud: a person wants to know.
    """

    loud: bool
    dry_run: bool
    imported: int = 0
    there: int = 0
    failed: int = 0
    reasons: list[dict[str, Any]] = field(factory=list)

    def fail(self, line: int, name: str, reason: str) -> None:
        """
        A row cannot be imported.
        """
        self.failed += 1
        if len(self.reasons) < REASONS_KEPT:
            self.reasons.append({"line": line, "key_alias": name or None, "failed_reason": reason})
        if self.loud:
            self.finish()
            note(f"line {line}{f' ({clean(name)})' if name else ''}: {clean(reason)}")

    def progress(self) -> None:
        """
        Tell a person at a terminal how far it is.
        """
        if self.loud and sys.stderr.isatty():
            click.echo(f"\r{self.rows:,} rows", nl=False, err=True)

    @property
    def rows(self) -> int:
        """
        How many there have been.
        """
        return self.imported + self.there + self.failed

    def finish(self) -> None:
        """
        Take that back.
        """
        if self.loud and sys.stderr.isatty():
            click.echo("\r\x1b[K", nl=False, err=True)

    def sentence(self) -> str:
        """
        All of it.
        """
        done = "Would import" if self.dry_run else "Imported"
        return f"{done} {self.imported:,}; {self.there:,} already there; {self.failed:,} failed."

    def told(self) -> dict[str, Any]:
        """
        All of it, for a script.
        """
        return {
            "dry_run": self.dry_run,
            "imported": self.imported,
            "already_there": self.there,
            "failed": self.failed,
            "failures": self.reasons,
        }


def _batches(rows: Records, results: Results) -> Iterator[list[Row]]:
    """
    The usable rows, as many together as fit into one call. What was read before the file breaks off comes too.
    """
    batch: list[Row] = []
    size = 0
    trouble: Unreadable | None = None
    try:
        for each in rows:
            row = _usable(each, results)
            if row is None:
                continue
            if batch and (len(batch) == ROWS_AT_ONCE or size + row.size > BYTES_AT_ONCE):
                yield batch
                batch, size = [], 0
            batch.append(row)
            size += row.size
    except Unreadable as error:
        trouble = error
    if batch:
        yield batch
    if trouble is not None:
        raise trouble


def _usable(record: Record | Misfit, results: Results) -> Row | None:
    if isinstance(record, Misfit):
        results.fail(record.line, record.name, record.reason)
        return None
    name = shown(record.cells)
    try:
        content = token_row(record.cells)
        return Row(line=record.line, name=name, content=content, size=len(to_json(content)))
    except Unusable as error:
        results.fail(record.line, name, str(error))
    except (UnicodeEncodeError, OverflowError, RecursionError):
        results.fail(
            record.line,
            name,
            "there is what cannot be sent: half a character, a whole number beyond 64 bits, or values nested too deep",
        )
    return None


def _bring(api: Api, batch: Sequence[Row], results: Results) -> None:
    """
    Import those rows of *batch* that are not there.
    """
    there = _there(api, [row.content[TOKEN] for row in batch])
    new = [row for row in batch if row.content[TOKEN] not in there]
    results.there += len(batch) - len(new)
    if results.dry_run:
        results.imported += len(new)
    elif new:
        _send(api, new, results)


def _there(api: Api, tokens: Sequence[str]) -> set[str]:
    try:
        found = api.call("POST", "/v2/key/info", body={"keys": tokens})
    except Refused as refused:
        if refused.status == HTTPStatus.NOT_FOUND:
            return set()
        raise
    return {row["token"] for row in found["info"]}


def _send(api: Api, rows: Sequence[Row], results: Results) -> None:
    """
    Import *rows*. Where the call as a whole is refused for one of them, the others go without it.
    """
    try:
        answer = api.call("POST", "/key/import", body={"keys": [row.content for row in rows]})
    except Refused as refused:
        if refused.status not in _SPLIT:
            raise
        if len(rows) == 1:
            results.fail(rows[0].line, rows[0].name, str(refused))
            return
        half = len(rows) // 2
        _send(api, rows[:half], results)
        _send(api, rows[half:], results)
        return
    for row, became in zip(rows, answer["rows"], strict=True):
        if became["imported"]:
            results.imported += 1
        else:
            results.fail(row.line, row.name, became["failed_reason"])
