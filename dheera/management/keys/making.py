"""
``/key/...``: making and changing keys.
"""

from __future__ import annotations

from typing import Any

from msgspec import structs

from dheera.entities import Key
from dheera.errors import BadRequest, NotFound, Refusal, StoreAway
from dheera.keys import mint
from dheera.management.acts import Decision, line, settle
from dheera.management.keys.answers import (
    FailedUpdate,
    GeneratedKey,
    KeyRow,
    SpendReset,
    SuccessfulUpdate,
    UpdatedKey,
    UpdatedKeys,
)
from dheera.management.keys.changes import CALLED, adding, changed_key, changes_of, new_key, own_key
from dheera.management.keys.rows import found, row
from dheera.management.keys.shapes import GenerateKey, ResetSpend, UpdateKey, UpdateKeys
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.setting import spending


async def generate(office: Office, asked: Asked[GenerateKey, Nothing]) -> GeneratedKey:
    """
    Make a key.
    """
    return await _made(office, asked, asked.body)


async def generate_for_service(office: Office, asked: Asked[GenerateKey, Nothing]) -> GeneratedKey:
    """
    Make a key that no user owns, but a team.
    """
    if not isinstance(asked.body.team_id, str):
        raise BadRequest("A service account belongs to a team: send its team_id.", param="team_id")
    return await _made(office, asked, structs.replace(asked.body, user_id=None))


async def _made(office: Office, asked: Asked[GenerateKey, Nothing], body: GenerateKey) -> GeneratedKey:
    plaintext = own_key(office, body.key, param="key") or mint()

    async def decide() -> Decision[Key]:
        key = await new_key(office, asked, body, plaintext)
        lines = [line(office, asked, "key.generate", None, key)]
        return Decision(outcome=key, writes=await adding(office, key), lines=lines)

    key = await settle(office, decide, called=CALLED)
    return GeneratedKey(
        **await row(office, key, with_token=True, written=True), duration=body.duration or None, key=plaintext
    )


async def update(office: Office, asked: Asked[UpdateKey, Nothing]) -> UpdatedKey:
    """
    Change a key.
    """
    fields = await _updated(office, asked, asked.body)
    return UpdatedKey(**fields, key=asked.body.key)


async def update_many(office: Office, asked: Asked[UpdateKeys, Nothing]) -> UpdatedKeys:
    """
    Change keys, each by itself.
    """
    successful: list[SuccessfulUpdate] = []
    failed: list[FailedUpdate] = []
    away: StoreAway | None = None
    for one in asked.body.keys:
        reason = None if away is None else away.message
        if reason is None:
            try:
                fields = await _updated(office, asked, one)
                successful.append(SuccessfulUpdate(key=one.key, key_info=KeyRow(**fields)))
                continue
            except StoreAway as refusal:
                if not successful:
                    raise
                away, reason = refusal, refusal.message
            except Refusal as refusal:
                reason = refusal.message
        failed.append(FailedUpdate(key=one.key, failed_reason=reason))
    return UpdatedKeys(total_requested=len(asked.body.keys), successful_updates=successful, failed_updates=failed)


async def _updated(office: Office, asked: Asked[Any, Nothing], body: UpdateKey) -> dict[str, Any]:
    key = await changed_key(office, asked, "key.update", body.key, lambda key: changes_of(office, body, key))
    return await row(office, key, with_token=True, written=True)


async def reset_spend(office: Office, asked: Asked[ResetSpend, Nothing]) -> SpendReset:
    """
    Set what a key has spent.
    """
    amount = asked.body.reset_to

    async def decide() -> Decision[dict[str, Any]]:
        before = await found(office, asked.path["key"])
        shown = await row(office, before, with_token=True)
        if amount > shown["spend"]:
            raise BadRequest("The spend can only be set to what it is, or to less.", param="reset_to")
        key = structs.replace(before, spend=amount)
        return Decision(
            outcome=shown,
            writes=await spending(office, key),
            lines=[line(office, asked, "key.reset_spend", before, key)],
        )

    before = await settle(office, decide)
    return SpendReset(
        key_id=before["key_id"],
        key_hash=before["token"],
        spend=amount,
        previous_spend=before["spend"],
        max_budget=before["max_budget"],
        budget_reset_at=before["budget_reset_at"],
    )


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/key/generate",
        summary="Make a key",
        description="`{}` is enough: the key then opens everything but sensitive routes, for ever.",
        body=GenerateKey,
        query=Nothing,
        answer=GeneratedKey,
        refusals=(BadRequest, NotFound),
        verb=generate,
    ),
    Route(
        path="/key/service-account/generate",
        summary="Make a key for a service of a team",
        description="Like `/key/generate`, but `team_id` is required and no user owns the key: `user_id` is ignored.",
        body=GenerateKey,
        query=Nothing,
        answer=GeneratedKey,
        refusals=(BadRequest, NotFound),
        verb=generate_for_service,
    ),
    Route(
        path="/key/update",
        summary="Change a key",
        description="Fields that are absent are kept; `null` goes back to the default, and with `allowed_routes` to "
        "those of the key's type. A new `key_type` brings its routes, in place of those of the old one; a key that has "
        "others keeps them if the type is `default`, and must else be sent both.",
        body=UpdateKey,
        query=Nothing,
        answer=UpdatedKey,
        refusals=(BadRequest, NotFound),
        verb=update,
    ),
    Route(
        path="/key/bulk_update",
        summary="Change several keys",
        description="Each by itself: some may be changed though others are not.",
        body=UpdateKeys,
        query=Nothing,
        answer=UpdatedKeys,
        refusals=(BadRequest,),
        verb=update_many,
    ),
    Route(
        path="/key/{key}/reset_spend",
        summary="Set what a key has spent",
        description="To what it is, or less. Where its budget begins anew by itself, that is the spend since then; so "
        "much counts against the budget from now on.",
        body=ResetSpend,
        query=Nothing,
        answer=SpendReset,
        refusals=(BadRequest, NotFound),
        verb=reset_spend,
    ),
)
