"""
Reading, deciding and writing as one: a verb that changes something decides on what the store says, writes it together
with a line of audit, and decides again if somebody else was faster.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec
from attrs import field, frozen
from msgspec import structs

from dheera.boundaries import Write
from dheera.call_ids import new_call_id
from dheera.entities import AnyEntity, AuditLine, Entity, kind_of, to_json
from dheera.errors import BadRequest, NotFound, Outdated, Taken, Unavailable
from dheera.keys import DIGEST_PATTERN, PREFIX, masked
from dheera.management.routes import Asked, Office

ATTEMPTS = 5
"""
How often a decision is made anew before the client is asked to try again.
"""

NOTHING: Mapping[str, str] = MappingProxyType({})
Outcome = TypeVar("Outcome")

_UNSAID = frozenset({"id", "digest", "version", "created_at", "updated_at", "created_by", "updated_by"})
_SECRET_NAME = re.compile(r"(?i)secret|token|password|credential|authorization|api_?key|(^|_)key$")
_SECRET_TEXT = re.compile(rf"(?i){PREFIX}[A-Za-z0-9_-]{{8,}}|\b{DIGEST_PATTERN}\b|bearer\s+\S+")
_MASK = "***"


@frozen(kw_only=True)
class Decision(Generic[Outcome]):
    """
    What is to be written, and what the verb makes of it once it is.

    :param lines: what the audit is told; `line` makes them.
    """

    outcome: Outcome
    writes: Sequence[Write] = field(factory=list, repr=False)
    lines: Sequence[AuditLine] = field(factory=list, repr=False)


async def settle(
    office: Office, decide: Callable[[], Awaitable[Decision[Outcome]]], *, called: Mapping[str, str] = NOTHING
) -> Outcome:
    """
    Do what *decide* says.

    :param decide: reads what it depends on anew each time that it is called.
    :param called: what the request calls the fields that must be unique: ``id``, ``alias``, ``digest``.
    :raises BadRequest: one of them is in use.
    :raises Unavailable: others keep changing the same.
    """
    for _ in range(ATTEMPTS):
        decision = await decide()
        try:
            await office.store.apply(decision.writes, decision.lines)
        except Outdated:
            continue
        except Taken as taken:
            param = called.get(taken.field, taken.field)
            raise in_use(param) from None
        return decision.outcome
    raise Unavailable("Others keep changing this at the same time. Try again in a moment.", retry_after_seconds=1)


async def existing(office: Office, sort: type[AnyEntity], id: str, *, param: str) -> AnyEntity:  # noqa: A002 - its name
    """
    The entity that a client names.

    :param param: what in the request names it.
    :raises NotFound: there is none.
    """
    found = await office.store.get(sort, id)
    if found is None:
        raise absent(sort, id, param=param)
    return found


def absent(sort: type[Entity], id: str, *, param: str) -> NotFound:  # noqa: A002 - the field's name
    """
    That there is no such entity; says which one was looked for.
    """
    name = masked(id) if id.startswith(PREFIX) else _SECRET_TEXT.sub(_MASK, id)
    return NotFound(f"There is no {kind_of(sort)} with the id {name}.", param=param)


def in_use(param: str) -> BadRequest:
    """
    That what must be unique is not.
    """
    word = param.removesuffix("s") if param.endswith("_ids") else param
    return BadRequest(f"Another one has this {word} already.", param=param)


def revised(entity: AnyEntity, office: Office, asked: Asked[Any, Any], /, **changes: Any) -> AnyEntity:
    """
    *entity* with *changes*, made by who asks, now. Its version stays the one that was read.
    """
    return structs.replace(entity, **changes, updated_at=office.now(), updated_by=asked.actor.alias)


def line(office: Office, asked: Asked[Any, Any], action: str, before: Entity | None, after: Entity | None) -> AuditLine:
    """
    What the audit is told of an act: who, what, from where, and the fields that changed, with secrets masked.

    :param action: ``key.block``; its first part is the kind.
    :param before: ``None`` when it is new.
    :param after: ``None`` when it is gone.
    """
    old, new = _told(before), _told(after)
    subject = after or before
    if old is not None and new is not None:
        old, new = (
            {name: value for name, value in old.items() if new.get(name) != value},
            {name: value for name, value in new.items() if old.get(name) != value},
        )
    return AuditLine(
        id=new_call_id(),
        at=office.now(),
        actor=_masked(asked.actor.alias),
        actor_key=None if asked.actor.key is None else asked.actor.key.id,
        claimed=_masked(asked.claimed),
        address=asked.address,
        action=action,
        kind=action.partition(".")[0],
        subject=subject.id if subject is not None else "",
        before=_masked(old),
        after=_masked(new),
    )


def plain(value: object) -> Any:
    """
    *value* as JSON has it: texts, numbers, lists and dictionaries.
    """
    return msgspec.json.decode(to_json(value))


def _told(entity: Entity | None) -> dict[str, Any] | None:
    """
    The fields of *entity* that an audit is told of.
    """
    if entity is None:
        return None
    return {name: value for name, value in plain(entity).items() if name not in _UNSAID}


def _masked(value: Any) -> Any:
    """
    *value* without what looks like a secret: free fields hold the credentials of callbacks, and what users take for a
    note.
    """
    if isinstance(value, dict):
        return {
            _SECRET_TEXT.sub(_MASK, name): _MASK
            if each and isinstance(each, str) and _SECRET_NAME.search(name)
            else _masked(each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_masked(each) for each in value]
    return _SECRET_TEXT.sub(_MASK, value) if isinstance(value, str) else value
