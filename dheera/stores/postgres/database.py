"""
The directory in PostgreSQL: for many processes and many machines.

Loaded only if ``DATABASE_URL`` names a PostgreSQL. Its parts are `dialling` and `line` (connections), `pool`,
`transaction`, and `listening`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from secrets import SystemRandom
from typing import Any

import psycopg2  # type: ignore[import-untyped]  # it has no types
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from dheera.boundaries import Change
from dheera.errors import CannotStart, NewerSchema, Outdated, StoreAway
from dheera.stores.database import AnyStep, Database, Procedure, Rows, Step
from dheera.stores.migrations import migrations
from dheera.stores.postgres.dialling import Unreachable, dialler_for
from dheera.stores.postgres.echoes import ANYTHING, Echoes
from dheera.stores.postgres.line import BROKEN, Line
from dheera.stores.postgres.listening import Listener
from dheera.stores.postgres.pool import Pool
from dheera.stores.postgres.transaction import Transaction, require_sendable, statement
from dheera.stores.watchers import Watchers

MIGRATION_SECONDS = 600.0
"""
How long a migration may take, or that of another process is waited for.
"""
TRIES = 4
"""
How often a transaction is done that PostgreSQL undoes for the sake of others.
"""
LONGEST_PAUSE_SECONDS = 0.05

_LOCK = 0x646865657261  # a number that no other program is likely to lock: our name
# What a call holds already it does not get again. Only of a rate it may be charged twice.
_REPEATABLE = {"turn", "sweep", "forget", "look"}
_EXPLAINED_CLASSES = {"25", "3F", "42"}  # what PostgreSQL says there names tables and users, and no values


class CannotSetUp(CannotStart):
    """
    The tables cannot be made. The message says why, and holds no secret.
    """


class PostgresDatabase:
    """
    Transactions on a pool of connections, and news of them on a connection that listens.

    A transaction, once begun, is done to its end, also if who waits for it gives up.

    :param connections: at most, besides the one that listens. They are made when they are needed.
    :param patience_seconds: after which what does not answer is away.
    :raises ConfigurationError: the URL cannot be read.
    """

    def __init__(self, reactor: Any, url: str, *, connections: int = 8, patience_seconds: float = 5.0) -> None:
        self._reactor = reactor
        self._patience_seconds = patience_seconds
        self._dialler = dialler_for(reactor, url, patience_seconds)
        self._pool = Pool(reactor, self._dialler, connections)
        self._listener = Listener(
            reactor=reactor,
            dialler=self._dialler,
            patience_seconds=patience_seconds,
            heard=self._hear,
            answered=self._trust,
            silent=self._refuse,
            lost=self._lose,
            found=self._find,
        )
        self._watchers = Watchers()
        self._echoes = Echoes()
        self._suspected = False
        self._under_way = 0
        self._closing: Deferred[None] | None = None

    def open(self) -> Deferred[None]:
        """
        Connect, bring the schema up to date, and listen.

        :return: fails with `Unreachable`, `CannotSetUp` or `NewerSchema`. If it is cancelled no connection is left.
        """

        def give_up(cancelled: Deferred[None]) -> None:
            cancelled.errback(CancelledError())
            self._dialler.stop()
            self._listener.give_up()

        def tell(result: Failure | None) -> None:
            if not opened.called:
                opened.callback(result) if result is None else opened.errback(result)

        opened: Deferred[None] = Deferred(give_up)
        Deferred.fromCoroutine(self._open()).addBoth(tell)
        return opened

    async def _open(self) -> None:
        try:
            line = await self._dialler.dial(self._patience_seconds)
            late = self._reactor.callLater(MIGRATION_SECONDS, line.hang_up)
            try:
                await migrate(line)
            finally:
                if late.active():
                    late.cancel()
            # Not before: a change that is missed while nothing is known does no harm.
            await self._listener.open(line)
            self._pool.keep(line)
        except BaseException:
            self._dialler.stop()
            raise

    def close(self) -> Deferred[None]:
        """
        Finish the transactions that are under way, and close all connections.
        """
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        self._closing = Deferred()
        if self._under_way:
            await self._closing
        self._dialler.stop()
        await self._listener.close()

    def is_away(self) -> bool:
        """
        Whether changes are not heard, or the last transaction found nobody.
        """
        return self._suspected or not self._listener.is_hearing

    def watch(self, changed: Callable[[Change], None], lost: Callable[[], None]) -> Callable[[], None]:
        """
        Be told of changes.
        """
        return self._watchers.add(changed, lost)

    def run(
        self,
        steps: Sequence[AnyStep],
        *,
        changes: Sequence[Change] | None = None,
        slow: bool = False,  # noqa: ARG002 - several are served at once
        lasting: bool = True,
    ) -> Deferred[list[Rows]]:
        """
        Do *steps* in one transaction.

        :return: fails as `Database.run`, and with `BadRequest` for what no PostgreSQL can keep.
        """
        # Cancelled is only the one that is given away: see `Line`.
        result: Deferred[list[Rows]] = Deferred()
        self._under_way += 1
        running = Deferred.fromCoroutine(self._run(steps, changes, lasting=lasting))
        running.chainDeferred(result)
        running.addBoth(self._ended)
        return result

    async def _take(self, latest: float, *, fresh: bool) -> Line:
        left = latest - self._reactor.seconds()
        if self._closing is not None or left <= 0:
            raise StoreAway
        try:
            return await self._pool.take(left, fresh=fresh)
        except Unreachable:
            self._suspect()
            raise StoreAway from None

    def _ended(self, _: object) -> None:
        self._under_way -= 1
        if not self._under_way and self._closing is not None and not self._closing.called:
            self._closing.callback(None)

    async def _run(self, given: Sequence[AnyStep], changes: Sequence[Change] | None, *, lasting: bool) -> list[Rows]:
        steps = [statement(each) for each in given]
        require_sendable(steps)
        if not changes:
            only = given[0] if len(given) == 1 else None
            again = None
            if isinstance(only, Procedure) and only.name in _REPEATABLE:
                again = [statement(Procedure(only.name, only.again or only.argument))]
            return await self._persist(steps, None if changes is None else (), lasting=lasting, again=again)
        name, payloads = self._echoes.expect(changes)
        try:
            rows = await self._persist(steps, payloads, lasting=lasting)
        except BaseException:
            if self._echoes.fail(name):
                self._tell(changes)
            raise
        self._tell(changes)
        return rows

    async def _persist(
        self,
        steps: Sequence[Step],
        payloads: Sequence[str] | None,
        *,
        lasting: bool,
        again: Sequence[Step] | None = None,
    ) -> list[Rows]:
        """
        Do a transaction, again if it must be.

        :param again: done in its place if nobody knows whether it was done: it may be, though it was.
        """
        latest = self._reactor.seconds() + self._patience_seconds
        lost = crossed = 0
        while True:
            line = await self._take(latest, fresh=lost > 0)
            transaction = Transaction(line, steps, payloads, lasting=lasting, at_once=again is not None)
            # A turn that came late must not make the server look slow.
            late = self._reactor.callLater(self._patience_seconds, line.hang_up)
            try:
                return await transaction.run()
            except Outdated:
                await transaction.undo()
                raise
            except BROKEN as error:
                if transaction.is_lost(error):
                    # An unused connection may have died without a sound. What was not committed has not been done.
                    if lost or transaction.committing or not late.active():
                        self._suspect()
                        raise StoreAway from None
                    lost += 1
                    steps = again or steps
                else:
                    await transaction.undo()
                    crossed += 1
                    if not transaction.is_crossed(error) or crossed == TRIES:
                        raise transaction.meaning(error) from None
            finally:
                if late.active():
                    late.cancel()
                self._pool.give_back(line)
            if crossed:
                await deferLater(self._reactor, SystemRandom().uniform(0, LONGEST_PAUSE_SECONDS))

    def _tell(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._watchers.tell(change)

    # What is known of the server. While it is believed to be away who asks for something is sent away at once; whether
    # it is so, the listener finds out.

    def _suspect(self) -> None:
        self._refuse()
        self._listener.look()

    def _refuse(self) -> None:
        self._suspected = True
        self._pool.refuse()

    def _trust(self) -> None:
        self._suspected = False
        self._pool.admit()
        self._pool.tidy()

    def _hear(self, payload: str) -> None:
        change = self._echoes.hear(payload)
        if change is not None:
            self._watchers.tell(change)

    def _lose(self) -> None:
        self._pool.forget()
        self._echoes.forget()
        self._watchers.lose()

    def _find(self) -> None:
        self._trust()
        self._watchers.tell(ANYTHING)


async def migrate(line: Line) -> None:
    """
    Bring the schema up to date, under a lock that all dheeras on this database share: all of it, or nothing.

    :raises NewerSchema: it is that of a newer dheera.
    :raises CannotSetUp: PostgreSQL does not let us, or was lost.
    """
    try:
        await line.ask(f"begin; set local statement_timeout to 0; select pg_advisory_xact_lock({_LOCK})")
        [[table]] = (await line.ask("select to_regclass('schema_version')::text")).rows
        if table is None:
            await line.ask("create table schema_version (version integer primary key)")
        [[found]] = (await line.ask("select coalesce(max(version), 0) from schema_version")).rows
        files = migrations("postgres")
        known = files[-1][0]
        if found > known:
            raise NewerSchema(found=found, known=known)
        for version, text in files:
            if version > found:
                await line.ask(text)
                await line.ask("insert into schema_version (version) values (%(version)s)", {"version": version})
        await line.ask("commit")
    except BROKEN as error:
        raise CannotSetUp(f"The tables in PostgreSQL cannot be made: {_explained(error)}.") from None
    finally:
        if not line.is_idle():
            line.hang_up()


def _explained(error: Exception) -> str:
    code = getattr(error, "pgcode", None)
    if not isinstance(error, psycopg2.Error) or code is None:
        return "the connection was lost"
    if code[:2] not in _EXPLAINED_CLASSES:
        return f"{type(error).__name__} ({code})"
    advice = ". Let this user create tables there, or another one start dheera once" if code == "42501" else ""
    return f"{error.diag.message_primary} ({code}){advice}"


_: type[Database] = PostgresDatabase
