"""
What the columns of LiteLLM's table hold.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.commands.token_rows import Unusable, shown, token_row

TOKEN = "0123456789abcdef" * 4


def row(**cells: Any) -> dict[str, Any]:
    """
    What is sent for a row, without its token.
    """
    return {name: value for name, value in token_row({"token": TOKEN, **cells}).items() if name != "token"}


class TokenRowTests(TestCase):
    """
    From cells to a row that the API takes.
    """

    def unusable(self, words: str, **cells: Any) -> None:
        """
        That the row is refused, with these words and without its token.
        """
        with self.assertRaises(Unusable) as caught:
            token_row({"token": TOKEN, **cells})
        self.assertIn(words, str(caught.exception))
        self.assertNotIn(TOKEN, str(caught.exception))

    def test_as_psql_writes(self) -> None:
        """
        Each sort of column as psql writes it in CSV.
        """
        self.assertEqual(
            {
                "key_name": "sk-...x4fz",
                "key_alias": "ada",
                "spend": Decimal("0.1"),
                "expires": "2026-05-01T12:00:00.123000+00:00",
                "models": ["mistral-small", 'a "b", c\\', "{x}"],
                "allowed_routes": [],
                "aliases": {},
                "metadata": {"team": "ä", "n": Decimal("1.10")},
                "max_parallel_requests": 3,
                "tpm_limit": 9007199254740993,
                "blocked": False,
                "auto_rotate": True,
                "max_budget": Decimal("1e-05"),
                "created_at": "2026-01-01T00:00:00+00:00",
            },
            row(
                key_name="sk-...x4fz",
                key_alias="ada",
                soft_budget_cooldown="f",
                spend="0.1",
                expires="2026-05-01 12:00:00.123",
                models=r'{mistral-small,"a \"b\", c\\","{x}",NULL}',
                allowed_routes="{}",
                aliases="{}",
                metadata='{"team": "ä", "n": 1.10}',
                max_parallel_requests="3",
                tpm_limit="9007199254740993",
                rpm_limit="",
                blocked="f",
                auto_rotate="t",
                max_budget="1e-05",
                budget_duration=r"\N",
                user_id="NULL",
                created_at="2026-01-01 00:00:00+00",
                last_active="2026-01-01 00:00:00",
            ),
        )

    def test_as_json(self) -> None:
        """
        JSON has its own lists, objects, numbers and nulls; texts that hold them are read too.
        """
        self.assertEqual(
            {"models": ["a"], "policies": ["b"], "metadata": {"x": 1}, "spend": Decimal(2), "blocked": True},
            row(models=["a"], policies='["b"]', metadata={"x": 1}, spend=2, blocked=True, team_id=None),
        )

    def test_times(self) -> None:
        """
        A time without a zone is UTC, as LiteLLM keeps it; one with a zone keeps it.
        """
        for written, read in (
            ("2026-05-01T12:00:00", "2026-05-01T12:00:00+00:00"),
            ("2026-05-01T12:00:00.5Z", "2026-05-01T12:00:00.500000+00:00"),
            ("2026-05-01 12:00:00+02", "2026-05-01T12:00:00+02:00"),
            ("2026-05-01 12:00:00-03:30", "2026-05-01T12:00:00-03:30"),
        ):
            self.assertEqual({"expires": read}, row(expires=written))

    def test_flags(self) -> None:
        """
        Every way to write true and false.
        """
        for written, read in (
            *(("t", True), ("true", True), ("TRUE", True), ("1", True), (True, True)),
            *(("f", False), ("False", False), ("0", False), (False, False), (0, False)),
        ):
            self.assertEqual({"blocked": read}, row(blocked=written))

    def test_within_metadata(self) -> None:
        """
        What LiteLLM hides in the metadata is a field of the key; a column of that name has the word.
        """
        metadata = {"model_rpm_limit": {"a": 1}, "tags": ["x"], "model_tpm_limit": None, "note": "y"}
        self.assertEqual({"metadata": metadata, "model_rpm_limit": {"a": 1}, "tags": ["x"]}, row(metadata=metadata))

    def test_token(self) -> None:
        """
        A row without a digest is refused: a key itself is none, nor is one of another length.
        """
        for token in "", None, "NULL":
            self.unusable("there is no token", token=token)
        for token in "sk-" + "a" * 61, TOKEN.upper(), TOKEN[1:], TOKEN + "\n":
            self.unusable("token: this is not the SHA-256", token=token)
        with self.assertRaises(Unusable):
            token_row({})

    def test_values_that_do_not_fit(self) -> None:
        """
        A value that its column cannot have is told by the column's name.
        """
        unfit: dict[str, list[Any]] = {
            "blocked": ["maybe", 2, {}],
            "tpm_limit": ["many", "1.5", True, [], "Infinity"],
            "spend": ["x", "NaN", "Infinity", True, {}],
            "expires": ["soon", "infinity", 5, "2026-13-01"],
            "models": ["a", "{a", "{a,}", "{,a}", '{"a}', "{a}b}", '{"a"b}', "{{a}}", '["a"', 5, {"a": 1}],
            "metadata": ["{", "x", "[" * 100_000],
            "key_alias": [5, ["a"]],
        }
        for name, values in unfit.items():
            for value in values:
                self.unusable(f"{name}: this is not", **{name: value})

    def test_shown(self) -> None:
        """
        A row is known by its alias, or by what may be shown of its key; never by its token.
        """
        self.assertEqual("ada", shown({"token": TOKEN, "key_alias": "ada", "key_name": "sk-...x4fz"}))
        self.assertEqual("sk-...x4fz", shown({"token": TOKEN, "key_alias": "", "key_name": "sk-...x4fz"}))
        self.assertEqual("", shown({"token": TOKEN, "key_alias": None, "key_name": 5}))

    @given(st.lists(st.text()))
    def test_arrays(self, elements: list[str]) -> None:
        """
        Any texts come back from an array as PostgreSQL quotes them.
        """
        quoted = ['"' + each.replace("\\", "\\\\").replace('"', '\\"') + '"' for each in elements]
        self.assertEqual({"models": elements}, row(models="{" + ",".join(quoted) + "}"))
