"""
``dheera_ai keys list``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import click

from dheera.commands.connection import Connection, Exemplified, connected, note, terminal_width
from dheera.commands.key_tables import cells, overview
from dheera.remote import Api, to_json

PAGE_SIZE = 50
LARGEST_PAGE = 100

SORTS = {
    "created": "created_at",
    "updated": "updated_at",
    "expires": "expires",
    "spend": "spend",
    "alias": "key_alias",
    "team": "team_id",
    "user": "user_id",
}


@click.command(
    "list",
    cls=Exemplified,
    examples=[
        "dheera_ai keys list --team search --sort spend",
        "dheera_ai keys list --all --json | jq -r '.keys[].key_alias'",
    ],
)
@click.option("--team", "team_id", metavar="ID", help="Only keys of this team.")
@click.option("--user", "user_id", metavar="ID", help="Only keys of this user.")
@click.option("--alias", "key_alias", metavar="NAME", help="Only the key that is called so.")
@click.option(
    "--containing", is_flag=True, help="--alias and --user need only occur somewhere, in any case of letters."
)
@click.option("--deleted", is_flag=True, help="Keys that were deleted, in place of those that there are.")
@click.option("--sort", type=click.Choice(list(SORTS)), default="created", show_default=True, help="By what to sort.")
@click.option("--ascending", is_flag=True, help="The smallest, or oldest, first.")
@click.option("--page", type=click.IntRange(min=1), default=1, show_default=True, help="Which page.")
@click.option(
    "--size",
    type=click.IntRange(1, LARGEST_PAGE),
    default=PAGE_SIZE,
    show_default=True,
    help="How many keys a page has.",
)
@click.option("--all", "everything", is_flag=True, help="All pages.")
@connected
def list_keys(connection: Connection, /, *, everything: bool, page: int, **wanted: Any) -> None:
    """
    List keys.
    """
    query = _query(**wanted)
    if everything:
        _show_all(connection, query)
        return
    answer = connection.api.call("GET", "/key/list", query=query | {"page": str(page)})
    connection.show(answer, lambda width: overview([cells(row) for row in answer["keys"]], width))
    if not connection.as_json:
        note(_where(answer))


def _query(
    *, containing: bool, deleted: bool, sort: str, ascending: bool, size: int, **filters: str | None
) -> dict[str, str]:
    query = {name: value for name, value in filters.items() if value is not None}
    query |= {"return_full_object": "true", "size": str(size), "sort_by": SORTS[sort]}
    query["sort_order"] = "asc" if ascending else "desc"
    if containing:
        query["substring_matching"] = "true"
    if deleted:
        query["status"] = "deleted"
    return query


def _show_all(connection: Connection, query: dict[str, str]) -> None:
    """
    Every page; of a directory of any size no more is kept than what is shown.
    """
    rows = _rows(connection.api, query | {"size": str(LARGEST_PAGE)})
    if connection.as_json:
        number = 0
        click.echo('{"keys": [', nl=False)
        for number, row in enumerate(rows, start=1):
            click.echo((b",\n" if number > 1 else b"\n") + to_json(row), nl=False)
        click.echo(f'\n], "total_count": {number}, "current_page": 1, "total_pages": 1}}')
        return
    shown = [cells(row) for row in rows]
    for line in overview(shown, terminal_width()):
        click.echo(line)
    note(f"{len(shown):,} in all.")


def _rows(api: Api, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for page in count(1):
        answer = api.call("GET", "/key/list", query={**query, "page": str(page)})
        yield from answer["keys"]
        if page >= answer["total_pages"]:
            return


def _where(answer: Mapping[str, Any]) -> str:
    """
    Which part of all has been shown.
    """
    told = f"{answer['total_count']:,} in all"
    if answer["total_pages"] > 1:
        told += f", page {answer['current_page']:,} of {answer['total_pages']:,}: see --page and --all"
    return told + "."
