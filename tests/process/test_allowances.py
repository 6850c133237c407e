"""
Allowances as callers meet them: each sort of limit, on two daemons that share a database.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestCase

from tests.process import callers, databases
from tests.process.bearers import MASTER_KEY, MODEL, Answer, Bearer, master
from tests.process.callers import BODY, CHAT, asked
from tests.process.daemon import ANY_PORT, Daemon, eventually
from tests.process.test_guide import pasted

LITTLE, ENOUGH = 0.00001, 1
SETTINGS = """
[end_user_limits]
rpm_limit = 1
"""


class Pair(TestCase):
    """
    Two daemons on one database, in which there is nobody yet.
    """

    settings: ClassVar[str] = SETTINGS
    url: ClassVar[str]
    here: ClassVar[Bearer]
    there: ClassVar[Daemon]

    @classmethod
    def setUpClass(cls) -> None:
        cls.url = cls.enterClassContext(databases.sqlite())
        said = {"DATABASE_URL": cls.url, "DHEERA_AI_MASTER_KEY": MASTER_KEY}
        daemons = [Daemon("--demo", *ANY_PORT, said=said, settings=cls.settings) for _ in range(2)]
        with ThreadPoolExecutor() as at_once:
            here, cls.there = at_once.map(cls.enterClassContext, daemons)
        cls.here = master(here)

    def assert_over_budget(self, answer: Answer, whose: str) -> None:
        """
        Assert that it is refused for a budget, and says for whose.
        """
        self.assertEqual((429, "budget_exceeded"), (answer.status, answer.refusal), answer.content)
        error = answer.document["error"]
        self.assertEqual({"message", "type", "param", "code"}, {*error})
        self.assertEqual("429", error["code"])
        self.assertEqual(error["message"], answer.document["message"])
        self.assertRegex(error["message"], r"\ABudget has been exceeded! Current cost: [\d.]+, Max budget: [\d.]+\. ")
        self.assertIn(f"That is the budget of {whose}", error["message"])
        self.assertIn("max_tokens", error["message"])
        self.assertGreater(int(answer.fields["retry-after"]), 0)
        self.assertEqual("dheera", answer.fields["x-dheera-error-source"])
        self.assertIn("x-dheera-remaining-budget", answer.fields)

    def assert_too_fast(self, answer: Answer, whose: str, kind: str, limit: int) -> None:
        """
        Assert that it is refused for a rate, or for others at the same time, and says whose, and what of.
        """
        self.assertEqual((429, "rate_limit_error"), (answer.status, answer.refusal), answer.content)
        self.assertEqual(kind, answer.fields["rate_limit_type"])
        message = answer.document["error"]["message"]
        self.assertRegex(message, rf"\ARate limit exceeded for {whose}: .*\. Limit type: {kind}\. ")
        self.assertIn(f"Current limit: {limit}, Remaining: ", message)
        self.assertIn(int(answer.fields["retry-after"]), range(1, 67))
        if kind != "max_parallel_requests":
            self.assertRegex(message, rf"Limit resets at: {answer.fields['reset_at']}")
            self.assertIn(f"x-dheera-remaining-{kind}", answer.fields)
            self.assertEqual(str(limit), answer.fields[f"x-ratelimit-limit-{kind}"])

    def chat(self, bearer: Bearer, **more: Any) -> Answer:
        """
        Make a call.
        """
        return bearer.ask("POST", CHAT, {**BODY, **more})

    def let_through_there(self, key: str, **more: Any) -> None:
        """
        Assert that a call is soon let through on the other daemon, which knows the key from a call that it refused.
        """
        bearer = Bearer(self.there, key)
        eventually(lambda: self.chat(bearer, **more).status == 200, "it is let through on the other daemon")


class BudgetTests(Pair):
    """
    Dollars. Each budget is too small for one call, and is raised on one daemon: the other lets calls through.
    """

    def raised(self, key: str, whose: str, path: str, /, **change: Any) -> None:
        """
        A key's calls are refused on both until that is changed.
        """
        for daemon in self.here.daemon, self.there:
            answer = self.chat(Bearer(daemon, key))
            self.assert_over_budget(answer, whose)
            self.assertEqual("0.00001", answer.fields["x-dheera-remaining-budget"])
        self.here.do(path, **change)
        self.let_through_there(key)

    def test_key(self) -> None:
        """
        Of a key, for all models; another key goes on.
        """
        key, other = self.here.issue(max_budget=LITTLE), Bearer(self.there, self.here.issue(max_budget=ENOUGH))
        self.assertEqual(200, self.chat(other).status)
        self.raised(key, "this API key", "/key/update", key=key, max_budget=ENOUGH)
        self.assertLess(float(self.chat(Bearer(self.there, key)).fields["x-dheera-remaining-budget"]), ENOUGH)

    def test_model(self) -> None:
        """
        Of a key, for one model: others go on.
        """
        key = self.here.issue(model_max_budget={MODEL: {"budget_limit": LITTLE, "time_period": "30d"}})
        self.assertEqual(200, self.chat(Bearer(self.there, key), model="ministral-8b-latest").status)
        raised = {MODEL: {"budget_limit": ENOUGH, "time_period": "30d"}}
        self.raised(key, f"this API key for the model {MODEL} per 30d", "/key/update", key=key, model_max_budget=raised)

    def test_windows(self) -> None:
        """
        Of a key, in several windows: the one that is spent is named, and when it begins anew.
        """

        def limits(day: float) -> list[dict[str, Any]]:
            return [{"budget_duration": "24h", "max_budget": day}, {"budget_duration": "30d", "max_budget": ENOUGH}]

        key = self.here.issue(budget_limits=limits(LITTLE))
        self.raised(key, "this API key per 24h", "/key/update", key=key, budget_limits=limits(ENOUGH))
        self.assertIn("x-dheera-reset-budget", self.chat(Bearer(self.there, key)).fields)

    def test_team(self) -> None:
        """
        Of a team, whose keys share it.
        """
        team = self.here.do("/team/new", team_alias="mill", max_budget=LITTLE)["team_id"]
        key = self.here.issue(team_id=team, max_budget=ENOUGH)
        self.raised(key, "the team mill", "/team/update", team_id=team, max_budget=ENOUGH)

    def test_member(self) -> None:
        """
        Of a user in a team: other members go on.
        """
        team = self.here.do("/team/new", max_budget=ENOUGH)["team_id"]
        keys = {}
        for user, dollars in ("ada", LITTLE), ("bob", ENOUGH):
            self.here.do("/user/new", user_id=f"{user}-{team}", user_alias=user, auto_create_key=False)
            member = {"role": "user", "user_id": f"{user}-{team}"}
            self.here.do("/team/member_add", team_id=team, member=member, max_budget_in_team=dollars)
            keys[user] = self.here.issue(team_id=team, user_id=f"{user}-{team}")
        self.assertEqual(200, self.chat(Bearer(self.there, keys["bob"])).status)
        change: dict[str, Any] = {"team_id": team, "user_id": f"ada-{team}", "max_budget_in_team": ENOUGH}
        self.raised(keys["ada"], "the team member ada", "/team/member_update", **change)

    def test_user(self) -> None:
        """
        Of a user, for keys that belong to no team.
        """
        user = self.here.do("/user/new", user_alias="eva", max_budget=LITTLE, auto_create_key=False)["user_id"]
        own = self.here.issue(user_id=user)
        in_team = self.here.issue(user_id=user, team_id=self.here.do("/team/new")["team_id"])
        self.assertEqual(200, self.chat(Bearer(self.there, in_team)).status)
        self.raised(own, "the user eva", "/user/update", user_id=user, max_budget=ENOUGH)

    def test_end_user(self) -> None:
        """
        Of a customer, whom a header or the body names.
        """
        key = self.here.issue()
        self.here.do("/customer/new", user_id="inn", max_budget=LITTLE)
        by_header = asked(self.there, callers.chat(key, b"x-dheera-end-user: inn"))
        self.assert_over_budget(by_header, "the end user inn")
        for daemon in self.here.daemon, self.there:
            self.assert_over_budget(self.chat(Bearer(daemon, key), user="inn"), "the end user inn")
        self.assertEqual(200, self.chat(Bearer(self.there, key)).status)
        self.here.do("/customer/update", user_id="inn", max_budget=ENOUGH)
        self.let_through_there(key, user="inn")
        self.here.do("/customer/block", user_ids=["inn"])
        blocked = Bearer(self.there, key)
        eventually(lambda: self.chat(blocked, user="inn").status == 403, "who is blocked is refused")

    def test_unpriced(self) -> None:
        """
        A model without a price is refused where there is a budget, and the answer says how to set one.
        """
        key = self.here.issue(max_budget=ENOUGH)
        answer = self.chat(Bearer(self.there, key), model="no-such-model")
        self.assertEqual((403, "price_unknown"), (answer.status, answer.refusal))
        self.assertIn('[prices."no-such-model"]', answer.document["error"]["message"])
        without = self.chat(Bearer(self.there, self.here.issue()), model="no-such-model")
        self.assertEqual("upstream", without.fields["x-dheera-error-source"])


class RateTests(Pair):
    """
    Requests and tokens in a minute, and calls at the same time.
    """

    def test_requests(self) -> None:
        """
        The third request of two, on whichever daemon, until the limit is raised.
        """
        key = self.here.issue(rpm_limit=2)
        here, there = Bearer(self.here.daemon, key), Bearer(self.there, key)
        remaining = [self.chat(each).fields["x-ratelimit-remaining-requests"] for each in (here, there)]
        self.assertEqual(["1", "0"], remaining)
        for each in here, there, here, there:
            self.assert_too_fast(self.chat(each), "key", "requests", 2)
        self.here.do("/key/update", key=key, rpm_limit=3)
        self.let_through_there(key)
        self.assert_too_fast(self.chat(here), "key", "requests", 3)
        self.here.do("/key/update", key=key, rpm_limit=None)
        self.let_through_there(key)

    def test_models(self) -> None:
        """
        Of one model: others go on.
        """
        there = Bearer(self.there, self.here.issue(model_rpm_limit={MODEL: 1}))
        self.assertEqual(200, self.chat(there).status)
        self.assert_too_fast(self.chat(there), "key", "requests", 1)
        self.assertEqual(200, self.chat(there, model="ministral-8b-latest").status)

    def test_tokens(self) -> None:
        """
        As many tokens as a call may have, which are more than it has: the rest returns.
        """
        key = self.here.issue(tpm_limit=400)
        here, there = Bearer(self.here.daemon, key), Bearer(self.there, key)
        used = self.chat(here)
        self.assertEqual(200, used.status)
        total = used.document["usage"]["total_tokens"]

        def remaining() -> int:
            answer = self.chat(there)
            return int(answer.fields["x-dheera-remaining-tokens"]) if answer.status == 200 else -1

        self.assertLess(remaining(), 400 - total)
        answers = [self.chat(each) for each in (there, here) * 5]
        self.assertIn(429, [each.status for each in answers])
        self.assert_too_fast(next(each for each in answers if each.status == 429), "key", "tokens", 400)
        self.here.do("/key/update", key=key, tpm_limit=100_000)
        self.let_through_there(key)

    def test_parallel(self) -> None:
        """
        One call at a time, on both daemons together: the next is let through when the first is over.
        """
        key = self.here.issue(max_parallel_requests=1)
        there = Bearer(self.there, key)
        with callers.taking_place(self.here.daemon, self.url, key) as end:
            self.assert_too_fast(self.chat(there), "key", "max_parallel_requests", 1)
            end()
        self.let_through_there(key)

    def test_end_users(self) -> None:
        """
        Whoever is no customer has what the operator allows everybody: each for themselves.
        """
        key = self.here.issue()
        here, there = Bearer(self.here.daemon, key), Bearer(self.there, key)
        self.assertEqual([200, 200], [self.chat(here, user=name).status for name in ("gil", "hal")])
        self.assert_too_fast(self.chat(there, user="gil"), "end_user", "requests", 1)
        self.assertEqual(200, self.chat(there).status)
        self.here.do("/customer/new", user_id="gil", rpm_limit=5)
        self.let_through_there(key, user="gil")
        self.assert_too_fast(self.chat(there, user="hal"), "end_user", "requests", 1)


class ProxyTests(Pair):
    """
    Limits of all calls together.
    """

    settings = "[proxy_limits]\nrpm_limit = 2\nmax_budget = 1\n"

    def test_proxy(self) -> None:
        """
        Two requests in all, whoever makes them; and each answer tells what is left of the dollar.
        """
        first, second = (Bearer(self.there, self.here.issue()) for _ in range(2))
        self.assertLess(float(self.chat(first).fields["x-dheera-remaining-budget"]), 1)
        self.assertEqual(200, self.chat(second).status)
        for each in first, second:
            self.assert_too_fast(self.chat(each), "proxy", "requests", 2)


class ReadmeTests(TestCase):
    """
    What the README tells to type.
    """

    def test_budget(self) -> None:
        """
        A key with a dollar, a call that might cost more, and twenty dollars.
        """
        text = Path("README.md").read_text()
        section = text.partition("## Budgets and limits")[2].partition("\n## ")[0]
        make, ask, more = re.findall(r"```sh\n(curl .*?)```", section, re.DOTALL)
        with Daemon("--demo", "--port", "0", said={"DHEERA_AI_MASTER_KEY": "sk-1234"}) as daemon:
            status, _, made = pasted(make, daemon)
            self.assertEqual((200, 1), (status, made["max_budget"] if isinstance(made, dict) else made))
            status, source, refused = pasted(ask.replace("curl -i", "curl"), daemon)
            self.assertEqual((429, "dheera"), (status, source), refused)
            self.assertIn("Max budget: 1. ", str(refused))
            self.assertEqual(200, pasted(more, daemon)[0])
            eventually(lambda: pasted(ask.replace("curl -i", "curl"), daemon)[0] == 200, "there is more money")
