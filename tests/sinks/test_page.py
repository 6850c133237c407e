"""
What docs/sinks.md says is so.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec.structs import fields
from twisted.trial.unittest import SynchronousTestCase

from dheera.sinks.catalogue import KINDS, find_factory, make_sink
from dheera.sinks.contract import SinkSettings, Tools
from tests.sinks.records import NOON

PAGE = (Path(__file__).parent.parent.parent / "docs" / "sinks.md").read_text()
COMMON = {each.name for each in fields(SinkSettings)}
INTEGRATIONS = (
    "agentops argilla arize arize_phoenix athina aws_sqs azure_sentinel azure_storage braintrust "
    "cloudzero datadog datadog_llm_observability datadog_metrics deepeval dynamodb elasticsearch focus "
    "galileo gcs_bucket gcs_pubsub generic_api greenscale helicone humanloop lago langfuse langfuse_otel "
    "langsmith langtrace levo literalai logfire lunary mlflow openmeter opik otel pagerduty posthog "
    "prometheus promptlayer qualifire_eval ramp resend_email rubrik s3 s3_v2 sendgrid_email sentry signoz "
    "slack smtp_email splunk sumologic supabase traceloop vantage wandb weave_otel "
)
"""
What LiteLLM 1.82 can send to, by the names of its configuration.
"""
SOME_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
}


def sections() -> dict[str, str]:
    """
    What the page says of each kind.
    """
    found: dict[str, str] = {}
    for names, text in re.findall(r"^### ([a-z0-9, ]+)\n(.*?)(?=^##)", PAGE, re.DOTALL | re.MULTILINE):
        found |= dict.fromkeys(names.split(", "), text)
    return found


def rows(text: str) -> dict[str, str]:
    """
    The tables in *text*: what stands behind each first cell.
    """
    return dict(re.findall(r"^\| `([^`]+)` \| (.*?) \|$", text, re.MULTILINE))


class TestPage(SynchronousTestCase):
    def tables(self) -> dict[str, Any]:
        """
        The examples.
        """
        found: dict[str, Any] = {}
        for example in re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
            for name, table in tomllib.loads(example)["sinks"].items():
                self.assertNotIn(name, found)
                found[name] = table
        return found

    def test_examples(self) -> None:
        """
        Each example can be used as it stands; each kind has one.
        """
        there = TemporaryDirectory()
        self.addCleanup(there.cleanup)
        kinds = set()
        for name, table in self.tables().items():
            tools = Tools(
                reactor=None,
                name=name,
                courier=None,  # type: ignore[arg-type]  # nobody is called
                environment=SOME_CREDENTIALS,
                node="north-1",
                now=lambda: NOON,
            )
            usable = {**table, "path": f"{there.name}/calls.jsonl"} if "path" in table else table
            make_sink(name, usable, tools)
            kinds.add(table.get("kind", name))
        self.assertEqual(set(KINDS), kinds)

    def test_settings(self) -> None:
        """
        Each setting of each kind is told of, and none that is not there; so are the variables that the environment may
        have.
        """
        told = sections()
        self.assertEqual(set(), set(KINDS) - set(told))
        for kind in KINDS:
            known = {each.name for each in fields(find_factory(kind, {}).settings)} - COMMON
            self.assertEqual(known, set(rows(told[kind])), kind)

    def test_common_settings(self) -> None:
        """
        What every table may say, with its default.
        """
        text = PAGE.partition("## What every table may say")[2].partition("\n## ")[0]
        found = rows(text)
        self.assertEqual(COMMON, set(found))
        for each in fields(SinkSettings):
            if each.name != "kind":
                said = found[each.name].partition(" | ")[0].strip("`").strip('"')
                self.assertEqual(str(each.default), said, each.name)

    def test_defaults(self) -> None:
        """
        Kinds with defaults of their own for what every table may say are told of.
        """
        told = sections()
        common = SinkSettings()
        for kind in KINDS:
            for each in fields(find_factory(kind, {}).settings):
                if each.name in COMMON and each.default != getattr(common, each.name):
                    said = re.search(rf"`{each.name}`(?: is)? ([0-9.]+[0-9])", told[kind])
                    assert said is not None, f"{kind}: {each.name}"
                    self.assertEqual(float(each.default), float(said[1]), f"{kind}: {each.name}")

    def test_integrations(self) -> None:
        """
        Each integration that users may come with has a line, in order.
        """
        text = PAGE.partition("## Integrations that LiteLLM users know")[2]
        self.assertEqual(sorted(INTEGRATIONS.split()), list(rows(text)))
