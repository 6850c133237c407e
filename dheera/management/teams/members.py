"""
``/team/member_...``: who is in a team, and with which limits.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, structs

from dheera.boundaries import Put
from dheera.entities import Team, User
from dheera.errors import BadRequest, NotFound
from dheera.management.acts import Decision, line, revised, settle
from dheera.management.roster import Roster, told
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.teams.member_shapes import (
    AddMembers,
    DeleteMember,
    MemberLimits,
    MembersAdded,
    MemberUpdated,
    UpdateMember,
)
from dheera.management.teams.rows import MEMBER_LIMITS, limits_of, memberships, team_row
from dheera.management.teams.shapes import Member, TeamRow
from dheera.management.users.rows import user_rows
from dheera.money import Usd


async def add(office: Office, asked: Asked[AddMembers, Nothing]) -> MembersAdded:
    """
    Let users be members of a team; those who do not exist are made.
    """
    body = asked.body
    members = [body.member] if isinstance(body.member, Member) else body.member

    async def decide() -> Decision[tuple[Team, list[User]]]:
        roster = Roster(office, asked)
        team = before = await roster.existing(Team, body.team_id, param="team_id")
        users = []
        for each in members:
            user = await roster.member(each.user_id, each.user_email)
            team = roster.join(team, user, role=each.role, **_changed({}, body))
            users.append(roster.now(user))
        lines = [line(office, asked, "team.member_add", told(before, team), told(team, before)), *roster.lines()]
        return Decision(outcome=(team, users), writes=roster.writes(), lines=lines)

    team, users = await settle(office, decide, called={"id": "user_id"})
    new = {user.id for user in users}
    return MembersAdded(
        **structs.asdict(await team_row(office, team)),
        updated_users=await user_rows(office, users),
        updated_team_memberships=await memberships(office, team, only=new),
    )


async def update(office: Office, asked: Asked[UpdateMember, Nothing]) -> MemberUpdated:
    """
    Change what a member may, and is, in a team.
    """
    body = asked.body

    async def decide() -> Decision[dict[str, Any]]:
        roster = Roster(office, asked)
        before = await roster.existing(Team, body.team_id, param="team_id")
        user_id = roster.person(before, body.user_id, body.user_email)
        [old] = [each for each in before.members if each["user_id"] == user_id]
        new = _changed(old, body)
        if body.role is not UNSET:
            new["role"] = body.role or "user"
        team = revised(before, office, asked, members=[new if each is old else each for each in before.members])
        lines = [line(office, asked, "team.member_update", told(before, team), told(team, before))]
        return Decision(outcome=new, writes=[Put(team)], lines=lines)

    member = await settle(office, decide)
    return MemberUpdated(
        team_id=body.team_id,
        user_id=member["user_id"],
        user_email=member.get("user_email"),
        role=member["role"],
        **limits_of(member),
    )


async def delete(office: Office, asked: Asked[DeleteMember, Nothing]) -> TeamRow:
    """
    Let a user no longer be a member of a team, nor have keys there.
    """
    body = asked.body

    async def decide() -> Decision[Team]:
        roster = Roster(office, asked)
        before = await roster.existing(Team, body.team_id, param="team_id")
        user_id = roster.person(before, body.user_id, body.user_email)
        await roster.leave(before.id, user_id)
        await roster.retire_keys(before.id, user_id)
        team = roster.now(before)
        lines = [line(office, asked, "team.member_delete", told(before, team), told(team, before)), *roster.lines()]
        return Decision(outcome=team, writes=roster.writes(), lines=lines)

    return await team_row(office, await settle(office, decide))


def _changed(member: dict[str, Any], body: MemberLimits) -> dict[str, Any]:
    """
    *member* with the limits that *body* sets.
    """
    changed = dict(member)
    for name in MEMBER_LIMITS:
        value = getattr(body, name)
        if value is None:
            changed.pop(name, None)
        elif value is not UNSET:
            # A text, for the same reason as in `stores.tables`: a number would come back as a float.
            changed[name] = format(value.dollars(), "f") if isinstance(value, Usd) else value
    return changed


_WHO = "The member is named by `user_id`, or by `user_email` if that is unique in the team."
_LIMITS = "Limits are those of the keys that the member has in this team, all together."

ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/team/member_add",
        summary="Let users be members of a team",
        description="All of them, or, if one is a member already, none. Users who do not exist are made, without a "
        f"key. {_LIMITS}",
        body=AddMembers,
        query=Nothing,
        answer=MembersAdded,
        refusals=(BadRequest, NotFound),
        verb=add,
    ),
    Route(
        path="/team/member_update",
        summary="Change the role and the limits of a member",
        description=f"{_WHO} Fields that are absent are kept; `null` goes back to the default. {_LIMITS}",
        body=UpdateMember,
        query=Nothing,
        answer=MemberUpdated,
        refusals=(BadRequest, NotFound),
        verb=update,
    ),
    Route(
        path="/team/member_delete",
        summary="Let a user no longer be a member of a team",
        description=f"{_WHO} Keys that they have in this team are deleted; the user stays.",
        body=DeleteMember,
        query=Nothing,
        answer=TeamRow,
        refusals=(BadRequest, NotFound),
        verb=delete,
    ),
)
