"""
What counts against budgets, as it is shown and set.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from attrs import define, field
from msgspec import structs
from twisted.internet.defer import Deferred

from dheera.boundaries import Put
from dheera.call_ids import new_call_id
from dheera.holding import Allowance, Claim, Release, Share, Turn, Turned, Used
from dheera.management.counting import SINGLE_QUESTIONS
from dheera.management.periods import micros
from dheera.stores.memory_allowances import MemoryAllowances
from dheera.windows import Window, window_at
from tests.management.office import START, Reply
from tests.management.spending.ledger import CENT, AtLedger, days

FIRST = micros(datetime(2026, 3, 1, tzinfo=UTC))
NEXT_FIRST = micros(datetime(2026, 4, 1, tzinfo=UTC))
MONTH: dict[str, Any] = {"max_budget": 10, "budget_duration": "30d"}


@define(eq=False)
class Watched(MemoryAllowances):
    """
    Allowances that tell how often they are looked at.
    """

    looks: list[Sequence[str]] = field(factory=list)

    def look(self, subjects: Sequence[str]) -> Deferred[Sequence[Used]]:
        self.looks.append(subjects)
        return super().look(subjects)


class CountingCase(AtLedger):
    """
    Budgets that are spent.
    """

    def spend_of(self, key: dict[str, Any]) -> tuple[float, str | None]:
        """
        What is shown of a key: what it has spent, and when that begins anew.
        """
        info = self.sees(f"/key/info?key={key['key_id']}")["info"]
        return info["spend"], info["budget_reset_at"]

    def turn(self, **fields: Any) -> Turned:
        """
        What is asked of the allowances by those who call.
        """
        return self.successResultOf(self.desk.allowances.turn(Turn(owner="one", **fields)))

    def hold(self, subject: str, nano: int, *, span: str = "30d", cap: int = 1000 * CENT) -> str:
        """
        Claim what a call may cost this month, or of all times; its id.
        """
        starts, ends = (FIRST, NEXT_FIRST) if span else (0, 0)
        allowance = Allowance(subject=subject, kind="usd", span=span)
        share = Share(allowance=allowance, cap=cap, amount=nano, starts_us=starts, ends_us=ends)
        claim = Claim(call_id=new_call_id(), shares=[share])
        [verdict] = self.turn(claims=[claim]).verdicts
        self.assertEqual((None, False), (verdict.refused, verdict.turned))
        return claim.call_id


class WindowTests(CountingCase):
    def test_before_anybody_claims(self) -> None:
        """
        What the ledger has since the window began counts, and not what was spent before.
        """
        key = self.desk.generate(**MONTH)
        self.call(key, at=START - days(3), cost=4 * CENT)
        self.call(key, cost=2 * CENT)
        self.assertEqual((0.02, "2026-04-01T00:00:00Z"), self.spend_of(key))
        [listed] = self.sees("/key/list?return_full_object=true")["keys"]
        self.assertEqual(0.02, listed["spend"])
        self.assertEqual([0.06], [each["spend"] for each in self.sees("/spend/keys")])

    def test_once_somebody_has_claimed(self) -> None:
        """
        What the allowances have counts: not what is held, until it is paid.
        """
        key = self.desk.generate(**MONTH)
        self.call(key, cost=2 * CENT)
        call_id = self.hold(f"key/{key['key_id']}", 5 * CENT)
        self.assertEqual(0.02, self.spend_of(key)[0])
        self.turn(releases=[Release(call_id=call_id, usd=CENT)])
        self.call(key, call_id=call_id, cost=CENT)
        self.assertEqual(0.03, self.spend_of(key)[0])

    def test_the_next_window(self) -> None:
        """
        When the window turns, nothing has been spent, and it is told when the next one turns; in all, it stays.
        """
        key = self.desk.generate(**MONTH)
        self.turn(releases=[Release(call_id=self.hold(f"key/{key['key_id']}", CENT))])
        self.call(key)
        self.assertEqual(0.01, self.spend_of(key)[0])
        self.desk.now = datetime(2026, 4, 1, tzinfo=UTC)
        self.assertEqual((0, "2026-05-01T00:00:00Z"), self.spend_of(key))
        self.assertEqual([0.01], [each["spend"] for each in self.sees("/spend/keys")])

    def test_a_span_of_their_own(self) -> None:
        """
        A span that the calendar does not tell begins when it is set, or where it is said; sending it again changes
        nothing.
        """
        key = self.desk.generate(max_budget=1, budget_duration="5h")
        self.assertEqual("2026-03-01T17:00:00Z", self.spend_of(key)[1])
        self.desk.now = START + days(1)
        self.assertEqual("2026-03-02T13:00:00Z", self.spend_of(key)[1])
        self.does("/key/update", key=key["key"], budget_duration="5h")
        self.assertEqual("2026-03-02T13:00:00Z", self.spend_of(key)[1])
        self.does("/key/update", key=key["key"], budget_duration="6h")
        self.assertEqual("2026-03-02T18:00:00Z", self.spend_of(key)[1])
        self.does("/key/update", key=key["key"], budget_reset_at="2026-01-01T01:00:00Z")
        self.assertEqual("2026-03-02T13:00:00Z", self.spend_of(key)[1])

    def test_without_a_budget(self) -> None:
        """
        Where there is no amount, what was spent in all is shown, whatever the duration.
        """
        key = self.desk.generate(budget_duration="30d")
        self.call(key, at=START - days(3))
        self.assertEqual(0.01, self.spend_of(key)[0])

    def test_a_budget_for_ever(self) -> None:
        """
        A budget that never begins anew counts all; also what a call took that nobody has heard of again.
        """
        key = self.desk.generate(max_budget=10)
        self.call(key, at=START - days(300))
        self.assertEqual((0.01, None), self.spend_of(key))
        self.hold(f"key/{key['key_id']}", 5 * CENT, span="")
        self.desk.now = START + days(1)
        self.successResultOf(self.desk.allowances.sweep())
        self.assertEqual(0.06, self.spend_of(key)[0])

    def test_a_shared_budget(self) -> None:
        """
        A key without a budget of its own spends of its shared one, within the windows of that.
        """
        self.does("/budget/new", budget_id="small", **MONTH)
        key = self.desk.generate(budget_id="small")
        other = self.desk.generate(budget_id="small", max_budget=1)
        for each in key, other:
            self.call(each, at=START - days(3), cost=4 * CENT)
        self.assertEqual([0, 0.04], [self.spend_of(each)[0] for each in (key, other)])
        table = self.sees(f"/key/info?key={key['key_id']}")["info"]["litellm_budget_table"]
        self.assertEqual("2026-04-01T00:00:00Z", table["budget_reset_at"])

    def test_a_span_that_cannot_be_read(self) -> None:
        """
        A duration that somebody wrote into the database by hand keeps nothing from being shown.
        """
        key = self.desk.generate(**MONTH)
        self.call(key)
        kept = self.desk.opens(key["key"])
        assert kept is not None
        wrong = structs.replace(kept, budget_duration="monthly")
        self.successResultOf(self.desk.store.apply([Put(wrong)], []))
        self.assertEqual((0.01, None), self.spend_of(key))
        self.assertEqual(200, self.desk.get("/usage", key=key["key"]).status)


class SeedTests(CountingCase):
    def test_what_is_shown_is_what_will_count(self) -> None:
        """
        What is shown before anybody claims is what a claim then finds taken, for each span and each spender.
        """
        anchor = datetime(2026, 3, 1, tzinfo=UTC)
        for span in "", "1d", "24h", "7d", "30d", "1mo", "3mo", "48h", "36h", "5h":
            limits = {"max_budget": 10, "budget_duration": span or None, "budget_reset_at": anchor.isoformat()}
            key = self.desk.generate(**limits)
            name = f"u{span}"
            self.does("/user/new", user_id=name, auto_create_key=False, **limits)
            self.does("/team/new", team_id=name, **limits)
            self.does("/customer/new", user_id=name, **limits)
            self.call(key, user_id=name, end_user=name, cost=CENT)
            self.call(key, user_id=name, end_user=name, at=START - days(1), cost=2 * CENT)
            self.call(team_id=name, user_id="somebody", at=START - days(7), cost=4 * CENT)
            self.call(team_id=name, user_id="somebody", cost=8 * CENT)
            shown = {
                f"key/{key['key_id']}": self.spend_of(key)[0],
                f"user/{name}": self.sees(f"/user/info?user_id={name}")["user_info"]["spend"],
                f"team/{name}": self.sees(f"/team/info?team_id={name}")["team_info"]["spend"],
                f"customer/{name}": self.sees(f"/customer/info?end_user_id={name}")["spend"],
            }
            window = window_at(span, anchor, micros(self.desk.now))
            self.assertEqual(
                {subject: self.taken(subject, span, window) for subject in shown},
                {subject: round(amount * 100) for subject, amount in shown.items()},
                span,
            )

    def taken(self, subject: str, span: str, window: Window) -> int:
        """
        What a claim finds taken, in cents.
        """
        allowance = Allowance(subject=subject, kind="usd", span=span)
        share = Share(
            allowance=allowance, cap=1000 * CENT, amount=0, starts_us=window.starts_us, ends_us=window.ends_us
        )
        turned = self.turn(claims=[Claim(call_id=new_call_id(), shares=[share])])
        return turned.verdicts[0].standings[0].taken // CENT


class WhomTests(CountingCase):
    def test_all_of_them(self) -> None:
        """
        Teams, users and customers are shown with what counts now; of a user, that is what keys without a team spent.
        """
        self.does("/team/new", team_id="search", **MONTH)
        self.does("/user/new", user_id="alice", auto_create_key=False, **MONTH)
        self.does("/customer/new", user_id="acme", **MONTH)
        self.call(team_id="search", user_id="alice", end_user="acme", cost=2 * CENT)
        self.call(user_id="alice", end_user="acme", cost=CENT)
        self.call(team_id="search", user_id="alice", end_user="acme", at=START - days(3), cost=100 * CENT)
        self.assertEqual(0.02, self.sees("/team/info?team_id=search")["team_info"]["spend"])
        self.assertEqual([0.02], [each["spend"] for each in self.sees("/team/list")])
        self.assertEqual(0.01, self.sees("/user/info?user_id=alice")["user_info"]["spend"])
        self.assertEqual([0.01], [each["spend"] for each in self.sees("/user/list")["users"]])
        self.assertEqual(0.03, self.sees("/customer/info?end_user_id=acme")["spend"])
        self.assertEqual([1.03], [each["spend"] for each in self.sees("/spend/users")])

    def test_members(self) -> None:
        """
        A member is shown with what their keys in the team have spent: in all, or since their budget began anew.
        """
        self.does("/team/new", team_id="search", team_member_budget=5, team_member_budget_duration="30d")
        who = [{"user_id": "alice"}, {"user_id": "bob"}]
        self.does("/team/member_add", team_id="search", member=who)
        self.does("/team/member_update", team_id="search", user_id="bob", max_budget_in_team=7)
        for user in "alice", "bob":
            self.call(team_id="search", user_id=user, cost=CENT)
            self.call(team_id="search", user_id=user, at=START - days(3), cost=CENT)
            self.call(user_id=user, cost=100 * CENT)
        self.assertEqual({"alice": 0.01, "bob": 0.02}, self.members())
        self.hold("member/search/alice", 5 * CENT)
        self.assertEqual({"alice": 0.01, "bob": 0.02}, self.members())

    def members(self) -> dict[str, float]:
        """
        What is shown of each member.
        """
        told = self.sees("/team/info?team_id=search")["team_memberships"]
        return {each["user_id"]: each["spend"] for each in told}

    def test_many_at_once(self) -> None:
        """
        A page of keys is one look at the allowances, and shows each what is its own.
        """
        watched = Watched(clock=lambda: micros(self.desk.now))
        self.replace(watched)
        keys = [self.desk.generate(**MONTH) for _ in range(2 * SINGLE_QUESTIONS)]
        for nth, key in enumerate(keys):
            if nth:
                self.call(key, cost=nth * CENT)
        watched.looks.clear()
        shown = self.sees("/key/list?return_full_object=true&size=100")["keys"]
        self.assertEqual(1, len(watched.looks))
        spends = {each["key_id"]: each["spend"] for each in shown}
        self.assertEqual([nth / 100 for nth in range(len(keys))], [spends[key["key_id"]] for key in keys])

    def test_without_budgets(self) -> None:
        """
        Who has no budget is shown without a look.
        """
        watched = Watched()
        self.replace(watched)
        self.desk.generate(rpm_limit=5)
        self.sees("/key/list?return_full_object=true")
        self.assertEqual([], watched.looks)

    def replace(self, allowances: MemoryAllowances) -> None:
        """
        Let these allowances be asked.
        """
        object.__setattr__(self.desk.office, "allowances", allowances)


class SettingTests(CountingCase):
    def remaining(self, subject: str, span: str = "30d") -> int:
        """
        What a call may take at most of ten dollars, in cents.
        """
        starts, ends = (FIRST, NEXT_FIRST) if span else (0, 0)
        allowance = Allowance(subject=subject, kind="usd", span=span)
        share = Share(allowance=allowance, cap=1000 * CENT, amount=0, starts_us=starts, ends_us=ends)
        turned = self.turn(claims=[Claim(call_id=new_call_id(), shares=[share])])
        return 1000 - turned.verdicts[0].standings[0].taken // CENT

    def test_what_is_said_at_the_start_counts(self) -> None:
        """
        What something has spent already when it is made counts in the window that it is made in, for everybody.
        """
        key = self.desk.generate(spend=4, **MONTH)
        self.assertEqual(600, self.remaining(f"key/{key['key_id']}"))
        self.does("/team/new", team_id="t", spend=4, **MONTH)
        self.does("/user/new", user_id="u", auto_create_key=False, spend=4, **MONTH)
        self.does("/customer/new", user_id="c", spend=4, **MONTH)
        self.assertEqual([600] * 3, [self.remaining(each) for each in ("team/t", "user/u", "customer/c")])
        self.assertEqual(4, self.spend_of(key)[0])
        self.desk.now = datetime(2026, 4, 1, tzinfo=UTC)
        self.assertEqual(0, self.spend_of(key)[0])

    def test_what_is_set_counts(self) -> None:
        """
        A spend that is set counts from now on, be it the first word about that window or not.
        """
        key = self.desk.generate(**MONTH)
        subject = f"key/{key['key_id']}"
        self.call(key, cost=500 * CENT)
        self.assertEqual(2, self.does("/key/update", key=key["key"], spend=2)["spend"])
        self.assertEqual(800, self.remaining(subject))
        told = self.does(f"/key/{key['key_id']}/reset_spend", reset_to=0)
        self.assertEqual((0, 2), (told["spend"], told["previous_spend"]))
        self.assertEqual(1000, self.remaining(subject))
        self.does("/customer/new", user_id="c", **MONTH)
        self.assertEqual(3, self.does("/customer/update", user_id="c", spend=3)["spend"])
        self.assertEqual(700, self.remaining("customer/c"))

    def test_no_more_than_it_is(self) -> None:
        """
        The spend of a key is set to what counts now, or to less, though more was spent in all.
        """
        key = self.desk.generate(**MONTH)
        self.call(key, at=START - days(3), cost=500 * CENT)
        self.call(key, cost=CENT)
        path = f"/key/{key['key_id']}/reset_spend"
        self.refused(self.desk.post(path, {"reset_to": 0.02}), 400, "bad_request_error", "reset_to")
        self.assertEqual(0.01, self.does(path, reset_to=0.01)["previous_spend"])

    def test_budgets_for_ever(self) -> None:
        """
        It is the same where a budget never begins anew.
        """
        key = self.desk.generate(max_budget=10, spend=4)
        self.assertEqual(600, self.remaining(f"key/{key['key_id']}", span=""))
        self.does(f"/key/{key['key_id']}/reset_spend", reset_to=1)
        self.assertEqual(900, self.remaining(f"key/{key['key_id']}", span=""))

    def test_imported(self) -> None:
        """
        What an imported key had spent where it comes from counts here in the window that it comes in.
        """
        row = {"token": 64 * "a", "spend": 4, "created_at": "2025-01-01T00:00:00Z", **MONTH}
        [became] = self.does("/key/import", keys=[row])["rows"]
        self.assertEqual(600, self.remaining(f"key/{became['key_id']}"))

    def test_shared(self) -> None:
        """
        So it does for a key that spends of a shared budget.
        """
        self.does("/budget/new", budget_id="small", **MONTH)
        key = self.desk.generate(budget_id="small", spend=4)
        self.assertEqual(600, self.remaining(f"key/{key['key_id']}"))

    def test_nothing_is_held(self) -> None:
        """
        To set a spend leaves nothing held.
        """
        key = self.desk.generate(spend=4, **MONTH)
        [row] = self.successResultOf(self.desk.allowances.look([f"key/{key['key_id']}"]))
        self.assertEqual((400 * CENT, 0), (row.used, row.held))

    def test_the_window_has_turned_by_the_stores_clock(self) -> None:
        """
        It is the store's clock that tells which window a spend is set in.
        """
        self.desk.now = datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC)
        ahead = MemoryAllowances(self.desk.shelves, clock=lambda: micros(self.desk.now) + 5_000_000)
        object.__setattr__(self.desk.office, "allowances", ahead)
        key = self.desk.generate(spend=4, **MONTH)
        [row] = self.successResultOf(ahead.look([f"key/{key['key_id']}"]))
        self.assertEqual((NEXT_FIRST, 400 * CENT), (row.starts_us, row.used))
        self.assertEqual(4, self.spend_of(key)[0])


class AwayTests(CountingCase):
    def test_a_key_that_was_made_is_shown(self) -> None:
        """
        If the store goes away as soon as a key is written, the key is answered nevertheless: it is shown only once.
        """
        self.desk.allowances.fail()
        key = self.desk.generate(**MONTH)
        self.assertIsNotNone(self.desk.opens(key["key"]))
        rotated = self.desk.post("/key/regenerate", {"key": key["key"]})
        self.assertEqual(200, rotated.status)
        self.unavailable(self.desk.get(f"/key/info?key={key['key_id']}"))
        self.unavailable(self.desk.post(f"/key/{key['key_id']}/reset_spend", {"reset_to": 0}))
        self.unavailable(self.desk.post("/key/generate", {"spend": 1, **MONTH}))
        self.desk.allowances.recover()
        self.assertEqual(0, self.spend_of(key)[0])

    def unavailable(self, reply: Reply) -> None:
        """
        That *reply* asks to come again.
        """
        self.refused(reply, 503, "no_db_connection")
