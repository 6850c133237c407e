"""
The statements that read the ledger, and the one that prunes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dheera.bookkeeping import LinesQuery, Question, Sums
from dheera.money import Usd
from dheera.stores.database import Step
from dheera.stores.ledger_rows import COLUMN_OF, microseconds
from dheera.stores.ledger_sums import COUNTERS, DAILY, columns_for, shown, wanted
from dheera.stores.ledger_texts import needle
from dheera.texts import bounded

FILTERS = frozenset(
    {
        "call_id",
        "key_id",
        "key_alias",
        "user_id",
        "team_id",
        "end_user",
        "model",
        "endpoint",
        "outcome",
        "status",
    }
)
"""
The columns that lines can be chosen by.
"""

_SELECTED = ", ".join(COLUMN_OF.values())
_SUMS = ", ".join(f"cast(coalesce(sum({name}), 0) as bigint)" for name in COUNTERS)


def finding_lines(query: LinesQuery) -> Step:
    """
    The step that finds one page.

    :raises ValueError: *query* names a column that lines cannot be chosen by.
    """
    where, parameters = _where(query)
    if query.after is not None:
        # Not as one comparison of two pairs: so the indexes serve.
        where.append("started_us <= :after and (started_us < :after or call_id < :after_id)")
        parameters |= {"after": microseconds(query.after[0]), "after_id": bounded(query.after[1])}
    parameters |= {"limit": query.limit, "offset": query.offset}
    order = "order by started_us desc, call_id desc limit :limit offset :offset"
    return Step(f"select {_SELECTED} from ledger{_joined(where)} {order}", parameters)  # noqa: S608 - our own names


def counting_lines(query: LinesQuery) -> Step:
    """
    The step that counts the lines of all pages.
    """
    where, parameters = _where(query)
    return Step(f"select count(*) from ledger{_joined(where)}", parameters)  # noqa: S608 - our own names


def summing(question: Question) -> Step:
    """
    The step that gives the sums of one page.

    :raises ValueError: there are no such sums.
    """
    columns = columns_for(question)
    table = "daily" if columns is DAILY else "daily_tags"
    where: list[str] = []
    parameters: dict[str, object] = {"limit": question.limit, "offset": question.offset}
    if question.since is not None:
        where.append("day >= :since")
        parameters["since"] = question.since.isoformat()
    if question.until is not None:
        where.append("day <= :until")
        parameters["until"] = question.until.isoformat()
    for number, (dimension, value) in enumerate(question.equal.items()):
        where.append(f"{columns[dimension]} = :equal{number}")
        parameters[f"equal{number}"] = wanted(dimension, value)
    by = [columns[dimension] for dimension in question.by]
    if not by:
        return Step(f"select {_SUMS} from {table}{_joined(where)} limit :limit offset :offset", parameters)  # noqa: S608 - our own names
    first = ["day desc"] if "day" in by else []
    order = ", ".join([*first, "sum(cost) desc", *(name for name in by if name != "day")])
    return Step(
        f"select {', '.join(by)}, {_SUMS} from {table}{_joined(where)} "  # noqa: S608 - our own names
        f"group by {', '.join(by)} order by {order} limit :limit offset :offset",
        parameters,
    )


def summed(question: Question, row: Sequence[Any]) -> Sums:
    """
    What a row of `summing` says.
    """
    many = len(question.by)
    names = zip(question.by, row, strict=False)
    counts: Mapping[str, int] = dict(zip(COUNTERS, row[many:], strict=True))
    return Sums(
        of=tuple(shown(dimension, value) for dimension, value in names),
        **{**counts, "cost": Usd(counts["cost"])},  # type: ignore[arg-type]  # each counter is a field of this name
    )


def pruning(before: datetime, most: int) -> Step:
    """
    The step that deletes the oldest lines; it gives a row for each.
    """
    oldest = "select call_id from ledger where started_us < :before order by started_us limit :most"
    sql = f"delete from ledger where call_id in ({oldest}) returning 1"  # noqa: S608 - our own text
    return Step(sql, {"before": microseconds(before), "most": most})


def require_filters(query: LinesQuery) -> None:
    """
    :raises ValueError: *query* names a column that lines cannot be chosen by: a program that passes on the names that
        its clients send must look first.
    """
    if not query.equal.keys() <= FILTERS:
        msg = "lines cannot be chosen by this column"
        raise ValueError(msg)


def _where(query: LinesQuery) -> tuple[list[str], dict[str, object]]:
    require_filters(query)
    where: list[str] = []
    parameters: dict[str, object] = {}
    for number, (name, value) in enumerate(query.equal.items()):
        where.append(f"{name} is null" if value is None else f"{name} = :equal{number}")
        if value is not None:
            parameters[f"equal{number}"] = bounded(value) if isinstance(value, str) else value
    if query.since is not None:
        where.append("started_us >= :since")
        parameters["since"] = microseconds(query.since)
    if query.until is not None:
        where.append("started_us < :until")
        parameters["until"] = microseconds(query.until)
    if query.tag is not None:
        # The one search for a text, of all letters as they are, that both databases have.
        where.append("replace(tags, :tag, '') <> tags")
        parameters["tag"] = needle(query.tag)
    if query.failed is not None:
        # Said as the index says it, or else it would not serve.
        where.append("failed" if query.failed else "not failed")
    return where, parameters


def _joined(conditions: Sequence[str]) -> str:
    return f" where {' and '.join(conditions)}" if conditions else ""
