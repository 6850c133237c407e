"""
What the allowances and the stores that count them say to each other, and how they name whom it is about.

A budget, a rate and a number of parallel requests are four kinds of one thing: a subject may take up to a cap of
something, within a window. A call claims the most that it may take of all allowances that concern it, and gets a hold
on all of them, or on none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct, structs
from twisted.internet.defer import Deferred

from dheera.texts import bounded

Kind: TypeAlias = Literal["usd", "requests", "tokens", "parallel"]
"""
What an allowance is counted in: nano-dollars; requests and tokens in any minute; requests at the same time.
"""

RATE_US = 60_000_000
SLICE_US = 5_000_000
"""
Requests and tokens are counted in slices of five seconds. A claim is let through if it fits under the cap together with
all slices that began in the last 65 seconds: so any 60 seconds that there are hold no more than the cap, wherever they
begin.
"""


class Allowance(Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """
    Which allowance it is.

    :param subject: ``key/ID``, ``user/ID``, ``team/ID``, ``member/TEAM/USER``, ``customer/ID``, ``proxy``: as
        `subject_of` and `member_subject` write them.
    :param span: after which a budget begins anew, as it is written; empty for one that never does, and for all that is
        no budget.
    :param model: the model, or pattern of models, that it is for; empty for all.
    """

    subject: str
    kind: Kind
    span: str = ""
    model: str = ""


def subject_of(kind: str, id_: str) -> str:
    """
    A ``key``, ``user``, ``team`` or ``customer`` as an `Allowance` names it. What is too long is cut, as in the ledger.
    """
    return f"{kind}/{bounded(id_)}"


def member_subject(team: str, user: str) -> str:
    """
    The same of a user as a member of a team. Ids may hold slashes: that of the team is written without.
    """
    return f"member/{bounded(team).replace('%', '%25').replace('/', '%2F')}/{bounded(user)}"


def member_of(subject: str) -> tuple[str, str]:
    """
    The ids of team and user whom `member_subject` has named.
    """
    _, team, user = subject.split("/", 2)
    return team.replace("%2F", "/").replace("%25", "%"), user


class Share(Struct, frozen=True, kw_only=True, gc=False):
    """
    What a call may take of one allowance, at most.

    :param cap: what may be taken in all.
    :param amount: what the call may take.
    :param soft: of a budget: somebody is told when so much is spent.
    :param starts_us: of a budget: where its window begins, in microseconds since the epoch; 0 if it has none. The
        other kinds have their windows from the store.
    :param ends_us: where the next one begins; 0 if there is none.
    """

    allowance: Allowance
    cap: int
    amount: int
    soft: int | None = None
    starts_us: int = 0
    ends_us: int = 0


class Claim(Struct, frozen=True, kw_only=True, gc=False):
    """
    All that a call may take; or that many calls may, one after the other: a *lease*, whose id is no call's.

    :param ahead: it is a lease. That it is refused says nothing of the calls that might have come.
    """

    call_id: str
    shares: list[Share]
    ahead: bool = False


class Standing(Struct, frozen=True, kw_only=True, gc=False):
    """
    How an allowance stands.

    :param taken: used and held in the window, this call's own hold included if it has got one.
    :param held: how much of that is only held by calls that are not over.
    :param resets_us: by the store's clock, when all of that is free again, or, for a share that was refused, when that
        share would fit if nothing else were taken; 0 if time alone frees nothing.
    """

    taken: int
    held: int = 0
    resets_us: int = 0


class Verdict(Struct, frozen=True, kw_only=True, gc=False):
    """
    What became of a claim.

    :param refused: the place of the first share that does not fit; ``None`` if there is a hold on all.
    :param standings: of each share, in their order.
    :param turned: the window of a budget is not the current one, by the store's clock: nothing was taken; claim again.
    :param first: it is a budget that was refused since so much of it is spent, not only held, and the first time that
        this happens to it in its window. A call for which the whole budget is too small is not meant.
    """

    refused: int | None = None
    standings: list[Standing] = []
    turned: bool = False
    first: bool = False


class Rated(Struct, frozen=True, kw_only=True, gc=False):
    """
    A correction of what a call has taken of a rate.

    :param at_us: when the claim was let through, by the store's clock.
    :param change: added to what it has taken in the slice of that time; below 0 if it took less than it might have.
    """

    allowance: Allowance
    at_us: int
    change: int


class Release(Struct, frozen=True, kw_only=True, gc=False):
    """
    That a call is over, or as much of a lease as nobody needs. To say it twice changes nothing more, but for its rates:
    see `repeated`.

    :param usd: nano-dollars that it cost. So much stays held of its budgets until the ledger has the call
        (`AllowanceStore` says more); 0 ends its holds on budgets now. Of a lease: what its calls have cost, and
        those that are not over may cost, all together.
    :param lasts: it is a lease, and calls of it are not over.
    """

    call_id: str
    usd: int = 0
    rates: list[Rated] = []
    lasts: bool = False


def repeated(release: Release) -> Release:
    """
    What is said in its place if nobody knows whether the store has heard it: what a call has taken of a rate less than
    it might have must not be subtracted twice, and counts on for as long as the rate does.
    """
    return structs.replace(release, rates=[each for each in release.rates if each.change > 0])


class Turn(Struct, frozen=True, kw_only=True, gc=False):
    """
    What is asked of the store in one go, in this order.

    :param owner: who holds: a process, from its start to its end.
    :param extends: the holds of calls of this owner that are not over last on from now, also those whose deadline is
        past, if nobody has ended them yet.
    :param lasts_us: how long a hold lasts unless it is extended.
    """

    owner: str
    extends: bool = False
    lasts_us: int = RATE_US
    releases: list[Release] = []
    claims: list[Claim] = []


class Turned(Struct, frozen=True, kw_only=True, gc=False):
    """
    What came of it.

    :param at_us: the store's clock, in microseconds since the epoch.
    :param verdicts: of the claims, in their order: each sees those before it.
    """

    at_us: int
    verdicts: list[Verdict] = []


class Paid(Struct, frozen=True, kw_only=True, gc=False):
    """
    What the ledger has written of a call.

    :param usd: nano-dollars; 0 if it has no price.
    :param subjects: whose budgets it counts against, as in `Allowance`.
    :param models: that it asked for, and that answered.
    :param started_us: when it began, in microseconds since the epoch.
    :param lease: out of which its cost is paid; ``None`` if it had a hold of its own, or none.
    """

    call_id: str
    usd: int
    subjects: list[str]
    models: list[str]
    started_us: int
    lease: str | None = None

    @property
    def held_as(self) -> str:
        """
        By which id it is found what was held for it.
        """
        return self.lease or self.call_id


class Grown(Struct, frozen=True, kw_only=True, gc=False):
    """
    That more is used of a budget than before.
    """

    allowance: Allowance
    before: int
    after: int
    cap: int
    soft: int | None = None


class Used(Struct, frozen=True, kw_only=True, gc=False):
    """
    How an allowance stands in its latest window.

    :param used: of a rate: in the last minute or so.
    :param cap: when it was last claimed.
    """

    allowance: Allowance
    used: int
    held: int
    cap: int
    starts_us: int
    ends_us: int


class AllowanceStore(Protocol):
    """
    Counts allowances, for any number of processes at once, by one clock. Each Deferred fails with `StoreAway` when the
    database does not answer, within seconds: then nobody knows whether it was done.

    What a call holds of a budget becomes what is used in the same transaction in which `Books.keep` writes its record;
    until then it is held, and after a `Release` it is exactly the cost. A hold whose owner does not extend it counts as
    used at its deadline, as a whole, and is put right when the record comes after all. What a record costs is also
    added to budgets of its subjects on which its call had no hold.

    Of a lease, each record turns as much as its call cost from held to used. What was paid so is known to the hold, so
    that ledger and owner need not know what the other has said: after the last `Release` what stays held is what all
    calls of the lease cost, less what was paid.
    """

    def turn(self, turn: Turn) -> Deferred[Turned]:
        """
        Extend, release, and claim. A claim whose call has holds already is let through, and takes nothing more.
        """
        ...

    def sweep(self) -> Deferred[int]:
        """
        End the holds whose deadline is past, and forget windows and slices that nobody needs any more.

        :return: how many holds were ended.
        """
        ...

    def forget(self, owners: Sequence[str]) -> Deferred[int]:
        """
        These owners are dead, and the ledger has all that they have written down: what is still held for calls of
        theirs never began, or nobody knows that it did. It returns, also where it has counted as used since its
        deadline. To say it again does no harm.

        :return: how many holds there were.
        """
        ...

    def look(self, subjects: Sequence[str]) -> Deferred[Sequence[Used]]:
        """
        How all allowances of *subjects* stand in their latest windows.
        """
        ...
