"""
How batches travel.
"""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trustme
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dheera.sinks.answers import retry_after, without
from dheera.sinks.contract import SinkAway, SinkRefuses
from dheera.sinks.courier import COMPRESSED_AT_ONCE_BYTES, HttpCourier
from dheera.wire.authorities import trusting
from tests.sinks.records import NOON
from tests.sinks.server import Answer, Server


class CourierCase(TestCase):
    """
    A courier and a server.
    """

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.server = Server(reactor)
        self.server.open()
        self.addCleanup(self.server.close)
        self.courier = HttpCourier(reactor, lambda: NOON)
        self.addCleanup(self.courier.close)

    async def told(self, answer: Answer, kind: type[Exception], **said: Any) -> Any:
        """
        What sending fails with when it is answered so.
        """
        self.server.usual = answer
        try:
            await self.courier.send(f"{self.server.url}/x", b"content", {}, **said)
        except kind as error:
            return error
        raise AssertionError("It has arrived.")


class Sent(CourierCase):
    """
    What the other side receives.
    """

    async def test_request(self) -> None:
        """
        Method, target byte for byte, headers and content; we say who we are, unless the sink says it.
        """
        await self.courier.send(f"{self.server.url}/a%2Fb?c=%7e&d", b"{}", {"X-A": "1"}, method="PUT")
        [request] = self.server.requests
        self.assertEqual(("PUT", "/a%2Fb?c=%7e&d", b"{}"), (request.method, request.path, request.raw))
        self.assertEqual("1", request.headers["x-a"])
        self.assertIn("dheera/", request.headers["user-agent"])
        await self.courier.send(self.server.url, b"{}", {"User-Agent": "mine"})
        self.assertEqual("mine", self.server.requests[1].headers["user-agent"])

    async def test_header_twice(self) -> None:
        """
        A header that is said in two spellings goes once, as it was said last.
        """
        await self.courier.send(
            self.server.url, b"{}", {"Content-Type": "a/b", "content-type": "c/d", "user-agent": "mine"}
        )
        headers = self.server.requests[0].headers
        self.assertEqual(("c/d", "mine"), (headers["content-type"], headers["user-agent"]))

    async def test_empty(self) -> None:
        """
        An empty content is sent as such; asking has none.
        """
        await self.courier.send(self.server.url, b"", {})
        await self.courier.send(self.server.url, b"", {}, method="GET")
        self.assertEqual(["0", None], [each.headers.get("content-length") for each in self.server.requests])

    async def test_compressed(self) -> None:
        """
        What is a kilobyte or more is compressed, if that is wanted, however large it is.
        """
        for size, wanted, expected in (
            (1023, True, None),
            (1024, True, "gzip"),
            (1024, False, None),
            (3 * COMPRESSED_AT_ONCE_BYTES + 7, True, "gzip"),
        ):
            content = b"abcdefg " * (size // 8) + b"x" * (size % 8)
            await self.courier.send(self.server.url, content, {}, compress=wanted)
            request = self.server.requests[-1]
            self.assertEqual(expected, request.headers.get("content-encoding"))
            self.assertEqual(content, request.body)
            self.assertEqual(str(len(request.raw)), request.headers["content-length"])

    async def test_kept(self) -> None:
        """
        A connection is used again; when it was closed meanwhile, the batch goes on a new one.
        """
        await self.courier.send(self.server.url, b"1", {})
        self.server.next.append(Answer(closes=True))
        await self.courier.send(self.server.url, b"2", {})
        self.assertEqual([b"1", b"2", b"2"], [each.raw for each in self.server.requests])

    async def test_cookies(self) -> None:
        """
        A cookie is not sent back.
        """
        self.server.usual = Answer(headers={"set-cookie": "a=b; path=/"})
        for _ in range(2):
            await self.courier.send(self.server.url, b"1", {})
        self.assertNotIn("cookie", self.server.requests[1].headers)


class Answered(CourierCase):
    """
    What the sink is told.
    """

    async def test_arrived(self) -> None:
        """
        Status, header lines, and the content, inflated.
        """
        self.server.usual = Answer(
            status=207, headers={"content-encoding": "gzip", "x-b": "2"}, body=gzip.compress(b'{"a": 1}')
        )
        reply = await self.courier.send(self.server.url, b"1", {})
        self.assertEqual((207, {"a": 1}), (reply.status, json.loads(reply.content)))
        self.assertIn((b"x-b", b"2"), [(name.lower(), value) for name, value in reply.fields])

    async def test_long(self) -> None:
        """
        Of a long answer the beginning is kept.
        """
        self.server.usual = Answer(body=b"x" * 1_000_000)
        reply = await self.courier.send(self.server.url, b"1", {})
        self.assertEqual(b"x" * 65536, reply.content)

    async def test_statuses(self) -> None:
        """
        What may pass or can be mended is away; other refusals of clients' requests are refusals.
        """
        away = {300, 301, 307, 401, 403, 404, 407, 408, 421, 425, 429, 500, 501, 503, 504, 599}
        refused = {400, 402, 405, 409, 410, 411, 413, 415, 422, 431, 499}
        for status in away:
            self.assertIn(f" answered {status}", str(await self.told(Answer(status=status), SinkAway)))
        for status in refused:
            self.assertIn(f" answered {status}", str(await self.told(Answer(status=status), SinkRefuses)))

    async def test_reason(self) -> None:
        """
        The reason names host and status, what to do, and what the answer says: short, and on one line.
        """
        host = self.server.url.removeprefix("http://")
        error = await self.told(Answer(status=401, body=b'{"error":\n "bad\x1b[2J key"}'), SinkAway)
        self.assertEqual(
            f'{host} answered 401 Unauthorized (check its credential): {{"error": "bad [2J key"}}', str(error)
        )
        error = await self.told(Answer(status=500, body="ü".encode() * 100_000), SinkAway)
        self.assertEqual(f"{host} answered 500 Internal Server Error: {'ü' * 200}...", str(error))
        self.assertEqual(f"{host} answered 599.", str(await self.told(Answer(status=599), SinkAway)))

    async def test_cut(self) -> None:
        """
        Nobody there, nothing said, or half of it: away.
        """
        host = self.server.url.removeprefix("http://")
        error = await self.told(Answer(closes=True), SinkAway)
        self.assertEqual(f"{host} closed the connection without an answer.", str(error))
        error = await self.told(Answer(headers={"content-encoding": "gzip"}, body=b"no gzip"), SinkAway)
        self.assertEqual(f"{host} sent an answer that cannot be decoded.", str(error))
        error = await self.told(Answer(delay_seconds=None), SinkAway, timeout_seconds=0.1)
        self.assertEqual(f"{host} did not answer within 0.1 seconds.", str(error))
        await self.server.close()
        error = await self.told(Answer(), SinkAway)
        self.assertIn(f"{host} cannot be reached: ", str(error))
        self.server.open()

    async def test_not_trusted(self) -> None:
        """
        Certificates are verified: of another name, or of nobody we know, is away.
        """
        from twisted.internet import reactor

        authority = trustme.CA()
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        pem = Path(folder.name, "pem")
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
        secure = Server(reactor, certificate=pem)
        secure.open()
        self.addCleanup(secure.close)
        knowing = HttpCourier(reactor, lambda: NOON, trusting(authority.cert_pem.bytes()))
        self.addCleanup(knowing.close)
        reply = await knowing.send(f"https://localhost:{secure.number}/", b"1", {})
        self.assertEqual(200, reply.status)
        for courier, host in (self.courier, "localhost"), (knowing, "127.0.0.1"):
            try:
                await courier.send(f"https://{host}:{secure.number}/", b"1", {})
            except SinkAway as error:
                self.assertIn("TLS certificate", str(error))
            else:
                self.fail("It was trusted.")
        self.assertEqual(1, len(secure.requests))


class Words(SynchronousTestCase):
    """
    What is read from answers.
    """

    def test_retry_after(self) -> None:
        """
        Seconds, or a date, which may be over; anything else says nothing.
        """
        noon = NOON.replace(microsecond=0)
        self.assertEqual(30.0, retry_after(b"30", noon))
        self.assertEqual(1.5, retry_after(b" 1.5 ", noon))
        later = format_datetime(noon + timedelta(minutes=2), usegmt=True).encode()
        self.assertEqual(120.0, retry_after(later, noon))
        self.assertEqual(0.0, retry_after(later, noon + timedelta(hours=1)))
        for said in b"", b"soon", b"-1", b"1e9", b"\xff", b"9999999999", b"Mon, 99 Foo 2026":
            self.assertIsNone(retry_after(said, noon), said)

    @given(st.binary(max_size=60))
    def test_any_retry_after(self, said: bytes) -> None:
        """
        Whatever it says, it harms nobody.
        """
        seconds = retry_after(said, NOON)
        self.assertTrue(seconds is None or seconds >= 0)

    def test_credentials(self) -> None:
        """
        Nothing of a header that may be secret, nor of the URL, is repeated.
        """
        secrets = ["sk-header-1", "dXNlcjpwYXNz", "hook-token-2", "query key 3", "key-of-4-many"]
        text = without(
            f"I know {', '.join(secrets)} and application/json".encode(),
            "https://h/services/hook-token-2?key=query%20key%203",
            {
                "Authorization": "Bearer sk-header-1",
                "X-Basic": "Basic dXNlcjpwYXNz",
                "X-Many": "a=key-of-4-many, b=2",
                "Content-Type": "application/json",
            },
        )
        self.assertEqual(f"I know {', '.join(['(not shown)'] * 5)} and application/json", text)
