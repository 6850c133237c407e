"""
Listening sockets as the kernel has them: TCP ports, alone or with one socket for each of several processes, and Unix
sockets with what belongs to them in the file system.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet import tcp, unix
from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import UNIXAddress
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.python.failure import Failure
from twisted.python.lockfile import FilesystemLock


def open_tcp(interface: str, port: int, backlog: int, shares: int = 0) -> list[socket.socket]:
    """
    The socket that listens at a port; or that many, among which the kernel spreads the connections.

    :param port: 0 takes any free one.
    :raises CannotListenError: it is taken, or may not be had.
    """
    sock = socket.socket(socket.AF_INET6 if isIPv6Address(interface) else socket.AF_INET)
    sockets = [sock]
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # An IPv6 address may come with a scope.
        sock.bind(socket.getaddrinfo(interface, port)[0][4] if isIPv6Address(interface) else (interface, port))
        if shares:
            # Not before: nobody else, were it another dheera of the same user, may have the port already.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sockets += [open_another(sock) for _ in range(shares - 1)]
        for each in sockets:
            each.listen(backlog)
    except OSError as error:
        for each in sockets:
            each.close()
        raise CannotListenError(interface, port, error) from error
    return sockets


def open_another(first: socket.socket) -> socket.socket:
    """
    One more socket at the port of *first*, which `is_spread`. No connection comes there until it listens.
    """
    sock = socket.socket(first.family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(first.getsockname())
    except OSError:
        sock.close()
        raise
    return sock


def is_spread(sock: socket.socket) -> bool:
    """
    Whether the port may have several sockets.
    """
    return sock.family != socket.AF_UNIX and sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) != 0


def listens(sock: socket.socket) -> bool:
    """
    Whether connections come there.
    """
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0


@frozen
class UnixPlace:
    """
    Where a Unix socket is found: a path with a lock beside it that names the process which listens, or an abstract
    address, which needs no care (unix(7)).
    """

    name: bytes

    def open(self, backlog: int, mode: int, *, locked: bool) -> socket.socket:
        """
        A socket that listens there.

        :param locked: only if no living process has the lock; the socket that a dead one left is replaced.
        :raises CannotListenError: that is not possible.
        """
        if locked:
            self._break_old_lock()
            lock = FilesystemLock(os.fsdecode(self._lock))
            if not lock.lock():
                raise CannotListenError(None, self.name, "Cannot acquire lock")
            if not lock.clean:
                self._remove_socket()
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.bind(self.name)
            self.set_mode(mode)
            sock.listen(backlog)  # from here on somebody may connect
        except OSError as error:
            sock.close()
            self._unlock()
            raise CannotListenError(None, self.name, error) from error
        return sock

    def set_mode(self, mode: int) -> None:
        """
        Let those connect whom *mode* allows.
        """
        if self._is_file and stat.S_IMODE(self._path.stat().st_mode) != mode:
            self._path.chmod(mode)

    def remove(self) -> None:
        """
        Nobody listens there any more.
        """
        if self._is_file:
            self._remove_socket()
            self._unlock()

    def leave(self, successor: int) -> None:
        """
        Let the lock be another process's, without a moment in which it is nobody's.
        """
        if self._is_file and self._is_locked_by_us():
            new = self._lock.with_name(f"{self._lock.name}.{successor}")
            new.unlink(missing_ok=True)
            new.symlink_to(str(successor))
            new.replace(self._lock)

    @property
    def _is_file(self) -> bool:
        return self.name[:1] not in (b"", b"\0")

    @property
    def _path(self) -> Path:
        return Path(os.fsdecode(self.name))

    @property
    def _lock(self) -> Path:
        return Path(os.fsdecode(self.name) + ".lock")  # as Twisted names it

    def _is_locked_by_us(self) -> bool:
        try:
            return str(self._lock.readlink()) == str(os.getpid())
        except (OSError, ValueError):
            return False

    def _break_old_lock(self) -> None:
        # In a container each life may have the same number, and the path may outlive it. A lock that names us can be
        # ours, or that of another container's dheera: then somebody listens.
        if self._is_file and self._is_locked_by_us() and not self._is_heard():
            self._lock.unlink(missing_ok=True)
            self._remove_socket()

    def _is_heard(self) -> bool:
        """
        Whether somebody listens there, as far as we may know.
        """
        with socket.socket(socket.AF_UNIX) as sock:
            sock.setblocking(False)  # noqa: FBT003 - its only parameter
            return sock.connect_ex(self.name) not in (errno.ECONNREFUSED, errno.ENOENT)

    def _unlock(self) -> None:
        if self._is_locked_by_us():
            self._lock.unlink(missing_ok=True)

    def _remove_socket(self) -> None:
        with suppress(OSError):
            if self._path.is_socket():
                self._path.unlink()


class _Thorough(tcp.Port):
    """
    A port that, before it closes, takes the connections that the kernel has made for it: they would be reset, though
    their clients have been told that they are connected. Twisted closes one turn of the reactor after it has stopped to
    accept, and takes no more than a few at once.

    :ivar rests: it accepts nothing, since others do from the same socket.
    """

    rests = False

    def _closeSocket(self, orderly: bool) -> None:  # noqa: FBT001, N802 - Twisted's signature
        """
        Take all that wait, then close at once: whoever comes between the two is reset.
        """
        if not self.rests:
            self.disconnecting = False
            self.numberAccepts = _ALL
            self.doRead()
            self.disconnecting = True
        tcp.Port._closeSocket(self, orderly)  # noqa: SLF001 - where Twisted closes it


_ALL = 1 << 20


class TcpPort(_Thorough):
    """
    A TCP socket that listens already.
    """


class UnixPort(_Thorough, unix.Port):
    """
    A Unix socket that listens already. Its path is not looked at, neither now nor when it is closed: Twisted would let
    everybody in until somebody else set the mode, and would remove what another process still uses.
    """

    def __init__(self, sock: socket.socket, factory: IProtocolFactory, reactor: Any) -> None:
        super().__init__(sock.getsockname(), factory, reactor=reactor)
        self._shouldShutdown = False
        self._factory = factory
        self.socket = sock
        self.fileno = sock.fileno  # type: ignore[method-assign]  # Twisted deletes it from the instance

    def startListening(self) -> None:  # noqa: N802 - Twisted's name
        """
        Accept connections.
        """
        tcp._reservedFD.reserve()  # noqa: SLF001 - with it Twisted refuses connections when there are no descriptors
        self._factory.doStart()
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """
        Closed, and nothing else.
        """
        tcp.Port.connectionLost(self, reason)


def in_url(scheme: str, address: IAddress) -> str:
    """
    The base URL at which clients find *address*.
    """
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    host = getattr(address, "host", "")
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{getattr(address, 'port', '')}"
