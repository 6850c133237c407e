"""
What a webhook is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from hmac import new as mac
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.sinks.catalogue import make_sink
from dheera.sinks.contract import SinkAway, SinkRefuses, Tools
from dheera.sinks.shapes import litellm_payload
from dheera.sinks.webhook import FACTORY
from tests.sinks import suite
from tests.sinks.records import NOON, an_alert, bare, entries, fine, full
from tests.sinks.server import Answer, Received
from tests.sinks.suite import CANARY, ids


class WebhookTests(suite.SinkContract):
    """
    A batch is a JSON array.
    """

    factory = FACTORY

    def table(self, url: str) -> Mapping[str, Any]:
        headers = {"Authorization": f"Bearer sk-{CANARY}", "X-Api-Key": f"{CANARY}-2"}
        return {"url": f"{url}/hooks/{CANARY}-3?key={CANARY}-4", "headers": headers, "compress": True}

    def call_ids(self, request: Received) -> Sequence[str]:
        return [each["id"] if each["line"] == "alert" else each["call_id"] for each in json.loads(request.body)]

    async def test_request(self) -> None:
        """
        Method, path, headers and body are what the table says; a record is as the spool has it.
        """
        batch = entries(full(), an_alert())
        await self.make(method="PUT", compress=False).send(batch)
        [request] = self.server.requests
        self.assertEqual(("PUT", f"/hooks/{CANARY}-3?key={CANARY}-4"), (request.method, request.path))
        self.assertEqual("application/json", request.headers["content-type"])
        self.assertEqual(f"Bearer sk-{CANARY}", request.headers["authorization"])
        self.assertEqual(f"{CANARY}-2", request.headers["x-api-key"])
        self.assertNotIn("content-encoding", request.headers)
        self.assertEqual(b"[%b,%b]" % (batch[0].line, batch[1].line), request.raw)

    async def test_signature(self) -> None:
        """
        With a signing secret, who knows it can tell that the body is ours, and when it was sent.
        """
        await self.make(signing_secret=f"{CANARY}-5").send(self.batch())
        [request] = self.server.requests
        seconds, code = request.headers["x-dheera-signature"].removeprefix("t=").split(",v1=")
        self.assertEqual(int(NOON.timestamp()), int(seconds))
        expected = mac(f"{CANARY}-5".encode(), seconds.encode() + b"." + request.body, sha256).hexdigest()
        self.assertEqual(expected, code)

    async def test_litellm(self) -> None:
        """
        In LiteLLM's shape; an alert, which that does not have, is not sent.
        """
        record = full()
        await self.make(shape="litellm").send(entries(an_alert(), record))
        [request] = self.server.requests
        self.assertEqual([json.loads(json.dumps(litellm_payload(record)))], json.loads(request.body))
        await self.make(shape="litellm").send(entries(an_alert()))
        self.assertEqual(1, len(self.server.requests))


class LinesTests(WebhookTests):
    """
    A batch is lines of JSON.
    """

    def table(self, url: str) -> Mapping[str, Any]:
        return {**super().table(url), "format": "ndjson"}

    def call_ids(self, request: Received) -> Sequence[str]:
        lines = [json.loads(each) for each in request.body.splitlines()]
        return [each["id"] if each["line"] == "alert" else each["call_id"] for each in lines]

    async def test_request(self) -> None:
        """
        Each line ends with a line break.
        """
        batch = entries(full(), bare())
        await self.make().send(batch)
        [request] = self.server.requests
        self.assertEqual("application/x-ndjson", request.headers["content-type"])
        self.assertEqual(b"%b\n%b\n" % (batch[0].line, batch[1].line), request.body)

    test_litellm = None  # type: ignore[assignment]  # told above


class SingleTests(WebhookTests):
    """
    Each record is a request.
    """

    def table(self, url: str) -> Mapping[str, Any]:
        return {**super().table(url), "format": "single"}

    def call_ids(self, request: Received) -> Sequence[str]:
        value = json.loads(request.body)
        return [value["id"] if value["line"] == "alert" else value["call_id"]]

    async def test_request(self) -> None:
        """
        The body is the record.
        """
        batch = entries(full())
        await self.make().send(batch)
        self.assertEqual(batch[0].line, self.server.requests[0].body)

    async def test_half_way(self) -> None:
        """
        What has arrived before a batch failed is not sent again with it.
        """
        sink, batch = self.make(), self.batch(3)
        self.server.next.extend([Answer(), Answer(status=503)])
        await self.told(sink, batch, SinkAway)
        await sink.send(batch)
        first, second, third = ids(batch)
        self.assertEqual([first, second, second, third], self.arrived())
        self.server.next.extend([Answer(), Answer(status=400)])
        await self.told(sink, batch, SinkRefuses)
        self.assertEqual([first, second], self.arrived()[-2:])

    test_signature = None  # type: ignore[assignment]  # told above
    test_litellm = None  # type: ignore[assignment]  # told above


class VariableTests(suite.SinkContract):
    """
    URL and headers come from the environment.
    """

    factory = FACTORY
    gzipped = False

    def setUp(self) -> None:
        super().setUp()
        self.environment = {  # type: ignore[misc]  # the server's port is known here at last
            "GENERIC_LOGGER_ENDPOINT": f"{self.server.url}/{CANARY}-3",
            "GENERIC_LOGGER_HEADERS": f"X-A={CANARY}=1, X-B=2",
        }

    def table(self, _url: str) -> Mapping[str, Any]:
        return {}

    def call_ids(self, request: Received) -> Sequence[str]:
        self.assertEqual((f"{CANARY}=1", "2"), (request.headers["x-a"], request.headers["x-b"]))
        self.assertEqual(f"/{CANARY}-3", request.path)
        return [each["id"] if each["line"] == "alert" else each["call_id"] for each in json.loads(request.body)]


class TroubleTests(SynchronousTestCase):
    """
    Tables that cannot be used.
    """

    def problems(self, table: Mapping[str, Any], **environment: str) -> Sequence[str]:
        tools: Any = None
        tools = Tools(reactor=None, name="hook", courier=tools, environment=environment, node="n", now=lambda: NOON)
        error = self.assertRaises(ConfigurationError, make_sink, "hook", {"kind": "webhook", **table}, tools)
        return list(error.problems)

    def test_url(self) -> None:
        """
        Without a URL, or with one that is none, nothing is made; the URL is not shown.
        """
        self.assertEqual(
            ["[sinks.hook] url: is not said: write it, or set GENERIC_LOGGER_ENDPOINT"], self.problems({"url": ""})
        )
        for url in "ftp://h/secret", "https://user:secret@h/", "http://h/a secret", "h/secret", "http://h/gehe\u00efm":
            [problem] = self.problems({"url": url})
            self.assertEqual(
                "[sinks.hook] url: found something else (not shown, it may be secret), wanted an http or https URL",
                problem,
            )

    def test_headers(self) -> None:
        """
        Headers that could not be sent are told, without what they say.
        """
        headers = {"a b": "1", "x": "g\u00f6", "": "1", "ok": "1"}
        self.assertEqual(
            [
                f'[sinks.hook] headers: "{name}" cannot be sent, wanted a name of letters, digits and -, '
                "and a text in ASCII"
                for name in ("a b", "x", "")
            ],
            self.problems({"url": "http://h/", "headers": headers}),
        )
        [problem] = self.problems({"url": "http://h/", "headers": {"x": "secret\r\ny: 1"}})
        self.assertNotIn("secret", problem)

    def test_variable(self) -> None:
        """
        A variable that is not written as it must be is told by its name; what it says is held to what a table may say.
        """
        for value in "a\r\ny: secret", "a\nsecret", "secret\x00", "s\u00e9cret":
            [problem] = self.problems({"url": "http://h/"}, GENERIC_LOGGER_HEADERS=f"ok=1,x={value}")
            self.assertIn('headers: "x" cannot be sent', problem)
            self.assertNotIn("secret", problem)
        [problem] = self.problems({"url": "http://h/"}, GENERIC_LOGGER_HEADERS="x\r\ny=1")
        self.assertNotIn("\n", problem)
        [problem] = self.problems({"url": "http://h/"}, GENERIC_LOGGER_HEADERS="secret")
        self.assertIn("GENERIC_LOGGER_HEADERS", problem)
        self.assertNotIn("secret", problem.replace("it may be secret", ""))


class ShapeTests(SynchronousTestCase):
    """
    LiteLLM's shape.
    """

    FIELDS = (
        "id, trace_id, call_type, stream, response_cost, cost_breakdown, response_cost_failure_debug_info, status, "
        "status_fields, custom_llm_provider, total_tokens, prompt_tokens, completion_tokens, startTime, endTime, "
        "completionStartTime, response_time, model_map_information, model, model_id, model_group, api_base, metadata, "
        "cache_hit, cache_key, saved_cache_cost, request_tags, end_user, requester_ip_address, user_agent, messages, "
        "response, error_str, error_information, model_parameters, hidden_params, guardrail_information, "
        "standard_built_in_tools_params"
    )

    def test_fields(self) -> None:
        """
        All that such a payload has is there, whatever the record says.
        """
        for record in full(), bare(), fine():
            self.assertEqual(set(self.FIELDS.split(", ")), set(litellm_payload(record)))

    def test_values(self) -> None:
        """
        Who, what, when, how much, and how it ended.
        """
        record = full()
        payload = litellm_payload(record)
        start = NOON.timestamp()
        self.assertEqual(
            {
                "id": record.call_id,
                "status": "failure",
                "stream": True,
                "response_cost": 0.0000415,
                "custom_llm_provider": "mistral",
                "model": "mistral-small-2603",
                "model_group": "mistral-small-latest",
                "prompt_tokens": 120,
                "completion_tokens": 45,
                "total_tokens": 165,
                "startTime": start,
                "endTime": start + 1.25,
                "completionStartTime": start + 0.25,
                "response_time": 1.25,
                "end_user": "kunde 7 \u2603",
                "messages": [{"role": "user", "content": "Grüße \u2603"}],
                "error_str": "The client left before the answer was complete.",
            },
            {
                name: payload[name]
                for name in (
                    "id", "status", "stream", "response_cost", "custom_llm_provider", "model", "model_group",
                    "prompt_tokens", "completion_tokens", "total_tokens", "startTime", "endTime",
                    "completionStartTime", "response_time", "end_user", "messages", "error_str",
                )
            },
        )  # fmt: skip
        metadata = payload["metadata"]
        self.assertEqual(("ada", "team-1"), (metadata["user_api_key_alias"], metadata["user_api_key_team_id"]))
        self.assertEqual("ClientLeft", payload["error_information"]["error_class"])

    def test_success(self) -> None:
        """
        What went well has no error; an unknown price is no price.
        """
        payload = litellm_payload(fine(cost_nano_usd=None))
        self.assertEqual(("success", None, None), (payload["status"], payload["error_str"], payload["response_cost"]))
        self.assertIsNone(payload["error_information"])

    def test_other_bodies(self) -> None:
        """
        A body without messages is one message, as text.
        """
        for body, text in (({"input": "a"}, '{"input":"a"}'), ("a", "a")):
            record = full()
            request = type(record.request)(body=body)  # type: ignore[misc]  # Content
            self.assertEqual([{"role": "user", "content": text}], litellm_payload(full(request=request))["messages"])
