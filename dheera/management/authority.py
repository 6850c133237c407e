"""
Who may manage: the master key, and virtual keys whose routes say so.
"""

from __future__ import annotations

from attrs import frozen
from twisted.internet.defer import Deferred

from dheera.boundaries import Caller, Gate, Store
from dheera.entities import Key
from dheera.errors import UnknownKey
from dheera.management.routes import Actor, Authority


@frozen
class KeyAuthority:
    """
    Asks the gate whose key it is, and the store for all that is known of it.
    """

    _gate: Gate
    _store: Store

    def admit(self, caller: Caller, method: str, path: str) -> Deferred[Actor]:  # noqa: ARG002 - all paths are alike
        """
        Let the bearer of a good key go on.
        """
        return Deferred.fromCoroutine(self._admit(caller, method))

    async def _admit(self, caller: Caller, method: str) -> Actor:
        bearer = await self._gate.identify(caller)
        if bearer.key is None:
            return Actor(alias=bearer.alias, is_admin=bearer.is_master)
        key = await self._store.get(Key, bearer.key.id)
        if key is None:
            raise UnknownKey
        return Actor(alias=bearer.alias, key=key, is_admin=bearer.routes.permits_management(method))


_: type[Authority] = KeyAuthority
