"""
``/key/...``: looking at keys.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from dheera.boundaries import Query
from dheera.entities import Key, User
from dheera.errors import BadRequest, NotAllowed, NotFound
from dheera.management.keys.answers import AliasPage, KeyHealth, KeyInfo, KeyInfos, KeyOwner, KeyPage, KeyRow
from dheera.management.keys.rows import found, row, rows, sought
from dheera.management.keys.shapes import NamedKeys
from dheera.management.routes import Access, AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import Instant, Name, Page, Reference, pages, utc

PageSize: TypeAlias = Annotated[int, Meta(ge=1, le=100)]

_SORTS = {
    "created_at": "created_at",
    "updated_at": "updated_at",
    "spend": "spend",
    "expires": "expires_at",
    "key_alias": "alias",
    "key_name": "name",
    "token": "digest",
    "user_id": "user_id",
    "team_id": "team_id",
}
_NO_COLUMN = Meta(description="Refused: dheera keeps this, but cannot search for it.")
_FOR_ADMINS = Meta(description="Without effect: those who may list see all keys.")


class OneKey(Struct, kw_only=True, frozen=True):
    """
    Which key is asked about; without it, the one that asks.
    """

    key: Reference | UnsetType = UNSET


class KeyList(Struct, kw_only=True, frozen=True):
    """
    Which keys are wanted, and how.
    """

    page: Page = 1
    size: PageSize = 10
    user_id: Name | UnsetType = UNSET
    team_id: Name | UnsetType = UNSET
    organization_id: Name | UnsetType = UNSET
    project_id: Annotated[Name, _NO_COLUMN] | UnsetType = UNSET
    agent_id: Annotated[Name, _NO_COLUMN] | UnsetType = UNSET
    access_group_id: Annotated[Name, _NO_COLUMN] | UnsetType = UNSET
    key_hash: Annotated[Name, Meta(description="SHA-256 of a key.")] | UnsetType = UNSET
    key_alias: Name | UnsetType = UNSET
    expires: Annotated[Instant, Meta(description="Keys that expire at exactly this time.")] | UnsetType = UNSET
    status: Annotated[Literal["deleted"], Meta(description="Those that were deleted.")] | UnsetType = UNSET
    substring_matching: Annotated[
        bool, Meta(description="`key_alias` and `user_id` need only occur somewhere, in any case of letters.")
    ] = False
    return_full_object: bool = False
    include_team_keys: Annotated[bool, _FOR_ADMINS] = False
    include_created_by_keys: Annotated[bool, _FOR_ADMINS] = False
    sort_by: Literal[
        "created_at", "updated_at", "spend", "expires", "key_alias", "key_name", "token", "user_id", "team_id"
    ] = "created_at"
    sort_order: Literal["asc", "desc"] = "desc"
    expand: Annotated[
        list[Literal["user"]], Meta(max_length=10, description="In full objects: the user whose key it is.")
    ] = []


class AliasList(Struct, kw_only=True, frozen=True):
    """
    Which aliases are wanted.
    """

    page: Page = 1
    size: PageSize = 50
    search: Annotated[Name, Meta(description="Must occur in the alias, in any case of letters.")] | UnsetType = UNSET
    team_id: Name | UnsetType = UNSET


async def info(office: Office, asked: Asked[Nothing, OneKey]) -> KeyInfo:
    """
    What is known of a key. Who may not manage learns of their own key alone, and not whether there are others.
    """
    reference, own, is_admin = asked.query.key, asked.actor.key, asked.actor.is_admin
    if reference is UNSET:
        if own is None:
            raise NotFound("The master key is not kept as a key: say which key, as ?key=...", param="key")
        return KeyInfo(key=own.name, info=KeyRow(**await row(office, own, with_token=False)))
    if is_admin:
        key = await found(office, reference)
    else:
        sought_key = await sought(office, reference)
        if own is None or sought_key is None or sought_key.id != own.id:
            raise NotAllowed("This key may only ask about itself.", param="key")
        key = sought_key
    return KeyInfo(key=reference, info=KeyRow(**await row(office, key, with_token=False)))


async def infos(office: Office, asked: Asked[NamedKeys, Nothing]) -> KeyInfos:
    """
    What is known of several keys.
    """
    keys = [key for each in asked.body.keys if (key := await sought(office, each)) is not None]
    if not keys:
        raise NotFound("There are no such keys.", param="keys")
    return KeyInfos(key=asked.body.keys, info=[KeyRow(**each) for each in await rows(office, keys, with_token=True)])


async def list_keys(office: Office, asked: Asked[Nothing, KeyList]) -> KeyPage:
    """
    One page of the keys that are wanted.
    """
    wanted = asked.query
    for name in ("project_id", "agent_id", "access_group_id"):
        if getattr(wanted, name) is not UNSET:
            raise BadRequest(f"Keys cannot be searched by {name}.", param=name)
    equal: dict[str, object] = {}
    contains: dict[str, str] = {}
    for name in ("user_id", "team_id", "organization_id", "key_hash", "key_alias"):
        value = getattr(wanted, name)
        if value is not UNSET:
            column = {"key_hash": "digest", "key_alias": "alias"}.get(name, name)
            in_part = wanted.substring_matching and name in ("user_id", "key_alias")
            (contains if in_part else equal)[column] = value
    if wanted.expires is not UNSET:
        equal["expires_at"] = utc(wanted.expires)
    keys, total = await office.store.find(
        Key,
        Query(
            equal=equal,
            contains=contains,
            sort=_SORTS[wanted.sort_by],
            descending=wanted.sort_order == "desc",
            offset=(wanted.page - 1) * wanted.size,
            limit=wanted.size,
            deleted=wanted.status is not UNSET,
        ),
    )
    shown: list[str | KeyRow] = [key.digest for key in keys]
    if wanted.return_full_object:
        owners = await _owners(office, keys) if wanted.expand else None
        shown = [
            KeyRow(**each, user=UNSET if owners is None else owners.get(each["user_id"]))
            for each in await rows(office, keys, with_token=True)
        ]
    return KeyPage(keys=shown, total_count=total, current_page=wanted.page, total_pages=pages(total, wanted.size))


async def _owners(office: Office, keys: list[Key]) -> dict[str | None, KeyOwner]:
    users = [await office.store.get(User, id) for id in {key.user_id for key in keys} if id is not None]  # noqa: A001
    return {
        user.id: KeyOwner(user_id=user.id, user_email=user.email, user_alias=user.alias)
        for user in users
        if user is not None
    }


async def list_aliases(office: Office, asked: Asked[Nothing, AliasList]) -> AliasPage:
    """
    One page of the aliases that are in use.
    """
    wanted = asked.query
    keys, total = await office.store.find(
        Key,
        Query(
            equal={} if wanted.team_id is UNSET else {"team_id": wanted.team_id},
            contains={"alias": wanted.search or ""},  # what is not set contains nothing, not even nothing
            sort="alias",
            descending=False,
            offset=(wanted.page - 1) * wanted.size,
            limit=wanted.size,
        ),
    )
    return AliasPage(
        aliases=[key.alias for key in keys if key.alias is not None],
        total_count=total,
        current_page=wanted.page,
        total_pages=pages(total, wanted.size),
        size=wanted.size,
    )


async def health(_office: Office, _asked: Asked[Nothing, Nothing]) -> KeyHealth:
    """
    That the key is accepted: it would not have come so far otherwise.
    """
    return KeyHealth(key="healthy", logging_callbacks=None)


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/key/info",
        methods=("GET",),
        summary="What is known of a key",
        description="Without `key`, of the key that asks. A key that may not manage learns of itself alone.",
        access=Access.SELF,
        body=Nothing,
        query=OneKey,
        answer=KeyInfo,
        refusals=(NotFound,),
        verb=info,
    ),
    Route(
        path="/v2/key/info",
        summary="What is known of several keys",
        body=NamedKeys,
        query=Nothing,
        answer=KeyInfos,
        refusals=(NotFound,),
        verb=infos,
    ),
    Route(
        path="/key/list",
        methods=("GET",),
        summary="List keys",
        body=Nothing,
        query=KeyList,
        answer=KeyPage,
        refusals=(BadRequest,),
        verb=list_keys,
    ),
    Route(
        path="/key/aliases",
        methods=("GET",),
        summary="List aliases",
        body=Nothing,
        query=AliasList,
        answer=AliasPage,
        verb=list_aliases,
    ),
    Route(
        path="/key/health",
        methods=("POST", "GET"),
        summary="Whether the key that asks is accepted",
        access=Access.SELF,
        body=Nothing,
        query=Nothing,
        answer=KeyHealth,
        verb=health,
    ),
)
