"""
``/budget/...``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from dheera.entities import Budget
from dheera.management import budgets
from dheera.management.budgets import DeleteBudget, NewBudget, UpdateBudget
from tests.management.directory import AtDirectory, Contested, asked, bodies

LIMITS: dict[str, Any] = {
    "max_budget": 12.5,
    "soft_budget": 10,
    "budget_duration": "30d",
    "budget_reset_at": "2026-04-01T00:00:00Z",
    "tpm_limit": 1000,
    "rpm_limit": 10,
    "max_parallel_requests": 3,
    "model_max_budget": {"codestral-latest": {"budget_limit": 1.5, "time_period": "1d"}},
}


class MakingTests(AtDirectory):
    def test_everything_is_kept_and_echoed(self) -> None:
        """
        Each limit is answered as it was given, and again when asked.
        """
        made = self.does("/budget/new", budget_id="small", **LIMITS)
        self.assertEqual(LIMITS | {"budget_id": "small"}, {name: made[name] for name in (*LIMITS, "budget_id")})
        self.assertEqual([made], self.does("/budget/info", budgets=["small"]))
        self.assertEqual([made], self.sees("/budget/list"))
        self.assertEqual(("master", "master"), (made["created_by"], made["updated_by"]))

    def test_nothing_need_be_said(self) -> None:
        """
        A budget without a name is given one.
        """
        made = self.does("/budget/new")
        self.assertEqual([made], self.does("/budget/info", budgets=[made["budget_id"]]))
        self.assertIsNone(made["max_budget"])

    def test_a_name_is_used_once(self) -> None:
        """
        A second budget of the same name is refused, and the first stays as it is.
        """
        first = self.does("/budget/new", budget_id="small", max_budget=1)
        self.refused(self.desk.post("/budget/new", {"budget_id": "small"}), 400, "bad_request_error", "budget_id")
        self.assertEqual([first], self.does("/budget/info", budgets=["small"]))

    def test_a_period_says_when_it_ends(self) -> None:
        """
        Unless that is given, it follows from the length of the period; a period beyond the calendar is a fault.
        """
        made = self.does("/budget/new", budget_duration="1mo")
        self.assertEqual("2026-04-01T00:00:00Z", made["budget_reset_at"])
        self.wrong(self.desk.post("/budget/new", {"budget_duration": "999999999mo"}), ["body", "budget_duration"])

    def test_amounts_are_not_negative(self) -> None:
        """
        A negative amount is refused.
        """
        self.refused(self.desk.post("/budget/new", {"max_budget": -1}), 400, "bad_request_error", "max_budget")


class ChangingTests(AtDirectory):
    def test_an_update_is_a_merge(self) -> None:
        """
        What is absent is kept, what is null goes back to the default, and the end of the period goes with the period.
        """
        made = self.does("/budget/new", budget_id="small", **LIMITS)
        changed = self.does("/budget/update", budget_id="small", max_budget=None, rpm_limit=11, budget_duration=None)
        expected = {"max_budget": None, "rpm_limit": 11, "budget_duration": None, "budget_reset_at": None}
        self.assertEqual(made | expected, changed)

    def test_it_must_be_there(self) -> None:
        """
        What does not exist can neither be changed, nor shown, nor deleted.
        """
        for reply, param in (
            (self.desk.post("/budget/update", {"budget_id": "none"}), "budget_id"),
            (self.desk.post("/budget/delete", {"id": "none"}), "id"),
            (self.desk.get("/budget/settings?budget_id=none"), "budget_id"),
        ):
            self.refused(reply, 404, "not_found_error", param)


class LookingTests(AtDirectory):
    def test_those_that_are_not_there_are_left_out(self) -> None:
        """
        Of some budgets, those that exist are shown, each once.
        """
        made = self.does("/budget/new", budget_id="small")
        self.assertEqual([made], self.does("/budget/info", budgets=["none", "small", "small"]))

    def test_the_list_comes_in_pages(self) -> None:
        """
        All pages together hold each budget once, and no page is larger than asked for or allowed.
        """
        made = {self.does("/budget/new")["budget_id"] for _ in range(5)}
        pages = [self.sees(f"/budget/list?page_size=2&page={page}") for page in (1, 2, 3, 4)]
        self.assertEqual([2, 2, 1, 0], [len(page) for page in pages])
        self.assertEqual(made, {each["budget_id"] for page in pages for each in page})
        self.wrong(self.desk.get("/budget/list?page_size=501"), ["query", "page_size"])

    def test_settings_say_what_each_limit_is(self) -> None:
        """
        Each limit is shown with its name and its value.
        """
        self.does("/budget/new", budget_id="small", max_budget=2)
        shown = {each["field_name"]: each["field_value"] for each in self.sees("/budget/settings?budget_id=small")}
        self.assertEqual(set(LIMITS) - {"budget_reset_at"}, set(shown))
        self.assertEqual((2, None), (shown["max_budget"], shown["tpm_limit"]))


class DeletingTests(AtDirectory):
    def test_it_is_gone(self) -> None:
        """
        What was deleted is shown once more, and is then not there.
        """
        made = self.does("/budget/new", budget_id="small")
        self.assertEqual(made, self.does("/budget/delete", id="small"))
        self.assertIsNone(self.kept(Budget, "small"))

    def test_nothing_loses_its_budget(self) -> None:
        """
        As long as a key or a customer has it, it stays; a deleted key does not count.
        """
        self.does("/budget/new", budget_id="small")
        key = self.desk.generate(budget_id="small")["key"]
        self.does("/customer/new", user_id="acme", budget_id="small")
        self.refused(self.desk.post("/budget/delete", {"id": "small"}), 400, "bad_request_error", "id")
        self.does("/key/delete", keys=[key])
        self.refused(self.desk.post("/budget/delete", {"id": "small"}), 400, "bad_request_error", "id")
        self.does("/customer/update", user_id="acme", budget_id=None)
        self.does("/budget/delete", id="small")

    def test_it_is_gone_as_it_was_last(self) -> None:
        """
        What changed while it was deleted is what the audit is told of.
        """
        store, office = Contested.with_office()
        self.successResultOf(Deferred.fromCoroutine(budgets.new(office, asked(NewBudget(budget_id="small")))))
        change = UpdateBudget(budget_id="small", rpm_limit=7)
        store.rivals.append(partial(budgets.update, office, asked(change)))
        shown = self.successResultOf(Deferred.fromCoroutine(budgets.delete(office, asked(DeleteBudget(id="small")))))
        self.assertEqual(7, shown.rpm_limit)


class RecordTests(AtDirectory):
    def test_each_act_leaves_a_line(self) -> None:
        """
        What was done to a budget is in the audit, looks are not.
        """
        self.does("/budget/new", budget_id="small")
        self.does("/budget/update", budget_id="small", max_budget=1)
        self.does("/budget/info", budgets=["small"])
        self.does("/budget/delete", id="small")
        expected = [("budget.delete", "small"), ("budget.new", "small"), ("budget.update", "small")]
        self.assertEqual(expected, self.actions())
        [update] = self.desk.audit(action="budget.update")
        self.assertEqual(({"max_budget": None}, {"max_budget": 1}), (update.before, update.after))

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_any_body_is_answered(self, data: st.DataObject) -> None:
        """
        Whatever JSON is sent, the answer has a documented status.
        """
        route = data.draw(st.sampled_from(budgets.ROUTES))
        self.answers_as_described(route, data.draw(bodies(route)))
