from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.keys import Secret
from dheera.sinks.contract import SinkAway, SinkRefuses, Tools
from dheera.sinks.splunk import FACTORY, MOST_BYTES, SplunkSettings, SplunkSink
from tests.sinks import suite
from tests.sinks.records import NOON, an_alert, bare, entries, full
from tests.sinks.server import Answer, Received


def events(request: Received) -> list[dict[str, Any]]:
    """
    The events that a request holds: JSON objects one after the other.
    """
    decoder, text, found = json.JSONDecoder(), request.body.decode(), []
    while text:
        event, end = decoder.raw_decode(text)
        found.append(event)
        text = text[end:].lstrip()
    return found


class TestSplunk(suite.SinkContract):
    factory = FACTORY
    good = Answer(body=b'{"text":"Success","code":0}')
    refusal = Answer(status=400, body=b'{"text":"Invalid data format","code":6,"invalid-event-number":1}')

    def table(self, url: str) -> Mapping[str, Any]:
        """
        All that is needed.
        """
        return {"kind": "splunk", "url": url, "token": suite.CANARY}

    def call_ids(self, request: Received) -> Sequence[str]:
        """
        Those of its events.
        """
        found = [event["event"] for event in events(request)]
        return [each.get("call_id") or each["id"] for each in found]

    async def test_request(self) -> None:
        """
        Events go to the collector, with the token, as the documentation has it.
        """
        await self.make().send(self.batch(1))
        (request,) = self.server.requests
        self.assertEqual(("POST", "/services/collector/event"), (request.method, request.path))
        self.assertEqual(f"Splunk {suite.CANARY}", request.headers["authorization"])
        self.assertEqual("application/json", request.headers["content-type"])

    async def test_event(self) -> None:
        """
        An event is the record as it is, with the seconds at which its call began, and what Splunk files it under.
        """
        record, alert = full(), an_alert()
        batch = entries(record, alert)
        await self.make(index="llm").send(batch)
        first, second = events(self.server.requests[0])
        self.assertEqual(
            {
                "time": 1795348800.25,
                "host": "north-1",
                "source": "dheera",
                "sourcetype": "dheera",
                "index": "llm",
                "event": json.loads(batch[0].line),
            },
            first,
        )
        self.assertEqual((1795348800.25, json.loads(batch[1].line)), (second["time"], second["event"]))

    async def test_own_index(self) -> None:
        """
        Without an index the token's own is used.
        """
        await self.make(sourcetype="llm:call").send(self.batch(1))
        (event,) = events(self.server.requests[0])
        self.assertEqual({"time", "host", "source", "sourcetype", "event"}, set(event))
        self.assertEqual("llm:call", event["sourcetype"])

    async def test_channel(self) -> None:
        """
        The channel that tokens with acknowledgements want is a UUID, and stays the same.
        """
        for _ in range(2):
            await self.make().send(self.batch(1))
        first, second = (UUID(each.headers["x-splunk-request-channel"]) for each in self.server.requests)
        self.assertEqual(first, second)

    async def test_split(self) -> None:
        """
        What is larger than a request may be goes in several, in order.
        """
        batch = entries(*(bare(user_agent="x" * 300_000) for _ in range(7)))
        await self.make().send(batch)
        self.assertEqual(suite.ids(batch), self.arrived())
        self.assertEqual(3, len(self.server.requests))
        for request in self.server.requests:
            self.assertLess(len(request.body), MOST_BYTES)

    async def test_codes(self) -> None:
        """
        What an operator can mend keeps the records: Splunk answers 400 to an index that the token may not write to.
        """
        for code, text in (7, "Incorrect index"), (10, "Data channel is missing"), (14, "ACK is disabled"):
            error = await self.failure(
                Answer(status=400, body=json.dumps({"text": text, "code": code}).encode()), SinkAway
            )
            self.assertIn(text, str(error))
        for code, text in (
            (6, "Invalid data format"),
            (12, "Event field is required"),
            (13, "Event field cannot be blank"),
        ):
            await self.failure(Answer(status=400, body=json.dumps({"text": text, "code": code}).encode()), SinkRefuses)

    async def test_not_taken(self) -> None:
        """
        An answer of 200 that is not Splunk's, or says that the events were not taken, is none.
        """
        for body in b"<html>Welcome</html>", b"", b"[]", b"{}", b'{"text":"Server is busy","code":9}':
            await self.failure(Answer(body=body), SinkAway)


class TestFactory(SynchronousTestCase):
    def made(self, environment: Mapping[str, str], **fields: Any) -> SplunkSink:
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
        return FACTORY.make(SplunkSettings(**fields), tools)

    def test_environment(self) -> None:
        """
        The variables of Splunk's own collector say what the table does not.
        """
        sink = self.made({"SPLUNK_HEC_URL": "https://hec.example:8088", "SPLUNK_HEC_TOKEN": "of-environment"})
        self.assertEqual("https://hec.example:8088/services/collector/event", sink._url)
        self.assertEqual("Splunk of-environment", sink._headers["Authorization"])

    def test_paths(self) -> None:
        """
        The path of the collector may be written, as Splunk's own settings have it.
        """
        for path in "", "/", "/services/collector", "/services/collector/event", "/services/collector/event/":
            sink = self.made({}, url=f"https://hec.example{path}", token=Secret("t"))
            self.assertEqual("https://hec.example/services/collector/event", sink._url)

    def test_faults(self) -> None:
        """
        What is missing is said by its name, and where it may come from.
        """
        error = self.assertRaises(ConfigurationError, self.made, {}, token=Secret("t"))
        self.assertIn("url: ", str(error))
        error = self.assertRaises(ConfigurationError, self.made, {}, url="https://hec.example")
        self.assertIn("token: ", str(error))
        self.assertIn("SPLUNK_HEC_TOKEN", str(error))
