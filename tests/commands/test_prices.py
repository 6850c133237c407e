"""
``dheera_ai prices``: what people and scripts are told of prices.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any
from unittest import TestCase

import click
from click.testing import CliRunner, Result

from dheera.cli import dheera_ai
from dheera.commands.prices import prices
from dheera.definitions import CONFIG_VARIABLE, ENVIRONMENT

NOTHING_SET = dict.fromkeys([*ENVIRONMENT, CONFIG_VARIABLE])
PROGRAM = click.Group(
    "dheera_ai",
    params=dheera_ai.params,
    callback=dheera_ai.callback,
    commands={"prices": prices},
    invoke_without_command=True,
)


class PricesTests(TestCase):
    """
    ``dheera_ai prices``.
    """

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "dheera.toml")

    def say(self, *words: str, **variables: str) -> Result:
        """
        What comes of it.
        """
        return CliRunner().invoke(PROGRAM, words, env={**NOTHING_SET, **variables})

    def told(self, *words: str, **variables: str) -> Any:
        """
        What a script is told.
        """
        result = self.say("prices", "--json", *words, **variables)
        self.assertEqual(0, result.exit_code, result.output)
        return json.loads(result.stdout)

    def configure(self, text: str) -> str:
        """
        The name of a configuration file.
        """
        self.file.write_text(text, encoding="utf-8")
        return str(self.file)

    def test_table(self) -> None:
        """
        A model has its prices, the model it is priced as, and the list that says it.
        """
        result = self.say("prices", "mistral-small-latest", "mistral-ocr-latest", "voxtral-mini-tts-3")
        head, small, ocr, speech = result.stdout.splitlines()
        self.assertEqual(0, result.exit_code)
        self.assertRegex(head, "MODEL +PRICED AS +INPUT +CACHED +OUTPUT +OTHER +BATCH +CONTEXT +SINCE +SOURCE")
        self.assertRegex(
            small,
            "^mistral-small-latest +mistral-small-2603 +0.15 +0.015 +0.60 +- +0.5x +262,144 +2026-03-16 +dheera 20.*: ",
        )
        self.assertRegex(ocr, "- +- +- +4.00 /1000 pages, 5.00 /1000 annotated +0.5x +- ")
        self.assertIn("13.00 /1M characters", speech)
        self.assertRegex(result.stderr, "US dollars.*Price list 20[0-9-]+, on 20[0-9-]+")

    def test_all(self) -> None:
        """
        Without a model all are told, in order.
        """
        lines = self.say("prices").stdout.splitlines()
        names = [line.split()[0] for line in lines[1:]]
        self.assertEqual(names, [row["model"] for row in self.told()])
        self.assertEqual(sorted(names), names)
        self.assertIn("codestral-latest", names)

    def test_json(self) -> None:
        """
        Scripts get numbers.
        """
        (row,) = self.told("mistral-large-2512")
        self.assertEqual(
            {"input_per_million": 0.5, "cached_per_million": 0.05, "output_per_million": 1.5, "batch_factor": 0.5},
            {name: row[name] for name in row if name.endswith(("million", "factor"))},
        )
        self.assertEqual(
            ["mistral-large-2512", 262_144, None], [row[each] for each in ("priced_as", "context_tokens", "since")]
        )

    def test_day(self) -> None:
        """
        Prices can be asked for of another day; what begins on it counts.
        """
        for day, output in ("2026-10-19", 2.09), ("2026-10-20", 4.18), ("2026-10-29", 2.1):
            (row,) = self.told("mistral-large-4", "--at", day)
            self.assertEqual(output, row["output_per_million"], day)

    def test_operators(self) -> None:
        """
        What the operator's file says is shown as his, wherever the file is named.
        """
        file = self.configure('[prices]\n"mistral-embed" = { input_per_million = 7, source = "offer of May" }')
        words = ("prices", "mistral-embed", "--json")
        for result in (
            self.say(*words, "--config", file),
            self.say("--config", file, *words),
            self.say(*words, **{CONFIG_VARIABLE: file}),
        ):
            (row,) = json.loads(result.stdout)
            found = [row[name] for name in ("input_per_million", "cached_per_million", "list", "source")]
            self.assertEqual([7, 0.7, "configuration", "offer of May"], found)
        self.assertRegex(self.say(*words[:2], "--config", file).stderr, r"Price list [0-9-]+\+[0-9a-f]{8}, on")

    def test_unknown(self) -> None:
        """
        A model without a price is exit 1, with names that are near and the line to write; others are shown.
        """
        result = self.say("prices", "mistral-smal-latest", "mistral-embed")
        self.assertEqual(1, result.exit_code)
        self.assertIn("mistral-embed", result.stdout)
        self.assertIn("no price for mistral-smal-latest", result.stderr)
        self.assertIn("Did you mean mistral-small-latest", result.stderr)
        self.assertIn('"mistral-smal-latest" = {', result.stderr)
        self.assertIn("See dheera_ai prices", self.say("prices", "zzzzzz").stderr)

    def test_wrong_configuration(self) -> None:
        """
        A configuration that cannot be used is exit 2, with all that is wrong.
        """
        file = self.configure('[prices]\n"x" = { input = 7 }\n"y" = 3')
        result = self.say("prices", "--config", file)
        self.assertEqual((2, ""), (result.exit_code, result.stdout))
        self.assertIn('[prices] "x": found "input"', result.stderr)
        self.assertIn('[prices] "y"', result.stderr)
        self.assertEqual(2, self.say("prices", "--config", str(self.file) + "-missing").exit_code)

    def test_wrong_words(self) -> None:
        """
        What is no day, and options that would change nothing, are exit 2.
        """
        for words in ("prices", "--at", "may"), ("--port", "1", "prices"), ("prices", "--prot"):
            self.assertEqual(2, self.say(*words).exit_code, words)

    def test_help(self) -> None:
        """
        Help shows how to ask.
        """
        self.assertIn("dheera_ai prices --at 2026-10-20 mistral-large-4\n", self.say("prices", "--help").stdout)
