"""
How the front opens its doors and closes them, and how long exchanges are waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from dheera.errors import Unavailable
from dheera.lifecycle import Hurry
from dheera.proxy.capacity import Capacity
from dheera.proxy.exchange import Departed
from dheera.proxy.progress import Progress
from dheera.proxy.target import parse_base
from dheera.rooms import GRACE_SECONDS, HANDOVER_SECONDS, Demo, Door, Drain, Finishing, Front
from dheera.settings import Config
from dheera.wire.certificate import ReloadingCertificate
from dheera.wire.limits import ServerLimits
from tests.house import Overheard
from tests.wire.line import Line, Stand, later
from tests.wire.probes import GET

NEXT = GET + b"\r\n"
LOCAL = IPv4Address("TCP", "127.0.0.1", 4000)


@define(eq=False)
class Listening:
    """
    A port that notes when it is closed.
    """

    address: IAddress
    diary: list[str]
    closing: Deferred[None]

    def getHost(self) -> IAddress:
        return self.address

    def stopListening(self) -> Deferred[None]:  # noqa: N802 - Twisted's name
        self.diary.append("shut")
        return self.closing


@implementer(IStreamServerEndpoint)
@define(eq=False)
class Place:
    """
    Where one can listen.

    :param error: why one cannot.
    """

    diary: list[str]
    address: IAddress = LOCAL
    error: Exception | None = None
    closing: Deferred[None] = field(factory=lambda: succeed(None))
    served: list[IProtocolFactory] = field(factory=list, init=False)

    def listen(self, factory: IProtocolFactory) -> Deferred[Any]:
        if self.error is not None:
            return fail(self.error)
        self.served.append(factory)
        return succeed(Listening(self.address, self.diary, self.closing))


@define(eq=False)
class Sockets:
    """
    What the front asks of the ports.
    """

    diary: list[str]

    def close_rest(self) -> None:
        self.diary.append("close rest")

    def let_go(self, successor: int | None) -> None:
        self.diary.append(f"let go for {successor}")


class DrainTests(SynchronousTestCase):
    """
    The time that a stop gives.
    """

    def setUp(self) -> None:
        self.clock, self.hurry = Clock(), Hurry()
        self.config = Config(stop_delay_seconds=7, drain_seconds=20)
        self.drain = Drain(self.clock, lambda: self.config, self.hurry)

    def delay(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.drain.delay())

    def test_delay(self) -> None:
        """
        It is as long as the settings say that are in force when the stop begins.
        """
        self.config = Config(stop_delay_seconds=3)
        delay = self.delay()
        self.clock.advance(2.9)
        self.assertNoResult(delay)
        self.clock.advance(0.1)
        self.successResultOf(delay)

    def test_delay_hurried(self) -> None:
        """
        A hurry ends it; and where there is one already, or no delay is set, nothing is waited for.
        """
        delay = self.delay()
        self.hurry.begin()
        self.successResultOf(delay)
        self.successResultOf(self.delay())
        none = Drain(self.clock, Config, Hurry())
        self.successResultOf(Deferred.fromCoroutine(none.delay()))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_grace(self) -> None:
        """
        The moment for those who came last is short, and a hurry ends it.
        """
        for seconds, hurries in ((GRACE_SECONDS, False), (0.0, True)):
            grace = Deferred.fromCoroutine(self.drain.grace())
            self.assertNoResult(grace)
            if hurries:
                self.hurry.begin()
            self.clock.advance(seconds)
            self.successResultOf(grace)
        self.assertLessEqual(GRACE_SECONDS, 1)

    def test_over(self) -> None:
        """
        It is over after the drain time, counted from its first beginning.
        """
        self.drain.begin()
        self.clock.advance(15)
        self.drain.begin()
        self.assertFalse(self.drain.over.is_on)
        self.clock.advance(5)
        self.assertTrue(self.drain.over.is_on)

    def test_over_hurried(self) -> None:
        """
        A hurry, also one that was before, ends it.
        """
        self.drain.begin()
        self.hurry.begin()
        self.assertTrue(self.drain.over.is_on)
        other = Drain(self.clock, lambda: self.config, self.hurry)
        other.begin()
        self.assertTrue(other.over.is_on)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_end(self) -> None:
        """
        When all are finished before, it is never over, and no timer is left.
        """
        self.drain.begin()
        self.drain.end()
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertFalse(self.drain.over.is_on)
        Drain(self.clock, Config, Hurry()).end()


class FrontCase(SynchronousTestCase):
    """
    A front with one door, behind which a real server is.
    """

    config = Config(stop_delay_seconds=0, drain_seconds=20)

    def setUp(self) -> None:
        self.stand = Stand(later)
        self.clock = self.stand.clock
        self.diary: list[str] = []
        self.said: list[str] = []
        self.hurry = Hurry()
        self.drain = Drain(self.clock, lambda: self.config, self.hurry)
        self.capacity = Capacity(self.clock, ServerLimits(requests=1, queue_seconds=60))

    def front(self, *places: Place, epilogue: str = "") -> Front:
        """
        One with doors at *places*, or at any.
        """
        doors = [Door(each, "http") for each in places or [Place(self.diary)]]
        ports: Any = Sockets(self.diary)
        return Front(self.stand.server, self.capacity, ports, doors, self.drain, self.said.append, epilogue)

    def opened(self, *places: Place, epilogue: str = "") -> Front:
        front = self.front(*places, epilogue=epilogue)
        self.successResultOf(Deferred.fromCoroutine(front.open()))
        self.diary.clear()
        return front

    def close(self, front: Front) -> Deferred[None]:
        return Deferred.fromCoroutine(front.close())

    def asking(self) -> Line:
        """
        A client whose request is not answered yet.
        """
        line = self.stand.connect()
        line.send(NEXT)
        return line


class OpeningTests(FrontCase):
    """
    The doors.
    """

    def test_announced(self) -> None:
        """
        When all are open, and not before, it is told where; what was inherited and is not used is given back.
        """
        unix = Place(self.diary, UNIXAddress(b"/run/d.sock"))
        front = self.front(Place(self.diary), unix, epilogue="curl BASE/x")
        self.successResultOf(Deferred.fromCoroutine(front.open()))
        self.assertEqual(
            ["RUNNING on http://127.0.0.1:4000", "RUNNING on unix:/run/d.sock", "curl http://127.0.0.1:4000/x"],
            self.said,
        )
        self.assertEqual(["http://127.0.0.1:4000", "unix:/run/d.sock"], front.addresses)
        self.assertEqual((["close rest"], [self.stand.server]), (self.diary, unix.served))

    def test_unix_first(self) -> None:
        """
        Lines to try that go to a Unix socket say so in curl's way.
        """
        self.opened(Place(self.diary, UNIXAddress(b"/run/d.sock")), epilogue="curl BASE/x")
        self.assertEqual("curl --unix-socket /run/d.sock http://localhost/x", self.said[-1])

    def test_one_fails(self) -> None:
        """
        If one cannot be opened those before it are closed, nothing is announced, and nothing inherited is given back.
        """
        error = CannotListenError("127.0.0.1", 1, OSError(13, "no"))
        front = self.front(Place(self.diary), Place(self.diary), Place(self.diary, error=error))
        self.failureResultOf(Deferred.fromCoroutine(front.open()), CannotListenError)
        self.assertEqual((["shut", "shut"], []), (self.diary, self.said))

    def test_certificate(self) -> None:
        """
        A door with a certificate speaks TLS, others do not.
        """
        certificate: Any = ReloadingCertificate.__new__(ReloadingCertificate)
        site = self.stand.server
        self.assertIs(site, Door(Place([]), "http").dress(site))
        self.assertIsInstance(Door(Place([]), "https", certificate).dress(site), TLSMemoryBIOFactory)


class StopTests(FrontCase):
    """
    The order of a stop.
    """

    def test_nobody(self) -> None:
        """
        Where nobody is connected the doors are closed and that is all: nothing is waited for.
        """
        front = self.opened(Place(self.diary), Place(self.diary))
        self.successResultOf(self.close(front))
        self.assertEqual(["shut", "shut"], self.diary)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_shut_is_waited_for(self) -> None:
        """
        Nobody is turned away before the doors are closed.
        """
        shut: Deferred[None] = Deferred()
        closing = self.close(self.opened(Place(self.diary, closing=shut)))
        self.assertEqual((True, False), (self.stand.server.leaving, self.stand.server.draining))
        shut.callback(None)
        self.successResultOf(closing)
        self.assertTrue(self.stand.server.draining)

    def test_newcomers(self) -> None:
        """
        Who is connected and has not asked yet is given a moment: its request may be on its way. It is answered.
        """
        front = self.opened()
        silent, late = self.stand.connect(), self.stand.connect()
        closing = self.close(front)
        late.send(NEXT)
        self.stand.request.finish()
        self.assertEqual(200, late.answer().status)
        self.assertEqual("open", silent.state)
        self.assertNoResult(closing)
        self.clock.advance(GRACE_SECONDS)
        self.assertEqual("closed", silent.state)
        late.hang_up()
        self.successResultOf(closing)

    def test_no_newcomers(self) -> None:
        """
        For those who have had an answer before no moment is needed.
        """
        line = self.asking()
        self.stand.request.finish()
        closing = self.close(self.opened())
        self.assertEqual("closed", line.state)
        self.successResultOf(closing)

    def test_newcomers_hurried(self) -> None:
        """
        In a hurry there is no such moment.
        """
        line = self.stand.connect()
        closing = self.close(self.opened())
        self.assertEqual("open", line.state)
        self.hurry.begin()
        self.assertNotEqual("open", line.state)
        self.successResultOf(closing)

    def test_finishes(self) -> None:
        """
        What is under way may finish within the drain time; then nothing is left to wait for.
        """
        line = self.asking()
        closing = self.close(self.opened())
        self.clock.advance(19)
        self.assertNoResult(closing)
        self.stand.request.finish()
        self.assertEqual((200, "closed"), (line.answer().status, line.state))
        line.hang_up()
        self.successResultOf(closing)
        self.clock.advance(1)  # the room below may still wait for those whose clients have left
        self.assertEqual((True, False), (self.drain.over.is_on, self.stand.server.ended))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_too_long(self) -> None:
        """
        The rest is cut after the drain time, and nobody who waits for a place gets one then, only to be cut as well.
        """
        line = self.asking()
        self.assertIsNone(self.capacity.enter("a"))
        turn = self.capacity.enter("b")
        assert turn is not None
        self.stand.request.notifyFinish().addErrback(lambda _: self.capacity.leave())
        closing = self.close(self.opened())
        self.clock.advance(19)
        self.assertNoResult(turn)
        self.clock.advance(1)
        self.assertEqual("reset", line.state)
        self.successResultOf(closing)
        self.failureResultOf(turn, Unavailable)
        self.assertTrue(self.stand.server.ended)

    def test_hurried(self) -> None:
        """
        A hurry cuts at once.
        """
        line = self.asking()
        self.stand.request.notifyFinish().addErrback(lambda _: None)
        closing = self.close(self.opened())
        self.hurry.begin()
        self.assertEqual("reset", line.state)
        self.successResultOf(closing)

    def test_succeeded(self) -> None:
        """
        A successor has the sockets: they are left alone. Who is connected is served for some seconds, with word that
        the connection closes; then only what is under way is waited for.
        """
        early, front = self.asking(), self.opened()
        self.stand.request.finish()
        early.answer()
        front.let_go(4711)
        silent = self.stand.connect()
        closing = self.close(front)
        self.clock.advance(HANDOVER_SECONDS - 0.1)
        early.send(NEXT)
        self.stand.request.finish()
        self.assertEqual(b"close", early.answer().field(b"connection"))
        early.hang_up()
        self.assertEqual("open", silent.state)
        self.clock.advance(0.1)
        self.assertEqual("closed", silent.state)
        silent.hang_up()
        self.successResultOf(closing)
        self.assertEqual(["let go for 4711"], self.diary)

    def test_succeeded_and_left(self) -> None:
        """
        It ends as soon as nobody is connected any more.
        """
        front = self.opened()
        front.let_go(4711)
        line = self.asking()
        closing = self.close(front)
        self.assertNoResult(closing)
        self.stand.request.finish()
        line.answer()
        line.hang_up()
        self.successResultOf(closing)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_succeeded_and_nobody(self) -> None:
        """
        Nobody is waited for where nobody is connected.
        """
        front = self.opened()
        front.let_go(4711)
        self.successResultOf(self.close(front))

    def test_succeeded_hurried(self) -> None:
        """
        A hurry ends that time.
        """
        self.config = Config(stop_delay_seconds=60)
        front = self.opened()
        front.let_go(4711)
        line = self.stand.connect()
        closing = self.close(front)
        self.clock.advance(59)
        self.assertEqual("open", line.state)
        self.hurry.begin()
        self.assertNotEqual("open", line.state)
        self.successResultOf(closing)


class DelayTests(FrontCase):
    """
    A stop that others have to learn of first.
    """

    config = Config(stop_delay_seconds=5, drain_seconds=20)

    def test_serves_on(self) -> None:
        """
        For the set time the doors stay open and who comes is served, with word that its connection closes; then they
        are closed.
        """
        closing = self.close(self.opened())
        self.clock.advance(4.9)
        line = self.asking()
        self.stand.request.finish()
        answer = line.answer()
        self.assertEqual((200, b"close", []), (answer.status, answer.field(b"connection"), self.diary))
        line.hang_up()
        self.clock.advance(0.1)
        self.assertEqual(["shut"], self.diary)
        self.successResultOf(closing)

    def test_hurried(self) -> None:
        """
        A hurry ends that time, and closes the doors.
        """
        closing = self.close(self.opened())
        self.hurry.begin()
        self.assertEqual(["shut"], self.diary)
        self.successResultOf(closing)


class FinishingTests(SynchronousTestCase):
    """
    Exchanges whose clients have left.
    """

    def setUp(self) -> None:
        self.clock, self.departed, self.hurry = Clock(), Departed(), Hurry()
        self.drain = Drain(self.clock, lambda: Config(drain_seconds=20), self.hurry)
        self.room = Finishing(self.departed, self.drain)

    def close(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.room.close())

    def depart(self) -> Deferred[object]:
        """
        An exchange whose client leaves.

        :return: what it waits for.
        """

        async def run() -> None:
            await waiting

        waiting: Deferred[object] = Deferred()
        exchange = Progress(run(), lambda failure: failure.trap(CancelledError))
        exchange.begin()
        self.departed.add(exchange)
        return waiting

    def test_none(self) -> None:
        """
        Where there are none nothing is waited for, and nothing is told.
        """
        heard = Overheard.by(self)
        self.successResultOf(self.close())
        self.assertEqual(([], []), (self.clock.getDelayedCalls(), heard.lines()))

    def test_finishes(self) -> None:
        """
        They may finish within what is left of the drain time.
        """
        exchange = self.depart()
        self.drain.begin()
        self.clock.advance(15)
        closing = self.close()
        self.assertNoResult(closing)
        exchange.callback(None)
        self.successResultOf(closing)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_too_long(self) -> None:
        """
        What is not finished then, or when there is a hurry, is ended.
        """
        for hurries in False, True:
            self.depart()
            closing = self.close()
            self.assertNoResult(closing)
            if hurries:
                self.hurry.begin()
            else:
                self.clock.advance(20)
            self.successResultOf(closing)
            self.setUp()


class DemoTests(SynchronousTestCase):
    """
    The stand-in.
    """

    def test_turn(self) -> None:
        """
        Only this machine reaches it; whoever is in force when it opens is told where it is, and whoever comes later
        can ask.
        """
        reactor = MemoryReactorClock()
        self.patch(reactor, "listenTCP", partial(self.listen, reactor.listenTCP))
        demo, told = Demo(reactor), list[object]()
        self.assertIsNone(demo.base)
        demo.turn = told.append
        self.successResultOf(Deferred.fromCoroutine(demo.open()))
        self.assertEqual("127.0.0.1", reactor.tcpServers[0][3])
        self.assertEqual([demo.base], told)
        self.assertEqual(parse_base("http://127.0.0.1:4711"), demo.base)

    def listen(self, listen: Callable[..., Any], port: int, *arguments: Any, **named: Any) -> Any:
        """
        Any port is 4711.
        """
        return listen(port or 4711, *arguments, **named)


class TellingTests(FrontCase):
    """
    The log.
    """

    config = Config(stop_delay_seconds=5, drain_seconds=20)

    def test_told(self) -> None:
        """
        It says what a stop waits for, and how long.
        """
        heard = Overheard.by(self)
        line = self.asking()
        self.stand.request.notifyFinish().addErrback(lambda _: None)
        closing = self.close(self.opened())
        self.clock.advance(5)
        self.assertEqual(
            [
                "Stopping: serving for 5 s yet, so that others learn of it",
                "Stopping: waiting up to 20 s for open exchanges",
            ],
            [line.partition("] ")[2] for line in heard.lines(LogLevel.info)],
        )
        self.hurry.begin()
        self.assertEqual("reset", line.state)
        self.successResultOf(closing)
