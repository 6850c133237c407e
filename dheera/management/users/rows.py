"""
How users are shown.
"""

from __future__ import annotations

from dheera.entities import User
from dheera.management.patches import Names
from dheera.management.users.shapes import UserFields, UserRow

NAMES = Names(
    User, UserFields, renamed={"user_alias": "alias", "user_email": "email", "user_role": "role"}, unset={"aliases": {}}
)


def user_row(user: User) -> UserRow:
    """
    *user* as they are shown.
    """
    return UserRow(
        user_id=user.id,
        teams=user.teams,
        created_at=user.created_at,
        updated_at=user.updated_at,
        created_by=user.created_by,
        updated_by=user.updated_by,
        **NAMES.shown(user),
    )
