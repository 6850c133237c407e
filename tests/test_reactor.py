"""
The reactor that the daemon runs: what it does in another way than Twisted's must come to the same.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from select import select

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import LogLevel
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import dheera.reactor
from dheera.reactor import Reactor
from dheera.wire.sending import sender
from tests.house import Overheard

TURNS = 200


class Hearer(Protocol):
    """
    Notes what comes, and fails at a word.
    """

    def __init__(self) -> None:
        self.heard = b""
        self.act: Callable[[], None] | None = None
        self.reason: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.act is not None:
            self.act()
        if data == b"fail":
            raise RuntimeError(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.reason = reason
        if self.heard == b"fail at the end":
            raise RuntimeError(self.heard)


class ReactorTests(SynchronousTestCase):
    """
    Real sockets of the loopback interface.
    """

    def setUp(self) -> None:
        self.reactor = Reactor()
        self.hearers: list[Hearer] = []

        class Factory(ServerFactory):
            def buildProtocol(_, _addr: object) -> Hearer:  # noqa: N805 - self is the test
                self.hearers.append(Hearer())
                return self.hearers[-1]

        self.port = self.reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        self.addCleanup(self.reactor.disconnectAll)

    def until(self, condition: Callable[[], object]) -> None:
        for _ in range(TURNS):
            if condition():
                return
            self.reactor.iterate(0.05)
        self.fail("That did not come to pass.")

    def call(self) -> tuple[socket.socket, Hearer]:
        before = len(self.hearers)
        client = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        self.addCleanup(client.close)
        self.until(lambda: len(self.hearers) > before)
        return client, self.hearers[-1]

    def test_brings_bytes_and_the_end(self) -> None:
        """
        What a peer sends arrives, and that it closed.
        """
        client, hearer = self.call()
        client.sendall(b"one")
        self.until(lambda: hearer.heard == b"one")
        client.close()
        self.until(lambda: hearer.reason)
        assert hearer.reason is not None
        self.assertIsInstance(hearer.reason.value, ConnectionDone)

    def test_sends_together(self) -> None:
        """
        What is sent while there is much to do leaves when all is done, also if a protocol fails; what
        is sent while there is one thing leaves at once.
        """
        log = Overheard.by(self)
        calls = [self.call() for _ in range(3)]
        seen: list[bytes] = []

        def answer(number: int) -> None:
            sender(calls[number][1].transport)(b"%d" % number)
            if select([calls[number][0]], [], [], 0)[0]:
                seen.append(calls[number][0].recv(9))

        for number, (_, hearer) in enumerate(calls):
            hearer.act = partial(answer, number)
        for client, _ in calls:
            client.sendall(b"one")
        calls[1][1].act = partial(self.fail_after, partial(answer, 1))
        self.reactor.iterate(0.05)
        self.assertEqual([], seen)
        self.assertEqual([b"0", b"1", b"2"], [client.recv(9) for client, _ in calls])
        self.assertEqual(1, len([event for event in log.events if event["log_level"] is LogLevel.critical]))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.until(lambda: calls[1][1].reason)
        calls[0][0].sendall(b"alone")
        self.reactor.iterate(0.05)
        self.assertEqual([b"0"], seen)

    def test_sends_in_a_flood(self) -> None:
        """
        But after so many things nobody waits for the rest.
        """
        self.patch(dheera.reactor, "MOST_TOGETHER", 2)
        calls = [self.call() for _ in range(3)]
        arrived: list[int] = []
        for client, hearer in calls:

            def answer(transport: object = hearer.transport) -> None:
                sender(transport)(b"answer")
                arrived.append(len(select([client for client, _ in calls], [], [], 0)[0]))

            hearer.act = answer
            client.sendall(b"one")
        self.reactor.iterate(0.05)
        self.assertEqual([0, 0, 2], arrived)

    def fail_after(self, act: Callable[[], None]) -> None:
        act()
        raise RuntimeError

    def test_a_protocol_that_fails_ends_alone(self) -> None:
        """
        What a protocol raises, when bytes come or when they end, is logged and ends its connection; others go on.
        """
        log = Overheard.by(self)
        (first, failing), (second, failing_late), (other, hearer) = self.call(), self.call(), self.call()
        first.sendall(b"fail")
        second.sendall(b"fail at the end")
        second.close()
        self.until(lambda: failing.reason and failing_late.reason)
        assert failing.reason is not None
        self.assertIsInstance(failing.reason.value, RuntimeError)
        self.assertEqual(2, len([event for event in log.events if event["log_level"] is LogLevel.critical]))
        self.assertEqual(2, len(self.flushLoggedErrors(RuntimeError)))
        other.sendall(b"on")
        self.until(lambda: hearer.heard == b"on")

    def test_the_daemon_runs_it(self) -> None:
        """
        Nothing that the program imports chooses a reactor before. Should Twisted's be another inside, or have been
        chosen, that is taken.
        """
        for before, taken in (
            ("import dheera.cli, dheera.service; make = Reactor", "dheera.reactor"),
            ("class make(Reactor): _doReadOrWrite = property()", "twisted.internet.epollreactor"),
            ("from twisted.internet import reactor; make = Reactor", "twisted.internet.epollreactor"),
        ):
            program = (
                f"from dheera.reactor import Reactor, install\n{before}\ninstall(make)\n"
                "from twisted.internet import reactor\nprint(type(reactor).__module__)"
            )
            said = subprocess.check_output([sys.executable, "-c", program])
            self.assertEqual(taken, said.decode().strip())
