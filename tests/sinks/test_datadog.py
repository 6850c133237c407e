"""
What Datadog is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.keys import Secret
from dheera.sinks.contract import Reply, SinkFactory, Tools
from dheera.sinks.datadog import FACTORY, DatadogSettings
from tests.sinks import suite
from tests.sinks.records import NOON, an_alert, bare, entries, fine, full
from tests.sinks.server import Answer, Received


class DatadogTests(suite.SinkContract):
    """
    By the HTTP intake for logs, which answers 202.
    """

    factory: ClassVar[SinkFactory] = FACTORY
    good: ClassVar[Answer] = Answer(status=202, body=b"{}")
    environment: ClassVar[Mapping[str, str]] = {
        "DD_API_KEY": suite.CANARY,
        "DD_ENV": "stage",
        "DD_TAGS": "region:eu, squad:ops\tfloor:2",
    }

    def table(self, url: str) -> Mapping[str, Any]:
        return {"url": f"{url}/api/v2/logs", "tags": ["a:b"]}

    def call_ids(self, request: Received) -> Sequence[str]:
        return [log["dheera"].get("call_id") or log["dheera"]["id"] for log in json.loads(request.body)]

    async def logs(self, *values: Any, **changes: Any) -> list[dict[str, Any]]:
        """
        What is written of *values*.
        """
        await self.make(**changes).send(entries(*values))
        return [log for request in self.server.requests for log in json.loads(request.body)]

    async def test_request(self) -> None:
        """
        It goes to the intake in JSON, with the key.
        """
        await self.make().send(self.batch())
        (request,) = self.server.requests
        self.assertEqual(("POST", "/api/v2/logs"), (request.method, request.path))
        self.assertEqual("application/json", request.headers["content-type"])
        self.assertEqual(suite.CANARY, request.headers["dd-api-key"])

    async def test_fullest(self) -> None:
        """
        Datadog's standard attributes say what they are for, and the whole record is there.
        """
        record = full()
        (log,) = await self.logs(record)
        expected = {
            "ddsource": "dheera",
            "hostname": "north-1",
            "service": "dheera",
            "message": ("POST chat/completions mistral-small-latest: client_left (200) in 1250 ms"),
            "status": "warn",
            "timestamp": "2026-11-22T12:00:01.500000Z",
            "duration": 1_250_000_000,
            "http": {
                "method": "POST",
                "status_code": 200,
                "url_details": {"path": "/v1/chat/completions"},
                "useragent": "mistral-client-python/3.7",
            },
            "network": {"client": {"ip": "192.0.2.7"}},
            "usr": {"id": "kunde 7 \u2603"},
            "error": {"kind": "ClientLeft", "message": "The client left before the answer was complete."},
            "cost_usd": 0.0000415,
        }
        self.assertEqual(expected, {name: log[name] for name in expected})
        self.assertEqual(record.call_id, log["dheera"]["call_id"])
        self.assertEqual(120, log["dheera"]["usage"]["prompt_tokens"])

    async def test_tags(self) -> None:
        """
        Tags are those of the table and of the variables, and a few of the record that are bounded.
        """
        logs = await self.logs(full(model="a, b"), bare())
        common = "a:b,region:eu,squad:ops,floor:2,env:stage"
        self.assertEqual(
            [
                f"{common},endpoint:chat/completions,model:a__b,key_alias:ada,team:team-1",
                f"{common},endpoint:models,key_alias:master",
            ],
            [log["ddtags"] for log in logs],
        )

    async def test_statuses(self) -> None:
        """
        What went wrong is told by who has to mend it.
        """
        logs = await self.logs(
            fine(),
            fine(status=404),
            fine(status=502),
            full(outcome="upstream_cut"),
            full(outcome="interrupted", status=None),
            bare(status=401),
            an_alert(),
            an_alert(level="critical"),
            an_alert(level="resolved"),
        )
        self.assertEqual(
            ["info", "warn", "error", "error", "error", "warn", "warn", "critical", "ok"],
            [log["status"] for log in logs],
        )

    async def test_alert(self) -> None:
        """
        An alert is a log, too.
        """
        (log,) = await self.logs(an_alert(), service="gateway")
        self.assertEqual("80 % of the budget of 50 USD are spent.", log["message"])
        self.assertEqual(("gateway", "2026-11-22T12:00:00.250000Z"), (log["service"], log["timestamp"]))
        self.assertTrue(log["ddtags"].endswith(",about:budget"))

    async def test_many(self) -> None:
        """
        No more than a thousand logs go at once.
        """
        batch = entries(*(bare() for _ in range(1001)))
        await self.make().send(batch)
        self.assertEqual([1000, 1], [len(self.call_ids(request)) for request in self.server.requests])
        self.assertEqual(suite.ids(batch), self.arrived())

    async def test_large(self) -> None:
        """
        No more than five megabytes go at once.
        """
        batch = entries(*(full(user_agent="x" * 1_000_000) for _ in range(4)))  # which stands there twice
        await self.make().send(batch)
        self.assertEqual([2, 2], [len(self.call_ids(request)) for request in self.server.requests])
        self.assertTrue(all(len(request.body) <= 5_000_000 for request in self.server.requests))


class SiteTests(SynchronousTestCase):
    def sent_to(self, environment: Mapping[str, str], **settings: Any) -> str:
        """
        Where logs go.
        """
        urls: list[str] = []

        class Noted:
            def send(self, url: str, *_: Any, **__: Any) -> Deferred[Reply]:
                urls.append(url)
                return succeed(Reply(status=202, fields=[], content=b"{}"))

        tools = Tools(
            reactor=Clock(),
            name="dog",
            courier=Noted(),
            environment=environment,
            node="north-1",
            now=lambda: NOON,
        )
        self.successResultOf(FACTORY.make(DatadogSettings(**settings), tools).send(entries(full())))
        return urls[0]

    def test_sites(self) -> None:
        """
        Logs go to the intake of the site; the table has the last word.
        """
        key = {"DD_API_KEY": "k"}
        for expected, environment, settings in (
            ("https://http-intake.logs.datadoghq.com/api/v2/logs", key, {}),
            ("https://http-intake.logs.datadoghq.eu/api/v2/logs", {**key, "DD_SITE": "datadoghq.eu"}, {}),
            (
                "https://http-intake.logs.us5.datadoghq.com/api/v2/logs",
                {"DD_SITE": "datadoghq.eu"},
                {"site": "us5.datadoghq.com", "api_key": Secret("k")},
            ),
        ):
            self.assertEqual(expected, self.sent_to(environment, **settings))

    def test_problems(self) -> None:
        """
        It cannot be made without a key, nor with a site that is none.
        """
        error = self.assertRaises(ConfigurationError, self.sent_to, {})
        self.assertIn("DD_API_KEY", str(error))
        error = self.assertRaises(ConfigurationError, self.sent_to, {"DD_API_KEY": "k"}, site="evil.example/x?")
        self.assertTrue(str(error).startswith("site: "), str(error))
