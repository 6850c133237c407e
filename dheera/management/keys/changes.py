"""
From what a body says to what changes in a key.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from msgspec import UNSET, UnsetType

from dheera import terms
from dheera.boundaries import Add, Put, Write
from dheera.call_ids import new_call_id
from dheera.durations import after
from dheera.entities import Budget, Key, Team
from dheera.errors import BadRequest, Invalid
from dheera.keys import LONGEST, PREFIX, SHORTEST, digest, masked
from dheera.management.acts import Decision, existing, in_use, line, revised, settle
from dheera.management.keys.routes import routed
from dheera.management.keys.rows import NAMES, found
from dheera.management.keys.shapes import KeyFields
from dheera.management.periods import renewed
from dheera.management.routes import Asked, Nothing, Office
from dheera.management.setting import spending
from dheera.money import Usd

FOR_EVER = "-1"
CALLED = {"alias": "key_alias", "digest": "key"}
"""
What bodies call the fields that must be unique.
"""

_OWN = re.compile(rf"{PREFIX}[!-~]{{{SHORTEST - len(PREFIX)},{LONGEST - len(PREFIX)}}}")


async def changed_key(
    office: Office,
    asked: Asked[Any, Nothing],
    action: str,
    reference: str,
    changes: Callable[[Key], Awaitable[dict[str, Any]]],
) -> Key:
    """
    The key that *reference* names, after *changes* to it.
    """

    async def decide() -> Decision[Key]:
        before = await found(office, reference)
        changed = await changes(before)
        after_it = revised(before, office, asked, **changed)
        return Decision(
            outcome=after_it,
            writes=[Put(after_it), *(await spending(office, after_it) if "spend" in changed else [])],
            lines=[line(office, asked, action, before, after_it)],
        )

    return await settle(office, decide, called=CALLED)


async def new_key(office: Office, asked: Asked[Any, Nothing], body: KeyFields, plaintext: str) -> Key:
    """
    The key that *body* wants to be made, which *plaintext* opens.
    """
    changes = await changes_of(office, body, None)
    now, by = office.now(), asked.actor.alias
    return Key(
        id=new_call_id(),
        digest=digest(plaintext.encode()),
        name=masked(plaintext),
        created_at=now,
        updated_at=now,
        created_by=by,
        updated_by=by,
        **changes,
    )


async def adding(office: Office, key: Key) -> list[Write]:
    """
    The writes that keep a new key.
    """
    return [Add(key), *(await spending(office, key) if key.spend != Usd() else [])]


async def changes_of(office: Office, body: KeyFields, before: Key | None) -> dict[str, Any]:
    """
    What *body* changes in a key.

    :param before: as it is; ``None`` if it is to be made.
    :raises NotFound: it names a team or a budget that does not exist.
    :raises BadRequest: its alias or its routes cannot be.
    :raises Invalid: it raises a budget without an end.
    """
    if isinstance(body.team_id, str):
        await existing(office, Team, body.team_id, param="team_id")
    if isinstance(body.budget_id, str):
        await existing(office, Budget, body.budget_id, param="budget_id")
    check_alias(body)
    changed = NAMES.changes(body, {} if before is None else before.rest)
    _check_increase(body, changed, before)
    now = office.now()
    if body.duration is not UNSET:
        changed["expires_at"] = None if body.duration == FOR_EVER else instant_after(now, body.duration, "duration")
    changed |= routed(body, before)
    return renewed(changed, now, before)


def check_alias(body: KeyFields) -> None:
    """
    Refuse an alias that could be taken for a key, or be one: aliases are shown and logged.
    """
    if isinstance(body.key_alias, str) and body.key_alias.startswith(PREFIX):
        raise BadRequest(f"An alias must not look like a key: it may not begin with {PREFIX}.", param="key_alias")


def _check_increase(body: KeyFields, changed: Mapping[str, Any], before: Key | None) -> None:
    """
    Refuse to raise a budget for a while that has no end: it would not be raised.
    """
    if not isinstance(body.temp_budget_increase, Usd):
        return
    places = [changed.get(name, getattr(before, name, None)) or {} for name in ("rest", "metadata")]
    if all(terms.instant(place.get("temp_budget_expiry")) is None for place in places):
        raise Invalid([(("body", "temp_budget_increase"), "Expected `temp_budget_expiry` beside it", "value_error")])


def instant_after(start: datetime, span: str | UnsetType | None, param: str) -> datetime | None:
    """
    The instant *span* after *start*; ``None`` if there is no span.

    :raises Invalid: it leads beyond the calendar.
    """
    if not isinstance(span, str):
        return None
    try:
        return after(start, span)
    except ValueError as error:
        raise Invalid([(("body", param), str(error), "value_error")]) from None


def own_key(office: Office, key: str | UnsetType | None, *, param: str) -> str | None:
    """
    A key that the client brought along.

    :raises BadRequest: it is not one that we accept, or is the master key.
    """
    if not isinstance(key, str):
        return None
    if _OWN.fullmatch(key) is None:
        raise BadRequest(
            f"A key of your own begins with {PREFIX} and has {SHORTEST} to {LONGEST} visible ASCII characters.",
            param=param,
        )
    if digest(key.encode()) in office.reserved:
        raise in_use(param)
    return key
