"""
What an operator has chosen of what becomes of records.
"""

from __future__ import annotations

from typing import Any
from unittest import TestCase

from dheera.choices import read_choices, secrets_of
from dheera.keys import Secret, WeightedKey
from dheera.settings import Config, Mistral, OtherUpstream


class SecretTests(TestCase):
    """
    Keys that an answer repeats.
    """

    def test_in_no_record(self) -> None:
        """
        No key of any upstream is shown, and not the master key either.
        """
        config = Config(
            demo=True,
            master_key=Secret("canary-master"),
            mistral=Mistral(api_keys=(WeightedKey(Secret("canary-first")), WeightedKey(Secret("canary-second")))),
            upstreams={
                "ours": OtherUpstream(api_base="http://a", api_key=Secret("canary-ours")),
                "more": OtherUpstream(api_base="http://b", api_keys=(WeightedKey(Secret("canary-more")),)),
            },
        )
        no_tools: Any = None
        redaction = read_choices(config, {}, no_tools).redaction
        self.assertEqual(5, len([*secrets_of(config)]))
        for secret in secrets_of(config):
            self.assertNotIn("canary", redaction.text(f"you sent Bearer {secret}"))
            self.assertNotIn("canary", repr(redaction.value({"heard": [secret], secret: 1})))
