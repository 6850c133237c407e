"""
What is shipped for operators to copy: the sample of the configuration, and the unit for systemd.
"""

from __future__ import annotations

import re
import shlex
import tempfile
import tomllib
from itertools import pairwise
from pathlib import Path
from unittest import TestCase

from attrs import Attribute, fields

from dheera import ledger, pruning
from dheera.cli import dheera_ai
from dheera.config import load
from dheera.definitions import ENVIRONMENT, OPTIONS, SETTINGS, TABLES, UPSTREAMS
from dheera.settings import Config, OtherUpstream
from dheera.sinks import feeders
from dheera.sinks.feeding import RELEASE_SECONDS
from dheera.spool import spool

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "conf" / "dheera.toml"
UNIT = ROOT / "systemd" / "dheera.service"

FREE = ("sinks", "prices")
"""
Tables whose keys are the operator's own: the sample shows an example, which does not count.
"""
UPSTREAM = f"{UPSTREAMS}.*"
"""
Of these there may be any number: the sample shows one, with every setting.
"""

# A commented setting has no space behind the "#"; a sentence has one.
COMMENTED = re.compile(r"^#(?=[a-z_]+ = )", re.MULTILINE)


def example(text: str, table: str) -> str:
    """
    What *text* shows of *table* as an example, as it is when it is taken in.
    """
    block = re.search(rf"^#   \[{table}\..*\n(#.*\n)*", text, re.MULTILINE)
    assert block is not None, table
    return re.sub(r"^#( {3})?", "", block[0], flags=re.MULTILINE)


class SampleTests(TestCase):
    """
    ``conf/dheera.toml`` shows every setting with its default.
    """

    text = SAMPLE.read_text(encoding="utf-8")

    def test_valid_as_shipped(self) -> None:
        """
        The sample changes nothing.
        """
        self.assertEqual(Config(), load(SAMPLE, {}, {}))

    def test_shows_the_defaults(self) -> None:
        """
        With every commented setting taken in, there are still exactly the defaults.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "dheera.toml")
            file.write_text(COMMENTED.sub("", self.text), encoding="utf-8")
            self.assertEqual(Config(), load(file, {}, {}))

    def test_shows_every_setting(self) -> None:
        """
        No field of the configuration is missing, none is shown twice, and each stands under a sentence.
        """
        shown = tomllib.loads(COMMENTED.sub("", self.text))
        places = {
            (table, key)
            for table, settings in [("", {key: shown[key] for key in shown if key not in TABLES}), *shown.items()]
            if isinstance(settings, dict)
            for key in settings
        }
        [upstream] = tomllib.loads(example(self.text, "upstreams"))["upstreams"].values()
        beside = {(UPSTREAM, key) for key in upstream}
        self.assertEqual(places | beside, set(SETTINGS) - {("", name) for name in FREE})
        for name in FREE:
            self.assertRegex(self.text, rf"(?m)^#   \[{name}\.")
        self.assertEqual(len(places), len(COMMENTED.findall(self.text)))
        for above, line in pairwise(self.text.splitlines()):
            if COMMENTED.match(line):
                self.assertRegex(above, r"^# .", line)

    def test_shows_an_upstream(self) -> None:
        """
        The upstream that is shown beside Mistral's has the defaults, where there are any.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "dheera.toml")
            file.write_text(example(self.text, "upstreams"), encoding="utf-8")
            [(name, upstream)] = load(file, {}, {}).upstreams.items()
        self.assertEqual(OtherUpstream(api_base=upstream.api_base, prefix=name), upstream)
        for above, line in pairwise(example(self.text, "upstreams").splitlines()):
            if re.match(r"[a-z_]+ = ", line):
                self.assertRegex(above, r"^# .", line)

    def test_every_field_is_a_setting(self) -> None:
        """
        What is in the configuration can be set: fields of its own, or of the value of a table.
        """

        def names(value: type) -> list[str]:
            attributes: tuple[Attribute[object], ...] = fields(value)
            return [each.name for each in attributes]

        tables = {**dict(TABLES.values()), UPSTREAMS: OtherUpstream}
        leaves = [name for name in names(Config) if name not in tables]
        leaves += [name for value in tables.values() for name in names(value)]
        self.assertEqual(sorted(leaves), sorted(name for _, name in SETTINGS))

    def test_names_the_other_sources(self) -> None:
        """
        Beside a setting stands the variable, and the option, that overrides it.
        """
        paragraphs = {
            match[1]: paragraph
            for paragraph in self.text.split("\n\n")
            for match in re.finditer(r"^#([a-z_]+) = ", paragraph, re.MULTILINE)
        }
        for name, (_, key) in ENVIRONMENT.items():
            self.assertIn(name, paragraphs[key])
        for name, (_, key) in OPTIONS.items():
            self.assertIn("--" + name.replace("_", "-"), paragraphs[key])


class UnitTests(TestCase):
    """
    ``systemd/dheera.service`` starts the program as it is.
    """

    def test_starts_the_program(self) -> None:
        """
        The command line is one that the program takes.
        """
        [command] = re.findall(r"^ExecStart=(.+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
        program, *arguments = shlex.split(command)
        self.assertEqual("dheera_ai", Path(program).name)
        with dheera_ai.make_context("dheera_ai", arguments) as context:
            self.assertEqual(Path("/etc/dheera/dheera.toml"), context.params["config"])

    def test_waits_for_the_drain(self) -> None:
        """
        What still drains, or brings its records to where they belong, is not killed by systemd.
        """
        [wait] = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
        rooms = (
            feeders.CLOSE_SECONDS,
            RELEASE_SECONDS,
            pruning.CLOSE_SECONDS,
            ledger.CLOSE_SECONDS,
            spool.CLOSE_SECONDS,
        )
        self.assertGreater(int(wait), Config().drain_seconds + sum(rooms))
