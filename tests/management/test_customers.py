"""
``/customer/...``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from dheera.boundaries import Query
from dheera.entities import Customer
from dheera.management import customers
from dheera.management.customer_shapes import NamedCustomer, NamedCustomers
from tests.management.directory import AtDirectory, Contested, asked, bodies

GIVEN: dict[str, Any] = {
    "alias": "Acme",
    "blocked": True,
    "spend": 0.25,
    "max_budget": 12.5,
    "soft_budget": 10,
    "budget_duration": "30d",
    "budget_reset_at": "2026-04-01T00:00:00Z",
    "tpm_limit": 1000,
    "rpm_limit": 10,
    "max_parallel_requests": 3,
    "model_max_budget": {"codestral-latest": {"budget_limit": 1.5}},
    "allowed_model_region": "eu",
    "default_model": "mistral-small-latest",
    "metadata": {"note": "für Ålesund ☃"},
    "object_permission": {"mcp_servers": ["s"]},
}


class MakingTests(AtDirectory):
    def test_everything_is_kept_and_echoed(self) -> None:
        """
        Each field is answered as it was given, and again when asked, be it acted on or not.
        """
        made = self.does("/customer/new", user_id="acme", **GIVEN)
        self.assertEqual(GIVEN | {"user_id": "acme"}, {name: made[name] for name in (*GIVEN, "user_id")})
        self.assertEqual(made, self.sees("/customer/info?end_user_id=acme"))
        self.assertEqual([made], self.sees("/customer/list"))

    def test_a_name_is_needed_and_used_once(self) -> None:
        """
        A customer is nobody without an id, and an id is of one customer.
        """
        self.wrong(self.desk.post("/customer/new", {}), ["body", "user_id"])
        self.does("/customer/new", user_id="acme")
        self.refused(self.desk.post("/customer/new", {"user_id": "acme"}), 400, "bad_request_error", "user_id")

    def test_a_shared_budget_is_shown(self) -> None:
        """
        The budget that a customer names is shown with it, and must exist.
        """
        self.does("/budget/new", budget_id="small", max_budget=7)
        made = self.does("/customer/new", user_id="acme", budget_id="small")
        self.assertEqual(
            ("small", 7), tuple(made["litellm_budget_table"][name] for name in ("budget_id", "max_budget"))
        )
        refused = self.desk.post("/customer/new", {"user_id": "other", "budget_id": "none"})
        self.refused(refused, 404, "not_found_error", "budget_id")
        self.assertIsNone(self.kept(Customer, "other"))


class ChangingTests(AtDirectory):
    def test_an_update_is_a_merge(self) -> None:
        """
        What is absent is kept, and what is null goes back to the default; the spend can be set.
        """
        made = self.does("/customer/new", user_id="acme", **GIVEN)
        changed = self.does("/customer/update", user_id="acme", alias=None, spend=1, metadata=None)
        self.assertEqual(made | {"alias": None, "spend": 1, "metadata": None}, changed)
        self.assertEqual(changed, self.sees("/customer/info?end_user_id=acme"))

    def test_it_must_be_there(self) -> None:
        """
        Who does not exist can be neither changed nor shown.
        """
        self.refused(self.desk.post("/customer/update", {"user_id": "none"}), 404, "not_found_error", "user_id")
        self.refused(self.desk.get("/customer/info?end_user_id=none"), 404, "not_found_error", "end_user_id")


class BlockingTests(AtDirectory):
    def test_who_is_not_there_is_made(self) -> None:
        """
        Blocking makes those who do not exist, and leaves all else of the others as it was.
        """
        made = self.does("/customer/new", user_id="acme", alias="Acme")
        blocked = self.does("/customer/block", user_ids=["acme", "other", "acme"])["blocked_users"]
        self.assertEqual([("acme", True), ("other", True)], [(each["user_id"], each["blocked"]) for each in blocked])
        self.assertEqual(made | {"blocked": True}, self.sees("/customer/info?end_user_id=acme"))

    def test_unblocking_ends_it(self) -> None:
        """
        Who is unblocked is blocked no longer; if one does not exist, nobody is unblocked.
        """
        self.does("/customer/block", user_ids=["acme"])
        refused = self.desk.post("/customer/unblock", {"user_ids": ["acme", "none"]})
        self.refused(refused, 404, "not_found_error", "user_ids")
        self.assertTrue(self.sees("/customer/info?end_user_id=acme")["blocked"])
        [row] = self.does("/customer/unblock", user_ids=["acme"])["unblocked_users"]
        self.assertFalse(row["blocked"])
        self.assertEqual(row, self.sees("/customer/info?end_user_id=acme"))


class DeletingTests(AtDirectory):
    def test_all_or_none(self) -> None:
        """
        If one does not exist, nobody is deleted.
        """
        self.does("/customer/block", user_ids=["acme", "other"])
        refused = self.desk.post("/customer/delete", {"user_ids": ["acme", "none"]})
        self.refused(refused, 404, "not_found_error", "user_ids")
        self.assertEqual(2, len(self.sees("/customer/list")))
        deleted = self.does("/customer/delete", user_ids=["acme", "other", "acme"])
        self.assertEqual({"deleted_customers": ["acme", "other"]}, deleted)
        self.assertEqual([], self.sees("/customer/list"))

    def test_the_number_is_bounded(self) -> None:
        """
        Somebody must be named, but not more than 500.
        """
        for names in ([], [str(number) for number in range(501)]):
            for path in ("/customer/delete", "/customer/block", "/customer/unblock"):
                self.wrong(self.desk.post(path, {"user_ids": names}), ["body", "user_ids"])

    def test_they_are_gone_as_they_were_last(self) -> None:
        """
        What changed while they were deleted is what the audit is told of.
        """
        store, office = Contested.with_office()
        self.successResultOf(Deferred.fromCoroutine(customers.new(office, asked(NamedCustomer(user_id="acme")))))
        names = NamedCustomers(user_ids=["acme"])
        store.rivals.append(partial(customers.block, office, asked(names)))
        self.successResultOf(Deferred.fromCoroutine(customers.delete(office, asked(names))))
        [line], _ = self.successResultOf(store.audit(Query(equal={"action": "customer.delete"}, sort="at")))
        assert line.before is not None
        self.assertTrue(line.before["blocked"])


class LookingTests(AtDirectory):
    def test_the_list_comes_in_pages(self) -> None:
        """
        All pages together hold each customer once.
        """
        self.does("/customer/block", user_ids=["a", "b", "c"])
        pages = [self.sees(f"/customer/list?page_size=2&page={page}") for page in (1, 2)]
        self.assertEqual([2, 1], [len(page) for page in pages])
        self.assertEqual({"a", "b", "c"}, {each["user_id"] for page in pages for each in page})


class RecordTests(AtDirectory):
    def test_each_act_leaves_a_line(self) -> None:
        """
        What was done to each customer is in the audit.
        """
        self.does("/customer/new", user_id="acme")
        self.does("/customer/update", user_id="acme", alias="Acme")
        self.does("/customer/block", user_ids=["acme", "other"])
        self.does("/customer/unblock", user_ids=["acme"])
        self.does("/customer/delete", user_ids=["acme", "other"])
        acts = ["customer.block", "customer.delete", "customer.new", "customer.unblock", "customer.update"]
        self.assertEqual([(act, "acme") for act in acts], self.actions(subject="acme"))
        self.assertEqual([("customer.block", "other"), ("customer.delete", "other")], self.actions(subject="other"))

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_any_body_is_answered(self, data: st.DataObject) -> None:
        """
        Whatever JSON is sent, the answer has a documented status.
        """
        route = data.draw(st.sampled_from(customers.ROUTES))
        self.answers_as_described(route, data.draw(bodies(route)))
