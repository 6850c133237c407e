"""
``/team/...``: making, changing, blocking and deleting teams.
"""

from __future__ import annotations

from dheera.boundaries import Put, Retire, Write
from dheera.call_ids import new_call_id
from dheera.entities import Team
from dheera.errors import BadRequest, NotFound
from dheera.management.acts import Decision, existing, line, revised, settle
from dheera.management.periods import renewed
from dheera.management.roster import ENTITIES_AT_ONCE, Roster, ids_of, unique
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.setting import spending
from dheera.management.teams.rows import NAMES, team_row
from dheera.management.teams.shapes import (
    DeletedTeams,
    NamedTeam,
    NamedTeams,
    NewTeam,
    TeamRow,
    UpdatedTeam,
    UpdateTeam,
)
from dheera.money import Usd


async def new(office: Office, asked: Asked[NewTeam, Nothing]) -> TeamRow:
    """
    Make a team, and those of its members who do not exist.
    """
    body = asked.body

    async def decide() -> Decision[Team]:
        roster = Roster(office, asked)
        now, by = office.now(), asked.actor.alias
        team = roster.add(
            Team(
                id=body.team_id or new_call_id(),
                created_at=now,
                updated_at=now,
                created_by=by,
                updated_by=by,
                **renewed(NAMES.changes(body, {}), now),
            )
        )
        for each in body.members_with_roles or []:
            team = roster.join(team, await roster.member(each.user_id, each.user_email), role=each.role)
        lines = [line(office, asked, "team.new", None, team), *roster.lines()]
        writes = [*roster.writes(), *(await spending(office, team) if team.spend != Usd() else [])]
        return Decision(outcome=team, writes=writes, lines=lines)

    return await team_row(office, await settle(office, decide, called={"id": "team_id"}))


async def update(office: Office, asked: Asked[UpdateTeam, Nothing]) -> UpdatedTeam:
    """
    Change a team.
    """

    async def decide() -> Decision[Team]:
        before = await existing(office, Team, asked.body.team_id, param="team_id")
        changes = renewed(NAMES.changes(asked.body, before.rest), office.now(), before)
        team = revised(before, office, asked, **changes)
        writes: list[Write] = [Put(team)]
        if "spend" in changes:
            writes += await spending(office, team)
        return Decision(outcome=team, writes=writes, lines=[line(office, asked, "team.update", before, team)])

    team = await settle(office, decide)
    return UpdatedTeam(team_id=team.id, data=await team_row(office, team))


async def delete(office: Office, asked: Asked[NamedTeams, Nothing]) -> DeletedTeams:
    """
    Delete teams, with their keys.
    """
    ids = unique(asked.body.team_ids)

    async def decide() -> Decision[DeletedTeams]:
        roster = Roster(office, asked)
        lines = []
        for each in ids:
            team = await roster.existing(Team, each, param="team_ids")
            for user_id in ids_of(team):
                await roster.leave(team.id, user_id)
            roster.remove(team)
            lines.append(line(office, asked, "team.delete", team, None))
        now, by = office.now(), asked.actor.alias
        retired: list[Write] = [Retire(field="team_id", value=each, at=now, by=by) for each in ids]
        return Decision(outcome=DeletedTeams(deleted_teams=ids), writes=[*roster.writes(), *retired], lines=lines)

    return await settle(office, decide)


async def block(office: Office, asked: Asked[NamedTeam, Nothing]) -> TeamRow:
    """
    Let the keys of a team open nothing until it is unblocked.
    """
    return await _set_blocked(office, asked, "team.block", blocked=True)


async def unblock(office: Office, asked: Asked[NamedTeam, Nothing]) -> TeamRow:
    """
    Let the keys of a blocked team open again.
    """
    return await _set_blocked(office, asked, "team.unblock", blocked=False)


async def _set_blocked(office: Office, asked: Asked[NamedTeam, Nothing], action: str, *, blocked: bool) -> TeamRow:
    async def decide() -> Decision[Team]:
        before = await existing(office, Team, asked.body.team_id, param="team_id")
        team = revised(before, office, asked, blocked=blocked)
        return Decision(outcome=team, writes=[Put(team)], lines=[line(office, asked, action, before, team)])

    return await team_row(office, await settle(office, decide))


_LIMITS = (
    "Its limits are those of all its keys together. `team_member_budget`, `team_member_rpm_limit` and "
    "`team_member_tpm_limit` are those of each member who has none of that sort from `/team/member_add` or "
    "`/team/member_update`."
)

ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/team/new",
        summary="Make a team",
        description=f"Members who do not exist yet are made as users. {_LIMITS}",
        body=NewTeam,
        query=Nothing,
        answer=TeamRow,
        refusals=(BadRequest, NotFound),
        verb=new,
    ),
    Route(
        path="/team/update",
        summary="Change a team",
        description="Fields that are absent are kept; `null` goes back to the default. Members are changed with "
        f"`/team/member_add`, `/team/member_update` and `/team/member_delete`. {_LIMITS}",
        body=UpdateTeam,
        query=Nothing,
        answer=UpdatedTeam,
        refusals=(BadRequest, NotFound),
        verb=update,
    ),
    Route(
        path="/team/delete",
        summary="Delete teams, and all their keys",
        description=f"All of them, or, if one does not exist, none; at most {ENTITIES_AT_ONCE} users and teams may be "
        "concerned. Their members stay users, and are in them no longer. The audit has a line for each team; keys say "
        "themselves by whom they were deleted.",
        body=NamedTeams,
        query=Nothing,
        answer=DeletedTeams,
        refusals=(BadRequest, NotFound),
        verb=delete,
    ),
    Route(
        path="/team/block",
        summary="Block a team",
        description="Its keys open nothing, from within a second on, until it is unblocked.",
        body=NamedTeam,
        query=Nothing,
        answer=TeamRow,
        refusals=(NotFound,),
        verb=block,
    ),
    Route(
        path="/team/unblock",
        summary="Unblock a team",
        body=NamedTeam,
        query=Nothing,
        answer=TeamRow,
        refusals=(NotFound,),
        verb=unblock,
    ),
)
