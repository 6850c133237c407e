"""
Charts of figures.
"""

from __future__ import annotations

import re
from unittest import TestCase
from xml.etree import ElementTree as ET

from bench.charts import PLOTS, plotted
from bench.svg import Bar, Chart, Row, drawn
from tests.bench.test_measured import measured

SVG = "{http://www.w3.org/2000/svg}"


def chart(*values: float, logarithmic: bool = False) -> ET.Element:
    """
    A chart with a bar for each value.
    """
    rows = [Row(f"program {value:g}", [Bar(value, value, value, f"{value:g} us")], ours=False) for value in values]
    text = drawn(Chart(title="A & B", series=["one"], rows=rows, logarithmic=logarithmic))
    return ET.fromstring(text)  # noqa: S314 -- our own


def widths(root: ET.Element) -> list[float]:
    return [float(each.attrib["width"]) for each in root.iter(f"{SVG}rect")]


def texts(root: ET.Element) -> list[str]:
    return [each.text or "" for each in root.iter(f"{SVG}text")]


class ChartTests(TestCase):
    def test_names_and_figures_are_text(self) -> None:
        self.assertLessEqual({"A & B", "program 20", "20 us"}, set(texts(chart(20.0, 40.0))))

    def test_bars_are_as_long_as_their_values(self) -> None:
        one, two = widths(chart(20.0, 40.0))
        self.assertAlmostEqual(2.0, two / one, delta=0.01)

    def test_on_a_logarithmic_scale_each_tenfold_is_as_long(self) -> None:
        one, ten, hundred = widths(chart(30.0, 300.0, 3000.0, logarithmic=True))
        self.assertAlmostEqual(ten - one, hundred - ten, delta=0.2)

    def test_a_range_is_drawn_where_rounds_differ(self) -> None:
        steady, moving = Bar(5.0, 5.0, 5.0, "5"), Bar(5.0, 4.0, 6.0, "5")
        for bar, ranges in ((steady, 0), (moving, 1)):
            text = drawn(Chart(title="", series=["one"], rows=[Row("a", [bar], ours=True)]))
            self.assertEqual(ranges, text.count('class="range"'))

    def test_what_has_no_figure_says_so(self) -> None:
        bar = Bar(5.0, 5.0, 5.0, "5")
        text = drawn(Chart(title="", series=["one", "two"], rows=[Row("a", [bar, None], ours=True)]))
        self.assertEqual(1, text.count(">no figure<"))

    def test_zeros_can_be_drawn(self) -> None:
        for logarithmic in (False, True):
            self.assertEqual([1.0], widths(chart(0.0, logarithmic=logarithmic)))

    def test_it_follows_the_readers_light_or_dark_page(self) -> None:
        self.assertIn("prefers-color-scheme: dark", drawn(Chart(title="", series=["one"], rows=[])))


class PlotTests(TestCase):
    def test_a_chart_without_figures_is_not_made(self) -> None:
        self.assertEqual({None}, {plotted(measured(), plot) for plot in PLOTS})

    def test_programs_of_which_there_are_figures_are_shown_with_their_ratio(self) -> None:
        plot = next(each for each in PLOTS if each.file == "cpu-per-request.svg")
        text = plotted(
            measured({"dheera": {"cpu_us_per_request": [160.0]}, "nginx": {"cpu_us_per_request": [20.0]}}), plot
        )
        assert text is not None
        self.assertIn("160  (8.0 x nginx)", text)
        self.assertEqual(["dheera", "nginx"], re.findall(r'text-anchor="end">([^<]+)<', text))

    def test_each_has_a_file_of_its_own(self) -> None:
        self.assertEqual(len(PLOTS), len({plot.file for plot in PLOTS}))
