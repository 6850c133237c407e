"""
``/user/...``: looking at users.
"""

from __future__ import annotations

from msgspec import UNSET

from dheera.boundaries import Query
from dheera.entities import Key, Team, User
from dheera.errors import NotAllowed, NotFound
from dheera.management.acts import existing
from dheera.management.keys.answers import KeyRow
from dheera.management.keys.rows import rows
from dheera.management.listing import named
from dheera.management.reading import fitted
from dheera.management.roster import ids_of
from dheera.management.routes import Access, AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import pages
from dheera.management.teams.rows import discreet, team_rows
from dheera.management.users.rows import user_row, user_rows
from dheera.management.users.shapes import KEYS_SHOWN, Ids, UserInfo, UserListQuery, UserPage, UserQuery

_SORTS = {
    "user_id": "id",
    "user_email": "email",
    "user_alias": "alias",
    "user_role": "role",
    "spend": "spend",
    "created_at": "created_at",
}


async def info(office: Office, asked: Asked[Nothing, UserQuery]) -> UserInfo:
    """
    What is known of a user. Who may not manage learns of the user of their own key alone.
    """
    own = None if asked.actor.key is None else asked.actor.key.user_id
    is_admin = asked.actor.is_admin
    user_id = asked.query.user_id or own
    if not is_admin and user_id != own:
        raise NotAllowed("This key may only ask about its own user.", param="user_id")
    if user_id is None:
        raise NotFound("This key has no user: say which, as ?user_id=...", param="user_id")
    user = await existing(office, User, user_id, param="user_id")
    keys, _ = await office.store.find(Key, Query(equal={"user_id": user_id}, limit=KEYS_SHOWN))
    found = [team for each in user.teams if (team := await office.store.get(Team, each))]
    teams = await team_rows(office, found, only=user_id)
    return UserInfo(
        user_id=user_id,
        user_info=await user_row(office, user),
        keys=[KeyRow(**each) for each in await rows(office, keys, with_token=is_admin)],
        teams=teams if is_admin else [discreet(each) for each in teams],
    )


async def list_users(office: Office, asked: Asked[Nothing, UserListQuery]) -> UserPage:
    """
    One page of the users who are wanted.
    """
    wanted = asked.query
    query = Query(
        equal={} if wanted.role is UNSET else {"role": wanted.role},
        contains={} if wanted.user_email is UNSET else {"email": wanted.user_email},
        sort=_SORTS[wanted.sort_by or "created_at"],
        descending=wanted.sort_by is UNSET or wanted.sort_order == "desc",
        offset=(wanted.page - 1) * wanted.page_size,
        limit=wanted.page_size,
    )
    ids = await _ids(office, wanted)
    users, total = await (office.store.find(User, query) if ids is None else named(office, User, ids, query))
    return UserPage(
        users=await user_rows(office, users),
        total=total,
        page=wanted.page,
        page_size=wanted.page_size,
        total_pages=pages(total, wanted.page_size),
    )


async def _ids(office: Office, wanted: UserListQuery) -> list[str] | None:
    """
    The users who alone are looked at; ``None`` if all are.
    """
    given = [each for text in wanted.user_ids for each in text.split(",") if each]
    ids = fitted(given, Ids, ("query", "user_ids"), strict_fields=False) if wanted.user_ids else None
    if wanted.team is UNSET:
        return ids
    members = ids_of(await existing(office, Team, wanted.team, param="team"))
    return members if ids is None else [each for each in ids if each in members]


ROUTES: tuple[AnyRoute, ...] = (
    *(
        Route(
            path=path,
            methods=("GET",),
            summary="What is known of a user",
            description=f"With the {KEYS_SHOWN} newest keys; `/key/list` has them all. Teams are shown without their "
            "other members. Without `user_id`, of the user whose key asks; a key that may not manage learns of that "
            "user alone, and neither the `token` of keys nor the `metadata` and `router_settings` of teams.",
            access=Access.SELF,
            body=Nothing,
            query=UserQuery,
            answer=UserInfo,
            refusals=(NotFound,),
            verb=info,
        )
        for path in ("/user/info", "/v2/user/info")
    ),
    Route(
        path="/user/list",
        methods=("GET",),
        summary="List users",
        description="Users named in `user_ids` who do not exist are left out.",
        body=Nothing,
        query=UserListQuery,
        answer=UserPage,
        refusals=(NotFound,),
        verb=list_users,
    ),
)
