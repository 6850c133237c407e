"""
What the directory knows: keys, the users and teams that own them, customers, budgets, and who did what to them.

They are JSON documents, so they are msgspec structs; what a field means is said where the API takes it. Amounts are
`Usd`, times are aware and UTC. Imports no Twisted and does no I/O.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from dheera.money import Usd


class Entity(Struct, frozen=True, kw_only=True):
    """
    Something that is kept under a name.

    :param id: the name by which it is found; given by us or by the client, never changed.
    :param version: how often it was changed; a writer must have seen the latest.
    :param created_by: who made it, as the audit names them.
    """

    id: str
    version: int = 0
    created_at: datetime
    updated_at: datetime
    created_by: str | None = None
    updated_by: str | None = None

    def __repr__(self) -> str:
        # What is in it may be secret, or as good as: the digest of a key, what somebody keeps in metadata.
        return f"<{kind_of(self)} {self.id}>"


class Limited(Entity, frozen=True, kw_only=True):
    """
    Something that can be given limits, and is spent on.

    :param spend: what has been spent so far; kept by the store, changed by `boundaries.Spent` alone.
    :param budget_duration: after which span the spend begins anew.
    """

    spend: Usd = Usd()
    max_budget: Usd | None = None
    soft_budget: Usd | None = None
    budget_duration: str | None = None
    budget_reset_at: datetime | None = None
    tpm_limit: int | None = None
    rpm_limit: int | None = None
    max_parallel_requests: int | None = None
    model_max_budget: dict[str, Any] = {}


class Key(Limited, frozen=True, kw_only=True):
    """
    A virtual key: who may call what, and until when.

    :param id: stays the same when the key is regenerated; the ledger names keys by it.
    :param digest: SHA-256 of the key in force.
    :param name: the key as it may be shown, ``sk-...`` and four characters.
    :param alias: unique among keys that are not deleted.
    :param blocked: a blocked key opens nothing until it is unblocked.
    :param allowed_routes: paths, ``*`` wildcards and names of groups; empty allows all that is not sensitive.
    :param models: names and ``*`` wildcards; empty allows all.
    :param deleted_at: set when it was deleted; it is kept for the ledger's sake and opens nothing.
    :param rest: what is kept and echoed under the names that clients gave, and not acted on.
    """

    digest: str
    name: str
    alias: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    organization_id: str | None = None
    budget_id: str | None = None
    key_type: str = "default"
    blocked: bool = False
    expires_at: datetime | None = None
    deleted_at: datetime | None = None
    deleted_by: str | None = None
    models: list[str] = []
    allowed_routes: list[str] = []
    metadata: dict[str, Any] = {}
    tags: list[str] | None = None
    budget_limits: list[dict[str, Any]] | None = None
    rest: dict[str, Any] = {}


class User(Limited, frozen=True, kw_only=True):
    """
    A person who owns keys.
    """

    alias: str | None = None
    email: str | None = None
    role: str | None = None
    models: list[str] = []
    teams: list[str] = []
    metadata: dict[str, Any] = {}
    rest: dict[str, Any] = {}


class Team(Limited, frozen=True, kw_only=True):
    """
    People who share keys, models and limits. A blocked team's keys open nothing.
    """

    alias: str | None = None
    organization_id: str | None = None
    blocked: bool = False
    models: list[str] = []
    members: list[dict[str, Any]] = []
    metadata: dict[str, Any] = {}
    rest: dict[str, Any] = {}


class Customer(Limited, frozen=True, kw_only=True):
    """
    An end user, whom the developers' own programs name in their calls.
    """

    alias: str | None = None
    blocked: bool = False
    budget_id: str | None = None
    rest: dict[str, Any] = {}


class Budget(Limited, frozen=True, kw_only=True):
    """
    Limits with a name, to be shared.
    """

    rest: dict[str, Any] = {}


class AuditLine(Struct, frozen=True, kw_only=True):
    """
    That somebody did something. It is never changed, and holds no secret.

    :param id: time-ordered (UUIDv7).
    :param actor: the master key, or the alias of the key that was used.
    :param actor_key: the ``id`` of that key; ``None`` for the master key.
    :param claimed: whom the caller says it acts for, unproven.
    :param address: where the caller was.
    :param action: what was done: ``key.generate``, ``team.block``.
    :param kind: of what: ``key``, ``team``.
    :param subject: the ``id`` of what it was done to.
    :param before: the fields that changed, as they were; ``None`` when it was new.
    :param after: the same fields, as they are; ``None`` when it is gone.
    """

    id: str
    at: datetime
    actor: str
    actor_key: str | None = None
    claimed: str | None = None
    address: str
    action: str
    kind: str
    subject: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


KINDS: dict[str, type[Entity]] = {"key": Key, "user": User, "team": Team, "customer": Customer, "budget": Budget}

AnyEntity = TypeVar("AnyEntity", bound=Entity)


def kind_of(entity: Entity | type[Entity]) -> str:
    """
    The word for what *entity* is: ``key``, ``user``, ``team``, ``customer``, ``budget``.
    """
    sort = entity if isinstance(entity, type) else type(entity)
    return sort.__name__.lower()


def to_json(value: object) -> bytes:
    """
    *value* as JSON: amounts as decimal numbers of dollars, times as RFC 3339 in UTC.
    """
    return _encoder.encode(value)


def to_document(value: object) -> Any:
    """
    *value* as plain dictionaries, lists, texts and numbers.
    """
    return msgspec.to_builtins(value, enc_hook=_encoded, builtin_types=(datetime, Decimal))


def now() -> datetime:
    """
    The time, aware and in UTC.
    """
    return datetime.now(UTC)


def decoded(sort: type[Any], value: object) -> Any:
    """
    What msgspec asks about our own types.
    """
    if sort is Usd:
        if isinstance(value, Usd):
            return value
        if isinstance(value, int | float | Decimal | str) and not isinstance(value, bool):
            return Usd.of(value)
        msg = "Expected `number`"
        raise ValueError(msg)
    raise NotImplementedError


def _encoded(value: object) -> Any:
    if isinstance(value, Usd):
        return value.dollars()
    raise NotImplementedError


_encoder = msgspec.json.Encoder(enc_hook=_encoded, decimal_format="number")
