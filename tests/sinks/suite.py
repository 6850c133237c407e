"""
What every sink that sends by HTTP promises, as properties. A sink's test subclasses `SinkContract` (import this module,
not the class, or the class itself would be run) and says how its sink is configured and how its requests are read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from email.utils import format_datetime
from typing import Any, ClassVar

from twisted.trial.unittest import TestCase

from dheera.bookkeeping import Entry
from dheera.records import Alert
from dheera.sinks.catalogue import parsed_settings
from dheera.sinks.contract import Sink, SinkAway, SinkFactory, SinkRefuses, Tools
from dheera.sinks.courier import HttpCourier
from tests.sinks.records import NOON, an_alert, bare, entries, fine, full
from tests.sinks.server import Answer, Received, Server

CANARY = "canary-3f9a1c77"
"""
Each of a sink's credentials, as its table or the environment gives them, holds this.
"""


class SinkContract(TestCase):
    """
    What a subclass has to say, and what it then promises.

    :cvar factory: of the sink.
    :cvar good: how its server answers when a batch has arrived.
    :cvar gzipped: it compresses what is long.
    :cvar refusal: how its server says that it will never take a batch.
    :cvar environment: the variables that are set.
    """

    factory: ClassVar[SinkFactory]
    good: ClassVar[Answer] = Answer()
    refusal: ClassVar[Answer] = Answer(status=400, body=b"No.")
    gzipped: ClassVar[bool] = True
    environment: ClassVar[Mapping[str, str]] = {}

    def table(self, url: str) -> Mapping[str, Any]:
        """
        The sink's table of the configuration.

        :param url: of a server, without a slash at the end.
        """
        raise NotImplementedError

    def call_ids(self, request: Received) -> Sequence[str]:
        """
        The call ids of the records, and ids of the alerts, that *request* holds, in order.
        """
        raise NotImplementedError

    # What tests, those of subclasses too, may use.

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.server = Server(reactor, self.good)
        self.elsewhere = Server(reactor)
        for each in self.server, self.elsewhere:
            each.open()
            self.addCleanup(each.close)
        self.courier = HttpCourier(reactor, lambda: NOON)
        self.addCleanup(self.courier.close)
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            for spelled in (name, name.lower()):
                self.patch(os, "environ", {**os.environ, spelled: self.elsewhere.url})

    def make(self, **changes: Any) -> Sink:
        """
        The sink.

        :param changes: to its table.
        """
        table = {**self.table(self.server.url), **changes}
        tools = Tools(
            reactor=self.reactor,
            name="tried",
            courier=self.courier,
            environment=self.environment,
            node="north-1",
            now=lambda: NOON,
        )
        sink = self.factory.make(parsed_settings(self.factory, "tried", table), tools)
        self.addCleanup(sink.close)
        return sink

    def batch(self, count: int = 3) -> list[Entry]:
        """
        Records, or alerts if it takes nothing else.
        """
        if self.factory.takes == "alerts":
            return entries(*(an_alert() for _ in range(count)))
        kinds = (full, fine, bare)
        return entries(*(kinds[number % 3](status=500) for number in range(count)))

    def arrived(self) -> list[str]:
        """
        The ids that the server was sent, in order.
        """
        return [each for request in self.server.requests for each in self.call_ids(request)]

    async def failure(self, answer: Answer, kind: type[Exception], **changes: Any) -> Any:
        """
        What sending fails with when each request is answered so.
        """
        self.server.usual = answer
        return await self.told(self.make(**changes), self.batch(), kind)

    async def told(self, sink: Sink, batch: Sequence[Entry], kind: type[Exception]) -> Any:
        """
        What sending *batch* fails with.
        """
        try:
            await sink.send(batch)
        except kind as error:
            self.assertNotIn(CANARY, str(error) + repr(error))
            return error
        raise AssertionError("It has arrived.")

    # The promises.

    async def test_arrives(self) -> None:
        """
        A batch arrives as a whole, in order.
        """
        batch = self.batch(7)
        await self.make().send(batch)
        self.assertEqual(ids(batch), self.arrived())

    async def test_again(self) -> None:
        """
        A sink can be sent one batch after the other, and the same one twice: it has the same ids.
        """
        sink, batch, other = self.make(), self.batch(), self.batch(1)
        for each in batch, other, batch:
            await sink.send(each)
        self.assertEqual(ids(batch) + ids(other) + ids(batch), self.arrived())

    async def test_fullest_and_emptiest(self) -> None:
        """
        Records with all fields and with almost none go, each by itself, whatever the policy of content is.
        """
        if self.factory.takes == "alerts":
            return
        expected = []
        for policy in "none", "meta", "full":
            for record in full(), bare(), full(request=None), bare(parameters={"n": 1}):
                await self.make(content=policy).send(entries(record))
                expected.append(record.call_id)
        self.assertEqual(expected, self.arrived())

    async def test_alerts(self) -> None:
        """
        Alerts go, of each level, if it takes them.
        """
        if self.factory.takes == "records":
            return
        alerts = [an_alert(level=level) for level in ("warning", "critical", "resolved")]
        await self.make().send(entries(*alerts))
        self.assertEqual([each.id for each in alerts], self.arrived())

    async def test_compressed(self) -> None:
        """
        What is long is compressed, and says so.
        """
        batch = self.batch(60)
        await self.make().send(batch)
        self.assertEqual(ids(batch), self.arrived())
        if self.gzipped:
            longest = max(self.server.requests, key=lambda request: len(request.body))
            self.assertEqual("gzip", longest.headers.get("content-encoding"))
            self.assertLess(len(longest.raw), len(longest.body))

    async def test_away(self) -> None:
        """
        Statuses that may pass, or that an operator can mend, are no refusals; the reason says which it was.
        """
        for status in 401, 403, 404, 408, 429, 500, 502, 503, 504:
            error = await self.failure(Answer(status=status, body=b"Not today."), SinkAway)
            self.assertIn(str(status), str(error))
            self.assertIsNone(error.retry_after_seconds)

    async def test_redirected(self) -> None:
        """
        A redirect is not followed.
        """
        for status in 301, 302, 303, 307, 308:
            await self.failure(Answer(status=status, headers={"location": f"{self.elsewhere.url}/"}), SinkAway)
        self.assertEqual([], self.elsewhere.requests)

    async def test_retry_after(self) -> None:
        """
        How long the other side asks us to wait is told: seconds, or until a date.
        """
        error = await self.failure(Answer(status=429, headers={"retry-after": "17"}), SinkAway)
        self.assertEqual(17, error.retry_after_seconds)
        moment = format_datetime(NOON.replace(microsecond=0) + timedelta(seconds=90), usegmt=True)
        error = await self.failure(Answer(status=503, headers={"retry-after": moment}), SinkAway)
        self.assertAlmostEqual(89.75, error.retry_after_seconds)

    async def test_refused(self) -> None:
        """
        What will never be taken is told apart.
        """
        await self.failure(self.refusal, SinkRefuses)

    async def test_nobody_there(self) -> None:
        """
        Nobody listens: the batch has not arrived, and arrives when somebody does again.
        """
        sink, batch = self.make(), self.batch()
        await self.server.close()
        await self.told(sink, batch, SinkAway)
        self.server.open()
        await sink.send(batch)
        self.assertEqual(ids(batch), self.arrived())

    async def test_cut(self) -> None:
        """
        A connection that is closed without an answer.
        """
        await self.failure(Answer(closes=True), SinkAway)

    async def test_silence(self) -> None:
        """
        A server that never answers is given up in the time that is configured.
        """
        error = await self.failure(Answer(delay_seconds=None), SinkAway, timeout_seconds=0.2)
        self.assertIn("0.2", str(error))

    async def test_repeated_credential(self) -> None:
        """
        An answer that repeats the credential is not told as it is.
        """
        request = await self._a_request()
        said = " ".join(request.headers.values()) + request.path
        for status, kind in (401, SinkAway), (500, SinkAway), (422, SinkRefuses):
            await self.failure(Answer(status=status, body=said.encode()), kind)

    async def _a_request(self) -> Received:
        await self.make().send(self.batch(1))
        return self.server.requests[0]

    def test_hidden_credential(self) -> None:
        """
        Nothing that can be printed of a sink or of its settings shows a credential.
        """
        settings = parsed_settings(self.factory, "tried", self.table(self.server.url))
        self.assertNotIn(CANARY, repr(settings) + repr(self.make()) + str(self.make()))

    async def test_nowhere_else(self) -> None:
        """
        Proxies that the environment names are not asked, and nobody else is told.
        """
        await self.make().send(self.batch())
        self.assertEqual([], self.elsewhere.requests)
        self.assertNotEqual([], self.server.requests)

    async def test_nobody_is_called_early(self) -> None:
        """
        Making a sink, and closing one, calls nobody.
        """
        await self.make().close()
        self.assertEqual([], self.server.requests)


def ids(batch: Sequence[Entry]) -> list[str]:
    """
    The call ids of records, and ids of alerts.
    """
    return [each.value.id if isinstance(each.value, Alert) else each.value.call_id for each in batch]
