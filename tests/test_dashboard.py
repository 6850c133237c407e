"""
The dashboard and docs/metrics.md tell of what is counted: of all of it, and of nothing else.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import TestCase

from prometheus_client.parser import text_string_to_metric_families

from dheera.errors import AnswerCut, NotAuthenticated
from dheera.metrics import LEVELS, WORST, Level, Metrics
from dheera.records import Try
from tests.test_metrics import record

DOCS = Path(__file__).parent.parent / "docs"
DASHBOARD = json.loads((DOCS / "grafana" / "dheera.json").read_text())
PAGE = (DOCS / "metrics.md").read_text()
ROWS = ["Traffic", "Money", "Latency", "Tokens", "Errors and refusals", "Streams", "Durability", "Connections"]
VARIABLES = ["datasource", "key", "team", "model", "endpoint"]
PARTS = ("_bucket", "_sum", "_count")
"""
Of a histogram.
"""
TARGETS_OWN = {"instance", "job"}
"""
Labels that Prometheus itself adds.
"""


def exposed() -> dict[str, tuple[str, set[str]]]:
    """
    Kind and labels of each metric that a dheera tells which has seen everything.
    """
    levels = [Level(name=name, labels=("x",) * len(labels), value=1) for name, (_, labels) in LEVELS.items()]
    metrics = Metrics(lambda _: True, lambda: levels)
    metrics.began()
    metrics.ended(record(is_stream=True, longest_gap_us=1, attempts=2, tries=[Try(status=429)]))
    metrics.refused(NotAuthenticated("no"))
    metrics.refused(AnswerCut("cut"))
    metrics.store_took("write", 0.1)
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = family.type, {label for sample in family.samples for label in sample.labels} - {"le"}
    return found


EXPOSED = exposed()
SAMPLES = {
    name: labels | ({"le"} if part == "_bucket" else set())
    for metric, (kind, labels) in EXPOSED.items()
    for part in (PARTS if kind == "histogram" else ("",))
    for name in (f"{metric}{part}",)
}
"""
What a query may name, with the labels of each.
"""


def metric_of(sample: str) -> str:
    """
    The metric that *sample* is a part of.
    """
    return next((sample.removesuffix(part) for part in PARTS if sample.removesuffix(part) in EXPOSED), sample)


def named(query: str) -> set[str]:
    """
    The samples that *query* is about; ``dheera_ai`` is none, but the program.
    """
    return set(re.findall(r"\bdheera_(?!ai\b)\w+", query))


def selected(query: str) -> Iterator[tuple[str, str]]:
    """
    Each sample that *query* names, with each label that it must have.
    """
    for sample, selector in re.findall(r"\b(dheera_\w+)\{([^}]*)\}", query):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", selector):
            yield sample, label


def kept(query: str) -> set[str]:
    """
    The labels that are left in what *query* results in.
    """
    return {label for group in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r",\s*", group) if label}


class QueriesTestCase(TestCase):
    """
    What holds of each query, wherever it stands.
    """

    def check(self, query: str) -> None:
        """
        Assert that *query* names something, and only what there is.
        """
        self.assertTrue(named(query), query)
        self.assertLessEqual(named(query), set(SAMPLES), query)
        for sample, label in selected(query):
            self.assertIn(label, SAMPLES[sample] | TARGETS_OWN, query)
        for sample in named(query):
            self.assertLessEqual(kept(query), SAMPLES[sample] | TARGETS_OWN, query)


class DashboardTests(QueriesTestCase):
    """
    docs/grafana/dheera.json.
    """

    def targets(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """
        Each query, with its panel.
        """
        for panel in DASHBOARD["panels"]:
            for target in panel.get("targets", []):
                yield panel, target

    def test_rows(self) -> None:
        """
        It is told in rows, and none is empty.
        """
        self.assertEqual(ROWS, [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"])
        kinds = [panel["type"] for panel in DASHBOARD["panels"]]
        self.assertNotIn(("row", "row"), list(zip(kinds, [*kinds[1:], "row"], strict=True)))

    def test_panels(self) -> None:
        """
        Each has an id of its own, a place within the grid that no other takes, and a sentence.
        """
        panels = DASHBOARD["panels"]
        self.assertEqual([], [each for each, times in Counter(panel["id"] for panel in panels).items() if times > 1])
        taken: Counter[tuple[int, int]] = Counter()
        for panel in panels:
            place = panel["gridPos"]
            self.assertLessEqual(place["x"] + place["w"], 24, panel["title"])
            taken.update(
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            )
            if panel["type"] != "row":
                self.assertTrue(panel["description"].endswith("."), panel["title"])
        self.assertEqual(1, max(taken.values()))

    def test_variables(self) -> None:
        """
        One data source, which all use, and what calls can be told apart by, with "all" for those that have none.
        """
        variables = DASHBOARD["templating"]["list"]
        self.assertEqual(VARIABLES, [each["name"] for each in variables])
        source = {"type": "prometheus", "uid": "${datasource}"}
        for each in variables[1:]:
            self.assertEqual((source, ".*"), (each["datasource"], each["allValue"]))
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", each["query"]["query"])
            assert match is not None, each
            self.assertEqual(each["name"], match[2])
            self.assertIn(match[2], SAMPLES[match[1]])
        for panel, target in self.targets():
            self.assertEqual((source, source), (panel["datasource"], target["datasource"]), panel["title"])

    def test_queries(self) -> None:
        """
        They name only what there is: metrics, labels, variables; and a legend only what is left of the labels.
        """
        for panel, target in self.targets():
            query = target["expr"]
            self.check(query)
            variables = set(re.findall(r"\$(\w+)", query)) - {"__rate_interval", "__range"}
            self.assertLessEqual(variables, set(VARIABLES), panel["title"])
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            self.assertLessEqual(legend, kept(query), panel["title"])

    def test_variables_count(self) -> None:
        """
        Where a metric has a label that can be chosen, the choice is obeyed.
        """
        for panel, target in self.targets():
            for sample in named(target["expr"]):
                for label in SAMPLES[sample] & set(VARIABLES):
                    self.assertIn(f'{label}=~"${label}"', target["expr"], panel["title"])

    def test_rates(self) -> None:
        """
        What only grows is shown by how it grows; what goes up and down is shown as it is.
        """
        for _, target in self.targets():
            for sample in named(target["expr"]):
                is_gauge = EXPOSED[metric_of(sample)][0] == "gauge"
                grows = re.search(rf"(?:rate|increase)\({sample}\b", target["expr"]) is not None
                self.assertNotEqual(is_gauge, grows, target["expr"])

    def test_all_are_shown(self) -> None:
        """
        Each metric is in a query.
        """
        shown = {metric_of(sample) for _, target in self.targets() for sample in named(target["expr"])}
        self.assertEqual(set(EXPOSED), shown)


class PageTests(QueriesTestCase):
    """
    docs/metrics.md.
    """

    def rows(self, heading: str) -> list[list[str]]:
        """
        The cells of the table below *heading*.
        """
        section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
        rows = [line.strip().strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
        return [[cell.strip() for cell in row] for row in rows]

    def test_table(self) -> None:
        """
        Each metric has one line, with its kind and labels; no other has one.
        """
        rows = [
            (name.strip("`"), kind, set(re.findall(r"`(\w+)`", labels)))
            for name, kind, labels, _ in self.rows("What is counted")
        ]
        self.assertEqual(sorted((name, *told) for name, told in EXPOSED.items()), sorted(rows))

    def test_names(self) -> None:
        """
        Nothing is named anywhere that does not exist.
        """
        self.assertLessEqual(named(PAGE), set(SAMPLES) | set(EXPOSED))

    def test_labels(self) -> None:
        """
        For each label it says how it is bounded.
        """
        told = [
            label
            for first, _ in self.rows("Labels, and how they are bounded")
            for label in re.findall(r"`(\w+)`", first)
        ]
        self.assertEqual(sorted(set().union(*(labels for _, labels in EXPOSED.values()))), sorted(told))

    def test_alerts(self) -> None:
        """
        The rules name only what there is. Of each name there is one.
        """
        rules = re.findall(r"- alert: (\w+)\n\s+expr: (?:\|\n)?(.*?)\n\s+(?:for|labels): ", PAGE, re.DOTALL)
        self.assertEqual(PAGE.count("- alert: "), len({name for name, _ in rules}))
        for name, query in rules:
            if name != "DheeraDown":
                self.check(query)

    def test_several_workers(self) -> None:
        """
        It says of which levels the worst of several workers is shown.
        """
        section = PAGE.partition("## Several workers\n")[2].partition("\n## ")[0]
        self.assertEqual({f"dheera_{name}" for name in WORST}, named(section) - {"dheera_in_flight_requests"})
