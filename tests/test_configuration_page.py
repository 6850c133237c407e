"""
``docs/configuration.md`` is made from what the parser knows.
"""

from __future__ import annotations

import re
import runpy
from io import StringIO
from pathlib import Path
from unittest import TestCase

from dheera.definitions import ENVIRONMENT, FIXED, OPTIONS, SETTINGS, UPSTREAMS, Place

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "configuration.md").read_text(encoding="utf-8")
PROGRAM = runpy.run_path(str(DOCS / "configuration.py"))
FREE = {("", "sinks"), ("", "prices")}
"""
Tables with keys of their own, which other pages tell of.
"""


def section(place: Place) -> str:
    """
    What the page says of the setting at *place*.
    """
    table, key = place
    heading = f"### [{table.replace('*', 'NAME')}] {key}\n" if table else f"### {key}\n"
    _, found, rest = PAGE.partition(heading)
    return re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0] if found else ""


class ConfigurationPageTests(TestCase):
    def test_made(self) -> None:
        """
        The page is what the program prints. If it is not: ``python docs/configuration.py > docs/configuration.md``
        """
        out = StringIO()
        PROGRAM["main"](out)
        self.assertEqual(out.getvalue(), PAGE)

    def test_every_setting(self) -> None:
        """
        Each setting has a sentence, and the words in which the parser says what it wants; nothing else has a section.
        """
        places = [place for place in SETTINGS if place not in FREE]
        self.assertEqual(len(places), len(re.findall(r"^### ", PAGE, re.MULTILINE)))
        for place in places:
            said = " ".join(section(place).split())
            self.assertRegex(said, r"^[A-Z].* - wanted: ", place)
            self.assertIn(f"- wanted: {SETTINGS[place].wanted} - default: ", said)

    def test_changes(self) -> None:
        """
        What only a new start changes is said to, and nothing else is.
        """
        places = [place for place in SETTINGS if place not in FREE]
        self.assertEqual(
            FIXED, {place for place in places if section(place).rstrip().endswith("- changed by: restart")}
        )
        self.assertEqual(
            set(places) - FIXED,
            {place for place in places if section(place).rstrip().endswith("- changed by: reload")},
        )

    def test_other_sources(self) -> None:
        """
        A setting names its variable and its option; each variable and option is with one setting only.
        """
        for name, place in ENVIRONMENT.items():
            self.assertIn(f"\n- environment: `{name}`\n", section(place))
        for name, place in OPTIONS.items():
            self.assertIn(f"\n- option: `--{name.replace('_', '-')}`\n", section(place))
        self.assertEqual(len(ENVIRONMENT), PAGE.count("\n- environment: "))
        self.assertEqual(len(OPTIONS), PAGE.count("\n- option: "))

    def test_credentials(self) -> None:
        """
        Each secret has the name of the file that it may come in; what is no secret has none.
        """
        secrets = {place for place, kind in SETTINGS.items() if kind.hidden}
        self.assertIn((f"{UPSTREAMS}.*", "api_key"), secrets)
        self.assertEqual(
            {".".join(filter(None, place)).replace("*", "NAME") for place in secrets},
            set(re.findall(r"^- credential: `(.+)`$", PAGE, re.MULTILINE)),
        )

    def test_defaults(self) -> None:
        """
        Defaults stand as a file would say them.
        """
        for place, default in [
            (("listen", "port"), "`4000`"),
            (("", "demo"), "`false`"),
            (("mistral", "api_base"), '`"https://api.mistral.ai"`'),
            (("mistral", "api_key"), "not set"),
            (("records", "redact_paths"), "`[]`"),
            (("allowances", "ceilings"), "`{}`"),
            (("limits", "queue_seconds"), "`10.0`"),
        ]:
            self.assertIn(f"\n- default: {default}\n", section(place))
