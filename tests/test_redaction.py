"""
What of a body may be shown.
"""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.keys import mint
from dheera.redaction import Redaction, masked_keys

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
)
NOTHING = Redaction()
CHAT = {
    "model": "m",
    "messages": [
        {"role": "user", "content": "one", "email": "a@b"},
        {"role": "assistant", "content": [{"type": "text", "text": "two", "meta": {"email": "c@d"}}]},
    ],
}


def shown(value: Any, *paths: str) -> Any:
    """
    *value* without the members at these paths.
    """
    return Redaction.of(paths, ()).value(value)


class PathTests(SynchronousTestCase):
    """
    Members that an operator names.
    """

    def test_names(self) -> None:
        """
        Names joined by dots lead to one member, with or without a dollar before them.
        """
        for path in "a.b", "$.a.b":
            self.assertEqual(
                {"a": {"b": "[redacted]", "c": 1}, "b": 2}, shown({"a": {"b": {"x": 1}, "c": 1}, "b": 2}, path)
            )

    def test_elements(self) -> None:
        """
        A star in brackets is all elements, a number one of them; arrays are not gone into unasked.
        """
        value = {"a": [{"b": 1}, {"b": 2, "c": 3}]}
        self.assertEqual({"a": [{"b": "[redacted]"}, {"b": "[redacted]", "c": 3}]}, shown(value, "a[*].b"))
        self.assertEqual({"a": [{"b": 1}, {"b": "[redacted]", "c": 3}]}, shown(value, "a[1].b"))
        self.assertEqual(value, shown(value, "a.b"))

    def test_any_depth(self) -> None:
        """
        Two dots find a name wherever it is.
        """
        text = json.dumps(shown(CHAT, "$..email"))
        self.assertNotIn("@", text)
        self.assertEqual(2, text.count("[redacted]"))
        self.assertEqual("one", shown(CHAT, "$..meta.email")["messages"][0]["content"])
        self.assertNotIn("c@d", json.dumps(shown(CHAT, "$..meta.email")))

    def test_star(self) -> None:
        """
        A star in place of a name is all members.
        """
        self.assertEqual(
            {"a": {"b": "[redacted]", "c": "[redacted]"}, "d": 1}, shown({"a": {"b": 1, "c": 2}, "d": 1}, "a.*")
        )

    def test_several(self) -> None:
        """
        All paths count.
        """
        text = json.dumps(shown(CHAT, "messages[*].content", "messages[0].email"))
        for gone in "one", "two", "@":
            self.assertNotIn(gone, text)

    @given(JSON, st.sampled_from(["a", "ab", "c"]))
    def test_none_is_left(self, value: Any, name: str) -> None:
        """
        Whatever the value, nothing but the mark stands under a name that is redacted at any depth.
        """

        def look(each: Any) -> None:
            if isinstance(each, dict):
                if name in each:
                    self.assertEqual("[redacted]", each[name])
                any(map(look, each.values()))
            elif isinstance(each, list):
                any(map(look, each))

        look(shown(value, f"$..{name}"))

    @given(JSON)
    def test_nothing_named(self, value: Any) -> None:
        """
        A value without anything that must not be shown is shown as it is, and is not changed itself.
        """
        before = json.dumps(value)
        self.assertEqual(value, NOTHING.value(value))
        self.assertEqual(before, json.dumps(value))

    def test_wrong(self) -> None:
        """
        What is no path, and what is no pattern, is refused with what to write.
        """
        for path in "", "$", "a..", "a[", "a[x]", "a b", "a[*]b", ".", "a.", "$.a[?(@.b)]":
            with self.assertRaisesRegex(ValueError, "wanted names joined by", msg=path):
                Redaction.of([path], ())
        for pattern in "(", "x*", "":
            with self.assertRaisesRegex(ValueError, "wanted", msg=pattern):
                Redaction.of((), [pattern])


class PatternTests(SynchronousTestCase):
    """
    What fits an operator's patterns.
    """

    def test_texts(self) -> None:
        """
        What fits is taken away from texts and from names, and the rest of them stays.
        """
        redaction = Redaction.of((), [r"[a-z]+@[a-z.]+"])
        self.assertEqual(
            {"to [redacted]": ["from [redacted] with love"]}, redaction.value({"to a@b.c": ["from d@e with love"]})
        )
        self.assertEqual("data: [redacted] x", redaction.text("data: a@b.c x"))

    def test_beyond_texts(self) -> None:
        """
        What fits numbers, or names with their values, is taken away too; the body is then a text.
        """
        for pattern in r"\d{6}", r'"card":\s*\d+':
            value = Redaction.of((), [pattern]).value({"card": 123456, "a": 1})
            self.assertIsInstance(value, str)
            self.assertNotIn("123456", value)

    def test_secrets(self) -> None:
        """
        Secrets that are named are found wherever they stand, and the redaction does not show them itself.
        """
        redaction = Redaction.of((), (), ["planted"])
        self.assertEqual({"a": "my [key]!", "[key]": 1}, redaction.value({"a": "my planted!", "planted": 1}))
        self.assertEqual("a [key]", redaction.text("a planted"))
        self.assertNotIn("planted", repr(redaction))


class KeyTests(SynchronousTestCase):
    """
    Keys that nobody has named.
    """

    def test_masked(self) -> None:
        """
        Keys, credentials of headers and signatures of URLs are replaced wherever they stand.
        """
        key = mint()
        for text in (
            f"use {key} please",
            f'{{"x": "{key}"}}',
            f"Authorization: Bearer {key}",
            "authorization: bearer abcdefgh12345678",
            "authorization: Bearer%20abcdefgh12345678",
            "https://files/x?a=1&sig=abcdefgh12345678&b=2",
            "https://s3/x?X-Amz-Signature=abcdefgh12345678",
        ):
            masked = masked_keys(text)
            self.assertIn("[key]", masked)
            self.assertNotIn(key, masked)
            self.assertNotIn("abcdefgh", masked)
        self.assertEqual('{"x": "[key]", "y": 1}', masked_keys(f'{{"x": "{key}", "y": 1}}'))

    def test_words(self) -> None:
        """
        Words that only end as a key begins are words.
        """
        for text in "a risk-management-process", "desk-top", "sk-learn", "the bearer of this":
            self.assertEqual(text, masked_keys(text))

    @given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=13, max_size=60))
    def test_any_key(self, rest: str) -> None:
        """
        No key that could be issued is shown in a value, whatever visible characters it is made of.
        """
        text = json.dumps(NOTHING.value({"a": f"it is sk-{rest} indeed", f"sk-{rest}": [f"sk-{rest}"]}))
        self.assertNotIn(json.dumps(rest)[1:-1], text.replace("[key]", ""))

    def test_named_as_credentials(self) -> None:
        """
        Members whose names say that they hold credentials are not shown, in whole JSON nor in what was cut off.
        """
        for name in ("password", "client_secret", "clientSecret", "x-api-key", "apiKey", "Authorization", "token"):
            value = {name: "correct-horse-battery-staple", "a": "shown"}
            self.assertEqual({name: "[redacted]", "a": "shown"}, NOTHING.value(value))
            text = NOTHING.text(json.dumps(value)[:-3])
            self.assertNotIn("horse", text)
            self.assertIn("sho", text)
            self.assertNotIn("horse", NOTHING.text(json.dumps({name: "correct-horse-battery-staple"})[:-8]))

    def test_tokens_of_models(self) -> None:
        """
        The short texts that models call tokens are shown.
        """
        self.assertEqual({"token": " the"}, NOTHING.value({"token": " the"}))


class BinaryTests(SynchronousTestCase):
    """
    Long binary parts.
    """

    content = bytes(range(256)) * 4

    def test_whole_texts(self) -> None:
        """
        A long text that is base64 is replaced by the size and digest of what it encodes.
        """
        expected = {"size_bytes": 1024, "sha256": sha256(self.content).hexdigest()}
        for text in (
            b64encode(self.content).decode(),
            b64encode(self.content).decode().rstrip("="),
            urlsafe_b64encode(self.content).decode(),
        ):
            self.assertEqual({"b64_json": {"base64": expected}}, NOTHING.value({"b64_json": text}))

    def test_data_urls(self) -> None:
        """
        A data URL is replaced at any length; of a short one there is no digest.
        """
        url = "data:image/png;base64," + b64encode(self.content).decode()
        digest = sha256(self.content).hexdigest()
        self.assertEqual(
            {"image_url": {"base64": {"type": "image/png", "size_bytes": 1024, "sha256": digest}}},
            NOTHING.value({"image_url": url}),
        )
        self.assertEqual({"base64": {"type": "", "size_bytes": 3}}, NOTHING.value("data:;base64,YWJj"))

    def test_within_texts(self) -> None:
        """
        Within a longer text, whole or cut off, it is replaced by its size.
        """
        encoded = b64encode(self.content).decode()
        self.assertEqual(
            "see [base64: image/png, 1024 bytes] there", NOTHING.value(f"see data:image/png;base64,{encoded} there")
        )
        self.assertEqual('{"audio": "[base64: 1024 bytes]", "a', NOTHING.text(f'{{"audio": "{encoded}", "a'))
        escaped = encoded.replace("/", "\\/")
        self.assertEqual('"[base64: 1024 bytes]"', NOTHING.text(f'"{escaped}"'))

    def test_short(self) -> None:
        """
        Hashes and identifiers are shown.
        """
        for text in sha256(b"").hexdigest(), "a" * 256, " ".join(["word"] * 200):
            self.assertEqual(text, NOTHING.value(text))

    def test_time(self) -> None:
        """
        Texts made to be searched for long are not: this test would not end.
        """
        for piece in "data:", "data:;", "a" * 250 + " ", '"password":', "bearer+", "sk-", "\\/", "?sig=", '\\"':
            NOTHING.text(piece * (400_000 // len(piece)))
