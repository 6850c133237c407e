"""
Which models a key may name.
"""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.entities import Key, Team, User
from dheera.errors import ModelNotAllowed
from dheera.models import ANY_MODEL, Models

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Lists = list[str] | None


def models(key: Lists = None, team: Lists = None, user: Lists = None) -> Models:
    return Models.of(
        Key(id="k", created_at=NOW, updated_at=NOW, digest="d", name="sk-...abcd", models=key or []),
        None if team is None else Team(id="t", created_at=NOW, updated_at=NOW, models=team),
        None if user is None else User(id="u", created_at=NOW, updated_at=NOW, models=user),
    )


class TestModels(SynchronousTestCase):
    """
    ``Models``.
    """

    def check(self, allowed: Models, *names: str) -> None:
        for name in names:
            allowed.check(name)

    def check_not(self, allowed: Models, whose: str, *names: str) -> None:
        for name in names:
            refusal = self.assertRaises(ModelNotAllowed, allowed.check, name)
            self.assertEqual((403, f"{whose}_model_access_denied"), (refusal.status, refusal.type), name)

    def test_no_list(self) -> None:
        """
        Without a list all models may be used, and nobody needs to look which.
        """
        for allowed in (ANY_MODEL, models(), models(team=[]), models(user=[]), models([], [], ["x"])):
            self.assertFalse(allowed.restricts)
            self.check(allowed, "a", "", "x" * 1000)

    def test_all(self) -> None:
        """
        A star, and LiteLLM's name for all, lift a list, whatever else is on it.
        """
        for name in ("*", "mistral/*", "all-proxy-models"):
            self.assertFalse(models([name, "a"]).restricts, name)
            self.assertFalse(models(team=[name]).restricts, name)

    def test_names_and_patterns(self) -> None:
        """
        Names are matched whole and in their case of letters, patterns by their stars; LiteLLM's prefix does not count.
        """
        allowed = models(["mistral/mistral-small-latest", "codestral-*", "ministral-*-latest"])
        self.assertTrue(allowed.restricts)
        self.check(allowed, "mistral-small-latest", "codestral-2508", "ministral-8b-latest")
        self.check_not(
            allowed, "key", "", "mistral-small", "mistral-small-latest-x", "Mistral-Small-Latest", "ministral-8b",
            "mistral/mistral-small-latest",
        )  # fmt: skip

    def test_each_list(self) -> None:
        """
        A model must be on the key's list and the team's; the refusal tells on which it is missing.
        """
        allowed = models(["a", "b"], ["b", "c"])
        self.assertEqual("key", allowed.whose)
        self.check(allowed, "b")
        self.check_not(allowed, "key", "c", "d")
        self.check_not(allowed, "team", "a")
        self.assertEqual("team", models([], ["a"]).whose)

    def test_user(self) -> None:
        """
        The user's list counts for keys without a team, and only for those.
        """
        self.check_not(models(["a", "b"], None, ["b"]), "user", "a")
        self.check(models(["a"], [], ["b"]), "a")
        self.assertEqual("user", models([], None, ["a"]).whose)

    def test_all_team_models(self) -> None:
        """
        A key's list can mean the team's models: then the team's list alone is in force. Without a team there are none.
        """
        allowed = models(["all-team-models"], ["a"])
        self.check(allowed, "a")
        self.check_not(allowed, "team", "b", "all-team-models")
        self.assertFalse(models(["all-team-models"], []).restricts)
        alone = models(["all-team-models", "c"])
        self.check(alone, "c")
        self.check_not(alone, "key", "a", "all-team-models")
        self.check_not(models([], ["all-team-models"]), "team", "a", "all-team-models")

    def test_none(self) -> None:
        """
        A list can say that there is no model.
        """
        self.check_not(models(["no-default-models"]), "key", "a", "no-default-models")
        self.check_not(models([], None, ["no-default-models"]), "user", "a")
        self.check(models(["no-default-models", "b"]), "b")

    def test_strange_names(self) -> None:
        """
        A pattern does not let through what can be the name of no model.
        """
        self.check_not(models(["a*"]), "key", "a\n", "a\0b", "a\x7f", "a\ud800", "a" * 257)
        self.check(models(["a*"]), "a" * 256)

    @given(st.text(max_size=300))
    def test_message(self, name: str) -> None:
        """
        The refusal shows the name, so far as it can be shown and is not long, on one line.
        """
        refusal = self.assertRaises(ModelNotAllowed, models(["mistral-x"]).check, name)
        self.assertTrue(refusal.message.isprintable())
        self.assertLess(len(refusal.message), 250)
        if name.isprintable() and len(name) <= 80:
            self.assertIn(f'"{name}"', refusal.message)
        self.assertIn(b'"param": "model"', refusal.envelope())
