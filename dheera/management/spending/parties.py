"""
Whom lines and sums of the ledger are about: from what clients call them to their ids, and back.
"""

from __future__ import annotations

import re

from attrs import define, field

from dheera.boundaries import Query
from dheera.entities import Key, Team
from dheera.errors import NotFound
from dheera.keys import DIGEST_PATTERN, PREFIX, Digest, digest
from dheera.management.keys.rows import sought
from dheera.management.routes import Office

NOBODY = ""
"""
What stands for the key of a call that had no virtual one, for the model of a call that named none, and so on.
"""

_DIGEST = re.compile(DIGEST_PATTERN)


async def key_id_of(office: Office, reference: str, *, param: str) -> str | None:
    """
    The id of the key that a client names by itself, its digest or its id, also of one that was deleted; ``None`` for
    the master key.

    :raises NotFound: there is none.
    """
    known = Digest(reference) if _DIGEST.fullmatch(reference) else digest(reference.encode())
    if known in office.reserved:
        return None
    key = await sought(office, reference)
    if key is None and (reference.startswith(PREFIX) or _DIGEST.fullmatch(reference)):
        gone, _ = await office.store.find(Key, Query(equal={"digest": known}, deleted=True, limit=1))
        key = gone[0] if gone else None
    elif key is None:
        key = await office.store.get(Key, reference)
    if key is None:
        raise NotFound("There is no such key, and there was none.", param=param)
    return key.id


@define(eq=False)
class Parties:
    """
    Keys and teams by their ids, each asked for once.
    """

    _office: Office
    _keys: dict[str | None, Key | None] = field(init=False, factory=lambda: {None: None})
    _teams: dict[str | None, Team | None] = field(init=False, factory=lambda: {None: None})

    async def key(self, id: str | None) -> Key | None:  # noqa: A002 - the field's name
        """
        A key, also one that was deleted.
        """
        if id not in self._keys:
            self._keys[id] = await self._office.store.get(Key, id or NOBODY)
        return self._keys[id]

    async def token(self, id: str | None) -> str:  # noqa: A002 - the field's name
        """
        What LiteLLM calls a key by: its digest.
        """
        key = await self.key(id)
        return NOBODY if key is None else key.digest

    async def key_alias(self, id: str | None) -> str | None:  # noqa: A002 - the field's name
        """
        What people call a key, if they do.
        """
        key = await self.key(id)
        return None if key is None else key.alias

    async def team_alias(self, id: str | None) -> str | None:  # noqa: A002 - the field's name
        """
        What people call a team, if they do.
        """
        if id not in self._teams:
            self._teams[id] = await self._office.store.get(Team, id or NOBODY)
        team = self._teams[id]
        return None if team is None else team.alias
