"""
Limits that are written as documents: those that nobody could hold a call to are not let in.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dheera.entities import Key
from dheera.limits import Limits
from dheera.management.budget_shapes import misfits
from dheera.management.keys.shapes import GenerateKey
from tests.management.directory import JSON, AtDirectory
from tests.management.office import START


class ModelBudgetTests(AtDirectory):
    def test_each_way_to_write_them(self) -> None:
        """
        An amount, also as a text, or an amount and a span, under either of their names, is kept as it was written.
        """
        budgets: tuple[Any, ...] = (
            0.5,
            0,
            "0.25",
            {"budget_limit": 0.5, "time_period": "1d"},
            {"max_budget": 2, "budget_duration": "1mo"},
            {"budget_limit": "3"},
            {"budget_limit": 1, "max_budget": None, "rpm_limit": None, "note": "for codestral"},
            {"max_budget": 1, "tpm_limit": 1000, "rpm_limit": 0},
            {"rpm_limit": 5},
        )
        for budget in budgets:
            made = self.does("/key/generate", model_max_budget={"codestral-*": budget})
            self.assertEqual({"codestral-*": budget}, made["model_max_budget"])

    def test_what_is_no_budget(self) -> None:
        """
        What tells no amount, two amounts, or no span is a fault, in whatever has it, and the model is named.
        """
        budgets: tuple[Any, ...] = (
            None,
            True,
            "much",
            -1,
            [],
            {},
            {"time_period": "1d"},
            {"budget_limit": None},
            {"budget_limit": -0.5},
            {"budget_limit": 1, "max_budget": 2},
            {"budget_limit": 1, "time_period": "daily"},
            {"budget_limit": 1, "time_period": 5},
            {"budget_limit": 1, "time_period": "1d", "budget_duration": "2d"},
            {"budget_limit": 1, "time_period": "999999999mo"},
            {"budget_limit": 1, "rpm_limit": -1},
            {"tpm_limit": "many"},
        )
        for budget in budgets:
            for path in ("/key/generate", "/team/new", "/user/new", "/budget/new"):
                reply = self.desk.post(path, {"model_max_budget": {"codestral-latest": budget}})
                self.wrong(reply, ["body", "model_max_budget", "codestral-latest"])
        reply = self.desk.post("/key/generate", {"model_max_budget": {"m": "much"}})
        self.assertIn('{"budget_limit": 0.5, "time_period": "1d"}', reply.json["detail"][0]["msg"])

    def test_names_that_cannot_be_said(self) -> None:
        """
        What looks like a key in the place of a model is not repeated, and a model needs a name.
        """
        self.wrong(self.desk.post("/key/generate", {"model_max_budget": {"sk-secret": "?"}}), _OF_A_MODEL)
        self.wrong(self.desk.post("/key/generate", {"model_max_budget": {" ": 1}}), _OF_A_MODEL)

    def test_several_keys(self) -> None:
        """
        It is told which of several changes has the fault, and none is made.
        """
        key = self.desk.generate()["key"]
        changes = [{"key": key, "rpm_limit": 5}, {"key": key, "model_max_budget": {"m": "?"}}]
        self.wrong(self.desk.post("/key/bulk_update", {"keys": changes}), ["body", "keys", 1, "model_max_budget", "m"])
        self.assertIsNone(self.sees(f"/key/info?key={key}")["info"]["rpm_limit"])

    @given(JSON, st.sampled_from(["budget_limit", "time_period", "rpm_limit", "tpm_limit"]), JSON)
    def test_what_is_let_in_can_be_read(self, value: object, name: str, inner: object) -> None:
        """
        Whatever stands there: if there is no fault in it, all that it says is held to.
        """
        for said in value, {name: inner}, {"max_budget": 1, name: inner}:
            fields: dict[str, Any] = {"model_max_budget": {"m": said}, "metadata": {"model_rpm_limit": said}}
            if not list(misfits(GenerateKey(**fields))):
                limits = Limits.of(Key(id="k", digest="", name="", created_at=START, updated_at=START, **fields))
                self.assertEqual([], [each for each in limits.all if "cannot be read" in each.name])


class WindowTests(AtDirectory):
    def test_several_windows(self) -> None:
        """
        Several budgets at once are kept if no two have the same span.
        """
        windows = [{"budget_duration": "1d", "max_budget": 1}, {"budget_duration": "30d", "max_budget": 10}]
        for path in ("/key/generate", "/team/new"):
            self.assertEqual(windows, self.does(path, budget_limits=windows)["budget_limits"])
            reply = self.desk.post(path, {"budget_limits": [*windows, windows[0]]})
            self.wrong(reply, ["body", "budget_limits", 2, "budget_duration"])

    def test_beyond_the_calendar(self) -> None:
        """
        A span that no calendar holds is a fault.
        """
        wrong = "999999999mo"
        reply = self.desk.post("/key/generate", {"budget_limits": [{"budget_duration": wrong, "max_budget": 1}]})
        self.wrong(reply, ["body", "budget_limits", 0, "budget_duration"])
        self.does("/team/new", team_id="search", members_with_roles=[{"user_id": "alice"}])
        member = {"team_id": "search", "user_id": "alice", "budget_duration": wrong}
        self.wrong(self.desk.post("/team/member_update", member), ["body", "budget_duration"])

    def test_amounts_are_not_negative(self) -> None:
        """
        A negative amount is refused, as elsewhere.
        """
        reply = self.desk.post("/key/generate", {"budget_limits": [{"budget_duration": "1d", "max_budget": -1}]})
        self.refused(reply, 400, "bad_request_error", "max_budget")


class MetadataTests(AtDirectory):
    def test_limits_of_models(self) -> None:
        """
        Where LiteLLM keeps them, they are read, too, and so they must be limits.
        """
        self.does("/key/generate", metadata={"model_rpm_limit": {"m": 5}, "model_tpm_limit": None, "note": "x"})
        for value in ({"m": "5"}, {"m": -1}, {"m": True}, {"m": 1.5}, {"m": None}):
            reply = self.desk.post("/key/generate", {"metadata": {"model_tpm_limit": value}})
            self.wrong(reply, ["body", "metadata", "model_tpm_limit", "m"])
        self.wrong(self.desk.post("/team/new", {"metadata": {"model_rpm_limit": 5}}), _METADATA)


class ImportTests(AtDirectory):
    def test_a_row_that_cannot_be_read(self) -> None:
        """
        A row whose budget nobody could hold it to is not imported, and the others are.
        """
        rows = [{"token": 64 * "a", "model_max_budget": {"m": "much"}}, {"token": 64 * "b", "model_max_budget": {}}]
        became = self.does("/key/import", keys=rows)["rows"]
        self.assertEqual([False, True], [each["imported"] for each in became])
        self.assertIn("model_max_budget.m: Expected an amount", became[0]["failed_reason"])


_OF_A_MODEL: list[str | int] = ["body", "model_max_budget", "..."]
_METADATA: list[str | int] = ["body", "metadata", "model_rpm_limit"]
