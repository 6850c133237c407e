"""
What a configuration that is read anew changes.
"""

from __future__ import annotations

from unittest import TestCase

from attrs import evolve

from dheera.changes import compare
from dheera.definitions import FIXED, SETTINGS
from dheera.keys import Secret
from dheera.settings import Config, Listen, Mistral, Storage
from dheera.wire.limits import ServerLimits


class ChangesTests(TestCase):
    """
    From one configuration to another.
    """

    def test_nothing(self) -> None:
        """
        The same configuration, read twice, changes nothing; secrets are compared by what they are.
        """
        one, other = (Config(master_key=Secret("sk-m"), mistral=Mistral(api_key=Secret("k"))) for _ in range(2))
        changes = compare(one, other)
        self.assertEqual(([], []), (changes.made, changes.postponed))

    def test_made(self) -> None:
        """
        What has changed is told by its place in the file, without its value.
        """
        before = Config(sinks={"a": {"kind": "file"}, "b": {}}, prices={"m": {"input_per_million": 1}})
        after = evolve(
            before,
            drain_seconds=3.0,
            master_key=Secret("sk-new"),
            mistral=Mistral(api_key=Secret("k")),
            server_limits=ServerLimits(head_bytes=9),
            sinks={"a": {"kind": "stdout"}, "c": {}},
            prices={},
        )
        changes = compare(before, after)
        self.assertEqual(
            [
                *("drain_seconds", "master_key", "[mistral] api_key", "[limits] head_bytes"),
                *("[sinks.a]", "[sinks.b]", "[sinks.c]", "[prices.m]"),
            ],
            changes.made,
        )
        self.assertEqual(after, changes.config)

    def test_postponed(self) -> None:
        """
        What only a new start changes stays as it was, while all else changes.
        """
        before = Config(listen=Listen(port=1), store=Storage(connections=3))
        after = Config(listen=Listen(port=2, open_to_network=True), store=Storage(connections=4), workers=2)
        changes = compare(before, after)
        self.assertEqual(["workers", "[listen] port", "[store] connections"], changes.postponed)
        self.assertEqual(["[listen] open_to_network"], changes.made)
        self.assertEqual(
            Config(listen=Listen(port=1, open_to_network=True), store=Storage(connections=3)), changes.config
        )

    def test_fixed_are_settings(self) -> None:
        """
        What only a new start changes are settings.
        """
        self.assertEqual(set(), FIXED - SETTINGS.keys())
        self.assertIn(("listen", "port"), FIXED)
