"""
Which columns each kind has, and how an entity becomes a row and comes back.

A row holds the whole entity as a JSON document, and beside it, in columns, what is searched, sorted or changed apart.
Columns are the truth for what they hold: they are laid over the document when a row is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec
from attrs import field, frozen
from msgspec import Struct

from dheera.entities import KINDS, AuditLine, Budget, Customer, Entity, Key, Team, User, decoded
from dheera.money import Usd

AnyStruct = TypeVar("AnyStruct", bound=Struct)


def same(value: Any) -> Any:
    """
    *value*.
    """
    return value


@frozen
class Column:
    """
    A column, named like the field that it holds.

    :param dump: the field's value -> what a statement is given.
    :param load: what the database gives, if not null -> the field's value.
    :param nullable: it need not be set.
    :param text: it can be searched for what it contains.
    """

    name: str
    dump: Callable[[Any], object] = field(default=same, kw_only=True)
    load: Callable[[Any], object] = field(default=same, kw_only=True)
    nullable: bool = field(default=True, kw_only=True)
    text: bool = field(default=False, kw_only=True)


@frozen(kw_only=True)
class Table(Generic[AnyStruct]):
    """
    Where the rows of one kind are, and what is in them.
    """

    name: str
    sort: type[AnyStruct]
    columns: Mapping[str, Column]
    _decoder: msgspec.json.Decoder[AnyStruct] = field(init=False, repr=False)

    @_decoder.default
    def _make_decoder(self) -> msgspec.json.Decoder[AnyStruct]:
        return msgspec.json.Decoder(self.sort, dec_hook=decoded)

    def column(self, name: str) -> Column:
        """
        The column of this name.

        :raises ValueError: there is none: a program that passes on the names that its clients send must look first.
        """
        try:
            return self.columns[name]
        except KeyError:
            msg = f"the table {self.name} has no column of this name"
            raise ValueError(msg) from None

    def text_column(self, name: str) -> Column:
        """
        As `column`, of those that can be searched for what they contain.
        """
        column = self.column(name)
        if not column.text:
            msg = f"the column {name} of the table {self.name} holds no text"
            raise ValueError(msg)
        return column

    def dump(self, entity: Struct) -> dict[str, object]:
        """
        What a statement is given for *entity*: each column, and ``document``.
        """
        row = {name: _unless_none(column.dump, getattr(entity, name)) for name, column in self.columns.items()}
        return {**row, "document": _encoder.encode(entity).decode()}

    def load(self, row: Sequence[Any]) -> AnyStruct:
        """
        What *row* says: its columns in their order, then its document.
        """
        values = zip(self.columns.items(), row, strict=False)
        columns = {name: _unless_none(column.load, value) for (name, column), value in values}
        return msgspec.structs.replace(self._decoder.decode(row[len(self.columns)]), **columns)


def _unless_none(change: Callable[[Any], Any], value: Any) -> Any:
    return None if value is None else change(value)


def utc(value: str | datetime) -> datetime:
    """
    A time, as either database gives it.
    """
    return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)


def _nano(value: Usd) -> int:
    return value.nano


def _dollars(value: object) -> str:
    if isinstance(value, Usd):
        # A text: JSON's readers, ours too, make floats of numbers, and a float has too few digits for a large amount.
        return format(value.dollars(), "f")
    raise NotImplementedError


_encoder = msgspec.json.Encoder(enc_hook=_dollars)


def _columns(*columns: Column) -> Mapping[str, Column]:
    return MappingProxyType({column.name: column for column in columns})


def _text(name: str, *, nullable: bool = True) -> Column:
    return Column(name, nullable=nullable, text=True)


def _time(name: str, *, nullable: bool = True) -> Column:
    return Column(name, load=utc, nullable=nullable)


def _yes_or_no(name: str) -> Column:
    return Column(name, load=bool, nullable=False)


_ENTITY = (
    _text("id", nullable=False),
    Column("version", nullable=False),
    _time("created_at", nullable=False),
    _time("updated_at", nullable=False),
    Column("spend", dump=_nano, load=Usd, nullable=False),
)

KEYS = Table(
    name="keys",
    sort=Key,
    columns=_columns(
        *_ENTITY,
        _text("digest", nullable=False),
        _text("name", nullable=False),
        _text("alias"),
        _text("user_id"),
        _text("team_id"),
        _text("organization_id"),
        _text("budget_id"),
        _text("key_type", nullable=False),
        _yes_or_no("blocked"),
        _time("expires_at"),
        _time("deleted_at"),
        _text("deleted_by"),
    ),
)
USERS = Table(name="users", sort=User, columns=_columns(*_ENTITY, _text("alias"), _text("email"), _text("role")))
TEAMS = Table(
    name="teams",
    sort=Team,
    columns=_columns(*_ENTITY, _text("alias"), _text("organization_id"), _yes_or_no("blocked")),
)
CUSTOMERS = Table(
    name="customers",
    sort=Customer,
    columns=_columns(*_ENTITY, _text("alias"), _yes_or_no("blocked"), _text("budget_id")),
)
BUDGETS = Table(name="budgets", sort=Budget, columns=_columns(*_ENTITY))
AUDIT = Table(
    name="audit",
    sort=AuditLine,
    columns=_columns(
        _text("id", nullable=False),
        _time("at", nullable=False),
        _text("actor", nullable=False),
        _text("action", nullable=False),
        _text("kind", nullable=False),
        _text("subject", nullable=False),
    ),
)

TABLES: Mapping[type[Entity], Table[Any]] = {table.sort: table for table in (KEYS, USERS, TEAMS, CUSTOMERS, BUDGETS)}


def table_of(kind: str) -> Table[Any]:
    """
    The table of a kind, by its word.
    """
    return TABLES[KINDS[kind]]
