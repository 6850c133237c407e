"""
What operators may write as prices, and what they are told when they write something else.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from dheera.config import ConfigurationError
from dheera.prices import PriceList

ROOT = Path(__file__).parent.parent


def problems(text: str) -> list[str]:
    """
    What is wrong with this ``[prices]``.
    """
    try:
        PriceList.load(tomllib.loads(text)["prices"])
    except ConfigurationError as error:
        return list(error.problems)
    return []


class RowTests(SynchronousTestCase):
    """
    Rows as they are written in the configuration.
    """

    def test_taken(self) -> None:
        """
        Every form that is documented is taken.
        """
        text = """
            [prices]
            source = "our contract"
            factor = 1.1
            connectors_per_thousand = { web_search = 30.0 }
            "*" = { input_per_million = 2, output_per_million = 6 }
            "ft:small:*" = { as = "mistral-small-2603" }
            [prices."mistral-large-latest"]
            input_per_million = 0.45
            cached_per_million = 0
            output_per_million = 1.35
            batch_factor = 1
            context_tokens = 262144
            source = "offer of May"
            [[prices."mistral-ocr-latest"]]
            pages_per_thousand = 4
            [[prices."mistral-ocr-latest"]]
            from = 2027-01-01
            pages_per_thousand = 3.5
            [[prices."mistral-ocr-latest"]]
            from = 2027-02-01T00:00:00+01:00
            as = "mistral-ocr-4-1"
        """
        self.assertEqual([], problems(text))

    def test_refused(self) -> None:
        """
        What is wrong is told with its place, what was found and what was wanted.
        """
        for row, place, hint in (
            ("x = 3", '"x"', "a table of prices"),
            ("x = []", '"x"', "a table of prices"),
            ("x = [1]", '"x"', "a table of prices"),
            ("x = {}", '"x"', "found no price"),
            ("x = { input_per_milion = 1 }", '"x"', "did you mean input_per_million?"),
            ("x = { qqq = 1 }", '"x"', "wanted one of input_per_million"),
            ("x = { input_per_million = -1 }", '"x" input_per_million', "US dollars"),
            ("x = { input_per_million = true }", '"x" input_per_million', "US dollars"),
            ('x = { input_per_million = "1" }', '"x" input_per_million', "US dollars"),
            ("x = { input_per_million = nan }", '"x" input_per_million', "US dollars"),
            ("x = { input_per_million = inf }", '"x" input_per_million', "US dollars"),
            ("x = { input_per_million = 1e-12 }", '"x" input_per_million', "digits"),
            ("x = { input_per_million = 1e7 }", '"x" input_per_million', "US dollars"),
            ("x = { input_per_million = 1, batch_factor = 2 }", '"x" batch_factor', "from 0 to 1"),
            ("x = { input_per_million = 1, context_tokens = 0 }", '"x" context_tokens', "above 0"),
            ("x = { input_per_million = 1, context_tokens = true }", '"x" context_tokens', "above 0"),
            ('x = { input_per_million = 1, from = "2026" }', '"x" from', "2026-10-29"),
            ("x = { input_per_million = 1, from = 2026-01-01T00:00:00 }", '"x" from', "offset"),
            ("x = { input_per_million = 1, source = 3 }", '"x" source', "a text"),
            ("x = [{ input_per_million = 1 }, { output_per_million = 1 }]", '"x"', "begin on one day"),
            ("x = [{ input_per_million = 1 }, { from = 2026-01-01 }]", '"x" (row 2)', "found no price"),
            ('x = { as = "mistral-embed", output_per_million = 1 }', '"x"', "beside as"),
            ('x = { as = "" }', '"x" as', "a text"),
            ('x = { as = "made-up" }', '"made-up"', "that has a price"),
            ('x = { as = "y" }\ny = { as = "x" }', 'as = "x"', "leads back to itself"),
            ('"a*b" = { input_per_million = 1 }', '"a*b"', "a model's name"),
            ('"" = { input_per_million = 1 }', '""', "a model's name"),
            ("mistral-medium-3.5 = { input_per_million = 1 }", "mistral-medium-3", '[prices."mistral-medium-3.5"]'),
            ("source = 3", "source", "a text"),
            ("factor = 0", "factor", "above 0"),
            ("factor = 1000", "factor", "at most 100"),
            ("connectors_per_thousand = 3", "connectors_per_thousand", "web_search = 30.0"),
            ("connectors_per_thousand = { web_search = -1 }", '"web_search"', "US dollars"),
        ):
            found = "\n".join(problems(f"[prices]\n{row}"))
            self.assertIn(place, found, row)
            self.assertIn(hint, found, row)
            self.assertTrue(found.startswith("[prices]"), row)

    def test_all_at_once(self) -> None:
        """
        All that is wrong is told together.
        """
        text = "[prices]\nx = { input_per_million = -1, output_per_million = -1 }\ny = 3"
        self.assertEqual(3, len(problems(text)))

    def test_ours_is_an_example(self) -> None:
        """
        What is in our own list can be written in a configuration as it is.
        """
        text = (ROOT / "conf" / "prices.toml").read_text(encoding="utf-8")
        self.assertEqual([], problems(text))

    def test_documented(self) -> None:
        """
        The example of the documentation can be written as it is.
        """
        page = (ROOT / "docs" / "money.md").read_text(encoding="utf-8")
        self.assertEqual([], problems(page.split("```toml")[1].split("```")[0]))
