"""
``/key/...``: blocking, deleting and replacing keys.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from dheera.boundaries import Query, Retire, Rotate
from dheera.entities import Key
from dheera.errors import BadRequest, Invalid, NotFound
from dheera.keys import digest, masked, mint
from dheera.management.acts import Decision, line, revised, settle
from dheera.management.keys.answers import DeletedKeys, GeneratedKey, KeyRow
from dheera.management.keys.changes import CALLED, changed_key, changes_of, instant_after, own_key
from dheera.management.keys.rows import found, is_reference, row, sought
from dheera.management.keys.shapes import DeleteKeys, NamedKey, RegenerateKey
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.setting import spending


async def block(office: Office, asked: Asked[NamedKey, Nothing]) -> KeyRow:
    """
    Let a key open nothing until it is unblocked.
    """
    return await _set_blocked(office, asked, "key.block", blocked=True)


async def unblock(office: Office, asked: Asked[NamedKey, Nothing]) -> KeyRow:
    """
    Let a blocked key open again.
    """
    return await _set_blocked(office, asked, "key.unblock", blocked=False)


async def _set_blocked(office: Office, asked: Asked[NamedKey, Nothing], action: str, *, blocked: bool) -> KeyRow:
    reference = asked.body.key
    if not is_reference(reference):
        raise BadRequest("This is neither a key, nor a SHA-256, nor a key_id.", param="key")

    async def changes(_key: Key) -> dict[str, Any]:
        return {"blocked": blocked}

    key = await changed_key(office, asked, action, reference, changes)
    return KeyRow(**await row(office, key, with_token=True))


async def delete(office: Office, asked: Asked[DeleteKeys, Nothing]) -> DeletedKeys:
    """
    Delete keys: those that are found, all at once.
    """
    references, aliases = asked.body.keys or [], asked.body.key_aliases or []
    if not references and not aliases:
        raise BadRequest("Say which: send keys, or key_aliases.", param="keys")

    async def decide() -> Decision[DeletedKeys]:
        keys = {each: await sought(office, each) for each in references}
        keys |= {each: await _by_alias(office, each) for each in aliases}
        there = {key.id: key for key in keys.values() if key is not None}
        if not there:
            raise NotFound("There are no such keys.", param="keys")
        now, by = office.now(), asked.actor.alias
        return Decision(
            outcome=DeletedKeys(deleted_keys=[each for each, key in keys.items() if key is not None]),
            writes=[Retire(field="id", value=each, at=now, by=by) for each in there],
            lines=[line(office, asked, "key.delete", key, None) for key in there.values()],
        )

    return await settle(office, decide)


async def _by_alias(office: Office, alias: str) -> Key | None:
    keys, _ = await office.store.find(Key, Query(equal={"alias": alias}, limit=1))
    return keys[0] if keys else None


async def regenerate(office: Office, asked: Asked[RegenerateKey, Nothing]) -> GeneratedKey:
    """
    Replace a key by a new one. It stays the same key to all who know it by its id or alias.
    """
    body = asked.body
    reference = asked.path.get("key") or body.key
    if not reference:
        raise Invalid([(("body", "key"), "This field is required", "missing")])
    if body.new_master_key is not UNSET:
        raise BadRequest("The master key is set where dheera is started, not here.", param="new_master_key")
    plaintext = own_key(office, body.new_key, param="new_key") or mint()

    async def decide() -> Decision[Key]:
        before = await found(office, reference)
        new = digest(plaintext.encode())
        if new == before.digest:
            raise BadRequest("This is the key already: send another one.", param="new_key")
        changes = await changes_of(office, body, before)
        expires = changes.get("expires_at", before.expires_at)
        if expires is not None and expires <= office.now():
            raise BadRequest("This key has expired, and so would the new one: send a duration, too.", param="duration")
        key = revised(before, office, asked, **changes, digest=new, name=masked(plaintext))
        until = instant_after(office.now(), body.grace_period, "grace_period")
        return Decision(
            outcome=key,
            writes=[Rotate(key, until), *(await spending(office, key) if "spend" in changes else [])],
            lines=[line(office, asked, "key.regenerate", before, key)],
        )

    key = await settle(office, decide, called=CALLED | {"digest": "new_key"})
    return GeneratedKey(
        **await row(office, key, with_token=True, written=True), duration=body.duration or None, key=plaintext
    )


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/key/delete",
        summary="Delete keys",
        description="Those that are found are deleted, all at once, and named in the answer; if none is found, 404.",
        body=DeleteKeys,
        query=Nothing,
        answer=DeletedKeys,
        refusals=(BadRequest, NotFound),
        verb=delete,
    ),
    Route(
        path="/key/block",
        summary="Block a key",
        description="It opens nothing until it is unblocked.",
        body=NamedKey,
        query=Nothing,
        answer=KeyRow,
        refusals=(BadRequest, NotFound),
        verb=block,
    ),
    Route(
        path="/key/unblock",
        summary="Unblock a key",
        body=NamedKey,
        query=Nothing,
        answer=KeyRow,
        refusals=(BadRequest, NotFound),
        verb=unblock,
    ),
    *(
        Route(
            path=path,
            summary="Replace a key by a new one",
            description="All else stays as it is, but for what the body says. With `grace_period` the old key goes on "
            "opening for that long; without it, it and those that live on from earlier times end now. A key that has "
            "expired must be given a `duration`.",
            body=RegenerateKey,
            query=Nothing,
            answer=GeneratedKey,
            refusals=(BadRequest, NotFound),
            verb=regenerate,
        )
        for path in ("/key/regenerate", "/key/{key}/regenerate")
    ),
)
