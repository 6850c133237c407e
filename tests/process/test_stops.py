"""
How the daemon stops: what is under way goes on, what is idle does not hold it up, and what it has to cut is seen to be
cut.
"""

from __future__ import annotations

import json
import signal
from threading import Semaphore
from unittest import TestCase

from tests.process.daemon import ANY_PORT, PATIENCE_SECONDS, Daemon, eventually, in_front_of
from tests.process.peers import STREAM_HEAD, Peer, Upstream, answer, chunk, connect, request

PATIENT = "drain_seconds = 3600"
"""
A daemon which waits that long and ends within a test has not waited at all.
"""

CHAT = request("POST", "/mistral/v1/chat/completions", body=b"{}")


class Story:
    """
    An upstream that tells a stream of events, one each time that it is asked to go on.
    """

    def __init__(self, *events: bytes) -> None:
        self.goes_on = Semaphore(0)
        self._events = events

    def tell(self, peer: Peer) -> None:
        """
        The script.
        """
        peer.head()
        peer.exactly(2)
        peer.send(STREAM_HEAD)
        for each in self._events:
            assert self.goes_on.acquire(timeout=PATIENCE_SECONDS)
            peer.send(chunk(each))


def refused(port: int) -> bool:
    """
    Whether nobody listens there any more.
    """
    try:
        connect(port).close()
    except ConnectionRefusedError:
        return True
    return False


class DrainTests(TestCase):
    """
    SIGTERM while something is under way.
    """

    def test_stream_finishes(self) -> None:
        """
        A stream that is under way goes on to its end, with each event as it comes, while nobody else is let in; then
        it is exit 0. Another SIGTERM changes nothing.
        """
        story = Story(b"data: 1\n\n", b"data: 2\n\n", b"")
        with (
            Upstream(story.tell) as upstream,
            in_front_of(upstream.url, settings=PATIENT) as daemon,
            connect(daemon.port) as client,
        ):
            client.send(CHAT)
            story.goes_on.release()
            client.head()
            self.assertEqual(b"data: 1\n\n", client.chunk())
            daemon.signal(signal.SIGTERM)
            eventually(lambda: refused(daemon.port), "nobody is let in any more")
            daemon.signal(signal.SIGTERM)
            story.goes_on.release()
            self.assertEqual(b"data: 2\n\n", client.chunk())
            story.goes_on.release()
            self.assertEqual(b"", client.chunk())
            self.assertEqual(b"", client.rest())
            self.assertEqual(0, daemon.ended())

    def test_upload_finishes(self) -> None:
        """
        An upload that is under way is taken to its end, and its answer says that the connection closes.
        """

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(answer(peer.exactly(10)))

        with (
            Upstream(script) as upstream,
            in_front_of(upstream.url, settings=PATIENT) as daemon,
            connect(daemon.port) as client,
        ):
            client.send(b"POST /mistral/v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345")
            eventually(lambda: upstream.connections == 1, "the upload has begun")
            daemon.signal(signal.SIGTERM)
            eventually(lambda: refused(daemon.port), "nobody is let in any more")
            client.send(b"67890")
            self.assertIn(b"\r\nconnection: close\r\n", client.head().lower())
            self.assertEqual(b"1234567890", client.rest())
            self.assertEqual(0, daemon.ended())

    def test_idle_do_not_hold_it_up(self) -> None:
        """
        Clients that have asked nothing, or have had their answer, are closed at once.
        """
        with (
            Daemon("--demo", *ANY_PORT, settings=PATIENT) as daemon,
            connect(daemon.port) as silent,
            connect(daemon.port) as kept,
        ):
            kept.send(request("GET", "/health/liveness"))
            kept.head()
            kept.exactly(len('"I\'m alive!"'))
            daemon.signal(signal.SIGTERM)
            self.assertEqual([b"", b""], [silent.rest(), kept.rest()])
            self.assertEqual(0, daemon.ended())

    def test_not_ready(self) -> None:
        """
        A request that is on its way in when it begins to stop is answered; readiness is then 503.
        """
        with (
            Daemon("--demo", *ANY_PORT, settings=PATIENT) as daemon,
            connect(daemon.port) as slow,
            connect(daemon.port) as other,
        ):
            slow.send(b"GET /health/readiness HTTP/1.1\r\nHo")
            other.send(request("GET", "/health/readiness"))  # when this is answered, that has been read
            self.assertTrue(other.head().startswith(b"HTTP/1.1 200 "))
            daemon.signal(signal.SIGTERM)
            other.rest()
            slow.send(b"st: localhost\r\n\r\n")
            head = slow.head()
            self.assertTrue(head.startswith(b"HTTP/1.1 503 "), head)
            self.assertIn(b"\r\nconnection: close\r\n", head.lower())
            words = {"status": "draining", "db": "connected", "spool": "writable"}
            self.assertEqual(words, json.loads(slow.rest()))
            self.assertEqual(0, daemon.ended())

    def test_too_long(self) -> None:
        """
        A stream that goes on for longer than the drain time is cut, and the client can tell; that too is exit 0.
        """
        story = Story(b"data: 1\n\n", b"never")
        with (
            Upstream(story.tell) as upstream,
            in_front_of(upstream.url, settings="drain_seconds = 0.1") as daemon,
            connect(daemon.port) as client,
        ):
            client.send(CHAT)
            story.goes_on.release()
            client.head()
            self.assertEqual(b"data: 1\n\n", client.chunk())
            daemon.signal(signal.SIGTERM)
            with self.assertRaises((ConnectionError, EOFError)):
                client.chunk()
            self.assertEqual(0, daemon.ended())
            story.goes_on.release()

    def test_unanswered_too_long(self) -> None:
        """
        A client whose answer has not begun within the drain time hears nothing that it could take for one.
        """
        story = Story(b"")
        asked = Semaphore(0)

        def script(peer: Peer) -> None:
            peer.head()
            asked.release()
            story.goes_on.acquire(timeout=PATIENCE_SECONDS)

        with (
            Upstream(script) as upstream,
            in_front_of(upstream.url, settings="drain_seconds = 0.1") as daemon,
            connect(daemon.port) as client,
        ):
            client.send(request("GET", "/mistral/v1/models"))
            self.assertTrue(asked.acquire(timeout=PATIENCE_SECONDS))
            daemon.signal(signal.SIGTERM)
            with self.assertRaises((ConnectionError, EOFError)):
                client.head()
            self.assertEqual(0, daemon.ended())
            story.goes_on.release()

    def test_impatient(self) -> None:
        """
        Who presses Ctrl-C a second time does not have to wait.
        """
        story = Story(b"data: 1\n\n", b"never")
        with (
            Upstream(story.tell) as upstream,
            in_front_of(upstream.url, settings=PATIENT) as daemon,
            connect(daemon.port) as client,
        ):
            client.send(CHAT)
            story.goes_on.release()
            client.head()
            daemon.signal(signal.SIGINT)
            eventually(lambda: refused(daemon.port), "it is stopping")
            daemon.signal(signal.SIGINT)
            self.assertEqual(-signal.SIGINT, daemon.ended())
            story.goes_on.release()
