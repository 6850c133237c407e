from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.keys import Secret
from dheera.records import Content
from dheera.sinks.contract import SinkAway, SinkRefuses, Tools
from dheera.sinks.elasticsearch import FACTORY, MOST_DOCUMENTS, ElasticsearchSettings, ElasticsearchSink
from tests.sinks import suite
from tests.sinks.records import NOON, an_alert, bare, entries, fine, full
from tests.sinks.server import Answer, Received


def lines(request: Received) -> list[Any]:
    """
    What the lines of a bulk request say.
    """
    return [json.loads(line) for line in request.body.splitlines()]


def documents(request: Received) -> list[dict[str, Any]]:
    """
    The documents among them.
    """
    return lines(request)[1::2]


def answer(*results: int | tuple[int, str]) -> Answer:
    """
    What a server says of each document: a status, and the type of an error.
    """
    items: list[Any] = []
    for each in results:
        status, error = each if isinstance(each, tuple) else (each, None)
        items.append({"create": {"status": status, **({"error": {"type": error}} if error else {})}})
    return Answer(
        body=json.dumps({"errors": any(isinstance(each, tuple) for each in results), "items": items}).encode()
    )


REPEATED = (409, "version_conflict_engine_exception")
MISFIT = (400, "document_parsing_exception")
BUSY = (429, "es_rejected_execution_exception")


class TestElasticsearch(suite.SinkContract):
    factory = FACTORY
    good = Answer(body=b'{"errors":false}')
    refusal = answer(201, MISFIT, 201)
    path: ClassVar[str] = "/logs-dheera-default/_bulk?filter_path=errors,items.*.status,items.*.error.type"

    def table(self, url: str) -> Mapping[str, Any]:
        """
        All that is needed.
        """
        return {"kind": "elasticsearch", "url": url, "api_key": suite.CANARY}

    def call_ids(self, request: Received) -> Sequence[str]:
        """
        Those of its documents; each stands under its own id.
        """
        found = [each.get("call_id") or each["id"] for each in documents(request)]
        self.assertEqual([{"create": {"_id": each}} for each in found], lines(request)[::2])
        return found

    async def test_request(self) -> None:
        """
        Documents go to the bulk API of the index, in lines that all end, with the key.
        """
        await self.make().send(self.batch(2))
        (request,) = self.server.requests
        self.assertEqual(("POST", self.path), (request.method, request.path))
        self.assertEqual(f"ApiKey {suite.CANARY}", request.headers["authorization"])
        self.assertEqual("application/x-ndjson", request.headers["content-type"])
        self.assertTrue(request.body.endswith(b"}\n"))
        self.assertEqual(4, len(lines(request)))

    async def test_document(self) -> None:
        """
        A document is the record with a time stamp, and what data streams want.
        """
        batch = entries(bare(), an_alert())
        await self.make(index="calls").send(batch)
        record, alert = documents(self.server.requests[0])
        self.assertEqual({**json.loads(batch[0].line), "@timestamp": "2026-11-22T12:00:01.250000Z"}, record)
        self.assertEqual({**json.loads(batch[1].line), "@timestamp": "2026-11-22T12:00:00.250000Z"}, alert)
        self.assertTrue(self.server.requests[0].path.startswith("/calls/_bulk?"))

    async def test_mapping(self) -> None:
        """
        What callers write makes no fields of the index: settings and bodies are texts.
        """
        record = full(response=Content(body="Hello", size_bytes=5))
        await self.make(content="full").send(entries(record))
        (document,) = documents(self.server.requests[0])
        self.assertEqual(record.parameters, json.loads(document["parameters"]))
        assert record.request is not None
        self.assertEqual(record.request.body, json.loads(document["request"]["body"]))
        self.assertEqual(512, document["request"]["size_bytes"])
        self.assertEqual("Hello", document["response"]["body"])

    async def test_no_body(self) -> None:
        """
        A body of which nothing may be shown stays away.
        """
        await self.make().send(entries(full(request=Content(size_bytes=7), response=None)))
        (document,) = documents(self.server.requests[0])
        self.assertEqual({"size_bytes": 7}, document["request"])
        self.assertNotIn("response", document)

    async def test_repeated(self) -> None:
        """
        A document that is there already has arrived.
        """
        self.server.usual = answer(201, REPEATED, 201)
        batch = self.batch(3)
        await self.make().send(batch)
        self.assertEqual(suite.ids(batch), self.arrived())

    async def test_some_fail(self) -> None:
        """
        If one may arrive later, the batch is sent again; only if those that failed never will, it is refused.
        """
        for results in (BUSY, 201, 201), (MISFIT, BUSY, REPEATED), (201, (503, "unavailable_shards_exception"), 201):
            await self.failure(answer(*results), SinkAway)
        for status in 401, 403, 404:
            error = await self.failure(answer((status, "no_such_thing_exception"), 201, 201), SinkAway)
            self.assertIn("1 of 3 documents", str(error))
            self.assertIn("no_such_thing_exception", str(error))
        error = await self.failure(answer(MISFIT, REPEATED, 201), SinkRefuses)
        self.assertIn("1 of 3 documents", str(error))
        self.assertIn("document_parsing_exception", str(error))

    async def test_halves(self) -> None:
        """
        A document that does not fit is refused alone, when the others are there already.
        """
        bad, good = fine(), fine()
        self.server.next.extend([answer(MISFIT, 201), answer(MISFIT), answer(REPEATED)])
        sink = self.make()
        await self.assertFailure(sink.send(entries(bad, good)), SinkRefuses)
        await self.assertFailure(sink.send(entries(bad)), SinkRefuses)
        await sink.send(entries(good))
        self.assertEqual([bad.call_id, good.call_id, bad.call_id, good.call_id], self.arrived())

    async def test_whole_request(self) -> None:
        """
        What is refused as a whole is not about the documents: they are kept. One that is too large is halved.
        """
        error = await self.failure(
            Answer(status=400, body=b'{"error":{"type":"illegal_argument_exception"}}'), SinkAway
        )
        self.assertIn("illegal_argument_exception", str(error))
        await self.failure(Answer(status=413), SinkRefuses)

    async def test_no_bulk(self) -> None:
        """
        An answer that is not of the bulk API, or does not tell of each document, is none.
        """
        for body in b"", b"<html></html>", b'{"took":1}', b'{"errors":true}', b'{"errors":true,"items":[{}]}':
            await self.failure(Answer(body=body), SinkAway)

    async def test_split(self) -> None:
        """
        As many documents go at once as the answer can tell of.
        """
        batch = entries(*(bare() for _ in range(MOST_DOCUMENTS + 1)))
        await self.make().send(batch)
        self.assertEqual(suite.ids(batch), self.arrived())
        self.assertEqual([MOST_DOCUMENTS, 1], [len(documents(request)) for request in self.server.requests])

    async def test_longest_answer(self) -> None:
        """
        The answer that tells of a full request of documents that all failed is read to its end.
        """
        self.server.usual = answer(*([(400, "strict_dynamic_mapping_exception" + "x" * 28)] * MOST_DOCUMENTS))
        self.assertGreater(len(self.server.usual.body), 50_000)
        batch = entries(*(bare() for _ in range(MOST_DOCUMENTS)))
        error: Any = await self.assertFailure(self.make().send(batch), SinkRefuses)
        self.assertIn("500 of 500 documents", str(error))


class TestOpenSearch(TestElasticsearch):
    """
    The same under its own name, with a user and a password.
    """

    environment: ClassVar[Mapping[str, str]] = {
        "OPENSEARCH_USERNAME": "dheera",
        "OPENSEARCH_PASSWORD": suite.CANARY,
        "ELASTICSEARCH_API_KEY": "of-another",
    }

    def table(self, url: str) -> Mapping[str, Any]:
        """
        All that is needed.
        """
        return {"kind": "opensearch", "url": url}

    async def test_request(self) -> None:
        """
        The credential is that of the environment, by the names of OpenSearch.
        """
        await self.make().send(self.batch(1))
        (request,) = self.server.requests
        self.assertEqual(("POST", self.path), (request.method, request.path))
        self.assertEqual("Basic ZGhlZXJhOmNhbmFyeS0zZjlhMWM3Nw==", request.headers["authorization"])


class TestFactory(SynchronousTestCase):
    def made(self, environment: Mapping[str, str], **fields: Any) -> ElasticsearchSink:
        """
        The sink of a table and an environment.
        """
        tools = Tools(
            reactor=None,
            name="elasticsearch",
            courier=None,  # type: ignore[arg-type]  # nobody is called
            environment=environment,
            node="north-1",
            now=lambda: NOON,
        )
        return FACTORY.make(ElasticsearchSettings(**fields), tools)

    def test_environment(self) -> None:
        """
        The variables say what the table does not; without any credential none is sent.
        """
        sink = self.made({"ELASTICSEARCH_URL": "http://es:9200", "ELASTICSEARCH_API_KEY": "k", "OPENSEARCH_URL": "x"})
        self.assertTrue(sink._url.startswith("http://es:9200/logs-dheera-default/_bulk?"))
        self.assertEqual("ApiKey k", sink._headers["Authorization"])
        self.assertNotIn("Authorization", self.made({}, url="http://es:9200")._headers)

    def test_not_mixed(self) -> None:
        """
        A user of the table is not passed over for a key of the environment.
        """
        sink = self.made({"ELASTICSEARCH_API_KEY": "k"}, url="http://es:9200", username="ada", password=Secret("p"))
        self.assertEqual("Basic YWRhOnA=", sink._headers["Authorization"])

    def test_faults(self) -> None:
        """
        What cannot be used is said by its name.
        """
        for name, fields in (
            ("url", {"url": ""}),
            ("index", {"index": "Calls"}),
            ("index", {"index": "a/b"}),
            ("index", {"index": ""}),
            ("index", {"index": ".."}),
            ("username", {"password": Secret("p")}),
            ("username", {"username": "ada"}),
            ("username", {"username": "a:b", "password": Secret("p")}),
            ("api_key", {"api_key": Secret("a b")}),
        ):
            error = self.assertRaises(ConfigurationError, self.made, {}, **{"url": "http://es:9200", **fields})
            self.assertTrue(str(error).startswith(f"{name}: "), str(error))
