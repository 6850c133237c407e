"""
What counts against budgets now: of the allowances if somebody has claimed, else of the ledger, or the spend in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

from attrs import evolve, field, frozen

from dheera.bookkeeping import Dimension, Question
from dheera.entities import Budget, Customer, Key, Limited, Team, User, kind_of
from dheera.errors import StoreAway
from dheera.holding import Allowance, Used, subject_of
from dheera.management.periods import current, resetting
from dheera.management.routes import Office
from dheera.money import Usd
from dheera.windows import EPOCH, Window

SUMS_AT_ONCE = 20_000
SINGLE_QUESTIONS = 5
"""
Beyond so many the ledger is asked for all sums of that kind at once.
"""

_DIMENSIONS: Mapping[type[Limited], Dimension] = {Key: "key", User: "user", Team: "team", Customer: "end_user"}
_DAY_US = 86_400_000_000


@frozen(kw_only=True)
class Spender:
    """
    Who spends, and how that is counted.

    :param subject: as in `holding.Allowance`; so is *model*.
    :param by: what the ledger tells them by, under *id*; ``None`` for all together.
    :param equal: what else it must find.
    :param total: what was spent in all; ``None`` if only the ledger knows.
    :param span: after which their budget begins anew; empty if it never does; ``None`` if they have none.
    :param window: of the budget, in which they spend now.
    :param resets_at: when it begins anew next, for people.
    """

    subject: str
    by: Dimension | None
    id: str
    equal: Mapping[Dimension, str | None] = field(factory=dict)
    total: Usd | None
    span: str | None
    model: str = ""
    window: Window
    resets_at: datetime | None


@frozen(kw_only=True)
class Spend:
    """
    What counts against a budget.

    :param held: what calls that are not over may add to it.
    :param resets_at: when it begins anew next; ``None`` if it never does.
    """

    amount: Usd
    held: Usd = field(factory=Usd)
    resets_at: datetime | None


def spender(entity: Key | User | Team | Customer, now: datetime, budget: Budget | None = None) -> Spender:
    """
    How *entity* is counted.

    :param budget: that it names, and has where it has none of its own.
    """
    # A user's own budget is for keys that have no team.
    equal: Mapping[Dimension, str | None] = {"team": None} if isinstance(entity, User) else {}
    source: Limited = entity if entity.max_budget is not None or budget is None else budget
    return Spender(
        subject=subject_of(kind_of(entity), entity.id),
        by=_DIMENSIONS[type(entity)],
        id=entity.id,
        equal=equal,
        total=entity.spend,
        span=None if source.max_budget is None else source.budget_duration or "",
        window=current(source, now),
        resets_at=resetting(entity, now),
    )


async def counted(office: Office, spenders: Sequence[Spender], *, written: bool = False) -> list[Spend]:
    """
    What counts against the budgets of *spenders*, in their order: one look for all.

    :param written: they are shown as just written, and must be even if the store is away now: then by what they have
        spent in all.
    """
    try:
        rows = await latest(office, [each.subject for each in spenders if each.span is not None])
        return await compared(office, spenders, rows)
    except StoreAway:
        if not written:
            raise
        return [Spend(amount=each.total or Usd(), resets_at=each.resets_at) for each in spenders]


async def compared(office: Office, spenders: Sequence[Spender], rows: Iterable[Used]) -> list[Spend]:
    """
    What counts against the budgets of *spenders*, in their order: where nobody has claimed in a window, what the store
    would begin it with.

    :param rows: how their allowances stand, those of others among them.
    """
    budgets = {row.allowance: row for row in rows if row.allowance.kind == "usd"}
    found: list[Spend] = []
    asked: dict[int, tuple[Spender, date | None]] = {}
    for nth, each in enumerate(spenders):
        row = budgets.get(Allowance(subject=each.subject, kind="usd", span=each.span or "", model=each.model))
        amount, held = each.total or Usd(), Usd()
        if each.span is not None and row is not None and row.starts_us >= each.window.starts_us:
            amount, held = Usd(row.used), Usd(row.held)
        elif each.span or each.model:
            of_days = each.window.starts_us % _DAY_US == each.window.ends_us % _DAY_US == 0
            if each.span and of_days and "*" not in each.model:
                asked[nth] = each, (EPOCH + timedelta(microseconds=each.window.starts_us)).date()
            amount = Usd()
        elif each.total is None:
            asked[nth] = each, None
        found.append(Spend(amount=amount, held=held, resets_at=each.resets_at))
    for nth, amount in (await _from_ledger(office, asked)).items():
        # The days may have been somebody else's, who had the same id before.
        total = spenders[nth].total
        found[nth] = evolve(found[nth], amount=amount if total is None else min(amount, total))
    return found


async def latest(office: Office, subjects: Iterable[str]) -> Sequence[Used]:
    """
    How the allowances of *subjects* stand.
    """
    wanted = list(dict.fromkeys(subjects))
    return await office.allowances.look(wanted) if wanted else []


async def _from_ledger(office: Office, asked: Mapping[int, tuple[Spender, date | None]]) -> dict[int, Usd]:
    """
    What some have spent since the beginning of a day, under their numbers.
    """
    alike: dict[object, tuple[Question, list[int]]] = {}
    for nth, (each, since) in asked.items():
        equal = dict(each.equal)
        if each.model:
            equal["model"] = each.model
        by = () if each.by is None else (each.by,)
        question = Question(by=by, equal=equal, since=since, limit=SUMS_AT_ONCE)
        alike.setdefault((each.by, since, *equal.items()), (question, []))[1].append(nth)
    found: dict[int, Usd] = {}
    for question, numbers in alike.values():
        costs: dict[object, Usd] | None = None
        if len(numbers) > SINGLE_QUESTIONS:
            sums = await office.books.sums(question)
            costs = {each.of[0]: each.cost for each in sums} if len(sums) < SUMS_AT_ONCE else None
        for nth in numbers:
            name = asked[nth][0].id
            if costs is None:
                named = dict.fromkeys(question.by, name)
                [own] = await office.books.sums(evolve(question, by=(), equal={**question.equal, **named}))
                found[nth] = own.cost
            else:
                found[nth] = costs.get(name, Usd())
    return found
