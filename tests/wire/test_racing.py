"""
Connecting to a host of several addresses: who is tried when, who wins, and what is left of the others.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IProtocol, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import optionsForClientTLS
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from dheera.wire.addresses import Host
from dheera.wire.racing import HEAD_START_SECONDS, Port
from tests.network import Network, Script
from tests.wire.directory import Directory

SIX, FOUR, OTHER = "2001:db8::1", "192.0.2.1", "192.0.2.2"


class Track:
    """
    A host with addresses, some of which answer.
    """

    def __init__(self, addresses: list[str], *, answer: list[str], silent: list[str]) -> None:
        self.network = Network()
        self.script = Script(self.network)
        self.network.nameResolver = Directory(upstream_test=addresses)
        for address in answer:
            self.network.listen(self.script, address, 443)
        self.network.silent = {(address, 443) for address in silent}
        self.host = Host(self.network, "upstream.test", lambda: 3600, lambda _: None)
        self.port = Port(self.network, self.host, 443, lambda: 10)
        self.factory = Counted()

    def connect(self) -> Deferred[IProtocol]:
        return self.port.connect(self.factory)

    @property
    def tried(self) -> list[str]:
        return [attempt.address.host for attempt in self.network.attempts]

    @property
    def pending(self) -> list[str]:
        return [attempt.address.host for attempt in self.network.attempts if not attempt.given_up]


class Counted(Factory[Protocol]):
    """
    Counts the protocols that it has made.
    """

    protocol = Protocol
    noisy = False
    made = 0

    def buildProtocol(self, addr: object) -> Protocol | None:
        self.made += 1
        return super().buildProtocol(addr)  # type: ignore[arg-type]  # any address


class TestRace(SynchronousTestCase):
    """
    Attempts beside each other.
    """

    def assert_over(self, track: Track) -> None:
        """
        One protocol was made at most, and nothing is left.
        """
        self.assertEqual(([], []), (track.pending, track.network.getDelayedCalls()))
        self.assertLessEqual(track.factory.made, 1)

    def test_interface(self) -> None:
        """
        It is what Twisted calls an endpoint.
        """
        verifyObject(IStreamClientEndpoint, Track([], answer=[], silent=[]).port)

    def test_first(self) -> None:
        """
        If the first one answers, no other is tried.
        """
        track = Track([SIX, FOUR], answer=[SIX, FOUR], silent=[])
        connected = track.connect()
        track.network.settle()
        self.successResultOf(connected)
        self.assertEqual([SIX], track.tried)
        self.assert_over(track)

    def test_slow(self) -> None:
        """
        One that is slow gets company after its head start, and is given up when that answers.
        """
        track = Track([SIX, FOUR], answer=[FOUR], silent=[SIX])
        connected = track.connect()
        track.network.advance(HEAD_START_SECONDS - 0.01)
        self.assertEqual([SIX], track.tried)
        track.network.advance(0.01)
        self.assertEqual([SIX, FOUR], track.tried)
        self.successResultOf(connected)
        self.assert_over(track)

    def test_together(self) -> None:
        """
        Of two that answer at the same moment one is taken, and the other closed unused.
        """
        track = Track([SIX, FOUR], answer=[SIX, FOUR], silent=[SIX, FOUR])
        connected = track.connect()
        track.network.advance(HEAD_START_SECONDS)
        self.assertEqual([SIX, FOUR], track.pending)
        track.network.attempts[1].timer.cancel()
        for attempt in reversed(track.network.attempts):
            track.network._connect(attempt)
        self.successResultOf(connected)
        self.assertEqual(1, len(track.script.connections))
        self.assert_over(track)

    def test_slow_once(self) -> None:
        """
        The next connection begins with the one that answered.
        """
        track = Track([SIX, FOUR], answer=[FOUR], silent=[SIX])
        track.connect()
        track.network.turn(1)
        connected = track.connect()
        track.network.settle()
        self.successResultOf(connected)
        self.assertEqual([SIX, FOUR, FOUR], track.tried)

    def test_slow_later(self) -> None:
        """
        Nor does one of the same family that was too slow come first again soon.
        """
        track = Track([FOUR, OTHER], answer=[FOUR], silent=[OTHER])
        for _ in range(6):
            connected = track.connect()
            track.network.turn(1)
            self.successResultOf(connected)
        self.assertEqual(1, track.tried.count(OTHER))

    def test_refused(self) -> None:
        """
        After a failure the next one is tried at once, and the failed one last from then on.
        """
        track = Track([FOUR, OTHER], answer=[FOUR], silent=[])
        for tried in (1, 2):  # they take turns, so one of both attempts begins with the one that fails
            connected = track.connect()
            track.network.settle()
            self.successResultOf(connected)
            self.assertGreaterEqual(1 + tried, len(track.tried))
        for _ in range(4):
            track.connect()
            track.network.settle()
        self.assertEqual([FOUR] * 4, track.tried[-4:])
        self.assertEqual(1, track.tried.count(OTHER))

    def test_all_refused(self) -> None:
        """
        If all fail the reason is told, and nothing is left.
        """
        track = Track([SIX, FOUR], answer=[], silent=[])
        connected = track.connect()
        track.network.settle()
        self.failureResultOf(connected, Refused)
        self.assertEqual([SIX, FOUR], track.tried)
        self.assert_over(track)

    def test_last_is_slow(self) -> None:
        """
        One that fails while another is under way leaves that its time.
        """
        track = Track([SIX, FOUR], answer=[], silent=[SIX])
        connected = track.connect()
        track.network.turn(9)
        self.assertNoResult(connected)
        track.network.turn(1)
        self.failureResultOf(connected)
        self.assert_over(track)

    def test_all_asked_again(self) -> None:
        """
        If nobody answers the name is soon looked up again: the host may have moved.
        """
        track = Track([FOUR], answer=[OTHER], silent=[])
        track.connect().addErrback(lambda _: None)
        track.network.settle()
        track.network.nameResolver.hosts["upstream.test"] = [OTHER]
        track.network.turn(5)
        connected = track.connect()
        track.network.settle()
        self.successResultOf(connected)

    def test_cancelled(self) -> None:
        """
        Who leaves leaves nothing behind: in the look-up, and with one or two attempts under way.
        """
        for seconds, attempts in ((None, 0), (0.0, 1), (0.3, 2)):
            track = Track([SIX, FOUR], answer=[], silent=[SIX, FOUR])
            track.network.nameResolver.waits = seconds is None
            connected = track.connect()
            track.network.advance(seconds or 0)
            self.assertEqual(attempts, len(track.pending))
            connected.cancel()
            self.failureResultOf(connected, CancelledError)
            self.assert_over(track)

    def test_unknown(self) -> None:
        """
        A name that nobody knows is told as such.
        """
        self.failureResultOf(Track([], answer=[], silent=[]).connect(), DNSLookupError)

    def test_tls(self) -> None:
        """
        TLS on top speaks with the winner only.
        """
        track = Track([SIX, FOUR], answer=[FOUR], silent=[SIX])
        connected = wrapClientTLS(optionsForClientTLS("upstream.test"), track.port).connect(track.factory)
        track.network.turn(1)
        self.successResultOf(connected)
        self.assertEqual([b"\x16\x03\x01"], [peer.received[:3] for peer in track.script.connections])
        self.assertEqual(1, track.factory.made)
