"""
Which limits a key, an end user and the proxy have, and where they are found.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from dheera.entities import Budget, Customer, Key, Team, User
from dheera.holding import subject_of
from dheera.limits import UNCAPPED, UNLIMITED, Limit, Limits
from dheera.money import NANO, Usd
from dheera.settings import LimitSettings
from dheera.terms import MOST_COUNTED

MADE = datetime(2026, 5, 17, 13, 21, tzinfo=UTC)
RESET = datetime(2026, 6, 1, 8, tzinfo=UTC)
TIMES = {"created_at": MADE, "updated_at": MADE}


def a_key(**fields: Any) -> Key:
    return Key(**{"id": "k", "digest": "d", "name": "sk-...abcd", "alias": "ada", **TIMES, **fields})


def a_team(**fields: Any) -> Team:
    return Team(**{"id": "t", "alias": "search", **TIMES, **fields})


def a_user(**fields: Any) -> User:
    return User(**{"id": "u", "alias": "Ada", **TIMES, **fields})


def a_budget(**fields: Any) -> Budget:
    return Budget(**{"id": "b", **TIMES, **fields})


def a_customer(**fields: Any) -> Customer:
    return Customer(**{"id": "c", **TIMES, **fields})


def limit(kind: str, cap: int, **fields: Any) -> Limit:
    return Limit(**{"subject": "key/k", "whose": "key", "name": "ada", "kind": kind, "cap": cap, **fields})


def usd(dollars: float, **fields: Any) -> Limit:
    return limit("usd", Usd.of(dollars).nano, **{"anchor": MADE, **fields})


class LimitsTests(TestCase):
    maxDiff = None

    def check(self, expected: list[Limit], found: Limits) -> None:
        self.assertEqual(sorted(expected, key=repr), sorted(found.all, key=repr))

    def test_beside(self) -> None:
        """
        Limits beside others bind all together, also when the same ones come again, and others after them.
        """
        own, looser, of_proxy = usd(1), usd(2), limit("requests", 3, subject="proxy", whose="proxy")
        for each in own, looser, own:
            found = Limits((each,)).beside(Limits((of_proxy,)))
            self.assertEqual(((each, of_proxy), True), (found.all, found.needs_body))
        self.check([own], Limits((own,)).beside(UNLIMITED))
        self.check([of_proxy], UNLIMITED.beside(Limits((of_proxy,))))

    def check_closed(self, why: str, found: Limits, *, model: str = "") -> None:
        [closed] = [each for each in found.all if why in each.name]
        self.assertEqual(("requests", 0, model), (closed.kind, closed.cap, closed.model))
        self.assertIn("ada", closed.name)


class OwnTests(LimitsTests):
    """
    What a key says of itself.
    """

    def test_none(self) -> None:
        """
        A key without limits has none, whoever stands behind it.
        """
        self.assertEqual(UNLIMITED, Limits.of(a_key()))
        self.assertFalse(Limits.of(a_key(user_id="u", team_id="t"), team=a_team(), user=a_user(), member={}))

    def test_all_kinds(self) -> None:
        """
        A budget, requests and tokens per minute, and parallel requests, each under the key's alias.
        """
        key = a_key(
            max_budget=Usd.of("0.5"),
            soft_budget=Usd.of("0.1"),
            budget_duration="30d",
            rpm_limit=3,
            tpm_limit=4,
            max_parallel_requests=5,
        )
        expected = [
            usd(0.5, soft=NANO // 10, span="30d"),
            limit("requests", 3),
            limit("tokens", 4),
            limit("parallel", 5),
        ]
        self.check(expected, Limits.of(key))

    def test_nameless(self) -> None:
        """
        A key without an alias is called as it may be shown.
        """
        self.check([limit("requests", 1, name="sk-...abcd")], Limits.of(a_key(alias=None, rpm_limit=1)))

    def test_nothing(self) -> None:
        """
        A limit of nothing is a limit: no dollar may be spent, no request made.
        """
        self.check([usd(0), limit("requests", 0)], Limits.of(a_key(max_budget=Usd(), rpm_limit=0)))

    def test_anchor(self) -> None:
        """
        Budgets are counted from the reset that is set, or else from the making of the key.
        """
        key = a_key(max_budget=Usd.of(1), budget_duration="48h", budget_reset_at=RESET)
        self.check([usd(1, span="48h", anchor=RESET)], Limits.of(key))

    def test_only_soft(self) -> None:
        """
        A soft budget alone stops nobody: its cap cannot be reached.
        """
        self.check([limit("usd", UNCAPPED, soft=NANO, anchor=MADE)], Limits.of(a_key(soft_budget=Usd.of(1))))

    def test_windows(self) -> None:
        """
        Several budgets hold at once, each with its own span and reset, however the amount is written.
        """
        windows: list[dict[str, Any]] = [
            {"max_budget": 0.25, "budget_duration": "24h"},
            {"max_budget": "10", "budget_duration": "48h", "reset_at": "2026-06-01T08:00:00Z"},
        ]
        expected = [usd(0.25, span="24h"), usd(10, span="48h", anchor=RESET), usd(100)]
        self.check(expected, Limits.of(a_key(max_budget=Usd.of(100), budget_limits=windows)))

    def test_increase(self) -> None:
        """
        A budget is raised for a while, as told in a field or in metadata; without an end, or without a number, it is
        not.
        """
        raised = usd(1, raised_by=2 * NANO, raised_until=RESET)
        told = {"temp_budget_increase": "2", "temp_budget_expiry": "2026-06-01T08:00:00Z"}
        for where in "rest", "metadata":
            self.check([raised], Limits.of(a_key(max_budget=Usd.of(1), **{where: told})))
            for name, value in (
                ("temp_budget_expiry", None),
                ("temp_budget_expiry", "soon"),
                ("temp_budget_increase", "much"),
                ("temp_budget_increase", -2),
            ):
                self.check([usd(1)], Limits.of(a_key(max_budget=Usd.of(1), **{where: {**told, name: value}})))
        self.check([], Limits.of(a_key(rest=told)))

    def test_largest(self) -> None:
        """
        No number grows beyond what databases count, or readers of JSON tell apart.
        """
        told = {"temp_budget_increase": 9e9, "temp_budget_expiry": "2026-06-01 08:00"}
        found = Limits.of(a_key(max_budget=Usd.of(9_000_000_000), tpm_limit=10**30, rest=told))
        self.assertEqual([UNCAPPED, MOST_COUNTED], [each.cap + each.raised_by for each in found.all])


class ModelTests(LimitsTests):
    """
    Limits of single models.
    """

    def test_shapes(self) -> None:
        """
        LiteLLM's shapes of a budget for a model are all understood; one without a span begins anew with the others.
        """
        for said, span in (
            (0.5, "30d"),
            ("0.5", "30d"),
            ({"budget_limit": 0.5, "time_period": "1d"}, "1d"),
            ({"max_budget": "0.5", "budget_duration": "1d"}, "1d"),
            ({"budget_limit": 0.5, "max_budget": None}, "30d"),
        ):
            key = a_key(budget_duration="30d", model_max_budget={"mistral/small": said})
            self.check([usd(0.5, span=span, model="small")], Limits.of(key))

    def test_rates(self) -> None:
        """
        Requests and tokens of single models are found in a field, in metadata, and beside their budgets.
        """
        counts = {"model_rpm_limit": {"small": 3}, "model_tpm_limit": {"mistral/large-*": 4.0}}
        expected = [limit("requests", 3, model="small"), limit("tokens", 4, model="large-*")]
        for where in "rest", "metadata":
            self.check(expected, Limits.of(a_key(**{where: counts})))
        key = a_key(model_max_budget={"small": {"rpm_limit": 3, "max_budget": 1}, "large-*": {"tpm_limit": 4}})
        self.check([usd(1, model="small"), *expected], Limits.of(key))

    def test_concerned(self) -> None:
        """
        A limit of a model concerns calls with that model, or whatever fits its pattern; one without concerns all.
        """
        key = a_key(rpm_limit=1, rest={"model_rpm_limit": {"small": 2, "mistral/large-*": 3}})
        found = Limits.of(key)
        for model, caps in (("small", [1, 2]), ("large-1", [1, 3]), ("tiny", [1]), (None, [1])):
            self.assertEqual(caps, [each.cap for each in found.concerning(model)], model)

    def test_body_needed(self) -> None:
        """
        Only what says how much a call takes, or of which model, needs its body.
        """
        self.assertFalse(Limits.of(a_key(rpm_limit=1, max_parallel_requests=1)).needs_body)
        for fields in ({"max_budget": Usd.of(1)}, {"tpm_limit": 1}, {"rest": {"model_rpm_limit": {"a": 1}}}):
            self.assertTrue(Limits.of(a_key(**fields)).needs_body, fields)


class DoubleTests(LimitsTests):
    """
    Several limits of one allowance.
    """

    def test_strictest(self) -> None:
        """
        What is said twice of the same is counted once, by the strictest.
        """
        key = a_key(
            max_budget=Usd.of(3),
            soft_budget=Usd.of(2),
            budget_duration="24h",
            budget_limits=[{"max_budget": 2, "budget_duration": "24h"}, {"max_budget": 9, "budget_duration": "1mo"}],
            rest={"model_rpm_limit": {"small": 5}},
            metadata={"model_rpm_limit": {"mistral/small": 4}},
        )
        expected = [usd(2, soft=2 * NANO, span="24h"), usd(9, span="1mo"), limit("requests", 4, model="small")]
        self.check(expected, Limits.of(key))

    def test_raised(self) -> None:
        """
        A budget that is raised is not raised above another one of the same window.
        """
        told = {"temp_budget_increase": 5, "temp_budget_expiry": RESET.isoformat()}
        for other, raised_by in ((2, 1), (20, 5)):
            windows = [{"max_budget": other, "budget_duration": "24h"}]
            key = a_key(max_budget=Usd.of(1), budget_duration="24h", budget_limits=windows, rest=told)
            expected = usd(1, span="24h", raised_by=raised_by * NANO, raised_until=RESET)
            self.check([expected], Limits.of(key))
        key = a_key(
            max_budget=Usd.of(3),
            budget_duration="24h",
            budget_limits=[{"max_budget": 2, "budget_duration": "24h"}],
            rest=told,
        )
        self.check([usd(2, span="24h")], Limits.of(key))


class SharedTests(LimitsTests):
    """
    The budget that a key shares with others by name.
    """

    def test_fills(self) -> None:
        """
        It holds where the key has nothing of its own, each key by its own count.
        """
        budget = a_budget(
            max_budget=Usd.of(7),
            soft_budget=Usd.of(6),
            budget_duration="48h",
            budget_reset_at=RESET,
            rpm_limit=70,
            tpm_limit=700,
            max_parallel_requests=7,
            model_max_budget={"small": 1},
        )
        counts = [limit("requests", 70), limit("tokens", 700), limit("parallel", 7)]
        model = usd(1, span="48h", anchor=RESET, model="small")
        expected = [usd(7, soft=6 * NANO, span="48h", anchor=RESET), model, *counts]
        self.check(expected, Limits.of(a_key(budget_id="b"), budget=budget))
        own = a_key(
            budget_id="b",
            max_budget=Usd.of(1),
            soft_budget=Usd.of("0.5"),
            rpm_limit=10,
            tpm_limit=20,
            max_parallel_requests=30,
            model_max_budget={"large": 2},
        )
        expected = [
            usd(1, soft=NANO // 2),
            usd(2, model="large"),
            limit("requests", 10),
            limit("tokens", 20),
            limit("parallel", 30),
        ]
        self.check(expected, Limits.of(own, budget=budget))

    def test_missing(self) -> None:
        """
        What a shared budget limited that is not there nobody knows: nothing passes, and the reason is told.
        """
        found = Limits.of(a_key(budget_id="b", rpm_limit=10))
        self.check_closed("budget_id does not exist", found)


class OthersTests(LimitsTests):
    """
    Whoever stands behind a key.
    """

    def test_team(self) -> None:
        """
        A team has what a key can have, under its own name.
        """
        team = a_team(
            max_budget=Usd.of(1),
            rpm_limit=2,
            max_parallel_requests=3,
            model_max_budget={"small": 4},
            rest={"budget_limits": [{"max_budget": 5, "budget_duration": "24h"}], "model_rpm_limit": {"small": 6}},
            metadata={"model_tpm_limit": {"small": 7}},
        )
        whose = {"subject": "team/t", "whose": "team", "name": "search"}
        expected = [
            usd(1, **whose),
            limit("requests", 2, **whose),
            limit("parallel", 3, **whose),
            usd(4, model="small", **whose),
            usd(5, span="24h", **whose),
            limit("requests", 6, model="small", **whose),
            limit("tokens", 7, model="small", **whose),
        ]
        self.check(expected, Limits.of(a_key(team_id="t"), team=team))

    def test_user(self) -> None:
        """
        A user's limits hold for keys that have no team.
        """
        user = a_user(max_budget=Usd.of(1), metadata={"model_rpm_limit": {"small": 2}})
        whose = {"subject": "user/u", "whose": "user", "name": "Ada"}
        expected = [usd(1, **whose), limit("requests", 2, model="small", **whose)]
        self.check(expected, Limits.of(a_key(user_id="u"), user=user))
        self.assertFalse(Limits.of(a_key(user_id="u", team_id="t"), user=user, team=a_team()))

    def test_member(self) -> None:
        """
        What a team says of a member holds for that member's keys in it.
        """
        member = {"user_id": "u", "max_budget_in_team": "2.5", "budget_duration": "1mo", "rpm_limit": 3, "tpm_limit": 4}
        whose = {"subject": "member/t/u", "whose": "team_member", "name": "Ada"}
        expected = [usd(2.5, span="1mo", **whose), limit("requests", 3, **whose), limit("tokens", 4, **whose)]
        key = a_key(user_id="u", team_id="t")
        self.check(expected, Limits.of(key, team=a_team(), user=a_user(), member=member))

    def test_each_member(self) -> None:
        """
        What a team says of each member holds for those of whom it says nothing else.
        """
        team = a_team(
            rest={
                "team_member_budget": 2,
                "team_member_budget_duration": "24h",
                "team_member_rpm_limit": 3,
                "team_member_tpm_limit": 4,
            }
        )
        key = a_key(user_id="u", team_id="t")
        whose = {"subject": "member/t/u", "whose": "team_member", "name": "u"}
        expected = [usd(2, span="24h", **whose), limit("requests", 3, **whose), limit("tokens", 4, **whose)]
        self.check(expected, Limits.of(key, team=team))
        own = {"user_id": "u", "max_budget_in_team": "5", "rpm_limit": 30}
        expected = [usd(5, **whose), limit("requests", 30, **whose), limit("tokens", 4, **whose)]
        self.check(expected, Limits.of(key, team=team, member=own))
        self.check([], Limits.of(a_key(team_id="t"), team=team))


class ClosedTests(LimitsTests):
    """
    What cannot be read.
    """

    def test_documents(self) -> None:
        """
        A document that is no limit lets nothing through, of its model or of all, and its name tells.
        """
        budgets: list[Any] = [
            "much",
            None,
            True,
            -1,
            [],
            {},
            float("nan"),
            {"budget_limit": None},
            {"budget_limit": 1, "max_budget": 2},
            {"budget_limit": 1, "time_period": "daily"},
            {"budget_limit": 1, "time_period": "1d", "budget_duration": "2d"},
        ]
        counts: list[Any] = ["3", None, -1, 1.5, True, float("inf")]
        documents: list[Any] = [3, "a", ["small"]]
        cases: list[tuple[dict[str, Any], str, str]] = [
            ({"model_max_budget": {"small": value}}, "model_max_budget", "small") for value in budgets
        ]
        for name in "model_rpm_limit", "model_tpm_limit":
            for where in "rest", "metadata":
                cases += [({where: {name: {"small": value}}}, name, "small") for value in counts]
                cases += [({where: {name: value}}, name, "") for value in documents]
        windows: list[Any] = [3, {}, {"budget_duration": "1d"}, {"max_budget": 1, "budget_duration": "daily"}, [], None]
        cases += [({"budget_limits": [each]}, "budget_limits", "") for each in windows]
        cases += [({"rest": {"budget_limits": value}}, "budget_limits", "") for value in documents[:2]]
        cases += [({"max_budget": Usd(1), "budget_duration": "daily"}, "max_budget", "")]
        cases += [({"max_budget": Usd(-1)}, "max_budget", ""), ({"rpm_limit": -1}, "rpm_limit", "")]
        for fields, name, model in cases:
            with self.subTest(fields=fields):
                self.check_closed(f"its {name} cannot be read", Limits.of(a_key(**fields)), model=model)

    def test_member(self) -> None:
        """
        So does what a team says of its members.
        """
        key = a_key(user_id="u", team_id="t")
        cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"max_budget_in_team": "much"}, {}),
            ({}, {"team_member_rpm_limit": "many"}),
        ]
        for member, rest in cases:
            [closed] = Limits.of(key, team=a_team(rest=rest), member=member).all
            self.assertEqual(("member/t/u", "requests", 0), (closed.subject, closed.kind, closed.cap))

    def test_others_hold(self) -> None:
        """
        What can be read beside it holds as well.
        """
        found = Limits.of(a_key(rpm_limit=3, model_max_budget={"small": "much", "large": 1}))
        self.assertEqual([0, 3], sorted(each.cap for each in found.concerning("small") if each.kind == "requests"))
        self.assertEqual([usd(1, model="large")], [each for each in found.all if each.kind == "usd"])

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=8,
        )
    )
    def test_anything(self, value: Any) -> None:
        """
        Whatever was kept, reading it never fails; and what was said is never left out.
        """
        value = json.loads(json.dumps(value))
        names = ("model_max_budget", "model_rpm_limit", "budget_limits", "temp_budget_increase", "temp_budget_expiry")
        rest = dict.fromkeys(names, value)
        found = Limits.of(a_key(rest=rest, metadata=rest, max_budget=Usd.of(1)))
        said = value is not None and value not in ([], {})
        self.assertEqual(said, len(found.all) > 1)


class ElsewhereTests(LimitsTests):
    """
    Limits that are no key's.
    """

    def test_settings(self) -> None:
        """
        What an operator sets holds for the whole proxy, counted from the epoch.
        """
        self.assertFalse(Limits.of_settings(LimitSettings()))
        settings = LimitSettings(
            max_budget=Usd.of(1), soft_budget=Usd(5), budget_duration="3mo", rpm_limit=2, tpm_limit=3
        )
        whose = {"subject": "proxy", "whose": "proxy", "name": "proxy"}
        expected = [usd(1, soft=5, span="3mo", anchor=None, **whose)]
        expected += [limit("requests", 2, **whose), limit("tokens", 3, **whose)]
        self.check(expected, Limits.of_settings(settings))

    def test_customers(self) -> None:
        """
        A customer has its own limits and those of its shared budget; who has none at all has the defaults.
        """
        defaults = LimitSettings(rpm_limit=9, max_parallel_requests=8)
        whose = {"subject": "customer/c", "whose": "end_user", "name": "c"}
        default = [limit("requests", 9, **whose), limit("parallel", 8, **whose)]
        self.check(default, Limits.of_customer("c", None, None, defaults))
        self.check(default, Limits.of_customer("c", a_customer(blocked=True), None, defaults))
        called = {**whose, "name": "Carol"}
        customer = a_customer(alias="Carol", tpm_limit=3, budget_id="b")
        expected = [usd(1, **called), limit("tokens", 3, **called)]
        self.check(expected, Limits.of_customer("c", customer, a_budget(max_budget=Usd.of(1)), defaults))
        [closed, _] = Limits.of_customer("c", customer, None, defaults).all
        [long, _] = Limits.of_customer("c\0" * 500, None, None, defaults).all
        self.assertEqual(subject_of("customer", "c\0" * 500), long.subject)
        self.assertLess(len(long.subject), 300)
        self.assertEqual(("requests", 0), (closed.kind, closed.cap))
