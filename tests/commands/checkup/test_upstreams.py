"""
What the answers of upstreams mean, and which keys are tried.
"""

from __future__ import annotations

from unittest import TestCase

from dheera.commands.checkup.questions import Reply
from dheera.commands.checkup.upstreams import Asked, asked_of, judged, unreached
from dheera.errors import ConnectFailed
from dheera.keys import Secret, WeightedKey
from dheera.settings import Mistral, OtherUpstream

MISTRAL = Asked(table="mistral", title="upstream mistral", base="https://api.mistral.ai", key=Secret("canary"))
OWN = Asked(table="upstreams.own", title="upstream own", base="http://10.0.0.5:8000/api/v1/", key=None)


class Keys(TestCase):
    """
    Which are tried.
    """

    def test_all(self) -> None:
        """
        Each key of several, by its name or its number; else the one that there is, or none.
        """
        keys = (WeightedKey(Secret("a")), WeightedKey(Secret("b"), 2, "spare"))
        for upstream, expected in (
            (Mistral(api_keys=keys), [("upstream mistral, key 1", "a"), ("upstream mistral, key spare", "b")]),
            (Mistral(api_key=Secret("c")), [("upstream mistral", "c")]),
            (Mistral(), [("upstream mistral", None)]),
        ):
            found = [(each.title, each.key and each.key.reveal()) for each in asked_of("mistral", upstream)]
            self.assertEqual(expected, found)
        [own] = asked_of("upstreams.own", OtherUpstream(api_base="http://own"))
        self.assertEqual(("upstream own", None), (own.title, own.key))

    def test_url(self) -> None:
        """
        What is asked is the list of models, below what stands before ``/v1``.
        """
        self.assertEqual("https://api.mistral.ai/v1/models", MISTRAL.url)
        self.assertEqual("http://10.0.0.5:8000/api/v1/models", OWN.url)


class Judged(TestCase):
    """
    What an answer means.
    """

    def found(self, asked: Asked, status: int) -> tuple[str, str, str]:
        """
        How bad it is, what it is, and what to do.
        """
        found = judged(asked, Reply(status=status, fields={}, content=b"canary"), 0.25)
        self.assertNotIn("canary", str(found))
        return found.state, found.found, found.mend

    def test_states(self) -> None:
        """
        Whatever keeps calls from being answered is a failure.
        """
        for status, mistral, own in (
            (200, "ok", "ok"),
            (302, "fail", "fail"),
            (400, "warn", "warn"),
            (401, "fail", "fail"),
            (403, "fail", "fail"),
            (404, "fail", "warn"),
            (429, "warn", "warn"),
            (500, "fail", "fail"),
            (503, "fail", "fail"),
        ):
            self.assertEqual((mistral, own), (self.found(MISTRAL, status)[0], self.found(OWN, status)[0]), status)

    def test_words(self) -> None:
        """
        It is said what to mend, and in which table of the configuration.
        """
        self.assertEqual("answers in 0.25 s, and knows the key", self.found(MISTRAL, 200)[1])
        self.assertEqual("answers in 0.25 s", self.found(OWN, 200)[1])
        state, found, mend = self.found(MISTRAL, 401)
        self.assertEqual(("fail", "it answers 401: it does not know this key"), (state, found))
        self.assertRegex(mend, r"console\.mistral\.ai.*\[mistral\] api_key.*MISTRAL_API_KEY")
        self.assertEqual("Set [upstreams.own] api_key.", self.found(OWN, 401)[2])

    def test_unreached(self) -> None:
        """
        Somebody who cannot be reached is told in the words of the wire, with what to look at.
        """
        for said, mend in (
            ("refused", r"\[upstreams\.own\] api_base"),
            ("its TLS certificate is not trusted (self-signed certificate)", r"\[upstreams\.own\] ca_file"),
            ("its TLS certificate is not trusted (certificate has expired)", r"renewed.*clock"),
            ("its TLS certificate is for another name", r"name that is in the certificate"),
        ):
            found = unreached(OWN, ConnectFailed(f"Upstream http://own:80 cannot be reached: {said}."))
            self.assertEqual("fail", found.state)
            self.assertTrue(found.found.endswith(said))
            self.assertRegex(found.mend, mend)
