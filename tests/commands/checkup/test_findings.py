"""
Findings: how they are told, and that no secret is among them.
"""

from __future__ import annotations

from unittest import TestCase

from dheera.choices import secrets_of
from dheera.commands.checkup.findings import Finding, summed_up, told, without_secrets
from dheera.keys import Secret, WeightedKey
from dheera.redaction import Redaction
from dheera.settings import Config, Mistral, OtherUpstream, Storage

WELL = Finding.ok("disk", "2 MiB free")
DOUBT = Finding.warn("clock", "6 s ahead", "Set it.")
FAULT = Finding.fail("store", "away", "Start it.")


class Told(TestCase):
    """
    For people.
    """

    def test_line(self) -> None:
        """
        One line for each: how bad it is, what was looked at, what was found, what to do.
        """
        self.assertEqual("ok    disk: 2 MiB free.", told(WELL))
        self.assertEqual("warn  clock: 6 s ahead. Set it.", told(DOUBT))
        self.assertEqual("FAIL  store: away. Start it.", told(FAULT))

    def test_one_line(self) -> None:
        """
        Whatever another program has said, it is one line without signs that a terminal obeys.
        """
        self.assertEqual("FAIL  store: a?b?[2J. Mend.", told(Finding.fail("store", "a\nb\x1b[2J", "Mend.")))

    def test_summed_up(self) -> None:
        """
        All in a sentence.
        """
        self.assertEqual("All is well.", summed_up([WELL, WELL]))
        self.assertEqual("No check failed, 1 warning.", summed_up([WELL, DOUBT]))
        self.assertEqual("1 of 3 checks failed, 1 warning.", summed_up([WELL, DOUBT, FAULT]))
        self.assertEqual("2 of 2 checks failed, 0 warnings.", summed_up([FAULT, FAULT]))


class Secrets(TestCase):
    """
    What is in no line.
    """

    def test_of_configuration(self) -> None:
        """
        All keys of all upstreams, the master key and the database's URL are taken out of all words of a finding.
        """
        config = Config(
            master_key=Secret("canary-master"),
            mistral=Mistral(api_keys=(WeightedKey(Secret("canary-first")), WeightedKey(Secret("canary-second")))),
            upstreams={"own": OtherUpstream(api_base="http://own", api_key=Secret("canary-own"))},
            store=Storage(url=Secret("postgresql://u:canary-password@db/x")),
        )
        secrets = list(secrets_of(config))
        self.assertEqual(5, len(secrets))
        for secret in secrets:
            finding = Finding.fail(f"a {secret}", f"b {secret}", f"c {secret}")
            line = told(without_secrets(finding, Redaction.of((), (), secrets)))
            self.assertEqual("FAIL  a [key]: b [key]. c [key]", line)

    def test_short(self) -> None:
        """
        A secret of a few letters is not replaced wherever these stand: that would tell it.
        """
        self.assertEqual([], list(secrets_of(Config(master_key=Secret("key")))))
