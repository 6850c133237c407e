"""
How users are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from dheera.entities import User
from dheera.management.counting import counted, spender
from dheera.management.patches import Names
from dheera.management.routes import Office
from dheera.management.users.shapes import UserFields, UserRow

NAMES = Names(
    User, UserFields, renamed={"user_alias": "alias", "user_email": "email", "user_role": "role"}, unset={"aliases": {}}
)


async def user_row(office: Office, user: User, *, written: bool = False) -> UserRow:
    """
    *user* as they are shown.

    :param written: as for `counted`.
    """
    [row] = await user_rows(office, [user], written=written)
    return row


async def user_rows(office: Office, users: Sequence[User], *, written: bool = False) -> list[UserRow]:
    """
    *users* as they are shown.
    """
    now = office.now()
    spends = await counted(office, [spender(user, now) for user in users], written=written)
    return [
        UserRow(
            user_id=user.id,
            teams=user.teams,
            created_at=user.created_at,
            updated_at=user.updated_at,
            created_by=user.created_by,
            updated_by=user.updated_by,
            **NAMES.shown(user) | {"spend": spend.amount, "budget_reset_at": spend.resets_at},
        )
        for user, spend in zip(users, spends, strict=True)
    ]
