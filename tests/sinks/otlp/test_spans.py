"""
A record as a span.
"""

from __future__ import annotations

import json

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import (
    client_attributes,
    error_attributes,
    http_attributes,
    server_attributes,
    url_attributes,
    user_agent_attributes,
)
from twisted.trial.unittest import SynchronousTestCase

from dheera.records import Content, Record
from dheera.sinks.otlp.spans import CLIENT, INTERNAL, Span, span_of
from dheera.usage import Usage
from tests.sinks.records import bare, fine, full

CALL_ID = "019ab5c0-8f3a-7c31-9d2e-5a1b2c3d4e5f"


def told(record: Record) -> Span:
    """
    The span of a record.
    """
    return span_of(record, "api.mistral.ai")


class SpanTests(SynchronousTestCase):
    def test_ids(self) -> None:
        """
        The ids of trace and span are those of the call.
        """
        span = told(full(CALL_ID))
        self.assertEqual("019ab5c08f3a7c319d2e5a1b2c3d4e5f", span.trace_id.hex())
        self.assertEqual("9d2e5a1b2c3d4e5f", span.span_id.hex())

    def test_strange_id(self) -> None:
        """
        An id that is no UUID gives ids that are always the same, of the right size, and no other call's.
        """
        first, again, other = told(full("a")), told(full("a")), told(full("b"))
        self.assertEqual((16, 8), (len(first.trace_id), len(first.span_id)))
        self.assertEqual((first.trace_id, first.span_id), (again.trace_id, again.span_id))
        self.assertNotEqual(first.trace_id, other.trace_id)

    def test_time(self) -> None:
        """
        It begins and ends when the exchange did, to the microsecond.
        """
        span = told(full())
        self.assertEqual(1_795_348_800_250_000_000, span.started)
        self.assertEqual(1_250_000_000, span.ended - span.started)

    def test_name(self) -> None:
        """
        It is called by the operation and the model; where no model is concerned, by method and endpoint.
        """
        for expected, record in (
            ("chat mistral-small-latest", full()),
            ("embeddings mistral-embed", full(endpoint="embeddings", model="mistral-embed")),
            ("text_completion codestral", full(endpoint="fim/completions", model="codestral")),
            ("ocr mistral-ocr-latest", full(endpoint="ocr", model="mistral-ocr-latest")),
            ("audio_speech voxtral", full(endpoint="audio/speech", model="voxtral")),
            ("chat", full(model=None)),
            ("GET models", bare()),
            ("GET conversations", bare(endpoint="conversations")),
        ):
            self.assertEqual(expected, told(record).name)

    def test_kind(self) -> None:
        """
        It is a client's; but what was refused has called nobody.
        """
        self.assertEqual(CLIENT, told(full()).kind)
        refused = told(full(attempts=0))
        self.assertEqual(INTERNAL, refused.kind)
        self.assertNotIn("server.address", refused.attributes)

    def test_conventions(self) -> None:
        """
        The attributes of the semantic conventions have the names and values that these ask for.
        """
        found = told(full()).attributes
        self.assertEqual(
            {
                gen_ai_attributes.GEN_AI_OPERATION_NAME: "chat",
                gen_ai_attributes.GEN_AI_PROVIDER_NAME: gen_ai_attributes.GenAiProviderNameValues.MISTRAL_AI.value,
                gen_ai_attributes.GEN_AI_REQUEST_MODEL: "mistral-small-latest",
                gen_ai_attributes.GEN_AI_REQUEST_STREAM: True,
                gen_ai_attributes.GEN_AI_REQUEST_TEMPERATURE: 0.7,
                gen_ai_attributes.GEN_AI_REQUEST_MAX_TOKENS: 100,
                gen_ai_attributes.GEN_AI_RESPONSE_MODEL: "mistral-small-2603",
                gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS: 120,
                gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS: 45,
                gen_ai_attributes.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 20,
                gen_ai_attributes.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 5,
                server_attributes.SERVER_ADDRESS: "api.mistral.ai",
                error_attributes.ERROR_TYPE: "ClientLeft",
                http_attributes.HTTP_REQUEST_METHOD: "POST",
                http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
                url_attributes.URL_PATH: "/v1/chat/completions",
                client_attributes.CLIENT_ADDRESS: "192.0.2.7",
                user_agent_attributes.USER_AGENT_ORIGINAL: "mistral-client-python/3.7",
            },
            {
                name: value
                for name, value in found.items()
                if not name.startswith("dheera.") and name not in UNSTABLE and "messages" not in name
            },
        )

    def test_known_names(self) -> None:
        """
        No attribute stands among those of GenAI that the conventions do not have.
        """
        known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
        every = full(parameters=dict.fromkeys(("n", "top_p", "random_seed", "presence_penalty", "x"), 1))
        found = {name for name in told(every).attributes if name.startswith("gen_ai.")}
        self.assertEqual(set(), found - known)

    def test_own(self) -> None:
        """
        Who it was for, what it cost, and how it went stand in attributes of ours.
        """
        found = told(full(CALL_ID)).attributes
        expected = {
            "dheera.call_id": CALL_ID,
            "dheera.key.alias": "ada",
            "dheera.team.id": "team-1",
            "dheera.team.alias": "Suche & Søk",
            "dheera.user.id": "ada@example.com",
            "user.id": "kunde 7 \u2603",
            "dheera.tags": ["beta", 'a "quoted" tag', "ताज़ा"],
            "dheera.cost.usd": 0.0000415,
            "dheera.estimated": True,
            "dheera.price_list": "2026-11-01",
            "dheera.outcome": "client_left",
            "dheera.attempts": 2,
            "dheera.upstream": "mistral",
            "dheera.upstream_key": "east",
            "dheera.tries": ["key 1: 429"],
            "dheera.upstream_id": "01f0-upstream",
            "dheera.usage.pages": 2,
            "dheera.usage.audio_ms": 1500,
            "dheera.usage.connectors.web_search": 1,
            "dheera.request.stream": True,
        }
        self.assertEqual(expected, {name: found[name] for name in expected})

    def test_unknown_and_free(self) -> None:
        """
        What has no price has no cost; what is free costs nothing.
        """
        self.assertNotIn("dheera.cost.usd", told(full(cost_nano_usd=None)).attributes)
        self.assertEqual(0.0, told(full(cost_nano_usd=0)).attributes["dheera.cost.usd"])

    def test_no_tokens(self) -> None:
        """
        An answer without tokens says so; what did not tell says nothing.
        """
        found = told(full(usage=Usage(prompt_tokens=7))).attributes
        self.assertEqual(0, found["gen_ai.usage.output_tokens"])
        self.assertNotIn("gen_ai.usage.input_tokens", told(full(usage=None)).attributes)

    def test_error(self) -> None:
        """
        What failed is an error, in our own words, and of a sort.
        """
        for error, sort, record in (
            ("The client left before the answer was complete.", "ClientLeft", full()),
            ("500", "500", fine(status=500)),
            ("interrupted", "interrupted", full(outcome="interrupted", error=None, message=None, status=None)),
            ("refused", "refused", bare()),
            (None, None, fine()),
        ):
            span = told(record)
            self.assertEqual((error, sort), (span.error, span.attributes.get("error.type")))


class ContentTests(SynchronousTestCase):
    def test_chat(self) -> None:
        """
        Messages stand in the shape of the conventions, and nowhere else.
        """
        found = told(full()).attributes
        self.assertEqual(
            [{"role": "user", "parts": [{"type": "text", "content": "Grüße \u2603"}]}],
            json.loads(str(found["gen_ai.input.messages"])),
        )
        self.assertEqual(
            [{"role": "assistant", "parts": [{"type": "text", "content": "Hello!"}], "finish_reason": "unknown"}],
            json.loads(str(found["gen_ai.output.messages"])),
        )
        self.assertNotIn("dheera.request.body", found)
        self.assertNotIn("dheera.response.body", found)

    def test_tools(self) -> None:
        """
        Calls of tools and what they answered, and parts that are no text, have their places.
        """
        call = {"id": "c1", "function": {"name": "weather", "arguments": '{"city":"Pune"}'}}
        asked = {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url"}]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "31 degrees"},
            ]
        }
        self.assertEqual(
            [
                {"role": "user", "parts": [{"type": "text", "content": "What is it?"}, {"type": "image_url"}]},
                {
                    "role": "assistant",
                    "parts": [{"type": "tool_call", "id": "c1", "name": "weather", "arguments": '{"city":"Pune"}'}],
                },
                {
                    "role": "tool",
                    "parts": [{"type": "tool_call_response", "id": "c1", "response": "31 degrees"}],
                },
            ],
            json.loads(str(told(full(request=Content(body=asked))).attributes["gen_ai.input.messages"])),
        )

    def test_strange_messages(self) -> None:
        """
        What only looks like messages is told somehow, and breaks nothing.
        """
        strange: list[list[object]] = [
            [],
            [None],
            ["hi"],
            [7],
            [{}],
            [{"content": [7, None]}],
            [{"tool_calls": [None, {}], "role": 3}],
        ]
        for messages in strange:
            found = told(
                full(request=Content(body={"messages": messages}), response=Content(body={"choices": messages}))
            )
            self.assertEqual(len(messages), len(json.loads(str(found.attributes["gen_ai.input.messages"]))))
            self.assertEqual(len(messages), len(json.loads(str(found.attributes["gen_ai.output.messages"]))))

    def test_other_bodies(self) -> None:
        """
        Other bodies are told as they are.
        """
        found = told(full(request=Content(body={"input": "a"}), response=Content(body="data: 1"))).attributes
        self.assertEqual(('{"input":"a"}', "data: 1"), (found["dheera.request.body"], found["dheera.response.body"]))

    def test_nothing(self) -> None:
        """
        Without content, there is none.
        """
        found = told(full(request=None, response=Content(size_bytes=7))).attributes
        self.assertEqual([], [name for name in found if "messages" in name or name.endswith("body")])


UNSTABLE = {"user.id", "http.request.body.size", "http.response.body.size"}
"""
Of the conventions too, but not of their stable part.
"""
