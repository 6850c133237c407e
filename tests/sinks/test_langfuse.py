"""
What Langfuse is sent.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.records import Content, Record
from dheera.sinks.contract import SinkFactory
from dheera.sinks.langfuse import FACTORY, observation_of, usage_details
from dheera.usage import Usage
from tests.sinks import suite
from tests.sinks.otlp import reading
from tests.sinks.records import bare, fine, full
from tests.sinks.server import Answer, Received

SECRET = f"sk-lf-{suite.CANARY}"


class LangfuseTests(suite.SinkContract):
    """
    By its endpoint for OpenTelemetry, which answers with an empty object.
    """

    factory: ClassVar[SinkFactory] = FACTORY
    good: ClassVar[Answer] = Answer(body=b"{}")
    environment: ClassVar[Mapping[str, str]] = {"LANGFUSE_SECRET_KEY": SECRET, "LANGFUSE_TRACING_ENVIRONMENT": "stage"}

    def table(self, url: str) -> Mapping[str, Any]:
        return {"url": url, "public_key": "pk-lf-1"}

    def call_ids(self, request: Received) -> Sequence[str]:
        return reading.call_ids(request)

    async def test_request(self) -> None:
        """
        It goes to the endpoint for spans in JSON, with the project's keys, and asks to be shown at once.
        """
        await self.make(release="r7").send(self.batch())
        (request,) = self.server.requests
        self.assertEqual(("POST", "/api/public/otel/v1/traces"), (request.method, request.path))
        self.assertEqual("application/json", request.headers["content-type"])
        self.assertEqual(f"Basic {b64encode(f'pk-lf-1:{SECRET}'.encode()).decode()}", request.headers["authorization"])
        self.assertEqual("4", request.headers["x-langfuse-ingestion-version"])
        found = reading.resource(request)
        self.assertEqual(("stage", "r7"), (found["langfuse.environment"], found["langfuse.release"]))

    def test_problems(self) -> None:
        """
        It cannot be made without the project's public key, nor with what is none.
        """
        for key in "", "pk:lf":
            error = self.assertRaises(ConfigurationError, self.make, public_key=key)
            self.assertTrue(str(error).startswith("public_key: "), str(error))


class ObservationTests(SynchronousTestCase):
    def observed(self, record: Record) -> dict[str, Any]:
        """
        The attributes of Langfuse.
        """
        found = observation_of(record, "api.mistral.ai").attributes
        return {name: value for name, value in found.items() if name.startswith("langfuse.")}

    def test_fullest(self) -> None:
        """
        Each of Langfuse's fields has what it wants, JSON where it wants JSON.
        """
        self.assertEqual(
            {
                "langfuse.trace.name": "chat mistral-small-latest",
                "langfuse.trace.tags": ["beta", 'a "quoted" tag', "ताज़ा"],
                "langfuse.user.id": "kunde 7 \u2603",
                "langfuse.observation.type": "generation",
                "langfuse.observation.model.name": "mistral-small-2603",
                "langfuse.observation.model.parameters": '{"temperature":0.7,"max_tokens":100,"stream":true}',
                "langfuse.observation.usage_details": (
                    '{"input":100,"input_cached_tokens":20,"input_connector_tokens":10,"output":40,'
                    '"output_reasoning_tokens":5,"total":165,"audio_ms":1500,"pages":2,"annotated_pages":1,'
                    '"characters":300}'
                ),
                "langfuse.observation.cost_details": '{"total":0.0000415}',
                "langfuse.observation.completion_start_time": '"2026-11-22T12:00:00.500000Z"',
                "langfuse.observation.level": "ERROR",
                "langfuse.observation.status_message": "The client left before the answer was complete.",
                "langfuse.observation.input": '[{"role":"user","content":"Grüße \u2603"}]',
                "langfuse.observation.output": '{"role":"assistant","content":"Hello!"}',
            },
            self.observed(full()),
        )

    def test_emptiest(self) -> None:
        """
        What is not known is not said.
        """
        self.assertEqual(
            {
                "langfuse.trace.name": "GET models",
                "langfuse.observation.type": "span",
                "langfuse.observation.level": "ERROR",
                "langfuse.observation.status_message": "refused",
            },
            self.observed(bare()),
        )

    def test_fine(self) -> None:
        """
        What went well has no message.
        """
        found = self.observed(fine())
        self.assertEqual("DEFAULT", found["langfuse.observation.level"])
        self.assertNotIn("langfuse.observation.status_message", found)

    def test_cost(self) -> None:
        """
        Langfuse is to take our cost: also where only older versions look. Without a price, it is left to Langfuse.
        """
        self.assertEqual(0.0000415, observation_of(full(), "a").attributes["gen_ai.usage.cost"])
        unpriced = observation_of(full(cost_nano_usd=None), "a").attributes
        self.assertEqual([], [name for name in unpriced if "cost" in name])

    def test_sorts(self) -> None:
        """
        Embeddings are told apart.
        """
        found = self.observed(full(endpoint="embeddings"))
        self.assertEqual("embedding", found["langfuse.observation.type"])

    def test_content_once(self) -> None:
        """
        What the call was about is sent once only.
        """
        found = json.dumps(observation_of(full(), "a").attributes, ensure_ascii=False)
        self.assertEqual((1, 1), (found.count("Grüße"), found.count("Hello!")))

    def test_other_bodies(self) -> None:
        """
        Bodies of other shapes are shown as they are.
        """
        for body, expected in (({"input": "a"}, '{"input":"a"}'), ("data: 1", "data: 1"), ([], "[]")):
            found = self.observed(full(request=Content(body=body), response=Content(body=body)))
            self.assertEqual(expected, found["langfuse.observation.input"])
            self.assertEqual(expected, found["langfuse.observation.output"])

    def test_quantities(self) -> None:
        """
        Quantities do not overlap, and none is negative.
        """
        self.assertEqual({"input": 7, "output": 0}, usage_details(Usage(prompt_tokens=7)))
        self.assertEqual(
            {"input": 0, "input_cached_tokens": 9, "output": 0}, usage_details(Usage(prompt_tokens=7, cached_tokens=9))
        )
