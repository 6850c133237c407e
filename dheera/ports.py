"""
The places where the daemon listens, and the sockets there: opened here, or taken over from the process that started
this one, and left to the next.

Each socket is adopted by the reactor even where it was made here: Twisted shuts down what it made itself, and
shutdown(2) would end it for all processes that share it.
"""

# ruff: noqa: N802, N803 - the reactor's methods have Twisted's names
from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import quote_from_bytes

import msgspec
from attrs import define, field
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory
from twisted.logger import Logger
from zope.interface import implementer

from dheera.errors import CannotStart
from dheera.sockets import TcpPort, UnixPlace, UnixPort, is_spread, listens, open_another, open_tcp

log = Logger()

SOCKETS_VARIABLE = "DHEERA_AI_SOCKETS"
"""
What a process has from the one that started it: a `Bequest` as JSON.
"""
SYSTEMD = "systemd:"
"""
How the place of a socket from systemd begins; its index follows.
"""
SYSTEMD_FIRST = 3
"""
The file descriptor of the first of them (sd_listen_fds(3)).
"""

BACKLOG = 4096
"""
Connections that the kernel keeps for us until we take them.
"""

Sockets: TypeAlias = Mapping[str, Sequence[int]]
"""
File descriptors of listening sockets, by the place at which they listen as it was asked for. There are several at one
place if each is for a process of its own (SO_REUSEPORT).
"""


class Bequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one process leaves to another that it starts.

    :param lent: the one keeps them too, and looks after the paths of Unix sockets.
    """

    sockets: dict[str, list[int]]
    lent: bool = False

    def text(self) -> str:
        """
        As the environment holds it.
        """
        return msgspec.json.encode(self).decode()


@define(eq=False)
class Ports:
    """
    Stands in for the reactor where endpoints are made that listen, and knows all sockets that come of it.

    :param environment: may hold a `Bequest`, which is taken out.
    :param shares: 0, or that many other processes accept at these places and this one does not: at each TCP port there
        is a socket for each of them.
    :raises CannotStart: the bequest is none.
    """

    _reactor: Any
    _environment: MutableMapping[str, str]
    _shares: int = 0
    _lent: bool = field(init=False)
    _left: dict[str, list[int]] = field(init=False)
    _asked: Counter[str] = field(factory=Counter, init=False)
    _listeners: list[Listener] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        bequest = _accepted(self._environment.pop(SOCKETS_VARIABLE, None))
        self._lent, self._left = bequest.lent, dict(bequest.sockets)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        """
        As IReactorTCP has it.
        """
        place = self._place(f"tcp:{interface}:{port}")
        sockets = self._inherited(place)
        if sockets is None:
            sockets = open_tcp(interface, port, backlog, self._shares)
        else:
            if is_spread(sockets[0]):
                sockets += [open_another(sockets[0]) for _ in range(self._shares - len(sockets))]
            for each in [] if self._shares else sockets:  # else a worker begins to listen when it serves
                each.listen(backlog)
        return self._listen(place, sockets, factory)

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """
        As IReactorSSL has it.
        """
        from twisted.protocols.tls import TLSMemoryBIOFactory  # noqa: PLC0415 - see `dheera.sparing`

        dressed = TLSMemoryBIOFactory(contextFactory, isClient=False, wrappedFactory=factory)
        return self.listenTCP(port, dressed, backlog, interface)

    def listenUNIX(
        self,
        address: str | bytes,
        factory: IProtocolFactory,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: int = 0,
    ) -> IListeningPort:
        """
        As IReactorUNIX has it.
        """
        unix_place = UnixPlace(UNIXAddress(address).name or b"")
        place = self._place(f"unix:{quote_from_bytes(unix_place.name)}")
        sockets = self._inherited(place)
        if sockets is None:
            sockets = [unix_place.open(backlog, mode, locked=bool(wantPID))]
        elif not self._lent:
            unix_place.set_mode(mode)
        return self._listen(place, sockets, factory, None if self._lent else unix_place)

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: int, factory: IProtocolFactory) -> IListeningPort:
        """
        As IReactorSocket has it: a socket from systemd.
        """
        place = self._place(f"{SYSTEMD}{fileDescriptor - SYSTEMD_FIRST}")
        return self._listen(place, [socket.socket(addressFamily, fileno=os.dup(fileDescriptor))], factory)

    def sockets(self) -> Sockets:
        """
        All at which this process listens, and all that it has from systemd.
        """
        # While one endpoint of systemd is in use the names must be ours: nobody else's lead to a descriptor.
        is_by_systemd = any(each.place.startswith(SYSTEMD) for each in self._listeners)
        names = self._environment.get("LISTEN_FDNAMES", "").split(":") if is_by_systemd else []
        unused = {f"{SYSTEMD}{index}": [SYSTEMD_FIRST + index] for index in range(len(names))}
        return {**unused, **{each.place: each.descriptors() for each in self._listeners}}

    def withdraw(self, index: int, count: int) -> None:
        """
        Close the sockets of one of *count* processes, of which each has its own, so that the others get all new
        connections; what waits in them is reset. In their place are such that get none until somebody listens there.
        """
        for each in self._listeners:
            if not each.place.startswith(SYSTEMD):
                each.withdraw(index, count)

    def close(self) -> Deferred[None]:
        """
        Close all sockets, so that only others who have them keep them open. What there is in the file system stays
        until `Listener.stopListening`.
        """
        return gatherResults([each.close() for each in self._listeners]).addCallback(lambda _: None)

    def close_rest(self) -> None:
        """
        All doors are open: close what was inherited and is not used.
        """
        while self._left:
            place, descriptors = self._left.popitem()
            log.info("Nothing listens at {place} any more", place=place)
            for each in descriptors:
                os.close(each)

    def let_go(self, successor: int | None = None) -> None:
        """
        Accept no more, and leave the sockets and all that belongs to them to the process of this number: they are
        closed here, for when that ends nobody would serve who connects. A worker has none to name: all is its
        supervisor's anyway.
        """
        for each in self._listeners:
            each.let_go(successor)

    def _place(self, asked: str) -> str:
        # Two doors may both take any free port; they stay apart, in this order.
        self._asked[asked] += 1
        return asked if self._asked[asked] == 1 else f"{asked}#{self._asked[asked]}"

    def _inherited(self, place: str) -> list[socket.socket] | None:
        descriptors = self._left.pop(place, None)
        if descriptors is None and self._lent:
            raise CannotStart(
                f"{place} is not among the places at which all workers listen. "
                "Where dheera listens changes when all of it is stopped and started"
            )
        return None if descriptors is None else [socket.socket(fileno=each) for each in descriptors]

    def _listen(
        self, place: str, sockets: Sequence[socket.socket], factory: IProtocolFactory, owned: UnixPlace | None = None
    ) -> IListeningPort:
        adopt = partial(_adopt, self._reactor, factory)
        listener = Listener(place, adopt, [adopt(each) for each in sockets], owned, self._forget)
        self._listeners.append(listener)
        if self._shares:
            listener.rest()
        return listener

    def _forget(self, listener: Listener) -> None:
        with suppress(ValueError):  # it was told to stop before
            self._listeners.remove(listener)


@implementer(IListeningPort)
@define(eq=False)
class Listener:
    """
    What listens at one place.

    :param adopt: makes a port of a socket.
    :param owned: what is removed at the end.
    :param forget: told of the end.
    """

    place: str
    _adopt: Callable[[socket.socket], Any]
    _ports: list[Any]
    _owned: UnixPlace | None
    _forget: Callable[[Listener], None]

    def startListening(self) -> None:
        """
        Nothing to do: it does so from the beginning.
        """

    def stopListening(self) -> Deferred[None]:
        """
        Listen no more, and remove what there is in the file system.
        """
        if self._owned is not None:
            self._owned.remove()
        self._forget(self)
        return self.close()

    def close(self) -> Deferred[None]:
        """
        Close its sockets.
        """
        ports, self._ports = self._ports, []
        return gatherResults([maybeDeferred(each.stopListening) for each in ports]).addCallback(lambda _: None)

    def getHost(self) -> IAddress:
        """
        The address, with the real port.
        """
        address: IAddress = self._ports[0].getHost()
        return address

    def descriptors(self) -> list[int]:
        """
        Its sockets.
        """
        return [each.fileno() for each in self._ports]

    def rest(self) -> None:
        """
        Accept nothing; the sockets stay as they are.
        """
        for each in self._ports:
            _rest(each)

    def withdraw(self, index: int, count: int) -> None:
        """
        As `Ports.withdraw` has it.
        """
        if len(self._ports) < count:
            return
        for number in range(index, len(self._ports), count):
            old = self._ports[number]
            if is_spread(old.socket) and listens(old.socket):
                self._ports[number] = new = self._adopt(open_another(old.socket))
                _rest(new)
                maybeDeferred(old.stopListening)

    def let_go(self, successor: int | None) -> None:
        """
        Accept nothing, and leave all to the process of this number.
        """
        self.rest()
        self.close()
        if self._owned is not None and successor is not None:
            self._owned.leave(successor)
            self._owned = None


def _accepted(text: str | None) -> Bequest:
    if text is None:
        return Bequest(sockets={})
    try:
        bequest = msgspec.json.decode(text, type=Bequest)
        for descriptors in bequest.sockets.values():
            for each in descriptors:
                os.set_inheritable(each, False)  # noqa: FBT003 - its only parameter
    except (msgspec.MsgspecError, OSError, OverflowError):
        raise CannotStart(
            f"{SOCKETS_VARIABLE} does not hold the sockets of another dheera, which alone sets it"
        ) from None
    return bequest


def _rest(port: Any) -> None:
    port.rests = True
    port.stopReading()


def _adopt(reactor: Any, factory: IProtocolFactory, sock: socket.socket) -> Any:
    sock.setblocking(False)  # noqa: FBT003 - its only parameter
    if sock.family == socket.AF_UNIX:
        port = UnixPort(sock, factory, reactor)
        port.startListening()
        return port
    with sock:  # the reactor has its own descriptor of it
        tcp_port = TcpPort._fromListeningDescriptor(  # noqa: SLF001 - what adoptStreamPort calls
            reactor, sock.fileno(), sock.family, factory
        )
        tcp_port.startListening()
        return tcp_port
