"""
Writing to a socket at once.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import main
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Connection
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from dheera.wire.sending import LONGEST_WAITING, Outbox, has_left, quiet, sender, unsent


class Loop:
    """
    Of a reactor, what a connection tells it.
    """

    def __init__(self) -> None:
        self.writers: set[object] = set()
        self.outbox = Outbox()

    def addWriter(self, one: object) -> None:  # noqa: N802 - Twisted's name
        self.writers.add(one)

    def removeWriter(self, one: object) -> None:  # noqa: N802 - Twisted's name
        self.writers.discard(one)

    def addReader(self, one: object) -> None:  # noqa: N802 - Twisted's name
        """
        Nothing is read here.
        """

    removeReader = addReader  # noqa: N815 - Twisted's name


class Producer:
    """
    Remembers whether it may go on.
    """

    paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        """
        Not told.
        """


class Sending(SynchronousTestCase):
    """
    A plain socket, and Twisted's transport above it.
    """

    def setUp(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.theirs.close)
        for one in (ours, self.theirs):
            one.settimeout(0)
        self.loop = Loop()
        loop: Any = self.loop
        self.transport: Any = Connection(ours, Protocol(), loop)
        self.transport.connected = True
        self.send = sender(self.transport)

    def received(self) -> bytes:
        data = b""
        while True:
            try:
                data += self.theirs.recv(1 << 20)
            except BlockingIOError:
                return data

    def drain(self) -> bytes:
        """
        All that comes, with the reactor's help.
        """
        data = self.received()
        while self.loop.writers:
            self.transport.doWrite()
            data += self.received()
        return data

    def test_at_once(self) -> None:
        """
        A piece is on its way before the reactor has had a turn.
        """
        self.send(b"abc")
        self.assertEqual(b"abc", self.received())
        self.assertEqual(set(), self.loop.writers)

    def test_too_much(self) -> None:
        """
        What the socket does not take leaves later, in order, and its producer is paused meanwhile.
        """
        producer = Producer()
        self.transport.registerProducer(producer, True)  # noqa: FBT003 - Twisted's signature
        data = bytes(range(256)) * 40_000
        self.send(data)
        self.assertTrue(producer.paused)
        self.send(b"behind")
        self.assertEqual(data + b"behind", self.drain())
        self.assertFalse(producer.paused)

    def test_full(self) -> None:
        """
        A socket that takes nothing at all delays; it loses nothing.
        """
        filled = 0
        while True:
            try:
                filled += self.transport.socket.send(b"x" * 65536)
            except BlockingIOError:
                break
        self.send(b"abc")
        self.assertEqual(b"x" * filled + b"abc", self.drain())

    def test_behind(self) -> None:
        """
        What Twisted has not sent yet leaves first.
        """
        self.transport.write(b"first")
        self.send(b"second")
        self.assertEqual(b"firstsecond", self.drain())

    def test_broken(self) -> None:
        """
        That the peer is gone is told in Twisted's way, not by an exception here.
        """
        self.theirs.close()
        self.send(b"abc")
        self.assertIn(self.transport, self.loop.writers)
        self.assertIs(main.CONNECTION_LOST, self.transport.doWrite())

    def test_closed(self) -> None:
        """
        After the end nothing is sent.
        """
        self.transport.disconnecting = True
        self.send(b"abc")
        self.transport.disconnecting, self.transport.connected = False, False
        self.send(b"abc")
        self.assertEqual(b"", self.received())

    def test_others(self) -> None:
        """
        Any other transport is written to as ever: TLS, memory.
        """
        transport = StringTransport()
        sender(transport)(b"abc")
        self.assertEqual(b"abc", transport.value())
        self.transport.TLS = True
        self.assertEqual(self.transport.write, sender(self.transport))


class Busy(Sending):
    """
    While the reactor has more to do than this.
    """

    def setUp(self) -> None:
        super().setUp()
        self.outbox = self.loop.outbox
        self.outbox.is_open = True

    def drain(self) -> bytes:
        self.outbox.empty()
        return super().drain()

    def test_at_once(self) -> None:
        """
        What is sent waits for the others, counts as unsent, and leaves as one when they are done, without the reactor.
        """
        self.send(b"abc")
        self.send(b"def")
        self.assertEqual((b"", 6), (self.received(), unsent(self.transport)))
        self.outbox.empty()
        self.assertEqual((b"abcdef", set()), (self.received(), self.loop.writers))
        self.send(b"ghi")
        self.assertEqual(b"ghi", self.received())

    def test_long(self) -> None:
        """
        Much of it does not wait; what does leaves before it.
        """
        much = b"x" * (LONGEST_WAITING + 1)
        self.send(much)
        self.assertEqual(much, self.received())
        self.send(b"first")
        self.send(much)
        self.assertIn(self.transport, self.loop.writers)
        self.outbox.empty()
        self.assertEqual(b"first" + much, self.received())
        self.transport.doWrite()
        self.assertEqual(set(), self.loop.writers)

    def test_taken_in_part(self) -> None:
        """
        What the socket does not take leaves later, in order.
        """
        filled = 0
        while True:
            try:
                filled += self.transport.socket.send(b"x" * 65536)
            except BlockingIOError:
                break
        self.send(b"abc")
        self.outbox.empty()
        self.assertIn(self.transport, self.loop.writers)
        self.send(b"def")
        self.assertEqual(b"x" * filled + b"abcdef", super().drain())

    def test_behind(self) -> None:
        """
        Twisted's own way keeps its place among what waits.
        """
        self.send(b"first")
        self.transport.write(b"second")
        self.send(b"third")
        self.outbox.empty()
        self.transport.write(b"fourth")
        self.send(b"fifth")
        self.assertEqual(b"firstsecondthirdfourthfifth", self.drain())

    def test_written_meanwhile(self) -> None:
        """
        What Twisted has sent in the same turn is not sent again.
        """
        self.send(b"abc")
        self.transport.doWrite()
        self.assertEqual(b"abc", self.received())
        self.outbox.empty()
        self.assertEqual(b"", self.received())

    def test_closed(self) -> None:
        """
        What was sent before the end arrives before it.
        """
        self.send(b"abc")
        self.transport.loseConnection()
        self.outbox.empty()
        self.assertEqual((b"abc", main.CONNECTION_DONE), (self.received(), self.transport.doWrite()))

    def test_lost(self) -> None:
        """
        A connection that ends meanwhile takes with it what waits.
        """
        self.send(b"abc")
        self.transport.connected = False
        self.outbox.empty()
        self.assertEqual((b"", set()), (self.received(), self.loop.writers))

    def test_broken(self) -> None:
        """
        That the peer is gone is told in Twisted's way.
        """
        self.send(b"abc")
        self.theirs.close()
        self.outbox.empty()
        self.assertIn(self.transport, self.loop.writers)
        self.assertIs(main.CONNECTION_LOST, self.transport.doWrite())


class Below(Sending):
    """
    A look at the socket below.
    """

    def test_quiet(self) -> None:
        """
        Neither bytes nor an end have arrived; either is seen without being taken.
        """
        self.assertTrue(quiet(self.transport))
        self.theirs.send(b"x")
        self.assertFalse(quiet(self.transport))
        self.assertEqual(b"x", self.transport.socket.recv(2))
        self.theirs.close()
        self.assertFalse(quiet(self.transport))

    def test_left(self) -> None:
        """
        The peer's leaving is seen behind bytes that nobody has read.
        """
        self.theirs.send(b"unread")
        self.assertFalse(has_left(self.transport))
        self.theirs.close()
        self.assertTrue(has_left(self.transport))

    def test_unsent(self) -> None:
        """
        What the peer has not taken is counted, in the kernel and in Twisted.
        """
        self.assertEqual(0, unsent(self.transport))
        self.send(b"a" * (8 << 20))
        before = unsent(self.transport)
        self.assertGreater(before, 7 << 20)
        self.received()
        self.assertLess(unsent(self.transport), before)

    def test_in_memory(self) -> None:
        """
        Where there is no socket, nothing has come, nobody has left, nothing is unsent.
        """
        memory = StringTransport()
        self.assertEqual((True, False, 0), (quiet(memory), has_left(memory), unsent(memory)))
