"""
Where PostgreSQL is, and how it is reached: a URL becomes connections.

libpq looks names up in the system's blocking way, and without end; so names are looked up here, and libpq is given
addresses. Only a name that comes from ``PGHOST`` or a service file, and not from the URL, is left to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import repeat
from typing import Any
from weakref import WeakSet

import psycopg2  # type: ignore[import-untyped]  # it has no types
from attrs import define, field, frozen
from psycopg2.extensions import parse_dsn  # type: ignore[import-untyped]  # likewise
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, TimeoutError  # noqa: A004 - what a Deferred's timeout raises
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from dheera.config import ConfigurationError
from dheera.errors import CannotStart
from dheera.stores.postgres.line import BROKEN, Line

_LATEST_USER = re.compile(r"(?i:postgres(?:ql)?)://(?:[^@/?]*@)?[^@/]*(?:/[^@?]*)?(?:\?.*)?", re.DOTALL)
"""
A URL whose user and password end where libpq believes that they do: what follows them holds no ``@``.
"""
_KEEPALIVES = "set tcp_keepalives_idle to 5; set tcp_keepalives_interval to 2; set tcp_keepalives_count to 3"
"""
By which the server finds out that we are cut off. Else it keeps our connections for two hours, and as many again for
each cut, until it has no more to give.
"""
_USUAL_PORT = "5432"
_MALFORMED = (
    "DATABASE_URL: not a URL that PostgreSQL's libpq can read. Write @ : / ? # % and spaces in user and password as "
    "%40 %3A %2F %3F %23 %25 %20"
)
_UNKNOWN = (
    "DATABASE_URL: it has a parameter that PostgreSQL's libpq does not know. Leave out what other programs put there, "
    "such as Prisma's schema, connection_limit and pool_timeout"
)


class Unreachable(CannotStart):
    """
    There is no connection to be had. The message says where and why, and holds no secret.
    """


@frozen
class Place:
    """
    One address at which PostgreSQL may be.

    :param host: as the operator wrote it; a certificate must be for it.
    :param address: an IP address; ``None`` for Unix sockets, and what libpq shall find out itself.
    """

    host: str
    port: str
    address: str | None

    def __str__(self) -> str:
        if not self.host:
            return "the usual place"
        return self.host if self.host.startswith(("/", "@")) else f"{self.host}:{self.port or _USUAL_PORT}"

    def parameters(self) -> dict[str, str]:
        """
        What libpq is told of it.
        """
        said = {"host": self.host, "port": self.port, "hostaddr": self.address or ""}
        return {name: value for name, value in said.items() if value}


@define(eq=False)
class Dialler:
    """
    Makes connections.

    :param patience_seconds: what the server, too, is told of how long we wait for an answer.
    """

    _reactor: Any
    _parameters: Mapping[str, str] = field(repr=False)
    _patience_seconds: float
    _looking: dict[str, _Looking] = field(factory=dict, init=False)
    _lines: WeakSet[Line] = field(factory=WeakSet, init=False)
    _stopped: bool = field(default=False, init=False)

    async def dial(self, seconds: float) -> Line:
        """
        A new connection.

        :param seconds: after which it is given up. Where there are several addresses each one has its share.
        :raises Unreachable: there is none.
        """
        self._require_wanted()
        latest = self._reactor.seconds() + seconds
        places = await self._places(latest)
        for number, place in enumerate(places, 1):
            left = latest - self._reactor.seconds()
            try:
                return await self._dial(place, left / (len(places) - number + 1))
            except Unreachable:
                if number == len(places):
                    raise
        raise AssertionError  # there is at least one place

    def stop(self) -> None:
        """
        Close all connections that were ever made, give up those that are being made, and make no more.
        """
        self._stopped = True
        for each in list(self._lines):
            each.hang_up()
        for looking in list(self._looking.values()):
            looking.give_up()

    async def _dial(self, place: Place, seconds: float) -> Line:
        self._require_wanted()
        line = Line(self._reactor)
        self._lines.add(line)
        late = self._reactor.callLater(max(0.0, seconds), line.hang_up)
        try:
            await line.connect(**{**self._parameters, **place.parameters()})
            # Not among libpq's ``options``: poolers refuse those.
            milliseconds = max(1, int(self._patience_seconds * 900))
            await line.ask(
                f"set statement_timeout to {milliseconds}; set idle_in_transaction_session_timeout to {milliseconds}; "
                f"{_KEEPALIVES}"
            )
        except BROKEN as error:
            line.hang_up()
            raise Unreachable(f"PostgreSQL at {place} cannot be used: {self._reason(error)}.") from None
        finally:
            if late.active():
                late.cancel()
        return line

    def _require_wanted(self) -> None:
        if self._stopped:
            raise Unreachable("PostgreSQL is no longer wanted.")

    def _reason(self, error: Exception) -> str:
        if isinstance(error, ConnectionDone):
            return "it does not answer in time"
        # One line is enough; the next ones are advice for who starts servers.
        text = (str(error).strip().splitlines() or ["no reason is given"])[0]
        text = re.sub(r"^.*(?:FATAL|ERROR): *", "", text).rstrip(".")
        password = self._parameters.get("password")
        return text.replace(password, "***") if password else text

    async def _places(self, latest: float) -> list[Place]:
        hosts = self._parameters.get("host", "").split(",")
        ports = self._parameters.get("port", "").split(",")
        if "hostaddr" in self._parameters:
            return [Place("", "", None)]
        found = []
        nowhere = None
        for host, port in zip(hosts, ports if len(ports) > 1 else repeat(ports[0]), strict=False):
            try:
                found += [Place(host, port, address) for address in await self._addresses(host, latest)]
            except Unreachable as error:
                nowhere = error
        if not found:
            raise nowhere or Unreachable("PostgreSQL has no address.")
        return found

    async def _addresses(self, host: str, latest: float) -> Sequence[str | None]:
        if not host or host.startswith(("/", "@")):
            return [None]
        if isIPAddress(host) or isIPv6Address(host):
            return [host]
        found: list[str] = []
        with suppress(TimeoutError, CancelledError):
            found = await self._look_up(host).addTimeout(max(0.0, latest - self._reactor.seconds()), self._reactor)
        if not found:
            raise Unreachable(f"PostgreSQL cannot be found: the name {host} has no address.")
        return found

    def _look_up(self, host: str) -> Deferred[list[str]]:
        looking = self._looking.get(host)
        if looking is None:
            # A name server that does not answer keeps a thread busy for long: never more than one for each name.
            looking = self._looking[host] = _Looking(lambda: self._looking.pop(host, None))
            waiter = looking.waiter()
            self._reactor.nameResolver.resolveHostName(looking, host)
            return waiter
        return looking.waiter()


@implementer(IResolutionReceiver)
@define(eq=False)
class _Looking:
    """
    The look-up of one name, for all who wait for it.
    """

    _done: Any
    _found: list[str] = field(factory=list, init=False)
    _waiting: list[Deferred[list[str]]] = field(factory=list, init=False)

    def waiter(self) -> Deferred[list[str]]:
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def give_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.cancel()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:  # noqa: N802, N803 - Twisted's names
        """
        Nothing is known yet.
        """

    def addressResolved(self, address: IAddress) -> None:  # noqa: N802 - Twisted's name
        self._found.append(address.host)  # type: ignore[attr-defined]  # those of TCP have one

    def resolutionComplete(self) -> None:  # noqa: N802 - Twisted's name
        self._done()
        for each in self._waiting:
            each.callback(list(dict.fromkeys(self._found)))


def dialler_for(reactor: Any, url: str, patience_seconds: float) -> Dialler:
    """
    What reaches the PostgreSQL that *url* names.

    :raises ConfigurationError: it cannot be read.
    """
    if not _LATEST_USER.fullmatch(url):
        raise ConfigurationError([_MALFORMED])
    scheme, rest = url.split(":", 1)
    try:
        said = parse_dsn(f"{scheme.lower()}:{rest}")
    except psycopg2.ProgrammingError as error:
        # The error itself quotes the URL.
        raise ConfigurationError([_UNKNOWN if "query parameter" in str(error) else _MALFORMED]) from None
    ports = said.get("port", "").split(",")
    if not all(re.fullmatch(r"[0-9]{0,5}", port) for port in ports) or len(ports) not in (
        1,
        len(said.get("host", "").split(",")),
    ):
        raise ConfigurationError([_MALFORMED])
    usual = {
        "application_name": "dheera",
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
        "tcp_user_timeout": str(int(patience_seconds * 1000)),  # milliseconds
    }
    return Dialler(reactor, {**usual, **said, "client_encoding": "UTF8"}, patience_seconds)
