"""
How keys are named by clients, and shown to them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from dheera.entities import Budget, Key
from dheera.errors import NotFound
from dheera.keys import DIGEST_PATTERN, ID_PATTERN, PREFIX, Digest, digest
from dheera.management.counting import Spend, counted, spender
from dheera.management.keys.shapes import KeyFields
from dheera.management.patches import Names
from dheera.management.routes import Office
from dheera.management.shapes import BudgetTable, budget_table

NAMES = Names(
    entity=Key,
    fields=KeyFields,
    renamed={"key_alias": "alias"},
    apart=frozenset({"duration"}),
    unset={"aliases": {}, "config": {}, "permissions": {}, "allowed_cache_controls": [], "auto_rotate": False},
)

_DIGEST = re.compile(DIGEST_PATTERN)
_ID = re.compile(ID_PATTERN)


def is_reference(text: str) -> bool:
    """
    Whether *text* can be a key, a digest or an id at all.
    """
    return text.startswith(PREFIX) or bool(_DIGEST.fullmatch(text) or _ID.fullmatch(text))


async def sought(office: Office, reference: str) -> Key | None:
    """
    The key that a client names by itself, its digest or its id; one that was deleted is not found.
    """
    if reference.startswith(PREFIX) or _DIGEST.fullmatch(reference):
        known = digest(reference.encode()) if reference.startswith(PREFIX) else Digest(reference)
        grant = await office.store.look_up(known, office.now())
        return None if grant is None else grant.key
    key = await office.store.get(Key, reference)
    return key if key is not None and key.deleted_at is None else None


async def found(office: Office, reference: str, *, param: str = "key") -> Key:
    """
    The key that a client names.

    :raises NotFound: there is none.
    """
    key = await sought(office, reference)
    if key is None:
        raise NotFound("There is no such key.", param=param)
    return key


async def row(office: Office, key: Key, *, with_token: bool, written: bool = False) -> dict[str, Any]:
    """
    The fields of a `KeyRow`.

    :param with_token: whether who asks may know the digest.
    :param written: as for `counted`.
    """
    (one,) = await rows(office, [key], with_token=with_token, written=written)
    return one


async def rows(office: Office, keys: Sequence[Key], *, with_token: bool, written: bool = False) -> list[dict[str, Any]]:
    """
    The fields of a `KeyRow` for each of *keys*.
    """
    named = dict.fromkeys(key.budget_id for key in keys if key.budget_id is not None)
    budgets = {each: await office.store.get(Budget, each) for each in named}
    now = office.now()
    shared = [budgets.get(key.budget_id or "") for key in keys]
    spenders = [spender(key, now, budget) for key, budget in zip(keys, shared, strict=True)]
    spends = await counted(office, spenders, written=written)
    return [
        _row(key, spend, None if budget is None else budget_table(budget, now), with_token=with_token)
        for key, budget, spend in zip(keys, shared, spends, strict=True)
    ]


def _row(key: Key, spend: Spend, budget: BudgetTable | None, *, with_token: bool) -> dict[str, Any]:
    fields = NAMES.shown(key) | {
        "spend": spend.amount,
        "budget_reset_at": spend.resets_at,
        "key_id": key.id,
        "key_name": key.name,
        "expires": key.expires_at,
        "held": spend.held,
        "litellm_budget_table": budget,
        "created_at": key.created_at,
        "updated_at": key.updated_at,
        "created_by": key.created_by,
        "updated_by": key.updated_by,
    }
    if with_token:
        fields |= {"token": key.digest, "token_id": key.digest}
    if key.deleted_at is not None:
        fields |= {"deleted_at": key.deleted_at, "deleted_by": key.deleted_by}
    return fields
