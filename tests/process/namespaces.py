"""
Machines on a wire that can be cut: network namespaces without names, so that nothing of them is left when this process
has ended, however it did. One must be root to make them.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from ipaddress import IPv4Network
from threading import Thread
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from tests.process.daemon import PATIENCE_SECONDS
from tests.process.programs import program

NETWORK = IPv4Network("192.0.2.0/24")
"""
Of the wire. It is for documentation (RFC 5737), and nowhere but on the wire.
"""
HANDS = 32
"""
How many can do something on one machine at the same time.
"""

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of sched.h
_READ_BYTES = 64 * 1024

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Machine:
    """
    A place inside ``with`` with a network of its own, in which at first there is nobody but itself.
    """

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            maker = stack.enter_context(ThreadPoolExecutor(1))
            self._network = maker.submit(_leave_for_new_network).result()
            stack.callback(os.close, self._network)
            # Sockets and processes that a thread makes are where the thread is.
            self._hands = ThreadPoolExecutor(HANDS, initializer=_enter_network, initargs=(self._network,))
            stack.callback(self._hands.shutdown)
            self.do(_ip, "link", "set", "lo", "up")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def path(self) -> str:
        """
        By which other processes find its network.
        """
        return f"/proc/{os.getpid()}/fd/{self._network}"

    def do(
        self, doing: Callable[_Arguments, _Result], *arguments: _Arguments.args, **more: _Arguments.kwargs
    ) -> _Result:
        """
        Call *doing* on this machine: sockets and processes that it makes are here.
        """
        return self._hands.submit(doing, *arguments, **more).result()


class Switch:
    """
    Joins machines.

    :param machine: where it stands, and which it joins too.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._addresses = NETWORK.hosts()
        self.address = str(next(self._addresses))
        self._ip("link", "add", "switch", "type", "bridge")
        self._ip("address", "add", f"{self.address}/{NETWORK.prefixlen}", "dev", "switch")
        self._ip("link", "set", "switch", "up")

    def join(self, machine: Machine, port: str) -> None:
        """
        Lay a wire to *machine*.

        :param port: what it is called here.
        """
        self._ip("link", "add", port, "type", "veth", "peer", "name", "wire", "netns", machine.path)
        self._ip("link", "set", port, "master", "switch", "up")
        machine.do(_ip, "address", "add", f"{next(self._addresses)}/{NETWORK.prefixlen}", "dev", "wire")
        machine.do(_ip, "link", "set", "wire", "up")

    def cut(self, port: str) -> None:
        """
        Let nothing through from now on, and tell neither side: what is sent is lost.
        """
        self._ip("link", "set", port, "down")

    def mend(self, port: str) -> None:
        """
        Let everything through again.
        """
        self._ip("link", "set", port, "up")

    def _ip(self, *words: str) -> None:
        self._machine.do(_ip, *words)


class Relay:
    """
    Inside ``with`` whoever connects to a port of *machine* reaches a Unix socket, which belongs to no network.

    :param address: of the machine.
    :param path: of the Unix socket.
    """

    def __init__(self, machine: Machine, address: str, path: str) -> None:
        self._listening = machine.do(socket.create_server, (address, 0))
        self.port: int = self._listening.getsockname()[1]
        self._path = path
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._loop = self._runner.get_loop()
        self._over = asyncio.Event()
        self._thread = Thread(target=lambda: self._runner.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(PATIENCE_SECONDS)
        self._runner.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connect, sock=self._listening)
        await self._over.wait()
        server.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # At the end of all this it is cancelled, of which nobody wants to hear.
        with suppress(OSError, asyncio.CancelledError):
            onward_reader, onward_writer = await asyncio.open_unix_connection(self._path)
            passing = [
                asyncio.ensure_future(_pass_on(reader, onward_writer)),
                asyncio.ensure_future(_pass_on(onward_reader, writer)),
            ]
            try:
                await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in passing:
                    each.cancel()
                onward_writer.close()
                writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()


async def _wait_for(task: asyncio.Task[None]) -> None:
    await task


def _ip(*words: str) -> None:
    subprocess.run([program("ip", "iproute2"), *words], check=True, capture_output=True, timeout=PATIENCE_SECONDS)


def _leave_for_new_network() -> int:
    """
    :return: a file descriptor of the network, in which only this thread is.
    """
    _check(ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK))
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter_network(network: int) -> None:
    _check(ctypes.CDLL(None, use_errno=True).setns(network, _NEW_NETWORK))


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
