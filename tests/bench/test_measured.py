"""
What becomes of figures: one document of several runs, targets, and the page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from unittest import TestCase

from bench.document import PLAIN, TLS, Document, read, together
from bench.figures import Summary
from bench.page import BEGIN, END, NoMarkers, rewritten, section
from bench.targets import TARGETS

CPU = "cpu_us_per_request"


def measured(
    programs: Mapping[str, Mapping[str, list[float]]] | None = None,
    *,
    left_out: Mapping[str, str] | None = None,
    mode: str = PLAIN,
) -> Document:
    """
    A document with these rounds.
    """
    run = {"when": "today", "rounds": 1, "seconds": 3.0, "machine": {"memory": "1 GiB"}, "versions": {"nginx": "1.22"}}
    figures = {
        name: {key: Summary(rounds) for key, rounds in found.items()} for name, found in (programs or {}).items()
    }
    return Document(runs=[run], figures={mode: figures}, left_out=left_out or {}, problems=[])


class DocumentTests(TestCase):
    def test_it_comes_back_from_its_file(self) -> None:
        document = measured({"dheera": {CPU: [160.0, 150.0]}, "nginx": {CPU: [20.0]}}, left_out={"envoy": "Not here."})
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "run.json"
            document.write(file)
            self.assertEqual(document, read(file))

    def test_readers_of_the_file_find_medians_and_ratios(self) -> None:
        found = measured({"dheera": {CPU: [100.0, 300.0, 160.0]}, "nginx": {CPU: [20.0]}}).plain()
        self.assertEqual(160.0, found["figures"][PLAIN]["dheera"][CPU]["median"])
        self.assertEqual({"dheera": {CPU: 8.0}}, found["ratios"][PLAIN])

    def test_rounds_are_compared_each_by_itself(self) -> None:
        found = measured({"dheera": {CPU: [90.0, 300.0, 80.0]}, "nginx": {CPU: [10.0, 30.0, 20.0]}}).plain()
        self.assertEqual(9.0, found["ratios"][PLAIN]["dheera"][CPU])

    def test_rounds_of_several_runs_add_up(self) -> None:
        one = measured({"dheera": {CPU: [1.0]}, "nginx": {CPU: [2.0]}})
        other = measured({"dheera": {CPU: [3.0], "idle_mib": [50.0]}})
        whole = together([one, other])
        self.assertEqual([1.0, 3.0], whole.figures[PLAIN]["dheera"][CPU].rounds)
        self.assertEqual([50.0], whole.figures[PLAIN]["dheera"]["idle_mib"].rounds)
        self.assertEqual([2.0], whole.figures[PLAIN]["nginx"][CPU].rounds)
        self.assertEqual(2, len(whole.runs))

    def test_modes_stay_apart(self) -> None:
        whole = together([measured({"dheera": {CPU: [1.0]}}), measured({"dheera": {CPU: [2.0]}}, mode=TLS)])
        self.assertEqual([1.0], whole.figures[PLAIN]["dheera"][CPU].rounds)
        self.assertEqual([2.0], whole.figures[TLS]["dheera"][CPU].rounds)

    def test_what_one_run_left_out_and_another_measured_is_not_missing(self) -> None:
        without = measured({"dheera": {CPU: [1.0]}}, left_out={"nginx": "Not here.", "envoy": "Nor this."})
        self.assertEqual({"envoy": "Nor this."}, together([without, measured({"nginx": {CPU: [2.0]}})]).left_out)


class TargetTests(TestCase):
    def test_a_target_says_whether_it_was_met(self) -> None:
        target = next(each for each in TARGETS if each.title == "CPU per request")
        for times, verdict in ((target.bound, "yes"), (target.bound + 1, "**missed**")):
            row = target.row(measured({"dheera": {CPU: [20.0 * times]}, "nginx": {CPU: [20.0]}}))
            assert row is not None
            self.assertEqual(verdict, row[-1])

    def test_more_can_be_better(self) -> None:
        target = next(each for each in TARGETS if each.at_least)
        alone, dear = {CPU: [100.0]}, {CPU: [200.0]}
        for two, verdict in ((alone, "yes"), (dear, "**missed**")):
            row = target.row(measured({"dheera-spread": alone, "dheera-2-workers": two}))
            assert row is not None
            self.assertEqual(verdict, row[-1])

    def test_what_was_not_measured_is_neither(self) -> None:
        self.assertEqual([None] * len(TARGETS), [target.row(measured()) for target in TARGETS])


class PageTests(TestCase):
    def test_only_what_is_between_the_markers_changes(self) -> None:
        page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
        new = rewritten(page, "new")
        self.assertEqual(f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n", new)
        self.assertEqual(new, rewritten(new, "new"))

    def test_a_page_without_both_markers_is_left_alone(self) -> None:
        for page in ("", BEGIN, END, f"{END}{BEGIN}"):
            with self.assertRaises(NoMarkers):
                rewritten(page, "new")

    def test_the_section_has_the_figures_the_charts_and_what_is_missing(self) -> None:
        document = measured({"dheera": {CPU: [160.0]}, "nginx": {CPU: [20.0]}}, left_out={"envoy": "It fell over."})
        text = section(document, {"cpu.svg": "CPU"}, folder=Path("charts"))
        self.assertIn("| **dheera** | 160.0 | 8.00 |", text)
        self.assertIn("| nginx | 20.0 | 1.00 |", text)
        self.assertIn("![CPU](charts/cpu.svg)", text)
        self.assertIn("It fell over.", text)

    def test_a_variant_is_compared_with_the_subject_and_not_with_others(self) -> None:
        text = section(measured({name: {CPU: [9.0]} for name in ("dheera", "dheera-key", "nginx")}), {}, folder=Path())
        others, parts = text.split("### What each part costs")
        self.assertNotIn("dheera-key", others)
        self.assertIn("dheera-key", parts)
        self.assertNotIn("| nginx |", parts)

    def test_the_real_page_can_be_written(self) -> None:
        page = Path(__file__).parents[2] / "docs" / "performance.md"
        rewritten(page.read_text(), "new")
