"""
What one room may rely on in another. Protocols and the values that they speak in; no logic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from attrs import field, frozen
from msgspec import Struct, structs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress

from dheera.entities import AnyEntity, AuditLine, Budget, Entity, Key, Team, User
from dheera.keys import Digest, digest
from dheera.limits import UNLIMITED, Limits
from dheera.models import ANY_MODEL, Models
from dheera.money import Usd
from dheera.routes import EVERYWHERE, Routes


class Caller(Struct, frozen=True, kw_only=True, gc=False):
    """
    What a request says, and the network knows, of who sends it.

    :param credential: the key offered, empty if one was meant but cannot be read, ``None`` if there is none.
    :param ambiguous: two different keys were offered.
    :param peer: the other end of the connection.
    :param host: the ``Host`` header, empty if there is none.
    :param origin: the ``Origin`` header that browsers send, empty if there is none.
    :param cross_site: a browser says that a page of another site makes it ask (``Sec-Fetch-Site``).
    :param forwarded: another proxy says that it speaks for somebody.
    :param program: the ``User-Agent`` header.
    :param end_user: whom the caller says it acts for, in a header of ours or of LiteLLM's.
    :param tags: names under which the call is to be counted, separated by commas.
    :ivar digest: of the credential, if there is one.
    """

    credential: bytes | None
    ambiguous: bool
    peer: IAddress
    host: bytes
    origin: bytes
    cross_site: bool
    forwarded: bool
    program: bytes = b""
    end_user: bytes = b""
    tags: bytes = b""
    digest: Digest | None = None

    def __post_init__(self) -> None:
        if self.credential:
            structs.force_setattr(self, "digest", digest(self.credential))

    def __repr__(self) -> str:
        return f"<Caller at {self.peer}>"


@frozen(kw_only=True)
class Bearer:
    """
    Whose key it is that a caller offered.

    :param alias: a name for logs and the audit; never a secret.
    :param is_master: it is the master key, which may do everything.
    :param key: the virtual key, without ``metadata`` and ``rest``; ``None`` for the master key.
    :param routes: where the key opens.
    :param models: what it opens there.
    """

    alias: str
    is_master: bool = False
    key: Key | None = None
    routes: Routes = EVERYWHERE
    models: Models = ANY_MODEL


@frozen(kw_only=True)
class Admission:
    """
    That a caller may go on, and as whom.

    :param alias: a name for logs; never a secret.
    :param key: the virtual key, without ``metadata`` and ``rest``; ``None`` for the master key, and for anybody in
        open mode.
    :param models: which models the body may name; ``None`` leaves the body unread.
    :param team_alias: what the team of the key is called.
    :param content: how much of its calls may be recorded; ``None`` leaves that to the configuration.
    :param limits: what the calls of the key may take; those of end users and of the whole proxy are not among them.
    :ivar whose: what each record of its calls says of it, by the names of `records.Begun`.
    """

    alias: str
    key: Key | None = None
    models: Models | None = None
    team_alias: str | None = None
    content: str | None = None
    limits: Limits = UNLIMITED
    whose: Mapping[str, str | None] = field(init=False, repr=False, eq=False)

    @whose.default
    def _name(self) -> Mapping[str, str | None]:
        if self.key is None:
            return {"key_alias": self.alias}
        return {
            "key_alias": self.alias,
            "key_id": self.key.id,
            "user_id": self.key.user_id,
            "team_id": self.key.team_id,
            "team_alias": self.team_alias,
        }


class Gate(Protocol):
    """
    Decides who may call.
    """

    def identify(self, caller: Caller) -> Deferred[Bearer]:
        """
        Find out whose key it is that *caller* offers, for what is not the Mistral API.

        :return: fails with a ``Refusal`` that says what to do.
        """
        ...

    def admit_at_once(self, caller: Caller, method: bytes, target: bytes) -> Admission | None:
        """
        As `admit`, where nobody has to be asked.

        :return: ``None``: somebody has.
        :raises Refusal: it says what to do.
        """
        ...

    def admit(self, caller: Caller, method: bytes, target: bytes) -> Deferred[Admission]:
        """
        Let *caller* go on to the Mistral API.

        :param target: of upstream, without the base's prefix: ``/v1/models?page=2``.
        :return: fails with a ``Refusal`` that says what to do.
        """
        ...

    def describe(self) -> str:
        """
        One line for the log at start: who will be let in.
        """
        ...


@frozen
class Grant:
    """
    What the store knows of a key that is offered: the key, and who stands behind it.

    :param team: ``None`` if the key names none, or one that does not exist. Its members are left out.
    :param user: likewise.
    :param until: when the digest that was offered ends, if it lives on from before a rotation.
    :param budget: the shared budget that the key names; ``None`` if it names none, or one that does not exist.
    :param member: what the team says of the key's user; ``None`` if there is no such member.
    """

    key: Key
    team: Team | None = None
    user: User | None = None
    until: datetime | None = None
    budget: Budget | None = None
    member: Mapping[str, Any] | None = None


@frozen
class Change:
    """
    That something is no longer as it was.

    :param kind: ``key``, ``user``, ``team``, ``customer``, ``budget``; empty when anything may have changed.
    """

    kind: str
    id: str


@frozen(kw_only=True)
class Query:
    """
    Which entities are wanted, and in which order. Names of fields are those of the entity's columns (`stores.tables`).

    :param equal: fields and the values that they must have; ``None`` matches those that are not set.
    :param contains: fields and texts that must occur in them, in any case of letters.
    :param sort: a field; entities that have the same value there come in the order of their ids.
    :param deleted: of keys: those that were deleted, and only those.
    """

    equal: Mapping[str, object] = field(factory=dict)
    contains: Mapping[str, str] = field(factory=dict)
    sort: str = "created_at"
    descending: bool = True
    offset: int = 0
    limit: int = 10
    deleted: bool = False


@frozen
class Add:
    """
    Write: a new entity. Its ``version`` is not looked at.
    """

    entity: Entity


@frozen
class Put:
    """
    Write: a changed entity, in place of the one with the same id, which must still have the version of this one. All is
    written but ``spend``, and of a key but its ``digest``.
    """

    entity: Entity


@frozen
class Rotate:
    """
    Write: `Put` for a key that has a new digest.

    :param until: how long the old digest goes on opening; ``None`` ends it now. Digests that live on from earlier
        rotations are not touched, unless the end is now: then they end too.
    """

    key: Key
    until: datetime | None = None


@frozen
class Spent:
    """
    Write: what has been spent, set anew.
    """

    kind: str
    id: str
    spend: Usd


@frozen
class Remove:
    """
    Write: an entity is gone. Keys are not removed but retired.
    """

    kind: str
    id: str


@frozen(kw_only=True)
class Retire:
    """
    Write: the keys of which *field* has *value* are deleted: they open nothing, their aliases and digests are free.

    :param field: ``id``, ``user_id`` or ``team_id``.
    """

    field: str
    value: str
    at: datetime
    by: str


Write: TypeAlias = Add | Put | Rotate | Spent | Remove | Retire


class Store(Protocol):
    """
    Keeps the directory: keys, and what belongs to them.

    Each Deferred fails with `StoreAway` when the database does not answer, within seconds; the store comes back by
    itself. Values are immutable and can be shared.
    """

    def open(self) -> Deferred[None]:
        """
        Connect, and bring the schema up to date under the database's lock.

        :return: fails with `NewerSchema`, or whatever keeps it from starting.
        """
        ...

    def close(self) -> Deferred[None]:
        """
        Finish what is under way, and let go.
        """
        ...

    def is_away(self) -> bool:
        """
        Whether the database did not answer when it was last read, or changes made elsewhere cannot be heard. That
        nothing can be written is told to who wants to write, and not here: look-ups go on.
        """
        ...

    def watch(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> Callable[[], None]:
        """
        Be told of changes, whoever made them, within a second: those of this process before the Deferred of their
        `apply` fires. Several may watch, and one that fails keeps no other from being told.

        :param changed: called for each change; `Change` with an empty kind when some may have been missed.
        :param lost: called when changes can, from now on, not be heard until ``changed`` is called with an empty kind;
            at once, if it is so already.
        :return: call it to be told no more.
        """
        ...

    def look_up(self, digest: Digest, at: datetime) -> Deferred[Grant | None]:
        """
        The key that *digest* opens at the time *at*, be it blocked or expired; ``None`` if there is none.
        """
        ...

    def get(self, sort: type[AnyEntity], id: str) -> Deferred[AnyEntity | None]:  # noqa: A002 - the field's name
        """
        The entity with this id; a deleted key too.
        """
        ...

    def find(self, sort: type[AnyEntity], query: Query) -> Deferred[tuple[list[AnyEntity], int]]:
        """
        The entities of one page, and how many there are on all.
        """
        ...

    def apply(self, writes: Sequence[Write], lines: Sequence[AuditLine]) -> Deferred[None]:
        """
        Do all of *writes*, in their order, and keep *lines*; or do nothing.

        :return: fails with `Outdated` if an entity has another version, or is not there; with `Taken` if an id, an
            alias or a digest is in use.
        """
        ...

    def audit(self, query: Query) -> Deferred[tuple[list[AuditLine], int]]:
        """
        The audit lines of one page, and how many there are on all. Fields: ``id``, ``at``, ``actor``, ``action``,
        ``kind``, ``subject``.
        """
        ...
