"""
``/user/...``: making, changing and deleting the people who own keys.
"""

from __future__ import annotations

from msgspec import UNSET, structs

from dheera.boundaries import Retire, Write
from dheera.call_ids import new_call_id
from dheera.entities import Key, Team, User
from dheera.errors import BadRequest, NotFound
from dheera.keys import mint
from dheera.management.acts import Decision, line, settle
from dheera.management.keys.changes import CALLED, adding, new_key, own_key
from dheera.management.keys.rows import row
from dheera.management.keys.shapes import GenerateKey
from dheera.management.periods import renewed
from dheera.management.roster import ENTITIES_AT_ONCE, Roster, unique
from dheera.management.routes import AnyRoute, Asked, Nothing, Office, Route
from dheera.management.setting import spending
from dheera.management.users.rows import NAMES, user_row
from dheera.management.users.shapes import (
    DeletedUsers,
    MadeUser,
    NamedUsers,
    NewUser,
    UpdatedUser,
    UpdateUser,
)
from dheera.money import Usd

_OF_THE_KEY = frozenset(GenerateKey.__struct_fields__) - {
    # These are the user's, and bind the key anyway.
    *("models", "metadata", "spend", "model_rpm_limit", "model_tpm_limit", "user_id"),
    *("max_budget", "soft_budget", "budget_duration", "budget_reset_at", "tpm_limit", "rpm_limit"),
    *("max_parallel_requests", "model_max_budget"),
}
_NO_KEY = dict.fromkeys(("key_id", "key_name", "token", "token_id", "expires", "litellm_budget_table"))


async def new(office: Office, asked: Asked[NewUser, Nothing]) -> MadeUser:
    """
    Make a user, and a key for them unless none is wanted.
    """
    body = asked.body
    plaintext = None if body.auto_create_key is False else own_key(office, body.key, param="key") or mint()

    async def decide() -> Decision[tuple[User, Key | None]]:
        roster = Roster(office, asked)
        now, by = office.now(), asked.actor.alias
        user = roster.add(
            User(
                id=body.user_id or new_call_id(),
                created_at=now,
                updated_at=now,
                created_by=by,
                updated_by=by,
                **renewed(NAMES.changes(body, {}), now),
            )
        )
        for each in unique(body.teams or []):
            roster.join(await roster.existing(Team, each, param="teams"), user)
        key = await _key(office, asked, user, plaintext)
        writes, lines = roster.writes(), roster.lines()
        if user.spend != Usd():
            writes += await spending(office, user)
        if key is not None:
            writes += await adding(office, key)
            lines.append(line(office, asked, "key.generate", None, key))
        return Decision(outcome=(roster.now(user), key), writes=writes, lines=lines)

    user, key = await settle(office, decide, called={**CALLED, "id": "user_id"})
    fields = dict(_NO_KEY) if key is None else await row(office, key, with_token=True, written=True)
    fields.pop("held", None)  # nothing, by a key that is new
    duration = None if key is None else body.duration or None
    own = structs.asdict(await user_row(office, user, written=True))
    return MadeUser(**{**fields, **own}, duration=duration, key=plaintext)


async def _key(office: Office, asked: Asked[NewUser, Nothing], user: User, plaintext: str | None) -> Key | None:
    """
    The key that *user* is to have.
    """
    if plaintext is None:
        return None
    body = GenerateKey(**{name: getattr(asked.body, name) for name in _OF_THE_KEY}, user_id=user.id)
    return await new_key(office, asked, body, plaintext)


async def update(office: Office, asked: Asked[UpdateUser, Nothing]) -> UpdatedUser:
    """
    Change a user.
    """
    body = asked.body

    async def decide() -> Decision[User]:
        roster = Roster(office, asked)
        before = await roster.existing(User, body.user_id, param="user_id")
        changes = renewed(NAMES.changes(body, before.rest), office.now(), before)
        user = roster.change(before, **changes)
        if body.teams is not UNSET:
            await _move(roster, user, unique(body.teams or []))
        if user.email != before.email:
            await roster.rename(roster.now(user))
        user = roster.now(user)
        writes = roster.writes()
        if "spend" in changes:
            writes += await spending(office, user)
        lines = [line(office, asked, "user.update", before, user), *roster.lines()]
        return Decision(outcome=user, writes=writes, lines=lines)

    user = await settle(office, decide)
    return UpdatedUser(user_id=user.id, data=await user_row(office, user))


async def _move(roster: Roster, user: User, teams: list[str]) -> None:
    """
    Let *user* be in *teams*, and in no other.
    """
    for each in user.teams:
        if each not in teams:
            await roster.leave(each, user.id)
            await roster.retire_keys(each, user.id)
    for each in teams:
        if each not in user.teams:
            roster.join(await roster.existing(Team, each, param="teams"), user)


async def delete(office: Office, asked: Asked[NamedUsers, Nothing]) -> DeletedUsers:
    """
    Delete users, with their keys.
    """
    ids = unique(asked.body.user_ids)

    async def decide() -> Decision[DeletedUsers]:
        roster = Roster(office, asked)
        lines = []
        for each in ids:
            user = await roster.existing(User, each, param="user_ids")
            for team in user.teams:
                await roster.leave(team, user.id)
            roster.remove(user)
            lines.append(line(office, asked, "user.delete", user, None))
        now, by = office.now(), asked.actor.alias
        retired: list[Write] = [Retire(field="user_id", value=each, at=now, by=by) for each in ids]
        return Decision(outcome=DeletedUsers(deleted_users=ids), writes=[*roster.writes(), *retired], lines=lines)

    return await settle(office, decide)


_LIMITS = "Limits are those of all keys together that the user has outside of teams."

ROUTES: tuple[AnyRoute, ...] = (
    Route(
        path="/user/new",
        summary="Make a user, and a key for them",
        description="Limits, `models`, `metadata` and `spend` are the user's, and not the key's; what only keys have "
        "(`key_alias`, `duration`, `team_id`, `allowed_routes`, ...) is the key's, and goes unused with "
        f"`auto_create_key: false`. {_LIMITS}",
        body=NewUser,
        query=Nothing,
        answer=MadeUser,
        refusals=(BadRequest, NotFound),
        verb=new,
    ),
    Route(
        path="/user/update",
        summary="Change a user",
        description="Fields that are absent are kept; `null` goes back to the default. `teams` are those that the user "
        f"is in afterwards; keys that they have in a team which they leave are deleted. {_LIMITS}",
        body=UpdateUser,
        query=Nothing,
        answer=UpdatedUser,
        refusals=(BadRequest, NotFound),
        verb=update,
    ),
    Route(
        path="/user/delete",
        summary="Delete users, and all their keys",
        description=f"All of them, or, if one does not exist, none; at most {ENTITIES_AT_ONCE} users and teams may be "
        "concerned. They leave their teams. The audit has a line for each user; keys say "
        "themselves by whom they were deleted.",
        body=NamedUsers,
        query=Nothing,
        answer=DeletedUsers,
        refusals=(BadRequest, NotFound),
        verb=delete,
    ),
)
