"""
End users: fresh, bounded, found by one look, and only asked for if they matter.
"""

from __future__ import annotations

from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera.boundaries import Add, Put, Query, Remove
from dheera.customers import JUDGED, JUDGED_AFTER_SECONDS, EndUser, EndUsers
from dheera.entities import AnyEntity, Budget, Customer, Entity
from dheera.errors import StoreAway
from dheera.limits import Limits
from dheera.recall import LOOKS
from dheera.settings import LimitSettings
from dheera.stores.memory import MemoryStore
from tests.test_keyring import NOW

AWAY_SECONDS = 60.0
TIMES: dict[str, Any] = {"created_at": NOW, "updated_at": NOW}
DEFAULTS = LimitSettings(rpm_limit=9)


@define(eq=False)
class LateStore(MemoryStore):
    """
    A store whose answers can be held back after they have been read.
    """

    held: list[Deferred[None]] | None = None
    looks: int = 0
    searches: int = 0

    def get(self, sort: type[AnyEntity], id: str) -> Deferred[AnyEntity | None]:  # noqa: A002 - the field's name
        self.looks += 1
        answer = super().get(sort, id)
        if self.held is None:
            return answer
        late: Deferred[None] = Deferred()
        self.held.append(late)
        return late.addCallback(lambda _: answer)

    def find(self, sort: type[AnyEntity], query: Query) -> Deferred[tuple[list[AnyEntity], int]]:
        self.searches += 1
        answer = super().find(sort, query)
        if self.held is None:
            return answer
        late: Deferred[None] = Deferred()
        self.held.append(late)
        return late.addCallback(lambda _: answer)


class EndUsersTests(SynchronousTestCase):
    defaults = LimitSettings()

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = LateStore()
        self.users = EndUsers(self.clock, self.store, self.defaults, size=3, away_seconds=AWAY_SECONDS)
        self.successResultOf(self.store.open())

    def open(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.users.open()))

    def close(self) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.users.close()))

    def keep(self, *entities: Entity) -> None:
        self.successResultOf(self.store.apply([Add(entity) for entity in entities], []))

    def put(self, entity: Entity) -> None:
        self.successResultOf(self.store.apply([Put(entity)], []))

    def find(self, end_user: str) -> EndUser:
        return self.successResultOf(self.users.find(end_user))

    def rpm(self, end_user: str) -> list[int]:
        return [limit.cap for limit in self.find(end_user).limits.all]

    def looks(self, *names: str) -> int:
        """
        How many looks it takes to find them.
        """
        before = self.store.looks
        for name in names:
            self.find(name)
        return self.store.looks - before


def a_customer(id_: str = "c", **fields: Any) -> Customer:
    return Customer(id=id_, **TIMES, **fields)


class Found(EndUsersTests):
    """
    While the store tells what changes.
    """

    defaults = DEFAULTS

    def test_customer(self) -> None:
        """
        A customer has its limits and those of its budget, and may be blocked; it is looked for once.
        """
        budget = Budget(id="b", tpm_limit=4, **TIMES)
        customer = a_customer(rpm_limit=3, budget_id="b", blocked=True)
        self.keep(customer, budget)
        expected = EndUser(Limits.of_customer("c", customer, budget, DEFAULTS), blocked=True)
        self.assertEqual([expected] * 2, [self.find("c"), self.find("c")])
        self.assertEqual([3, 4], [limit.cap for limit in expected.limits.all])
        self.assertEqual(0, self.looks("c"))

    def test_nobody(self) -> None:
        """
        Who is no customer has the defaults, each their own count, and is looked for once as well.
        """
        expected = EndUser(Limits.of_settings(DEFAULTS, subject="customer/x", whose="end_user", name="x"))
        self.assertEqual(expected, self.find("x"))
        self.assertEqual(0, self.looks("x"))

    def test_bounded(self) -> None:
        """
        Of more than may be kept, those that were asked for last are.
        """
        self.looks("a", "b", "c", "a", "d")
        self.assertEqual(0, self.looks("a", "c", "d"))
        self.assertEqual(1, self.looks("b"))
        self.assertEqual(3, len(self.users._recall._kept))

    def test_changed(self) -> None:
        """
        Who was made, changed or deleted is looked for anew, also if their budget was; others stay.
        """
        self.keep(a_customer("other"))
        self.assertEqual([[9], [9]], [self.rpm("c"), self.rpm("other")])
        self.keep(a_customer(rpm_limit=3))
        self.assertEqual([3], self.rpm("c"))
        self.keep(Budget(id="b", rpm_limit=4, **TIMES))
        self.put(a_customer(budget_id="b"))
        self.assertEqual([4], self.rpm("c"))
        self.put(Budget(id="b", rpm_limit=5, **TIMES))
        self.assertEqual([5], self.rpm("c"))
        self.put(a_customer(budget_id="b", blocked=True, version=1))
        self.assertTrue(self.find("c").blocked)
        self.successResultOf(self.store.apply([Remove("customer", "c")], []))
        self.assertEqual([9], self.rpm("c"))
        self.assertEqual(0, self.looks("other"))

    def test_nothing_left(self) -> None:
        """
        What is no longer kept leaves nothing behind.
        """
        self.keep(*(a_customer(name, budget_id="b") for name in "abcde"), Budget(id="b", **TIMES))
        self.looks(*"abcde")
        concerned = {("budget", "b"): {"c", "d", "e"}, **{("customer", name): {name} for name in "cde"}}
        self.assertEqual(concerned, self.users._recall._concerned)
        self.put(Budget(id="b", **TIMES))
        self.assertEqual((0, {}), (len(self.users._recall._kept), self.users._recall._concerned))


class Overtaken(EndUsersTests):
    """
    Changes that happen while the store is being asked.
    """

    def release(self) -> None:
        """
        Let one answer of the store arrive.
        """
        assert self.store.held
        self.store.held.pop(0).callback(None)

    def test_asked_once(self) -> None:
        """
        Many who ask for the same at once are answered by one look; one who leaves takes nothing from the others.
        """
        self.store.held = []
        answers = [self.users.find("c") for _ in range(5)]
        answers[0].cancel()
        self.failureResultOf(answers[0])
        self.release()
        self.assertEqual([EndUser(Limits())] * 4, [self.successResultOf(answer) for answer in answers[1:]])
        self.assertEqual(1, self.store.looks)

    def test_looked_again(self) -> None:
        """
        What was read before a change of the customer, or of its budget, is given to nobody.
        """
        self.keep(a_customer(budget_id="b"), Budget(id="b", rpm_limit=3, **TIMES))
        self.store.held = []
        answer = self.users.find("c")
        self.release()
        self.put(Budget(id="b", rpm_limit=4, **TIMES))
        for _ in range(3):
            self.release()
        self.assertEqual([4], [limit.cap for limit in self.successResultOf(answer).limits.all])
        self.store.held = None
        self.assertEqual(0, self.looks("c"))

    def test_others(self) -> None:
        """
        The change of another makes nobody look again.
        """
        self.store.held = []
        answer = self.users.find("c")
        self.keep(a_customer("other"), Budget(id="b", **TIMES))
        self.release()
        self.successResultOf(answer)
        self.assertEqual(1, self.store.looks)

    def test_never_still(self) -> None:
        """
        Who changes all the time is found in the end, and not kept.
        """
        self.keep(a_customer())
        self.store.held = []
        answer = self.users.find("c")
        for version in range(LOOKS):
            self.put(a_customer(version=version))
            self.release()
        self.successResultOf(answer)
        self.store.held = None
        self.assertEqual(1, self.looks("c"))


class Away(EndUsersTests):
    """
    While the store does not answer.
    """

    def setUp(self) -> None:
        super().setUp()
        self.keep(a_customer(rpm_limit=3))
        self.find("c")
        self.store.fail()

    def test_known(self) -> None:
        """
        Who was found before can be had for the stated time, and no longer.
        """
        self.clock.advance(AWAY_SECONDS - 1)
        self.assertEqual([3], self.rpm("c"))
        self.clock.advance(1)
        self.failureResultOf(self.users.find("c"), StoreAway)

    def test_unknown(self) -> None:
        """
        Of others nobody knows who they are.
        """
        self.failureResultOf(self.users.find("x"), StoreAway)

    def test_back(self) -> None:
        """
        When it is back each is looked for once before they are believed again: what happened meanwhile was not heard.
        """
        self.store.recover()
        self.assertEqual(1, self.looks("c"))
        self.assertEqual(0, self.looks("c"))


class Mattering(EndUsersTests):
    """
    Whether anybody needs to ask.
    """

    def after(self, *entities: Entity) -> bool:
        """
        Whether end users matter when *entities* have been there for a while.
        """
        if entities:
            self.keep(*entities)
        self.clock.advance(JUDGED_AFTER_SECONDS)
        return self.users.matter

    def test_unknown(self) -> None:
        """
        Before the store was asked they do.
        """
        self.assertTrue(self.users.matter)

    def test_nobody(self) -> None:
        """
        They do not where there are no customers, nor while those that there are have a name and no more.
        """
        self.open()
        self.assertFalse(self.users.matter)
        self.assertFalse(self.after(a_customer(alias="Carol")))
        self.assertFalse(self.after(Budget(id="b", rpm_limit=3, **TIMES)))

    def test_somebody(self) -> None:
        """
        They do as soon as a customer is blocked, limited, or has a shared budget, and no longer when it is gone.
        """
        self.open()
        for fields in ({"blocked": True}, {"rpm_limit": 0}, {"model_max_budget": {"a": "b"}}, {"budget_id": "b"}):
            self.keep(a_customer(**fields))
            self.assertTrue(self.users.matter, fields)
            self.assertTrue(self.after(), fields)
            self.successResultOf(self.store.apply([Remove("customer", "c")], []))
            self.assertTrue(self.users.matter)
            self.assertFalse(self.after(), fields)

    def test_found_at_start(self) -> None:
        """
        Customers that are there from the beginning are seen.
        """
        self.keep(a_customer(blocked=True))
        self.open()
        self.assertTrue(self.users.matter)

    def test_many(self) -> None:
        """
        Where there are more customers than one looks at, some may matter.
        """
        self.open()
        self.assertFalse(self.after(*(a_customer(f"{number}") for number in range(JUDGED))))
        self.assertTrue(self.after(a_customer("one more")))

    def test_few_looks(self) -> None:
        """
        Many changes cost one look, and calls and other changes none.
        """
        self.open()
        for number in range(20):
            self.keep(a_customer(f"{number}"))
        self.after()
        self.assertEqual(2, self.store.searches)
        self.after(Budget(id="b", **TIMES))
        self.looks("a", "b")
        self.assertEqual(2, self.store.searches)

    def test_overtaken(self) -> None:
        """
        A look that is overtaken by a change is not believed.
        """
        self.open()
        self.keep(a_customer("first"))
        self.store.held = []
        self.clock.advance(JUDGED_AFTER_SECONDS)
        late, self.store.held = self.store.held, None
        self.keep(a_customer(blocked=True))
        late[0].callback(None)
        self.assertTrue(self.users.matter)
        self.assertTrue(self.after())

    def test_away(self) -> None:
        """
        What is known when the store goes away stays so; when it is back they matter until it was asked.
        """
        self.open()
        self.store.fail()
        self.clock.advance(JUDGED_AFTER_SECONDS)
        self.assertFalse(self.users.matter)
        self.store.recover()
        self.assertTrue(self.users.matter)
        self.assertFalse(self.after())

    def test_away_meanwhile(self) -> None:
        """
        If the store is away when it is to be asked, it is asked again.
        """
        self.open()
        self.keep(a_customer())
        self.store.fail()
        self.clock.advance(JUDGED_AFTER_SECONDS)
        self.assertTrue(self.users.matter)
        self.store.recover()
        self.assertFalse(self.after())

    def test_closed(self) -> None:
        """
        Nothing is looked for after the end.
        """
        self.open()
        self.keep(a_customer())
        self.close()
        self.put(a_customer(blocked=True))
        self.assertEqual([], self.clock.getDelayedCalls())
        self.assertEqual(1, self.store.searches)


class Changed(EndUsersTests):
    """
    Other defaults.
    """

    def test_limits(self) -> None:
        """
        They are in force at once, also for those who were found before.
        """
        self.assertEqual([], self.rpm("x"))
        self.users.change(LimitSettings(rpm_limit=4))
        self.assertEqual([4], self.rpm("x"))
        self.users.change(LimitSettings(rpm_limit=5))
        self.assertEqual([5], self.rpm("x"))

    def test_away(self) -> None:
        """
        While the store is away those who were found before go on as they were found.
        """
        self.assertEqual([], self.rpm("x"))
        self.store.fail()
        self.users.change(LimitSettings(rpm_limit=4))
        self.assertEqual([], self.rpm("x"))
        self.failureResultOf(self.users.find("y"), StoreAway)
        self.store.recover()
        self.assertEqual([4], self.rpm("x"))

    def test_overtaken(self) -> None:
        """
        A look that was under way when they changed is made again.
        """
        self.store.held = []
        found = self.users.find("x")
        self.users.change(LimitSettings(rpm_limit=4))
        late, self.store.held = self.store.held, None
        late[0].callback(None)
        self.assertEqual([4], [limit.cap for limit in self.successResultOf(found).limits.all])

    def test_the_same(self) -> None:
        """
        Where they are the same, what is known stays known, and nobody looks.
        """
        self.open()
        self.find("x")
        self.users.change(LimitSettings())
        self.assertEqual((0, False, []), (self.looks("x"), self.users.matter, self.clock.getDelayedCalls()))

    def test_matter(self) -> None:
        """
        Whether end users matter follows.
        """
        self.open()
        self.assertFalse(self.users.matter)
        self.users.change(DEFAULTS)
        self.assertTrue(self.users.matter)
        self.clock.advance(JUDGED_AFTER_SECONDS)
        self.assertTrue(self.users.matter)
        self.users.change(LimitSettings())
        self.assertTrue(self.users.matter)
        self.clock.advance(JUDGED_AFTER_SECONDS)
        self.assertFalse(self.users.matter)

    def test_changes_are_heard(self) -> None:
        """
        Changes of customers are heard as before; however often there are other defaults, no more are told of them.
        """
        watchers = len(self.store._watchers._all)
        for number in range(100):
            self.users.change(LimitSettings(rpm_limit=number))
        self.assertEqual(watchers, len(self.store._watchers._all))
        self.keep(a_customer(rpm_limit=3))
        self.assertEqual([3], self.rpm("c"))
        self.put(a_customer(rpm_limit=2))
        self.assertEqual([2], self.rpm("c"))

    def test_not_open(self) -> None:
        """
        Before it is open, and after its end, nothing is looked for.
        """
        self.users.change(DEFAULTS)
        self.open()
        self.close()
        self.users.change(LimitSettings())
        self.assertEqual([], self.clock.getDelayedCalls())


class MatteringByDefault(EndUsersTests):
    defaults = DEFAULTS

    def test_always(self) -> None:
        """
        Where each end user is limited they matter, and the store need not be asked.
        """
        self.open()
        self.keep(a_customer())
        self.clock.advance(JUDGED_AFTER_SECONDS)
        self.assertTrue(self.users.matter)
        self.assertEqual(0, self.store.searches)
