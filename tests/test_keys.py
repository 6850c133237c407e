"""
Secrets do not show.
"""

from __future__ import annotations

import json
import traceback

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.keys import Secret

CANARY = "sk-canary-1234"


@frozen
class Holder:
    """
    A value that holds a secret.
    """

    secret: Secret


class Secrets(SynchronousTestCase):
    """
    What may be said of a secret.
    """

    def test_hidden(self) -> None:
        """
        No way of writing it down shows it, alone or within another value.
        """
        secret = Secret(CANARY)
        written = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, "{}".format(secret)]  # noqa: UP031, UP032
        written += [repr(Holder(secret)), repr([secret]), repr({"key": secret})]
        written += traceback.format_exception(ValueError(secret))
        for text in written:
            self.assertNotIn(CANARY, text)
        self.assertRaises(TypeError, json.dumps, secret)

    def test_revealed(self) -> None:
        """
        It can be asked for, by name.
        """
        self.assertEqual(CANARY, Secret(CANARY).reveal())

    def test_fixed(self) -> None:
        """
        It cannot be changed, and is equal to itself alone: comparing is what ``matches`` is for.
        """
        self.assertRaises(AttributeError, setattr, Secret(CANARY), "_text", "other")
        self.assertNotEqual(Secret(CANARY), Secret(CANARY))

    @given(st.text(), st.binary())
    def test_matches(self, text: str, offered: bytes) -> None:
        """
        Exactly its own bytes match.
        """
        self.assertTrue(Secret(text).matches(text.encode("utf-8", "surrogatepass")))
        self.assertEqual(text.encode("utf-8", "surrogatepass") == offered, Secret(text).matches(offered))
        self.assertFalse(Secret(text).matches(text.encode("utf-8", "surrogatepass") + b"x"))
