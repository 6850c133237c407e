"""
What LangSmith is sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec
from langsmith.run_trees import validate_extracted_usage_metadata
from langsmith.schemas import RunBase
from twisted.trial.unittest import SynchronousTestCase

from dheera.records import Content
from dheera.sinks.contract import SinkFactory
from dheera.sinks.langsmith import FACTORY, run_of, usage_of
from dheera.usage import Usage
from tests.sinks import suite
from tests.sinks.records import bare, entries, fine, full
from tests.sinks.server import Answer, Received

CALL_ID = "019ab5c0-8f3a-7c31-9d2e-5a1b2c3d4e5f"


class LangsmithTests(suite.SinkContract):
    """
    By the endpoint for batches of runs, which answers 202.
    """

    factory: ClassVar[SinkFactory] = FACTORY
    good: ClassVar[Answer] = Answer(status=202, body=b'{"message":"Runs batch ingested"}')
    environment: ClassVar[Mapping[str, str]] = {
        "LANGSMITH_API_KEY": f"lsv2_pt_{suite.CANARY}",
        "LANGCHAIN_API_KEY": "lsv2_other",
        "LANGSMITH_PROJECT": "shop",
    }

    def table(self, url: str) -> Mapping[str, Any]:
        return {"url": f"{url}/api"}

    def call_ids(self, request: Received) -> Sequence[str]:
        whole = json.loads(request.body)
        assert list(whole) == ["post"], list(whole)
        return [run["id"] for run in whole["post"]]

    async def test_request(self) -> None:
        """
        It goes to the endpoint for batches, with the key, in JSON, for the project.
        """
        await self.make(workspace_id="w-1").send(self.batch())
        (request,) = self.server.requests
        self.assertEqual(("POST", "/api/runs/batch"), (request.method, request.path))
        self.assertEqual("application/json", request.headers["content-type"])
        self.assertEqual(f"lsv2_pt_{suite.CANARY}", request.headers["x-api-key"])
        self.assertEqual("w-1", request.headers["x-tenant-id"])
        self.assertEqual({"shop"}, {run["session_name"] for run in json.loads(request.body)["post"]})

    async def test_no_workspace(self) -> None:
        """
        Who is in one workspace only needs not name it.
        """
        await self.make().send(self.batch())
        self.assertNotIn("x-tenant-id", self.server.requests[0].headers)

    async def test_many(self) -> None:
        """
        No more than a hundred runs go at once.
        """
        batch = self.batch(201)
        await self.make().send(batch)
        self.assertEqual([100, 100, 1], [len(self.call_ids(request)) for request in self.server.requests])
        self.assertEqual(suite.ids(batch), self.arrived())

    async def test_large(self) -> None:
        """
        No more than 20 MiB go at once.
        """
        batch = entries(*(full(message="x" * 9 * 1024 * 1024) for _ in range(3)))
        await self.make().send(batch)
        self.assertEqual([2, 1], [len(self.call_ids(request)) for request in self.server.requests])
        self.assertTrue(all(len(request.body) <= 20 * 1024 * 1024 for request in self.server.requests))


class RunTests(SynchronousTestCase):
    def test_ids(self) -> None:
        """
        The run is the call, and a trace by itself, in the order of its beginning.
        """
        run = run_of(full(CALL_ID), "default")
        self.assertEqual((CALL_ID, CALL_ID), (run["id"], run["trace_id"]))
        self.assertEqual(f"20261122T120000250000Z{CALL_ID}", run["dotted_order"])

    def test_known_to_langsmith(self) -> None:
        """
        LangSmith's own library reads it as a run.
        """
        for record in full(), fine(), bare():
            whole = json.loads(msgspec.json.encode(run_of(record, "default")))
            run = RunBase(**whole)
            self.assertEqual((record.call_id, record.started_at), (str(run.id), run.start_time))

    def test_fullest(self) -> None:
        """
        What was asked, answered, used and spent stands where LangSmith looks for it.
        """
        run = run_of(full(), "default")
        self.assertEqual(("chat/completions mistral-small-latest", "llm"), (run["name"], run["run_type"]))
        self.assertEqual([{"role": "user", "content": "Grüße \u2603"}], run["inputs"]["messages"])
        self.assertEqual("Hello!", run["outputs"]["choices"][0]["message"]["content"])
        self.assertEqual("ClientLeft: The client left before the answer was complete.", run["error"])
        self.assertEqual(["beta", 'a "quoted" tag', "ताज़ा"], run["tags"])
        self.assertEqual(["new_token"], [event["name"] for event in run["events"]])
        expected = {
            "ls_provider": "mistral",
            "ls_model_name": "mistral-small-2603",
            "ls_model_type": "chat",
            "ls_temperature": 0.7,
            "ls_max_tokens": 100,
            "user_id": "kunde 7 \u2603",
            "key_alias": "ada",
            "team_id": "team-1",
            "estimated": True,
        }
        metadata = run["extra"]["metadata"]
        self.assertEqual(expected, {name: metadata[name] for name in expected})
        self.assertEqual(
            {
                "input_tokens": 120,
                "output_tokens": 45,
                "total_tokens": 165,
                "input_token_details": {"cache_read": 20},
                "output_token_details": {"reasoning": 5},
                "total_cost": 0.0000415,
            },
            metadata["usage_metadata"],
        )

    def test_usage_names(self) -> None:
        """
        What is said of usage has no names but those that LangSmith allows.
        """
        usage: Any = usage_of(full())
        self.assertEqual(usage, validate_extracted_usage_metadata(usage))

    def test_emptiest(self) -> None:
        """
        What is not known is not said; what concerns no model is no call of one.
        """
        run = run_of(bare(), "default")
        self.assertEqual(("models", "tool", {}, {}), (run["name"], run["run_type"], run["inputs"], run["outputs"]))
        self.assertNotIn("usage_metadata", run["extra"]["metadata"])
        self.assertEqual("refused", run["error"])
        self.assertNotIn("error", run_of(fine(), "default"))

    def test_cost(self) -> None:
        """
        Without a price there is no cost; what is free costs nothing.
        """
        self.assertNotIn("total_cost", usage_of(full(cost_nano_usd=None)) or {})
        self.assertEqual(0.0, (usage_of(full(cost_nano_usd=0)) or {})["total_cost"])

    def test_total(self) -> None:
        """
        A total that upstream did not tell is the sum.
        """
        usage = usage_of(full(usage=Usage(prompt_tokens=3, completion_tokens=4))) or {}
        self.assertEqual(7, usage["total_tokens"])

    def test_texts(self) -> None:
        """
        LangSmith wants objects: a body that is none stands in one.
        """
        run = run_of(full(request=Content(body=["a"]), response=Content(body="data: 1")), "default")
        self.assertEqual(({"body": ["a"]}, {"body": "data: 1"}), (run["inputs"], run["outputs"]))
