"""
What Sentry is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from dheera import __version__
from dheera.bookkeeping import Entry
from dheera.config import ConfigurationError
from dheera.sinks.contract import Reply, Sink, SinkAway, SinkFactory
from dheera.sinks.sentry import FACTORY, Project, limit_of
from tests.sinks import suite
from tests.sinks.records import an_alert, bare, entries, fine, full
from tests.sinks.server import Answer, Received

CALL_ID = "019ab5c0-8f3a-7c31-9d2e-5a1b2c3d4e5f"
NUMBER = CALL_ID.replace("-", "")


def read_envelope(request: Received) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """
    The head of an envelope, that of its one item, and the item.
    """
    head, about, rest = request.body.split(b"\n", 2)
    length = json.loads(about)["length"]
    assert rest[length:] == b"\n", rest
    return json.loads(head), json.loads(about), json.loads(rest[:length])


class SentryTests(suite.SinkContract):
    """
    By envelopes, as the DSN says.
    """

    factory: ClassVar[SinkFactory] = FACTORY
    good: ClassVar[Answer] = Answer(body=b'{"id":"1"}')

    def table(self, url: str) -> Mapping[str, Any]:
        return {"dsn": f"{url.replace('//', f'//{suite.CANARY}@')}/prefix/42"}

    def call_ids(self, request: Received) -> Sequence[str]:
        _, _, event = read_envelope(request)
        number = event["event_id"]
        return [f"{number[:8]}-{number[8:12]}-{number[12:16]}-{number[16:20]}-{number[20:]}"]

    async def events(self, *values: Any, **changes: Any) -> list[dict[str, Any]]:
        """
        What is told of *values*.
        """
        await self.make(**changes).send(entries(*values))
        return [read_envelope(request)[2] for request in self.server.requests]

    async def away(self, sink: Sink, batch: Sequence[Entry]) -> SinkAway:
        """
        With what sending fails.
        """
        try:
            await sink.send(batch)
        except SinkAway as error:
            return error
        msg = "it did not fail"
        raise self.failureException(msg)

    async def test_compressed(self) -> None:
        """
        Each event goes by itself; a long one is compressed.
        """
        await self.make().send(entries(full(message="x" * 2000), full()))
        long, _ = self.server.requests
        self.assertEqual("gzip", long.headers["content-encoding"])
        self.assertLess(len(long.raw), len(long.body))

    async def test_request(self) -> None:
        """
        It goes to the project's endpoint for envelopes, and says who sends it.
        """
        await self.make().send(entries(full(CALL_ID)))
        (request,) = self.server.requests
        self.assertEqual(("POST", "/prefix/api/42/envelope/"), (request.method, request.path))
        self.assertEqual("application/x-sentry-envelope", request.headers["content-type"])
        self.assertEqual(
            f"Sentry sentry_version=7, sentry_client=dheera/{__version__}, sentry_key={suite.CANARY}",
            request.headers["x-sentry-auth"],
        )
        head, about, event = read_envelope(request)
        self.assertEqual(
            {
                "event_id": NUMBER,
                "sent_at": "2026-11-22T12:00:00.250000Z",
                "sdk": {"name": "dheera", "version": __version__},
            },
            head,
        )
        self.assertEqual("event", about["type"])
        self.assertEqual(NUMBER, event["event_id"])
        self.assertNotIn(suite.CANARY, request.body.decode())

    async def test_event(self) -> None:
        """
        An event says what failed, where, for whom, and is grouped by the sort of error and the endpoint.
        """
        (event,) = await self.events(full(CALL_ID), environment="stage")
        expected = {
            "platform": "other",
            "level": "warning",
            "logger": "dheera",
            "server_name": "north-1",
            "environment": "stage",
            "release": f"dheera@{__version__}",
            "timestamp": "2026-11-22T12:00:01.500000Z",
            "transaction": "chat/completions",
            "fingerprint": ["dheera", "ClientLeft", "chat/completions"],
            "message": {"formatted": "ClientLeft on chat/completions: The client left before the answer was complete."},
            "user": {"id": "kunde 7 \u2603", "ip_address": "192.0.2.7"},
        }
        self.assertEqual(expected, {name: event[name] for name in expected})
        self.assertEqual(
            {
                "error": "ClientLeft",
                "outcome": "client_left",
                "endpoint": "chat/completions",
                "upstream": "mistral",
                "status": "200",
                "model": "mistral-small-latest",
                "key_alias": "ada",
                "team": "Suche & Søk",
            },
            event["tags"],
        )

    async def test_no_content(self) -> None:
        """
        Nothing of what the call was about is sent, whatever the policy is.
        """
        await self.make(content="full").send(entries(full()))
        body = self.server.requests[0].body.decode()
        self.assertNotIn("Hello!", body)
        self.assertNotIn("Gr", body)

    async def test_failures_only(self) -> None:
        """
        What went well is not told, even if the table does not say so.
        """
        failed = full()
        await self.make().send(entries(fine(), failed, fine(status=301)))
        self.assertEqual([failed.call_id], self.arrived())

    async def test_nothing_failed(self) -> None:
        """
        Where nothing failed, nobody is called.
        """
        await self.make().send(entries(fine()))
        self.assertEqual([], self.server.requests)

    async def test_levels(self) -> None:
        """
        What callers did wrong, and those who left, are warnings, which can be left out.
        """
        values = [
            full(),
            fine(status=404),
            fine(status=503),
            full(outcome="upstream_cut"),
            full(outcome="interrupted"),
            bare(status=401),
            bare(),
            an_alert(),
            an_alert(level="critical"),
            an_alert(level="resolved"),
        ]
        levels = [event["level"] for event in await self.events(*values)]
        self.assertEqual(
            ["warning", "warning", "error", "error", "error", "warning", "error", "warning", "fatal", "info"], levels
        )
        self.server.requests.clear()
        levels = [event["level"] for event in await self.events(*values, least="error")]
        self.assertEqual(["error", "error", "error", "error", "fatal", "info"], levels)

    async def test_alert(self) -> None:
        """
        An alert is grouped by what it is about.
        """
        (event,) = await self.events(an_alert(CALL_ID))
        self.assertEqual(
            (NUMBER, ["dheera-alert", "budget", "key ada"], "80 % of the budget of 50 USD are spent."),
            (event["event_id"], event["fingerprint"], event["message"]["formatted"]),
        )

    async def test_long_tags(self) -> None:
        """
        No tag is longer than Sentry takes.
        """
        (event,) = await self.events(full(model="m" * 300))
        self.assertEqual(200, len(event["tags"]["model"]))

    async def test_goes_on(self) -> None:
        """
        Of a batch that is sent again, only what has not arrived goes.
        """
        self.server.next.extend([Answer(), Answer(status=503), Answer(), Answer()])
        sink, batch = self.make(), self.batch(3)
        await self.assertFailure(sink.send(batch), SinkAway)
        await sink.send(batch)
        first, second, third = suite.ids(batch)
        self.assertEqual([first, second, second, third], self.arrived())

    async def test_rate_limit(self) -> None:
        """
        A limit that Sentry announces is obeyed before anything is dropped, for as long as it says.
        """
        limited = Answer(headers={"X-Sentry-Rate-Limits": "60:transaction:key, 2700:error;default:organization:quota"})
        self.server.next.append(limited)
        sink, batch = self.make(), self.batch(2)
        for _ in range(2):
            error = await self.away(sink, batch)
            self.assertTrue(2690 < (error.retry_after_seconds or 0) <= 2700, error.retry_after_seconds)
        self.assertEqual(suite.ids(batch)[:1], self.arrived())

    async def test_variables(self) -> None:
        """
        Where the table says nothing, the variables count that Sentry has made common.
        """
        dsn = str(self.table(self.server.url)["dsn"])
        environment = {"SENTRY_DSN": dsn, "SENTRY_ENVIRONMENT": "east", "SENTRY_RELEASE": "r7"}
        self.patch(type(self), "environment", environment)
        (event,) = await self.events(full(), dsn="")
        self.assertEqual(("east", "r7"), (event["environment"], event["release"]))

    def test_problem(self) -> None:
        """
        What is no DSN is told without it.
        """
        error = self.assertRaises(ConfigurationError, self.make, dsn="https://canary/x")
        self.assertEqual("dsn: is no DSN of Sentry, such as https://KEY@HOST/PROJECT", str(error))

    async def test_other_limits(self) -> None:
        """
        Limits for what we do not send do not matter.
        """
        self.server.usual = Answer(headers={"X-Sentry-Rate-Limits": "60:transaction:key"})
        batch = self.batch(2)
        await self.make().send(batch)
        self.assertEqual(suite.ids(batch), self.arrived())


class LimitTests(SynchronousTestCase):
    def test_read(self) -> None:
        """
        The longest limit of errors counts; one without categories is for all; what cannot be read is none.
        """
        for expected, said in (
            (0.0, b""),
            (60.0, b"60::organization"),
            (60.0, b"60"),
            (2700.0, b"60:error:key, 2700:default;error:organization"),
            (0.0, b"60:transaction;security:key"),
            (0.0, b"soon:error:key, -5:error"),
            (1.5, b" 1.5:Error"),
        ):
            reply = Reply(status=200, fields=[(b"x-sentry-rate-limits", said)], content=b"")
            self.assertEqual(expected, limit_of(reply), said)


class ProjectTests(SynchronousTestCase):
    def test_read(self) -> None:
        """
        A DSN says where envelopes go, and with which key.
        """
        project = Project.of("https://abc123@o1.ingest.sentry.io/7")
        assert project is not None
        self.assertEqual("https://o1.ingest.sentry.io/api/7/envelope/", project.url)
        self.assertEqual("abc123", project.key.reveal())
        self.assertNotIn("abc123", repr(project))

    def test_old(self) -> None:
        """
        The secret half of old DSNs is not needed, and goes nowhere.
        """
        project = Project.of("http://abc:secret@sentry.example:9000/7")
        assert project is not None
        self.assertEqual("http://sentry.example:9000/api/7/envelope/", project.url)

    def test_none(self) -> None:
        """
        What is no DSN is told.
        """
        for dsn in (
            "x",
            "https://o1.sentry.io/7",
            "https://k@host/",
            "ftp://k@host/1",
            "https://k@[host/1",
            "https://k@h:x/1",
        ):
            self.assertIsNone(Project.of(dsn), dsn)
