from __future__ import annotations

import socket
from typing import Any
from urllib.parse import quote

from psycopg2 import OperationalError  # type: ignore[import-untyped]  # it has no types
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolutionReceiver
from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.stores.database import Step
from dheera.stores.postgres.dialling import Unreachable, dialler_for
from tests.postgres import PASSWORD, OnPostgres

SECRET = "canary"


class UrlTests(SynchronousTestCase):
    def test_malformed(self) -> None:
        """
        A URL that libpq reads otherwise than it was meant, or not at all, is refused, and not shown.
        """
        for rest in (
            f"u:{SECRET}@{SECRET}@host/db",
            f"u:{SECRET}/{SECRET}@host/db",
            f"u:12/{SECRET}@host/db",
            f"u:12/a?{SECRET}@host/db",
            f"u:%zz{SECRET}@host/db",
            f"u:{SECRET}@host:port/db",
            f"u:{SECRET}@host:123456/db",
            f"u:{SECRET}@/db?host=one,two,three&port=1,2",
            f"u:{SECRET}@host/db?{SECRET}=1",
            f"u:{SECRET}@host/db?schema=public",
        ):
            with self.assertRaises(ConfigurationError) as caught:
                dialler_for(None, f"postgresql://{rest}", 5)
            error = caught.exception
            self.assertIn("DATABASE_URL", str(error))
            self.assertNotIn(SECRET, f"{error!s} {error!r} {error.__cause__!r}")

    def test_advice(self) -> None:
        """
        Parameters that other programs put into the URL are called by what they are.
        """
        with self.assertRaises(ConfigurationError) as caught:
            dialler_for(None, "postgresql://u@host/db?connection_limit=5", 5)
        self.assertIn("Leave out what other programs put there", str(caught.exception))

    def test_secrets_are_hidden(self) -> None:
        """
        What was read of it is not shown either.
        """
        for url in (f"postgresql://u:{SECRET}@host/db", f"POSTGRES://host/db?password={SECRET}"):
            self.assertNotIn(SECRET, repr(dialler_for(None, url, 5)))


class DiallingTests(OnPostgres):
    async def test_ways_to_write(self) -> None:
        """
        All that libpq understands is understood: both schemes, names, sockets, parameters, escapes.
        """
        place = f"127.0.0.1:{self.server.port}"
        escaped = quote(str(self.server.folder), safe="")
        escaped_password = "".join(f"%{ord(each):02x}" for each in PASSWORD)
        for url in (
            f"postgres://postgres:{PASSWORD}@{place}/{self.name}",
            f"PostgreSQL://postgres:{escaped_password}@{place}/{self.name}",
            f"postgresql://{place}/{self.name}?user=postgres&password={PASSWORD}&sslmode=disable",
            f"postgresql://postgres:{PASSWORD}@localhost:{self.server.port}/{self.name}",
            f"postgresql://postgres:{PASSWORD}@/{self.name}?host={self.server.folder}&port={self.server.port}",
            f"postgresql://postgres:{PASSWORD}@{escaped}:{self.server.port}/{self.name}",
            f"postgresql://postgres:{PASSWORD}@/{self.name}?hostaddr=127.0.0.1&port={self.server.port}",
            f"postgresql://postgres:{PASSWORD}@{place}/{self.name}?options=-csearch_path%3Dpublic&application_name=mine",
        ):
            database = self.database(url=url)
            await database.open()
            self.assertEqual([[(self.name,)]], await database.run([Step("select current_database()")]))
            await database.close()

    async def test_parameters_are_heeded(self) -> None:
        """
        What is asked for and cannot be had is told.
        """
        url = self.server.url(self.name) + "?sslmode=require"
        error = await self.fails(Unreachable, self.database(url=url).open())
        self.assertEqual(
            f"PostgreSQL at 127.0.0.1:{self.server.port} cannot be used: "
            "server does not support SSL, but SSL was required.",
            str(error),
        )

    async def test_reasons(self) -> None:
        """
        What libpq says is told in one line, without the password should it ever say it.
        """
        url = self.server.url("nowhere")
        error = await self.fails(Unreachable, self.database(url=url).open())
        self.assertEqual(
            f'PostgreSQL at 127.0.0.1:{self.server.port} cannot be used: database "nowhere" does not exist.', str(error)
        )
        said = OperationalError(f'connection to server at "db", port 1 failed: FATAL:  no {PASSWORD}\nDETAIL: more\n')
        self.assertEqual("no ***", dialler_for(self.reactor, url, 5)._reason(said))

    async def test_next_host(self) -> None:
        """
        Where several hosts are named one that says nothing, refuses, or has no address does not keep from the others.
        """
        street = self.street()
        street.block()
        hosts = f"127.0.0.1:{street.port},127.0.0.1:1,nowhere.invalid:1,127.0.0.1:{self.server.port}"
        url = f"postgresql://postgres:{PASSWORD}@{hosts}/{self.name}"
        database = await self.opened(url=url, patience_seconds=1.5)
        self.assertEqual([[(1,)]], await database.run([Step("select 1")]))

    async def test_says_nothing(self) -> None:
        """
        A server that accepts and says nothing, or does not even accept, is given up.
        """
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            waiting = [socket.socket() for _ in range(3)]
            for each in waiting:
                self.addCleanup(each.close)
                each.settimeout(0)
                each.connect_ex(("127.0.0.1", port))
            street = self.street()
            street.block()
            for silent in port, street.port:
                error = await self.fails(Unreachable, self.database(port=silent, patience_seconds=0.2).open())
                self.assertEqual(
                    f"PostgreSQL at 127.0.0.1:{silent} cannot be used: it does not answer in time.", str(error)
                )

    async def test_no_such_name(self) -> None:
        """
        A name that has no address is told.
        """
        url = self.server.url(self.name).replace("127.0.0.1", "nowhere.invalid")
        error = await self.fails(Unreachable, self.database(url=url).open())
        self.assertEqual("PostgreSQL cannot be found: the name nowhere.invalid has no address.", str(error))

    async def test_name_server_says_nothing(self) -> None:
        """
        A name that is looked up without end is given up, and never looked up twice at the same time; and not at all
        when no connection is wanted any more.
        """
        names = SilentNames(self.reactor)
        dialler = dialler_for(names, "postgresql://somewhere/db", 5)
        for _ in range(2):
            await self.fails(Unreachable, dialler.dial(0.05))
        self.assertEqual(["somewhere"], names.asked)
        waiting = Deferred.fromCoroutine(dialler.dial(60))
        dialler.stop()
        await self.fails(Unreachable, waiting)
        names.answer()
        self.failureResultOf(Deferred.fromCoroutine(dialler.dial(60)), Unreachable)
        self.assertEqual(["somewhere"], names.asked)


class SilentNames:
    """
    A reactor whose name server does not answer until it is told to.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._receivers: list[IResolutionReceiver] = []
        self.asked: list[str] = []
        self.nameResolver = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def resolveHostName(self, receiver: IResolutionReceiver, name: str) -> None:  # noqa: N802 - Twisted's name
        self.asked.append(name)
        self._receivers.append(receiver)

    def answer(self) -> None:
        for each in self._receivers:
            each.resolutionComplete()
