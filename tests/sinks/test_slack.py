from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.keys import Secret
from dheera.sinks.contract import SinkAway, Tools
from dheera.sinks.slack import FACTORY, LONGEST_LETTERS, SlackSettings, SlackSink, told
from tests.sinks import suite
from tests.sinks.records import NOON, an_alert, entries, full
from tests.sinks.server import Answer, Received


class TestSlack(suite.SinkContract):
    factory = FACTORY
    good = Answer(body=b"ok")
    refusal = Answer(status=400, body=b"invalid_payload")
    gzipped = False

    def table(self, url: str) -> Mapping[str, Any]:
        """
        All that is needed.
        """
        return {"kind": "slack", "url": f"{url}/services/T000/B000/{suite.CANARY}"}

    def call_ids(self, request: Received) -> Sequence[str]:
        """
        Those at the ends of its lines.
        """
        text = json.loads(request.body)["text"]
        found = [re.search(r", ([0-9a-f-]{36})\)$", line) for line in text.split("\n")]
        return [each[1] for each in found if each]

    async def test_request(self) -> None:
        """
        A message of plain text goes to the webhook.
        """
        await self.make().send(entries(an_alert("a1"), an_alert("a2", level="critical", text="It is spent.")))
        (request,) = self.server.requests
        self.assertEqual(("POST", f"/services/T000/B000/{suite.CANARY}"), (request.method, request.path))
        self.assertEqual("application/json", request.headers["content-type"])
        self.assertEqual(
            {
                "text": "Warning: key ada: 80 % of the budget of 50 USD are spent. "
                "(north-1, 2026-11-22 12:00:00 UTC, a1)\n"
                "CRITICAL: key ada: It is spent. (north-1, 2026-11-22 12:00:00 UTC, a2)",
                "mrkdwn": False,
            },
            json.loads(request.body),
        )

    async def test_alerts_only(self) -> None:
        """
        Records are nothing for people, even if somebody sends some.
        """
        await self.make().send(entries(full()))
        self.assertEqual([], self.server.requests)

    async def test_split(self) -> None:
        """
        What is longer than a message may be goes in several.
        """
        batch = entries(*(an_alert(text="x" * 5000) for _ in range(20)))
        await self.make().send(batch)
        self.assertEqual(suite.ids(batch), self.arrived())
        for request in self.server.requests:
            self.assertLessEqual(len(json.loads(request.body)["text"]), LONGEST_LETTERS)
        self.assertEqual(4, len(self.server.requests))

    async def test_archived(self) -> None:
        """
        A channel that was archived can be brought back.
        """
        error = await self.failure(Answer(status=410, body=b"channel_is_archived"), SinkAway)
        self.assertIn("unarchive", str(error))


class TestTold(SynchronousTestCase):
    def test_escaped(self) -> None:
        """
        No alert mentions anybody, or links to anything, and all is on one line.
        """
        alert = an_alert("a1", subject="key <!channel>", text="R&D\nis\tover <https://x|y>", level="resolved")
        self.assertEqual(
            "Resolved: key &lt;!channel&gt;: R&amp;D is over &lt;https://x|y&gt; "
            "(north-1, 2026-11-22 12:00:00 UTC, a1)",
            told(alert),
        )

    def test_shortened(self) -> None:
        """
        A long alert is shortened, but not its end.
        """
        text = told(an_alert("a1", text="<" * 5000))
        self.assertLess(len(text), LONGEST_LETTERS)
        self.assertTrue(text.endswith("... (north-1, 2026-11-22 12:00:00 UTC, a1)"), text)


class TestFactory(SynchronousTestCase):
    def made(self, environment: Mapping[str, str], **fields: Any) -> SlackSink:
        """
        The sink of a table and an environment.
        """
        tools = Tools(
            reactor=None,
            name="tried",
            courier=None,  # type: ignore[arg-type]  # nobody is called
            environment=environment,
            node="north-1",
            now=lambda: NOON,
        )
        return FACTORY.make(SlackSettings(**fields), tools)

    def test_environment(self) -> None:
        """
        The usual variable says what the table does not.
        """
        sink = self.made({"SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T/B/x"})
        self.assertEqual("https://hooks.slack.com/services/T/B/x", sink._url.reveal())

    def test_faults(self) -> None:
        """
        What is no URL is refused, and not shown: it may be part of one.
        """
        for text in (
            "",
            "T000/B000/canary",
            "ftp://canary/",
            "https://",
            "https://[canary",
            "https://canary/a b",
            "http://canary:0",
        ):
            error = self.assertRaises(ConfigurationError, self.made, {}, url=Secret(text))
            self.assertTrue(str(error).startswith("url: "), str(error))
            self.assertNotIn("canary", str(error))
