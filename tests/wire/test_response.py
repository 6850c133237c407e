"""
Answers on their way to whoever takes them.
"""

from __future__ import annotations

from twisted.internet.interfaces import IProtocol, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface.verify import verifyObject

from dheera.errors import AnswerCut
from dheera.wire.layout import Layout
from dheera.wire.response import Response
from tests.wire.caller import Body, Full, body_of


class Below:
    """
    The connection below an answer, which remembers what it was told.
    """

    def __init__(self) -> None:
        self.held = False
        self.aborted = False
        self.tunnel: IProtocol | None = None

    def hold(self, *, held: bool) -> None:
        self.held = held

    def abort(self) -> None:
        self.aborted = True

    def tunnel_to(self, protocol: IProtocol) -> None:
        self.tunnel = protocol


def response(below: Below, code: int = 200) -> Response:
    return Response(below, code, b"OK", Layout([b"X-A", b"x-a", b"B"]), [b"1", b"2", b"3"], None)


class Answers(SynchronousTestCase):
    """
    What an answer tells and does.
    """

    def setUp(self) -> None:
        self.below = Below()
        self.response = response(self.below)

    def test_interfaces(self) -> None:
        """
        It is what Twisted calls a response, and a producer.
        """
        verifyObject(IResponse, self.response)
        verifyObject(IPushProducer, self.response)
        self.assertIs(UNKNOWN_LENGTH, self.response.length)
        self.assertEqual(5, Response(self.below, 200, b"OK", Layout([]), [], 5).length)

    def test_headers(self) -> None:
        """
        Twisted's headers hold the same lines as ``fields``, which keep their spelling.
        """
        self.assertEqual([b"1", b"2"], self.response.headers.getRawHeaders(b"X-A"))
        self.assertEqual([(b"X-A", b"1"), (b"x-a", b"2"), (b"B", b"3")], self.response.fields)

    def test_previous(self) -> None:
        """
        Whoever follows redirects above us may say what came before.
        """
        self.response.setPreviousResponse(response(self.below))
        self.assertIsNotNone(self.response.previousResponse)

    def test_early_pieces(self) -> None:
        """
        What comes before anybody takes it waits, then arrives in order, and reading goes on.
        """
        self.assertFalse(self.response.waiting)
        self.response.deliver(b"a")
        self.response.deliver(b"b")
        self.assertTrue(self.response.waiting)
        self.below.held = True
        body = body_of(self.response)
        self.assertFalse(self.response.waiting)
        self.assertFalse(self.below.held)
        self.response.deliver(b"c")
        self.assertEqual([b"a", b"b", b"c"], body.pieces)

    def test_early_pieces_fill(self) -> None:
        """
        Who is full after the pieces that had waited stays full: reading does not go on behind its back.
        """
        self.response.deliver(b"a")
        body = Full()
        self.response.deliverBody(body)
        self.assertTrue(self.below.held)
        self.response.resumeProducing()
        self.assertFalse(self.below.held)

    def test_whole(self) -> None:
        """
        A body is whole once its end has come, as long as nobody has taken it.
        """
        self.response.deliver(b"a")
        self.assertIsNone(self.response.whole())
        self.response.deliver(b"b")
        self.response.end()
        self.assertEqual(b"ab", self.response.whole())
        self.assertTrue(body_of(self.response).whole)
        self.assertIsNone(self.response.whole())

    def test_whole_and_cut(self) -> None:
        """
        A body that was cut is never whole, however much of it is here; it ends once.
        """
        self.response.deliver(b"a")
        self.response.end(Failure(AnswerCut("gone")))
        self.response.end()
        self.assertIsNone(self.response.whole())
        body = body_of(self.response)
        self.assertEqual((b"a", False), (body.received, body.whole))

    def test_back_pressure(self) -> None:
        """
        Pausing holds the connection, resuming lets it go, stopping closes it.
        """
        body_of(self.response)
        self.response.pauseProducing()
        self.assertTrue(self.below.held)
        self.response.resumeProducing()
        self.assertFalse(self.below.held)
        self.response.stopProducing()
        self.assertTrue(self.below.aborted)

    def test_over(self) -> None:
        """
        After the end the connection is another's: nothing that is said here touches it.
        """
        self.response.end()
        self.response.pauseProducing()
        self.response.resumeProducing()
        self.response.abortConnection()
        self.response.loseConnection()
        self.assertEqual((False, False), (self.below.held, self.below.aborted))

    def test_tunnel(self) -> None:
        """
        After a 101 the protocol gets the connection itself.
        """
        switched, protocol = response(self.below, 101), Protocol()
        switched.deliverBody(protocol)
        self.assertIs(protocol, self.below.tunnel)

    def test_tunnel_lost(self) -> None:
        """
        If the connection has gone before the protocol came, the protocol is told so and gets nothing.
        """
        switched, body = response(self.below, 101), Body()
        switched.end(Failure(AnswerCut("gone")))
        switched.deliverBody(body)
        self.assertIsNone(self.below.tunnel)
        self.assertIsNotNone(body.reason)
