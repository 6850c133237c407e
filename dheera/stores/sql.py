"""
The directory in any database that speaks SQL: what is asked, once for all of them.

The texts are what SQLite (from 3.35) and PostgreSQL (from 13) have in common. Values are bound by name; names of
columns come from `tables` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import accumulate, pairwise
from typing import Any

import msgspec
from attrs import define
from msgspec import structs
from twisted.internet.defer import Deferred

from dheera.boundaries import Add, Change, Grant, Put, Query, Remove, Retire, Rotate, Spent, Store, Write
from dheera.entities import AnyEntity, AuditLine, Budget, Key, Team, User, kind_of
from dheera.holding import subject_of
from dheera.keys import Digest
from dheera.stores.database import AnyStep, Database, Procedure, Step
from dheera.stores.tables import AUDIT, BUDGETS, KEYS, TABLES, TEAMS, USERS, AnyStruct, Table, table_of, utc

RETIRED_BY = frozenset({"id", "user_id", "team_id"})


@define(eq=False)
class SqlStore:
    """
    Keeps the directory in a database.
    """

    _database: Database

    def open(self) -> Deferred[None]:
        """
        Connect, and bring the schema up to date.
        """
        return self._database.open()

    def close(self) -> Deferred[None]:
        """
        Finish what is under way, and let go.
        """
        return self._database.close()

    def is_away(self) -> bool:
        """
        Whether the database does not answer.
        """
        return self._database.is_away()

    def watch(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> Callable[[], None]:
        """
        Be told of changes.
        """
        return self._database.watch(changed, lost)

    def look_up(self, digest: Digest, at: datetime) -> Deferred[Grant | None]:
        """
        The key that *digest* opens, and who stands behind it.
        """
        return Deferred.fromCoroutine(self._look_up(digest, at))

    async def _look_up(self, digest: Digest, at: datetime) -> Grant | None:
        [rows] = await self._database.run([looking_up(digest, at)])
        if not rows:
            return None
        [row] = rows
        key, team, user, budget, (until,) = (row[start:stop] for start, stop in _LOOK_UP_PARTS)
        return granted(
            KEYS.load(key),
            _load_joined(TEAMS, team),
            _load_joined(USERS, user),
            _load_joined(BUDGETS, budget),
            None if until is None else utc(until),
        )

    def get(self, sort: type[AnyEntity], id: str) -> Deferred[AnyEntity | None]:  # noqa: A002 - the field's name
        """
        The entity with this id; a deleted key too.
        """
        return Deferred.fromCoroutine(self._get(TABLES[sort], id))

    async def _get(self, table: Table[AnyEntity], id: str) -> AnyEntity | None:  # noqa: A002 - the field's name
        [rows] = await self._database.run([Step(f"{_selection(table)} where id = :id", {"id": id})])
        return table.load(rows[0]) if rows else None

    def find(self, sort: type[AnyEntity], query: Query) -> Deferred[tuple[list[AnyEntity], int]]:
        """
        One page, and the number of all.
        """
        return Deferred.fromCoroutine(self._find(TABLES[sort], query))

    def audit(self, query: Query) -> Deferred[tuple[list[AuditLine], int]]:
        """
        One page of the audit, and the number of all lines.
        """
        return Deferred.fromCoroutine(self._find(AUDIT, query))

    async def _find(self, table: Table[AnyStruct], query: Query) -> tuple[list[AnyStruct], int]:
        page, total = await self._database.run(finding(table, query), slow=True)
        return [table.load(row) for row in page], int(total[0][0])

    def apply(self, writes: Sequence[Write], lines: Sequence[AuditLine]) -> Deferred[None]:
        """
        Do all of *writes* and keep *lines*, or nothing.
        """
        return Deferred.fromCoroutine(self._apply(writes, lines))

    async def _apply(self, writes: Sequence[Write], lines: Sequence[AuditLine]) -> None:
        steps = [step for write in writes for step in writing(write)]
        steps += [Step(_insertion(AUDIT), AUDIT.dump(line)) for line in lines]
        # What is done to allowances comes last, as in the ledger's transactions, so that none waits for one that waits
        # for it.
        steps.sort(key=lambda step: isinstance(step, Procedure))
        if steps:
            await self._database.run(steps, changes=[change_of(write) for write in writes])


def change_of(write: Write) -> Change:
    """
    What is told of *write*.
    """
    match write:
        case Add(entity) | Put(entity):
            return Change(kind_of(entity), entity.id)
        case Rotate(key):
            return Change("key", key.id)
        case Spent(kind, id_) | Remove(kind, id_):
            return Change(kind, id_)
        case Retire():
            return Change("key", write.value) if write.field == "id" else Change("", "")


def writing(write: Write) -> list[AnyStep]:
    """
    The steps that do *write*.
    """
    match write:
        case Add(entity):
            table = TABLES[type(entity)]
            row = Step(_insertion(table), {**table.dump(entity), "version": 0})
            return [row, _new_digest(entity)] if isinstance(entity, Key) else [row]
        case Put(entity):
            return [Step(_UPDATES[type(entity)], TABLES[type(entity)].dump(entity), touching=1)]
        case Rotate(key, until):
            ending = Step(_END_DIGESTS if until is None else _END_DIGEST, {"key_id": key.id, "until": until})
            return [Step(_ROTATION, KEYS.dump(key), touching=1), ending, _new_digest(key)]
        case Spent(kind, id_, spend):
            sql = f"update {table_of(kind).name} set spend = :spend where id = :id"  # noqa: S608 - our own name
            said = _encoder.encode([subject_of(kind, id_), spend.nano]).decode()
            return [Step(sql, {"id": id_, "spend": spend.nano}, touching=1), Procedure("reset", said)]
        case Remove(kind, id_):
            if kind == "key":
                msg = "keys are not removed but retired"
                raise ValueError(msg)
            sql = f"delete from {table_of(kind).name} where id = :id"  # noqa: S608 - our own name
            row = Step(sql, {"id": id_}, touching=1)
            said = _encoder.encode(subject_of(kind, id_)).decode()
            return [row] if kind == "budget" else [row, Procedure("remove", said)]
        case Retire():
            return [*_retiring(write)]


def granted(key: Key, team: Team | None, user: User | None, budget: Budget | None, until: datetime | None) -> Grant:
    """
    What is told of a key that is offered: of the members of its team, the one whose key it is alone.
    """
    member = None
    if team is not None:
        if key.user_id is not None:
            member = next((each for each in team.members if each.get("user_id") == key.user_id), None)
        team = structs.replace(team, members=[])
    return Grant(key, team, user, until, budget, member)


def looking_up(digest: Digest, at: datetime) -> Step:
    """
    The step that finds a key, with its team, its user and its shared budget.
    """
    return Step(_LOOK_UP, {"digest": digest, "at": at})


def finding(table: Table[Any], query: Query) -> list[Step]:
    """
    The two steps that find one page of *query*, and the number of all.
    """
    conditions: list[str] = []
    parameters: dict[str, object] = {"limit": query.limit, "offset": query.offset}
    if table is KEYS:
        conditions.append(f"deleted_at is {'not ' if query.deleted else ''}null")
    for number, (name, value) in enumerate(query.equal.items()):
        column = table.column(name)
        conditions.append(f"{column.name} is null" if value is None else f"{column.name} = :equal{number}")
        parameters[f"equal{number}"] = None if value is None else column.dump(value)
    for number, (name, text) in enumerate(query.contains.items()):
        column = table.text_column(name)
        conditions.append(f"lower({column.name}) like lower(:contains{number}) escape '!'")
        parameters[f"contains{number}"] = f"%{_escaped(text)}%"
    where = f" where {' and '.join(conditions)}" if conditions else ""
    return [
        Step(f"{_selection(table)}{where} order by {_order(table, query)} limit :limit offset :offset", parameters),
        Step(f"select count(*) from {table.name}{where}", parameters),  # noqa: S608 - our own names
    ]


def _order(table: Table[Any], query: Query) -> str:
    column = table.column(query.sort)
    direction = " desc" if query.descending else ""
    if column.name == "id":
        return f"id{direction}"
    # The two databases differ on where null belongs. Where it cannot be, saying so would keep an index from serving.
    nulls_last = f"({column.name} is null), " if column.nullable else ""
    return f"{nulls_last}{column.name}{direction}, id"


def _escaped(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _retiring(write: Retire) -> list[Step]:
    if write.field not in RETIRED_BY:
        msg = f"keys are not retired by {write.field}"
        raise ValueError(msg)
    which = f"{write.field} = :value and deleted_at is null"
    parameters: dict[str, object] = {"value": write.value, "at": write.at, "by": write.by}
    return [
        Step(f"delete from digests where key_id in (select id from keys where {which})", parameters),  # noqa: S608 - ours
        Step(
            f"update keys set deleted_at = :at, deleted_by = :by, version = version + 1 where {which}",  # noqa: S608 - ours
            parameters,
            touching=1 if write.field == "id" else None,
        ),
    ]


def _new_digest(key: Key) -> Step:
    return Step("insert into digests (digest, key_id) values (:digest, :id)", {"digest": key.digest, "id": key.id})


def _names(table: Table[Any], prefix: str = "") -> str:
    # PostgreSQL's adapter would parse a column of type json.
    columns = ", ".join(f"{prefix}{name}" for name in table.columns)
    return f"{columns}, cast({prefix}document as text)"


def _selection(table: Table[Any]) -> str:
    return f"select {_names(table)} from {table.name}"  # noqa: S608 - our own names


def _insertion(table: Table[Any]) -> str:
    names = [*table.columns, "document"]
    values = ", ".join(f":{name}" for name in names)
    return f"insert into {table.name} ({', '.join(names)}) values ({values})"  # noqa: S608 - our own names


def _update(table: Table[Any], *, but: frozenset[str]) -> str:
    names = [name for name in (*table.columns, "document") if name not in but]
    values = ", ".join(f"{name} = :{name}" for name in names)
    live = " and deleted_at is null" if table is KEYS else ""
    sql = f"update {table.name} set {values}, version = version + 1"  # noqa: S608 - our own names
    return f"{sql} where id = :id and version = :version{live}"


def _load_joined(table: Table[AnyStruct], row: Sequence[Any]) -> AnyStruct | None:
    return None if row[0] is None else table.load(row)


_NOT_PUT = frozenset({"id", "version", "spend", "digest", "deleted_at", "deleted_by"})
_UPDATES = {sort: _update(table, but=_NOT_PUT) for sort, table in TABLES.items()}
_ROTATION = _update(KEYS, but=_NOT_PUT - {"digest"})
_END_DIGESTS = "delete from digests where key_id = :key_id"
_END_DIGEST = "update digests set until = :until where key_id = :key_id and until is null"
_LOOK_UP = (
    f"select {_names(KEYS, 'keys.')}, {_names(TEAMS, 'teams.')}, {_names(USERS, 'users.')}, "  # noqa: S608 - our own names
    f"{_names(BUDGETS, 'budgets.')}, digests.until "
    "from digests join keys on keys.id = digests.key_id "
    "left join teams on teams.id = keys.team_id left join users on users.id = keys.user_id "
    "left join budgets on budgets.id = keys.budget_id "
    "where digests.digest = :digest and (digests.until is null or digests.until > :at) and keys.deleted_at is null"
)
_WIDTHS = [len(table.columns) + 1 for table in (KEYS, TEAMS, USERS, BUDGETS)]
_LOOK_UP_PARTS = tuple(pairwise([*accumulate(_WIDTHS, initial=0), None]))
_encoder = msgspec.json.Encoder()

_: type[Store] = SqlStore
