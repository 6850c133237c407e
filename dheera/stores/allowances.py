"""
Allowances in any database, each with procedures of its own, which do as `reckoning` says:

- ``turn``: takes a `Turn`, and gives a `Turned`;
- ``settle``: takes a list of `Paid`, and gives a list of `Grown`: budgets of which not as much is used as before;
- ``sweep``: takes null, and gives the number of holds that were ended;
- ``forget``: takes a list of owners, and gives the number of their holds;
- ``look``: takes a list of subjects, and gives a list of `Used`;
- ``reset``: takes a subject and nano-dollars, which are what it has used of its budgets for all models, in their latest
  windows;
- ``remove``: takes a subject that is no more: all that was counted of it is forgotten, and if it was a team or a user,
  all of members.

The last two are asked for by the directory, within its transactions. They, and ``settle``, give nobody a budget that
begins meanwhile with what was spent before.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from attrs import define, evolve
from msgspec import structs
from twisted.internet.defer import Deferred

from dheera.holding import AllowanceStore, Turn, Turned, Used, repeated
from dheera.stores.database import Database, Procedure, Rows


@define(eq=False)
class SqlAllowances:
    """
    Counts in a database that somebody else opens and closes.
    """

    _database: Database

    def turn(self, turn: Turn) -> Deferred[Turned]:
        """
        Extend, release, and claim. What is lost with the power is no more than the spool loses.
        """
        # Without coroutines: it is part of each call that has limits.
        procedure = _procedure("turn", turn)
        if any(rated.change < 0 for release in turn.releases for rated in release.rates):
            said = structs.replace(turn, releases=list(map(repeated, turn.releases)))
            procedure = evolve(procedure, again=_encoder.encode(said).decode())
        return self._database.run([procedure], changes=(), lasting=False).addCallback(_turned)

    def sweep(self) -> Deferred[int]:
        """
        End what is due, and forget what is over.
        """
        return self._database.run([_procedure("sweep", None)], changes=(), lasting=False).addCallback(_number)

    def forget(self, owners: Sequence[str]) -> Deferred[int]:
        """
        Give back what the dead hold. Unlike a turn it outlives a loss of power: it is not said for ever.
        """
        return self._database.run([_procedure("forget", list(owners))], changes=()).addCallback(_number)

    def look(self, subjects: Sequence[str]) -> Deferred[Sequence[Used]]:
        """
        How all allowances of *subjects* stand.
        """
        return self._database.run([_procedure("look", list(subjects))]).addCallback(_used)


def _procedure(name: str, argument: object) -> Procedure:
    return Procedure(name, _encoder.encode(argument).decode())


def _turned(results: list[Rows]) -> Turned:
    return _turneds.decode(results[0][0][0])


def _number(results: list[Rows]) -> int:
    return _numbers.decode(results[0][0][0])


def _used(results: list[Rows]) -> list[Used]:
    return _useds.decode(results[0][0][0])


_encoder = msgspec.json.Encoder()
_turneds = msgspec.json.Decoder(Turned)
_numbers = msgspec.json.Decoder(int)
_useds = msgspec.json.Decoder(list[Used])

_: type[AllowanceStore] = SqlAllowances
