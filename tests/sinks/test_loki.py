from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.keys import Secret
from dheera.sinks.contract import SinkAway, Tools
from dheera.sinks.loki import FACTORY, MOST_BYTES, LokiSettings, LokiSink
from tests.sinks import suite
from tests.sinks.records import NOON, an_alert, bare, entries, fine, full
from tests.sinks.server import Answer, Received


def streams(request: Received) -> list[dict[str, Any]]:
    """
    The streams that a request holds.
    """
    content = json.loads(request.body)
    assert set(content) == {"streams"}
    found: list[dict[str, Any]] = content["streams"]
    return found


class TestLoki(suite.SinkContract):
    factory = FACTORY
    good = Answer(status=204)
    refusal = Answer(status=400, body=b"entry for stream '{}' has timestamp too old\n")

    def table(self, url: str) -> Mapping[str, Any]:
        """
        All that is needed of a hosted one.
        """
        return {"kind": "loki", "url": url, "username": "12345", "password": suite.CANARY}

    def batch(self, count: int = 3) -> Any:
        """
        Records of one stream, so that their order can be seen.
        """
        return entries(*(fine(started_at=NOON + timedelta(milliseconds=number)) for number in range(count)))

    def call_ids(self, request: Received) -> Sequence[str]:
        """
        Those of the lines of its streams.
        """
        found = [json.loads(value[1]) for stream in streams(request) for value in stream["values"]]
        return [each.get("call_id") or each["id"] for each in found]

    async def test_request(self) -> None:
        """
        Streams go to the push API, with a user and a tenant.
        """
        await self.make(tenant="team-7").send(self.batch(1))
        (request,) = self.server.requests
        self.assertEqual(("POST", "/loki/api/v1/push"), (request.method, request.path))
        self.assertEqual("Basic MTIzNDU6Y2FuYXJ5LTNmOWExYzc3", request.headers["authorization"])
        self.assertEqual("application/json", request.headers["content-type"])
        self.assertEqual("team-7", request.headers["x-scope-orgid"])

    async def test_bearer(self) -> None:
        """
        A token in place of the user; without a tenant none is named.
        """
        await self.make(username="", password="", bearer_token="of-the-table").send(self.batch(1))
        (request,) = self.server.requests
        self.assertEqual("Bearer of-the-table", request.headers["authorization"])
        self.assertNotIn("x-scope-orgid", request.headers)

    async def test_stream(self) -> None:
        """
        A line is the record as it is, at the nanosecond when it was over; what is searched for stands beside it.
        """
        record = fine("01936f4e-0000-7000-8000-000000000001")
        batch = entries(record)
        await self.make(labels={"env": "prod"}).send(batch)
        (request,) = self.server.requests
        self.assertEqual(
            [
                {
                    "stream": {
                        "env": "prod",
                        "service_name": "dheera",
                        "node": "north-1",
                        "line": "end",
                        "outcome": "complete",
                    },
                    "values": [
                        [
                            "1795348801500000000",
                            batch[0].line.decode(),
                            {
                                "call_id": "01936f4e-0000-7000-8000-000000000001",
                                "level": "info",
                                "endpoint": "chat/completions",
                                "model": "mistral-small-latest",
                                "key_alias": "ada",
                                "team_id": "team-1",
                            },
                        ]
                    ],
                }
            ],
            streams(request),
        )

    async def test_alert(self) -> None:
        """
        Alerts are a stream of their own.
        """
        await self.make().send(entries(an_alert("a1", level="critical"), an_alert("a2", level="resolved")))
        (stream,) = streams(self.server.requests[0])
        labels = {"service_name": "dheera", "node": "north-1", "line": "alert", "about": "budget"}
        self.assertEqual(labels, stream["stream"])
        self.assertEqual(
            [{"id": "a1", "level": "critical"}, {"id": "a2", "level": "info"}], [each[2] for each in stream["values"]]
        )

    async def test_few_streams(self) -> None:
        """
        Whatever callers write, a node has no more streams than there are ways to end.
        """
        outcomes = ("complete", "client_left", "upstream_cut", "refused", "interrupted")
        batch = [
            full(outcome=outcome, model=f"m{number}", key_alias=f"k{number}", end_user=f"u{number}", tags=[str(number)])
            for outcome in outcomes
            for number in range(9)
        ]
        await self.make().send(entries(*batch))
        (request,) = self.server.requests
        self.assertEqual(5, len(streams(request)))
        self.assertEqual({each.call_id for each in batch}, set(self.call_ids(request)))

    async def test_order(self) -> None:
        """
        In a stream times do not go back.
        """
        late, early = fine(duration_us=5_000_000), fine(duration_us=1)
        await self.make().send(entries(late, early))
        self.assertEqual([early.call_id, late.call_id], self.arrived())

    async def test_no_metadata(self) -> None:
        """
        An old Loki is sent lines alone; what is not known is not said to a new one.
        """
        await self.make(structured_metadata=False).send(self.batch(1))
        (stream,) = streams(self.server.requests[0])
        self.assertEqual([2], [len(value) for value in stream["values"]])
        await self.make().send(entries(bare()))
        (stream,) = streams(self.server.requests[1])
        self.assertEqual({"call_id", "level", "endpoint", "key_alias"}, set(stream["values"][0][2]))
        self.assertEqual("error", stream["values"][0][2]["level"])

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

    async def test_metadata_disallowed(self) -> None:
        """
        A Loki that does not allow structured metadata keeps no record from being sent later: it is told what to write.
        """
        said = b"stream '{line=\"end\"}' includes structured metadata, but this feature is disallowed. Please see ..."
        error = await self.failure(Answer(status=400, body=said), SinkAway)
        self.assertIn("structured_metadata = false", str(error))

    async def test_blocked(self) -> None:
        """
        A Loki that takes nothing for a time answers with a status that looks well.
        """
        error = await self.failure(Answer(status=260, body=b"ingestion blocked"), SinkAway)
        self.assertIn("260", str(error))


class TestFactory(SynchronousTestCase):
    def made(self, environment: Mapping[str, str], **fields: Any) -> LokiSink:
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
        return FACTORY.make(LokiSettings(**fields), tools)

    def test_environment(self) -> None:
        """
        The variables of Loki's own command say what the table does not.
        """
        variables = {
            "LOKI_ADDR": "http://loki:3100",
            "LOKI_ORG_ID": "team",
            "LOKI_USERNAME": "ada",
            "LOKI_PASSWORD": "p",
        }
        sink = self.made(variables)
        self.assertEqual("http://loki:3100/loki/api/v1/push", sink._url)
        self.assertEqual(("team", "Basic YWRhOnA="), (sink._headers["X-Scope-OrgID"], sink._headers["Authorization"]))
        sink = self.made({**variables, "LOKI_BEARER_TOKEN": "b"})
        self.assertEqual("Bearer b", sink._headers["Authorization"])
        sink = self.made({**variables, "LOKI_BEARER_TOKEN": "b"}, username="bob", password=Secret("p"))
        self.assertEqual("Basic Ym9iOnA=", sink._headers["Authorization"])
        self.assertNotIn("Authorization", self.made({"LOKI_ADDR": "http://loki:3100"})._headers)

    def test_paths(self) -> None:
        """
        The path of the push API may be written.
        """
        for path in "", "/", "/loki/api/v1/push":
            self.assertEqual("http://l/loki/api/v1/push", self.made({}, url=f"http://l{path}")._url)

    def test_faults(self) -> None:
        """
        What cannot be used is said by its name.
        """
        for name, fields in (
            ("url", {"url": ""}),
            ("labels", {"labels": {"a-b": "c"}}),
            ("labels", {"labels": {"a": ""}}),
            ("tenant", {"tenant": "a b"}),
            ("username", {"password": Secret("p")}),
            ("username", {"username": "a"}),
            ("bearer_token", {"bearer_token": Secret("a\nb")}),
        ):
            error = self.assertRaises(ConfigurationError, self.made, {}, **{"url": "http://loki", **fields})
            self.assertTrue(str(error).startswith(f"{name}: "), str(error))
