"""
What can be said of a key, as options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click
import msgspec

from dheera.durations import after
from dheera.routes import KEY_TYPES

Command = TypeVar("Command", bound=Callable[..., Any])


def span(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """
    A span of time.

    :raises click.BadParameter: it is none.
    """
    if value is not None:
        try:
            after(datetime(2000, 1, 1, tzinfo=UTC), value)
        except ValueError as error:
            raise click.BadParameter(f"{error}.") from None
    return value


def span_or_never(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """
    A span of time, or what the API takes for an endless one.

    :raises click.BadParameter: it is none.
    """
    return "-1" if value == "never" else span(context, parameter, value)


def dollars(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Decimal | None:
    """
    An amount, exactly as it was written.

    :raises click.BadParameter: it is none.
    """
    if value is None:
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise click.BadParameter("wanted an amount of US dollars, such as 50 or 0.25.")
    return amount


def document(_context: click.Context, _parameter: click.Parameter, value: str | None) -> dict[str, Any] | None:
    """
    A JSON object.

    :raises click.BadParameter: it is none.
    """
    try:
        return None if value is None else _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise click.BadParameter("""wanted a JSON object, such as '{"project": "search"}'.""") from None


_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)

COUNT = click.IntRange(min=0)

OPTIONS: dict[str, tuple[str, Any]] = {
    "key_alias": (
        "--alias",
        {"metavar": "NAME", "help": "What the key is called; no two keys are called the same."},
    ),
    "duration": (
        "--duration",
        {
            "metavar": "SPAN",
            "callback": span_or_never,
            "help": "How long it opens, from now on: 30d, 12h, 6mo, or never.",
        },
    ),
    "models": (
        "--models",
        {
            "metavar": "NAME",
            "multiple": True,
            "help": "A model it may use, * for any letters; may be given many times.",
        },
    ),
    "team_id": ("--team", {"metavar": "ID", "help": "The team it belongs to."}),
    "user_id": ("--user", {"metavar": "ID", "help": "The user it belongs to."}),
    "budget_id": (
        "--budget",
        {"metavar": "ID", "help": "A budget, made with POST /budget/new, that says what it may; each key by itself."},
    ),
    "max_budget": (
        "--max-budget",
        {"metavar": "USD", "callback": dollars, "help": "What it may spend, in US dollars; 0: nothing."},
    ),
    "soft_budget": (
        "--soft-budget",
        {"metavar": "USD", "callback": dollars, "help": "At what spend to send an alert."},
    ),
    "budget_duration": (
        "--budget-duration",
        {
            "metavar": "SPAN",
            "callback": span,
            "help": "After which time the spend begins anew: 24h (at midnight UTC), 7d (on Sundays), 30d or 1mo (on "
            "the first of the month), 5h (from now on).  [default: never]",
        },
    ),
    "rpm_limit": ("--rpm", {"metavar": "NUMBER", "type": COUNT, "help": "Requests in any minute."}),
    "tpm_limit": ("--tpm", {"metavar": "NUMBER", "type": COUNT, "help": "Tokens in any minute."}),
    "max_parallel_requests": (
        "--max-parallel",
        {"metavar": "NUMBER", "type": COUNT, "help": "Requests at the same time."},
    ),
    "key_type": ("--key-type", {"type": click.Choice(sorted(KEY_TYPES)), "help": "What it is for: sets the routes."}),
    "allowed_routes": (
        "--allowed-route",
        {"metavar": "ROUTE", "multiple": True, "help": "A path, * for any letters, or group; may be given many times."},
    ),
    "tags": ("--tag", {"metavar": "TAG", "multiple": True, "help": "A word, kept and shown; may be given many times."}),
    "metadata": (
        "--metadata",
        {"metavar": "JSON", "callback": document, "help": "What else you want to keep with it."},
    ),
}
"""
Each field of the API's that a person sets on the command line, and its option.
"""


SPELLINGS = {"models": "--model"}
"""
Other names of options, by their fields.
"""


def fields(command: Command) -> Command:
    """
    *command* with all of ``OPTIONS``.
    """
    decorated: Any = command
    for name, (flag, attributes) in reversed(OPTIONS.items()):
        flags = [flag, *filter(None, [SPELLINGS.get(name)])]
        decorated = click.option(*flags, name, **attributes)(decorated)
    return decorated  # type: ignore[no-any-return]  # click's decorators keep what they are given


def said(given: Mapping[str, Any]) -> dict[str, Any]:
    """
    The fields that somebody has given.
    """
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in given.items()
        if name in OPTIONS and value is not None and value != ()
    }


def clearable(_context: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> list[str]:
    """
    The API's names of fields that are to be cleared, said in its words or in those of the command line.

    :raises click.BadParameter: there is no such field.
    """
    first = {flag.removeprefix("--"): name for name, (flag, _) in OPTIONS.items()}
    names = first | {flag.removeprefix("--"): name for name, flag in SPELLINGS.items()}
    for value in values:
        if value.replace("_", "-") not in names and value not in OPTIONS:
            raise click.BadParameter(f"wanted one of {', '.join(first)}.")
    return [value if value in OPTIONS else names[value.replace("_", "-")] for value in values]
