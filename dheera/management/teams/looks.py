"""
``/team/...``: looking at teams.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from dheera.boundaries import Query
from dheera.entities import Key, Team, User
from dheera.errors import NotAllowed, NotFound
from dheera.management.acts import existing
from dheera.management.keys.answers import KeyRow
from dheera.management.keys.rows import rows
from dheera.management.listing import named
from dheera.management.routes import Access, Actor, AnyRoute, Asked, Nothing, Office, Route
from dheera.management.shapes import pages
from dheera.management.teams.rows import discreet, memberships, team_row, team_rows
from dheera.management.teams.shapes import (
    TEAMS_LISTED,
    TeamInfo,
    TeamListQuery,
    TeamPage,
    TeamPageQuery,
    TeamQuery,
    TeamRow,
)
from dheera.management.users.shapes import KEYS_SHOWN

_SORTS = {"team_id": "id", "team_alias": "alias", "spend": "spend", "created_at": "created_at"}


async def info(office: Office, asked: Asked[Nothing, TeamQuery]) -> TeamInfo:
    """
    What is known of a team. Who may not manage learns of the team of their own key alone, and of it no more than
    their own keys and membership.
    """
    own = None if asked.actor.key is None else asked.actor.key.team_id
    is_admin = asked.actor.is_admin
    team_id = asked.query.team_id or own
    if not is_admin and team_id != own:
        raise NotAllowed("This key may only ask about its own team.", param="team_id")
    if team_id is None:
        raise NotFound("This key has no team: say which, as ?team_id=...", param="team_id")
    team = await existing(office, Team, team_id, param="team_id")
    only = None if is_admin or asked.actor.key is None else asked.actor.key.user_id or ""
    shown = await team_row(office, team, only=only)
    keys = await _keys(office, asked.actor, team_id)
    return TeamInfo(
        team_id=team_id,
        team_info=shown if is_admin else discreet(shown),
        keys=[KeyRow(**each) for each in await rows(office, keys, with_token=is_admin)],
        team_memberships=await memberships(office, team, only=only),
    )


async def _keys(office: Office, actor: Actor, team_id: str) -> Sequence[Key]:
    """
    The keys of a team that *actor* may see.
    """
    equal: dict[str, object] = {"team_id": team_id}
    if not actor.is_admin and actor.key is not None:
        if actor.key.user_id is None:
            return [actor.key]
        equal["user_id"] = actor.key.user_id
    keys, _ = await office.store.find(Key, Query(equal=equal, limit=KEYS_SHOWN))
    return keys


async def list_teams(office: Office, asked: Asked[Nothing, TeamListQuery]) -> list[TeamRow]:
    """
    The newest teams of those that are wanted.
    """
    wanted = asked.query
    query = Query(
        equal=_equal(organization_id=wanted.organization_id),
        offset=(wanted.page - 1) * wanted.page_size,
        limit=wanted.page_size,
    )
    teams, _ = await _found(office, wanted.user_id, query)
    return await team_rows(office, teams)


async def page_of_teams(office: Office, asked: Asked[Nothing, TeamPageQuery]) -> TeamPage:
    """
    One page of the teams that are wanted.
    """
    wanted = asked.query
    query = Query(
        equal=_equal(organization_id=wanted.organization_id, id=wanted.team_id),
        contains={} if wanted.team_alias is UNSET else {"alias": wanted.team_alias},
        sort=_SORTS[wanted.sort_by or "created_at"],
        descending=wanted.sort_by is UNSET or wanted.sort_order == "desc",
        offset=(wanted.page - 1) * wanted.page_size,
        limit=wanted.page_size,
    )
    teams, total = await _found(office, wanted.user_id, query)
    return TeamPage(
        teams=await team_rows(office, teams),
        total=total,
        page=wanted.page,
        page_size=wanted.page_size,
        total_pages=pages(total, wanted.page_size),
    )


def _equal(**given: str | UnsetType) -> dict[str, object]:
    return {name: value for name, value in given.items() if value is not UNSET}


async def _found(office: Office, user_id: str | UnsetType, query: Query) -> tuple[Sequence[Team], int]:
    if user_id is UNSET:
        return await office.store.find(Team, query)
    user = await existing(office, User, user_id, param="user_id")
    return await named(office, Team, user.teams, query)


ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/team/info",
        methods=("GET",),
        summary="What is known of a team",
        description=f"With the {KEYS_SHOWN} newest keys; `/key/list` has them all. Without `team_id`, of the team of "
        "the key that asks; a key that may not manage learns of that team alone, without `metadata` and "
        "`router_settings`, and of the keys and the membership of its own user there, without `token`.",
        access=Access.SELF,
        body=Nothing,
        query=TeamQuery,
        answer=TeamInfo,
        refusals=(NotFound,),
        verb=info,
    ),
    Route(
        path="/team/list",
        methods=("GET",),
        summary="List teams, newest first",
        description=f"At most {TEAMS_LISTED} at once; `page` leads to more. Keys are in `/team/info`.",
        body=Nothing,
        query=TeamListQuery,
        answer=list[TeamRow],
        refusals=(NotFound,),
        verb=list_teams,
    ),
    Route(
        path="/v2/team/list",
        methods=("GET",),
        summary="List teams, page by page",
        body=Nothing,
        query=TeamPageQuery,
        answer=TeamPage,
        refusals=(NotFound,),
        verb=page_of_teams,
    ),
)
