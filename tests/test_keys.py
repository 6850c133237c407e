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

from dheera.keys import HIDDEN, PREFIX, SHORTEST, Secret, digest, masked, mint, without_keys

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
        It cannot be changed, and is equal to one with the same text: a configuration that is read anew is compared.
        """
        self.assertRaises(AttributeError, setattr, Secret(CANARY), "_text", "other")
        self.assertEqual(Secret(CANARY), Secret(CANARY))
        self.assertNotEqual(Secret(CANARY), Secret(CANARY[::-1]))


class KeyTests(SynchronousTestCase):
    """
    Virtual keys.
    """

    def test_minted(self) -> None:
        """
        A new key has our prefix, 192 random bits that can stand in a header and a URL, and no twin.
        """
        keys = {mint() for _ in range(1000)}
        self.assertEqual(1000, len(keys))
        for key in keys:
            self.assertRegex(key, r"\Ask-[A-Za-z0-9_-]{32}\Z")

    def test_digest(self) -> None:
        """
        What is kept is SHA-256 in lower-case hexadecimal, as LiteLLM has it.
        """
        self.assertEqual("88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b", digest(b"sk-1234"))

    @given(st.text())
    def test_masked(self, text: str) -> None:
        """
        Of a key no more is shown than its last four characters, and of a short one nothing.
        """
        shown = masked(PREFIX + text)
        self.assertEqual("sk-..." + (text[-4:] if len(PREFIX + text) >= SHORTEST else ""), shown)


class Texts(SynchronousTestCase):
    """
    Texts of others, in which keys may stand.
    """

    @given(st.text(alphabet=" ,;/?=.:\n", max_size=3), st.text(alphabet=" \n\u00e4", max_size=3))
    def test_without_keys(self, before: str, after: str) -> None:
        """
        A key is not in what is left, wherever it stood; what stands around it is.
        """
        self.assertEqual(before + HIDDEN + after, without_keys(before + mint() + after))

    def test_others_stay(self) -> None:
        """
        What only looks a little like a key is left as it is.
        """
        for text in "", "task-12345678", "sk-", "sk-short", "mistral-small-latest", "ask sk- what":
            self.assertEqual(text, without_keys(text))
