from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import Clock

from dheera.errors import StoreAway
from dheera.stores.database import Step
from dheera.stores.postgres import pool as pools
from dheera.stores.postgres.dialling import Dialler, Unreachable, dialler_for
from dheera.stores.postgres.line import Line
from dheera.stores.postgres.pool import Pool
from tests.postgres import OnPostgres


class PoolTests(OnPostgres):
    async def test_unused(self) -> None:
        """
        Connections that were not needed for long are closed, but one.
        """
        self.patch(pools, "UNUSED_SECONDS", 0.0)
        database = await self.opened(connections=4)
        await gatherResults([database.run([Step("select pg_sleep(0.1)")]) for _ in range(4)])
        self.assertEqual(5, self._connections())
        await self.eventually(lambda: self._connections() == 2, "one is left, and the one that listens")

    async def test_reused(self) -> None:
        """
        One caller after the other is served by the same connection.
        """
        database = await self.opened()
        served = [await database.run([Step("select pg_backend_pid()")]) for _ in range(3)]
        self.assertEqual(1, len({rows[0][0] for [rows] in served}))

    async def test_fresh(self) -> None:
        """
        One that nobody has used takes the place of an idle one.
        """
        dialler = dialler_for(self.reactor, self.server.url(self.name), 5)
        self.addCleanup(dialler.stop)
        pool = Pool(self.reactor, dialler, 2)
        used = [await pool.take(5), await pool.take(5)]
        for each in used:
            pool.give_back(each)
        fresh = await pool.take(5, fresh=True)
        self.assertNotIn(fresh, used)
        self.assertEqual(1, sum(each.is_open() for each in used))
        pool.give_back(fresh)

    async def test_no_turn(self) -> None:
        """
        Who gets no turn in time is sent away, and stands in nobody's way any more.
        """
        dialler = dialler_for(self.reactor, self.server.url(self.name), 5)
        self.addCleanup(dialler.stop)
        pool = Pool(self.reactor, dialler, 1)
        taken = await pool.take(5)
        await self.fails(StoreAway, pool.take(0.01))
        next_ = Deferred.fromCoroutine(pool.take(5))
        pool.give_back(taken)
        self.assertIs(taken, await next_)
        pool.give_back(taken)

    async def test_what_is_left(self) -> None:
        """
        Who has waited for a turn waits for a connection only as long as is left of its time; and that it then gets none
        does not say that the server is away.
        """
        clock = Clock()
        dialler = NoAnswer(clock, {}, 5)
        pool = Pool(clock, dialler, 1)
        self.failureResultOf(Deferred.fromCoroutine(pool.take(5)), Unreachable)
        pool._taken = 1
        for waiting_seconds, error in (1, Unreachable), (4, StoreAway):
            waiting = Deferred.fromCoroutine(pool.take(5))
            clock.advance(waiting_seconds)
            pool._end_turn()
            self.failureResultOf(waiting, error)
            pool._taken = 1
        self.assertEqual([5, 4, 1], dialler.asked)

    def _connections(self) -> int:
        [(count,)] = self.query(
            "select count(*) from pg_stat_activity where application_name = 'dheera' and datname = current_database()"
        )
        return int(count)


class NoAnswer(Dialler):
    """
    Reaches nobody, and keeps for how long it was to try.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[float] = []

    async def dial(self, seconds: float) -> Line:
        self.asked.append(seconds)
        raise Unreachable("Nobody is there.")
