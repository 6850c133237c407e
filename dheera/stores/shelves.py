"""
What `MemoryStore` keeps, and writes that can be undone.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from attrs import define, field
from msgspec import structs

from dheera.boundaries import Add, Change, Put, Remove, Retire, Rotate, Spent, Write
from dheera.entities import KINDS, AuditLine, Entity, Key
from dheera.errors import Outdated, Taken
from dheera.holding import subject_of
from dheera.stores.ledger_sums import Totals
from dheera.stores.sql import RETIRED_BY
from dheera.stores.tables import AUDIT, TABLES, AnyStruct, Table

Name = TypeVar("Name")
Value = TypeVar("Value")


@define(eq=False)
class Shelves:
    """
    What is kept, and what it takes to undo the writes that are under way.

    :ivar digests: to the id of the key, and until when it opens it.
    :ivar aliases: of keys that live, to their ids.
    :ivar daily: what the books have summed up of each day.
    :ivar listeners: what is told of changes.
    :ivar resets: told whose spend was set anew, as in `holding.Allowance`, and to how many nano-dollars; ``None``: they
        are no more.
    """

    entities: dict[type[Entity], dict[str, Any]] = field(factory=lambda: {sort: {} for sort in TABLES})
    digests: dict[str, tuple[str, datetime | None]] = field(factory=dict)
    aliases: dict[str, str] = field(factory=dict)
    audit: dict[str, AuditLine] = field(factory=dict)
    daily: Totals = field(factory=dict)
    listeners: list[Callable[[Sequence[Change]], None]] = field(factory=list)
    resets: list[Callable[[str, int | None], object]] = field(factory=list)
    _undo: list[Callable[[], object]] = field(factory=list)
    _spent: list[tuple[str, int | None]] = field(factory=list)

    def put(self, shelf: MutableMapping[Name, Value], name: Name, value: Value) -> None:
        """
        Set one thing; undone by `roll_back`.
        """
        if name in shelf:
            before = shelf[name]
            self._undo.append(lambda: shelf.__setitem__(name, before))
        else:
            self._undo.append(lambda: shelf.__delitem__(name))
        shelf[name] = value

    def drop(self, shelf: MutableMapping[Name, Value], name: Name) -> None:
        """
        Take one thing away, if it is there; undone by `roll_back`.
        """
        if name in shelf:
            before = shelf.pop(name)
            self._undo.append(lambda: shelf.__setitem__(name, before))

    def commit(self) -> None:
        """
        What was done stays.
        """
        self._undo.clear()
        spent, self._spent = self._spent, []
        for subject, nano in spent:
            for reset in self.resets:
                reset(subject, nano)

    def roll_back(self) -> None:
        """
        Be as after the last `commit`.
        """
        self._spent.clear()
        for step in reversed(self._undo):
            step()
        self._undo.clear()

    def write(self, write: Write) -> None:
        """
        Do one write.
        """
        match write:
            case Add(entity):
                self._add(entity)
            case Put(entity):
                self._replace(entity)
            case Rotate(key, until):
                self._rotate(key, until)
            case Spent(kind, id_, spend):
                shelf = self.entities[KINDS[kind]]
                self.put(shelf, id_, structs.replace(_there(shelf, id_), spend=spend))
                self._spent.append((subject_of(kind, id_), spend.nano))
            case Remove(kind, id_):
                if kind == "key":
                    msg = "keys are not removed but retired"
                    raise ValueError(msg)
                shelf = self.entities[KINDS[kind]]
                _there(shelf, id_)
                self.drop(shelf, id_)
                self._spent.append((subject_of(kind, id_), None))
            case Retire():
                self._retire(write)

    def record(self, line: AuditLine) -> None:
        """
        Keep *line*.
        """
        if line.id in self.audit:
            raise Taken("id")
        self.put(self.audit, line.id, _copy(AUDIT, line))

    def _add(self, entity: Entity) -> None:
        shelf = self.entities[type(entity)]
        if entity.id in shelf:
            raise Taken("id")
        self.put(shelf, entity.id, structs.replace(_copy(TABLES[type(entity)], entity), version=0))
        if isinstance(entity, Key):
            self._name(entity)
            self._open_with(entity)

    def _replace(self, entity: Entity, **fields: object) -> None:
        shelf = self.entities[type(entity)]
        kept = _there(shelf, entity.id)
        if kept.version != entity.version:
            raise Outdated
        if isinstance(kept, Key):
            if kept.deleted_at is not None:
                raise Outdated
            fields = {"digest": kept.digest, "deleted_at": None, "deleted_by": None, **fields}
        entity = _copy(TABLES[type(entity)], entity)
        changed = {"spend": kept.spend, "version": kept.version + 1, **fields}
        self.put(shelf, entity.id, structs.replace(entity, **changed))
        if isinstance(entity, Key):
            if kept.alias is not None:
                self.drop(self.aliases, kept.alias)
            self._name(entity)

    def _rotate(self, key: Key, until: datetime | None) -> None:
        self._replace(key, digest=key.digest)
        for digest, (id_, end) in list(self.digests.items()):
            if id_ == key.id:
                if until is None:
                    self.drop(self.digests, digest)
                elif end is None:
                    self.put(self.digests, digest, (id_, until))
        self._open_with(key)

    def _retire(self, write: Retire) -> None:
        if write.field not in RETIRED_BY:
            msg = f"keys are not retired by {write.field}"
            raise ValueError(msg)
        keys = self.entities[Key]
        retired = {
            key.id for key in keys.values() if getattr(key, write.field) == write.value and key.deleted_at is None
        }
        if write.field == "id" and not retired:
            raise Outdated
        for id_ in retired:
            key = keys[id_]
            fields = {"deleted_at": write.at, "deleted_by": write.by, "version": key.version + 1}
            self.put(keys, id_, structs.replace(key, **fields))
            if key.alias is not None:
                self.drop(self.aliases, key.alias)
        for digest, (id_, _) in list(self.digests.items()):
            if id_ in retired:
                self.drop(self.digests, digest)

    def _name(self, key: Key) -> None:
        if key.alias is None:
            return
        if key.alias in self.aliases:
            raise Taken("alias")
        self.put(self.aliases, key.alias, key.id)

    def _open_with(self, key: Key) -> None:
        if key.digest in self.digests:
            raise Taken("digest")
        self.put(self.digests, key.digest, (key.id, None))


def _copy(table: Table[AnyStruct], entity: Any) -> AnyStruct:
    # Through JSON, as in a database: nobody shares our lists, and times and amounts within become numbers and texts.
    row = table.dump(entity)
    return table.load(list(row.values()))


def _there(shelf: dict[str, Any], name: str) -> Any:
    if name not in shelf:
        raise Outdated
    return shelf[name]
