"""
Calls at the same time go to a real database together.
"""

from __future__ import annotations

from collections import Counter

from twisted.internet.defer import Deferred, gatherResults

from dheera.allowances.room import Allowances
from dheera.settings import AllowanceSettings
from dheera.spool.memory import OneLife
from dheera.stores import Stores, stores_on
from dheera.stores.timing import TimedDatabase
from tests.allowances.house import take
from tests.allowances.limits import limit
from tests.stores.on_sqlite import OnSqlite

CALLERS, CALLS = 32, 4
LIMITS = [limit("usd", 10**9), limit("requests", 10**6), limit("tokens", 10**6), limit("parallel", CALLERS)]
NOTHING = {"usd": 0, "requests": 0, "tokens": 0, "parallel": 0}


class BatchTests(OnSqlite):
    """
    Many connections at one room, before an SQLite file whose transactions are counted.
    """

    async def opened(self) -> tuple[Stores, Allowances]:
        """
        A room, and the stores that it asks.
        """
        from twisted.internet import reactor

        self.done: Counter[str] = Counter()
        database = TimedDatabase(self.new_database(), reactor, lambda work, _: self.done.update([work]))
        stores = stores_on(database)
        await stores.directory.open()
        self.addCleanup(stores.directory.close)
        room = Allowances(
            reactor,
            stores.allowances,
            AllowanceSettings(),
            lives=OneLife(),
            node="n",
            alert=lambda _: None,
        )
        await room.open()
        return stores, room

    async def counts(self, stores: Stores) -> dict[str, int]:
        """
        Of each kind.
        """
        looked = await stores.allowances.look([LIMITS[0].subject])
        return NOTHING | {each.allowance.kind: each.used + each.held for each in looked}

    async def test_at_once(self) -> None:
        """
        Of calls that come at once the first goes alone, as it waits for nobody, and all others go together.
        """
        stores, room = await self.opened()
        await gatherResults([take(room, f"{each}", LIMITS, nano=5, tokens=7) for each in range(CALLERS)])
        self.assertEqual(2, self.done["turn"])
        expected = {"usd": 5, "requests": 1, "tokens": 7, "parallel": 1}
        self.assertEqual({kind: each * CALLERS for kind, each in expected.items()}, await self.counts(stores))
        await room.close()

    async def test_under_load(self) -> None:
        """
        While 32 connections call again and again there are fewer transactions than calls, those included in which what
        is left of calls is given back; and all of that is.
        """
        stores, room = await self.opened()

        async def call_on(caller: int) -> None:
            for number in range(CALLS):
                hold = await take(room, f"{caller} {number}", LIMITS, nano=5, tokens=7)
                hold.settle(usd=0, tokens=3, reached=True)

        await gatherResults([Deferred.fromCoroutine(call_on(each)) for each in range(CALLERS)])
        await room.close()
        calls = CALLERS * CALLS
        self.assertLess(self.done["turn"], calls)
        self.assertEqual({**NOTHING, "requests": calls, "tokens": 3 * calls}, await self.counts(stores))
