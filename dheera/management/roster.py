"""
Who is in which team. It is written on both sides, in the user and in the team, and so they change together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import define, field
from msgspec import UnsetType, structs

from dheera.boundaries import Add, Put, Query, Remove, Retire, Write
from dheera.call_ids import new_call_id
from dheera.entities import AnyEntity, AuditLine, Entity, Key, Team, User, kind_of
from dheera.errors import BadRequest, Invalid, NotFound
from dheera.management.acts import absent, line, revised
from dheera.management.routes import Asked, Office
from dheera.management.teams.shapes import MEMBERS, TEAMS_OF_ONE

ENTITIES_AT_ONCE = 2000
KEYS_OF_A_MEMBER = 1000


@define(eq=False)
class Roster:
    """
    Users and teams as one act finds and leaves them: each is read once, and what became of it is written once, if it is
    still what was read.
    """

    _office: Office
    _asked: Asked[Any, Any]
    _found: dict[tuple[str, str], Entity | None] = field(factory=dict)
    _left: dict[tuple[str, str], Entity | None] = field(factory=dict)
    _retired: list[Key] = field(factory=list)

    async def get(self, sort: type[AnyEntity], id: str) -> AnyEntity | None:  # noqa: A002 - the field's name
        """
        The entity with this id, as it is by now.

        :raises BadRequest: the act would be too large.
        """
        place = (kind_of(sort), id)
        if place not in self._found:
            if len(self._found) >= ENTITIES_AT_ONCE:
                raise BadRequest(f"This concerns more than {ENTITIES_AT_ONCE} users and teams: do it in parts.")
            self._found[place] = self._left[place] = await self._office.store.get(sort, id)
        entity = self._left[place]
        return entity if isinstance(entity, sort) else None

    async def existing(self, sort: type[AnyEntity], id: str, *, param: str) -> AnyEntity:  # noqa: A002 - its name
        """
        The entity that a client names.

        :raises NotFound: there is none.
        """
        entity = await self.get(sort, id)
        if entity is None:
            raise absent(sort, id, param=param)
        return entity

    def now(self, entity: AnyEntity) -> AnyEntity:
        """
        *entity* as it is by now.
        """
        left = self._left[kind_of(entity), entity.id]
        return left if isinstance(left, type(entity)) else entity

    def add(self, entity: AnyEntity) -> AnyEntity:
        """
        Keep a new entity. If there is one with its id, writing fails with `Taken`.
        """
        place = (kind_of(entity), entity.id)
        self._found[place], self._left[place] = None, entity
        return entity

    def change(self, entity: AnyEntity, **changes: Any) -> AnyEntity:
        """
        *entity*, as it is by now, with *changes*.
        """
        after = revised(self.now(entity), self._office, self._asked, **changes)
        self._left[kind_of(entity), entity.id] = after
        return after

    def remove(self, entity: User | Team) -> None:
        """
        Let *entity* be gone.
        """
        self._left[kind_of(entity), entity.id] = None

    async def member(self, user_id: str | UnsetType | None, email: str | UnsetType | None) -> User:
        """
        The user who is to be a member; who does not exist is made.

        :raises Invalid: neither an id nor an address is there.
        :raises BadRequest: several have this address.
        """
        user = await self._sought(user_id, email)
        if user is not None:
            return user
        now, by = self._office.now(), self._asked.actor.alias
        made = User(
            id=user_id or new_call_id(),
            email=email or None,
            created_at=now,
            updated_at=now,
            created_by=by,
            updated_by=by,
        )
        return self.add(made)

    async def _sought(self, user_id: str | UnsetType | None, email: str | UnsetType | None) -> User | None:
        if user_id:
            return await self.get(User, user_id)
        if not email:
            raise Invalid([(("body", "user_id"), "Say who: user_id, or user_email", "missing")])
        users, count = await self._office.store.find(User, Query(equal={"email": email}, limit=1))
        if count > 1:
            raise BadRequest("Several users have this address: name one by user_id.", param="user_email")
        if users:
            return await self.get(User, users[0].id)
        made = (each for each in self._left.values() if isinstance(each, User) and each.email == email)
        return next(made, None)

    @staticmethod
    def person(team: Team, user_id: str | UnsetType | None, email: str | UnsetType | None) -> str:
        """
        The id of the member of *team* whom a client names.

        :raises Invalid: neither an id nor an address is there.
        :raises NotFound: there is no such member.
        :raises BadRequest: several have this address.
        """
        if not user_id and not email:
            raise Invalid([(("body", "user_id"), "Say who: user_id, or user_email", "missing")])
        name, wanted = ("user_id", user_id) if user_id else ("user_email", email)
        ids = [each["user_id"] for each in team.members if each.get(name) == wanted]
        if not ids:
            raise NotFound("There is no such member in this team.", param=name)
        if len(ids) > 1:
            raise BadRequest("Several members have this address: name one by user_id.", param=name)
        return str(ids[0])

    def join(self, team: Team, user: User, *, role: str = "user", **limits: Any) -> Team:
        """
        Let *user* be a member of *team*.

        :raises BadRequest: that they are already, or one of the two has too many of the other.
        """
        team, user = self.now(team), self.now(user)
        if user.id in ids_of(team):
            raise BadRequest("A member already: this user is in this team.", param="user_id")
        if len(team.members) >= MEMBERS:
            raise BadRequest(f"A team has at most {MEMBERS} members.", param="team_id")
        if len(user.teams) >= TEAMS_OF_ONE:
            raise BadRequest(f"A user is in at most {TEAMS_OF_ONE} teams.", param="user_id")
        self.change(user, teams=[*user.teams, team.id])
        email = {} if user.email is None else {"user_email": user.email}
        return self.change(team, members=[*team.members, {"user_id": user.id, **email, "role": role, **limits}])

    async def leave(self, team_id: str, user_id: str) -> None:
        """
        Let a user no longer be a member of a team.
        """
        team, user = await self.get(Team, team_id), await self.get(User, user_id)
        if team is not None:
            self.change(team, members=[each for each in team.members if each["user_id"] != user_id])
        if user is not None:
            self.change(user, teams=[each for each in user.teams if each != team_id])

    async def retire_keys(self, team_id: str, user_id: str) -> None:
        """
        Delete the keys that a user has in a team.

        :raises BadRequest: there are too many.
        """
        wanted = Query(equal={"user_id": user_id, "team_id": team_id}, limit=KEYS_OF_A_MEMBER)
        keys, count = await self._office.store.find(Key, wanted)
        if count > KEYS_OF_A_MEMBER:
            raise BadRequest(f"They have more than {KEYS_OF_A_MEMBER} keys in this team: delete some first.")
        self._retired += keys

    async def rename(self, user: User) -> None:
        """
        Let the teams of *user* know a new address.
        """
        email = {} if user.email is None else {"user_email": user.email}
        for each in user.teams:
            team = await self.get(Team, each)
            if team is not None:
                members = [
                    {name: value for name, value in one.items() if name != "user_email"} | email
                    if one["user_id"] == user.id
                    else one
                    for one in team.members
                ]
                self.change(team, members=members)

    def writes(self) -> list[Write]:
        """
        What is to be written.
        """
        writes: list[Write] = []
        # Always in the same order, so that two acts do not wait for each other's rows.
        for place, before in sorted(self._found.items(), key=lambda each: each[0]):
            after = self._left[place]
            if after is before:
                continue
            if after is None:
                # The first sees to it that nobody has changed it meanwhile. Who was made and removed again never was.
                writes += [Put(before), Remove(*place)] if before is not None else []
            else:
                writes.append(Add(after) if before is None else Put(after))
        now, by = self._office.now(), self._asked.actor.alias
        return writes + [Retire(field="id", value=each.id, at=now, by=by) for each in self._retired]

    def lines(self) -> list[AuditLine]:
        """
        What the audit is told beside the act itself: users who were made in passing, and keys that are deleted.
        """
        made = [each for place, each in self._left.items() if isinstance(each, User) and self._found[place] is None]
        return [
            *(line(self._office, self._asked, "user.new", None, each) for each in made),
            *(line(self._office, self._asked, "key.delete", each, None) for each in self._retired),
        ]


def ids_of(team: Team) -> list[str]:
    """
    The members of *team*, by their ids.
    """
    return [each["user_id"] for each in team.members]


def told(team: Team, other: Team) -> Team:
    """
    *team* with those members alone who are not the same in *other*: what the audit is told of it, though there be many.
    """
    same = {each["user_id"]: each for each in other.members}
    return structs.replace(team, members=[each for each in team.members if same.get(each["user_id"]) != each])


def unique(ids: Iterable[str]) -> list[str]:
    """
    *ids*, each once.
    """
    return list(dict.fromkeys(ids))
