"""
What somebody may take: of whom, of what, how much, in which window; and where the directory says so.

Imports no Twisted and does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from attrs import evolve, field, frozen

from dheera import terms
from dheera.entities import Budget, Customer, Key, Limited, Team, User
from dheera.holding import Kind, member_subject, subject_of
from dheera.money import LARGEST, NANO
from dheera.settings import LimitSettings
from dheera.terms import first
from dheera.wildcards import Wildcards

UNCAPPED = LARGEST * NANO
"""
The cap of a budget that nobody can exceed: it only tells when its `Limit.soft` is reached.
"""

_COUNTS: Mapping[str, Kind] = {"rpm_limit": "requests", "tpm_limit": "tokens", "max_parallel_requests": "parallel"}
_COUNTS_BY_MODEL: Mapping[str, Kind] = {"model_rpm_limit": "requests", "model_tpm_limit": "tokens"}
_PROVIDER = "mistral/"


@frozen(kw_only=True, cache_hash=True)  # those of a call name its desk
class Limit:
    """
    One limit of one subject.

    :param subject: as in `holding.Allowance`.
    :param whose: ``key``, ``user``, ``team``, ``team_member``, ``end_user``, ``proxy``: for messages and headers.
    :param name: what the subject is called there: an alias, or else an id, or a key as it may be shown; never a secret.
    :param cap: nano-dollars, or how many.
    :param soft: of a budget: somebody is told when so many nano-dollars are spent.
    :param span: of a budget: after which it begins anew (`durations`); empty if it never does.
    :param anchor: aware; one of the times at which it does, for spans that the calendar does not tell.
    :param model: name or pattern; empty for all models.
    :param raised_by: added to *cap* until *raised_until*.
    """

    subject: str
    whose: str
    name: str
    kind: Kind
    cap: int
    soft: int | None = None
    span: str = ""
    anchor: datetime | None = None
    model: str = ""
    raised_by: int = 0
    raised_until: datetime | None = None
    _models: Wildcards = field(init=False, repr=False, eq=False)

    @_models.default
    def _compile(self) -> Wildcards:
        return Wildcards.of([self.model.removeprefix(_PROVIDER)])

    def concerns(self, model: str | None) -> bool:
        """
        Whether a call with this model takes of it.
        """
        return not self.model or (model is not None and self._models.match(model))


@frozen
class Limits:
    """
    All that bound a call, as far as is known before it is read. No two are of the same allowance.

    What is kept as a document and cannot be read, and a shared budget that does not exist, let nothing through, since
    nobody knows what they limit: they are limits of no request at all, and their names tell why.

    :ivar needs_body: whether the body must be read to tell what a call may take, or of which of them.
    :ivar by_model: whether some are for certain models.
    """

    all: tuple[Limit, ...] = ()
    needs_body: bool = field(init=False, repr=False, eq=False)
    by_model: bool = field(init=False, repr=False, eq=False)

    @needs_body.default
    def _look(self) -> bool:
        return any(limit.kind in ("usd", "tokens") or limit.model for limit in self.all)

    @by_model.default
    def _look_for_models(self) -> bool:
        return any(limit.model for limit in self.all)

    @classmethod
    def of(
        cls,
        key: Key,
        *,
        team: Team | None = None,
        user: User | None = None,
        member: Mapping[str, Any] | None = None,
        budget: Budget | None = None,
    ) -> Limits:
        """
        Those of *key*: its own, and where it has none of a sort, that of its shared budget, of which each key has its
        own count; those of its team, and of its user in the team; or, if it has no team, those of its user.

        :param member: what the team says of the user.
        """
        found = list(_Whom(subject_of("key", key.id), "key", key.alias or key.name).all(key, key.budget_id, budget))
        if team is not None:
            found += _Whom(subject_of("team", team.id), "team", team.alias or team.id).all(team)
            if key.user_id is not None:
                name = (user and user.alias) or key.user_id
                found += _Whom(member_subject(team.id, key.user_id), "team_member", name).in_team(team, member or {})
        elif user is not None and key.team_id is None:
            found += _Whom(subject_of("user", user.id), "user", user.alias or user.id).all(user)
        return cls(_merged(found))

    @classmethod
    def of_settings(
        cls, settings: LimitSettings, *, subject: str = "proxy", whose: str = "proxy", name: str = "proxy"
    ) -> Limits:
        """
        Those that the operator has set.
        """
        return cls(_merged(_Whom(subject, whose, name).plain([settings])))

    @classmethod
    def of_customer(
        cls, end_user: str, customer: Customer | None, budget: Budget | None, defaults: LimitSettings
    ) -> Limits:
        """
        Those of an end user: of the customer, and where it has none of a sort, of its shared budget; or else, if there
        are none at all, *defaults*.

        :param customer: of that id, if there is one.
        """
        subject = subject_of("customer", end_user)
        if customer is not None:
            whom = _Whom(subject, "end_user", customer.alias or end_user)
            found = list(whom.all(customer, customer.budget_id, budget))
            if found:
                return cls(_merged(found))
        return cls.of_settings(defaults, subject=subject, whose="end_user", name=end_user)

    def __bool__(self) -> bool:
        return bool(self.all)

    def beside(self, others: Limits) -> Limits:
        """
        All of these, and of *others*.
        """
        if not others.all:
            return self
        return _together(self.all, others.all) if self.all else others

    def concerning(self, model: str | None) -> Sequence[Limit]:
        """
        Those of which a call with this model takes.
        """
        return [limit for limit in self.all if limit.concerns(model)] if self.by_model else self.all


@frozen
class _Whom:
    """
    Whose limits they are, as `Limit` has it; reads them where they are kept.
    """

    subject: str
    whose: str
    name: str

    def all(self, own: Limited, budget_id: str | None = None, budget: Budget | None = None) -> Iterator[Limit]:
        """
        What *own* says, and the shared budget that it names.
        """
        if budget_id is not None and budget is None:
            yield self._nothing("the budget of its budget_id does not exist")
        sources: list[Limited] = [own] if budget is None else [own, budget]
        yield from self.plain(sources, *terms.increase(own))
        for cap, span, anchor in terms.budget_limits(own):
            yield from self._limit("usd", "budget_limits", cap, span=span, anchor=anchor)
        source = next((each for each in sources if each.model_max_budget), own)
        for model, said in terms.by_model(source, "model_max_budget"):
            cap, span, rates = terms.model_budget(said)
            span = source.budget_duration if span is None else span
            yield from self._limit("usd", "model_max_budget", cap, span=span, anchor=_anchor(source), model=model)
            for name, count in rates.items():
                yield from self._limit(_COUNTS[name], "model_max_budget", count, model=model)
        for name, kind in _COUNTS_BY_MODEL.items():
            for model, count in terms.by_model(own, name):
                yield from self._limit(kind, name, count, model=model)

    def plain(
        self, sources: Sequence[Limited | LimitSettings], raised_by: int = 0, raised_until: datetime | None = None
    ) -> Iterator[Limit]:
        """
        What holds for all models, each from the first of *sources* that has it; a budget comes with its duration.
        """
        chosen = next((each for each in sources if each.max_budget is not None), sources[0])
        yield from self._limit(
            "usd",
            "max_budget",
            chosen.max_budget,
            soft=first(each.soft_budget for each in sources),
            span=chosen.budget_duration,
            anchor=_anchor(chosen),
            raised_by=raised_by,
            raised_until=raised_until,
        )
        for name, kind in _COUNTS.items():
            yield from self._limit(kind, name, first(getattr(each, name) for each in sources))

    def in_team(self, team: Team, member: Mapping[str, Any]) -> Iterator[Limit]:
        """
        What *team* says of one member, and where it says nothing, of each.
        """
        cap, span = member.get("max_budget_in_team"), member.get("budget_duration")
        if cap is None:
            cap, span = team.rest.get("team_member_budget"), team.rest.get("team_member_budget_duration")
        yield from self._limit("usd", "max_budget_in_team", cap, span=span, anchor=team.created_at)
        for name, kind in _COUNTS.items():
            yield from self._limit(kind, name, first([member.get(name), team.rest.get(f"team_member_{name}")]))

    def _limit(
        self,
        kind: Kind,
        what: str,
        cap: object,
        *,
        soft: object = None,
        span: object = None,
        model: str = "",
        **more: Any,
    ) -> list[Limit]:
        """
        One limit; none if nothing is set; one that lets nothing through if it cannot be read.

        :param what: says so.
        """
        if cap is None and soft is None:
            return []
        try:
            read = terms.nano if kind == "usd" else terms.count
            more["cap"] = UNCAPPED if cap is None else read(cap)
            more["soft"] = None if soft is None else read(soft)
            return [self._made(kind, model, span=terms.span(span), **more)]
        except ValueError:
            return [self._nothing(f"its {what} cannot be read", model)]

    def _nothing(self, why: str, model: str = "") -> Limit:
        # Of requests, not of dollars: of no dollars, a call that costs nothing could still take its share.
        return evolve(self._made("requests", model, cap=0), name=f"{self.name} ({why})")

    def _made(self, kind: Kind, model: str, *, cap: int, raised_by: int = 0, **more: Any) -> Limit:
        return Limit(
            subject=self.subject,
            whose=self.whose,
            name=self.name,
            kind=kind,
            model=model.removeprefix(_PROVIDER),
            cap=cap,
            raised_by=min(raised_by, UNCAPPED - cap) if raised_by else 0,  # databases count in 64 bits
            **more,
        )


@lru_cache(maxsize=1024)
def _together(some: tuple[Limit, ...], others: tuple[Limit, ...]) -> Limits:
    """
    Those of a key and of the whole proxy are the same for each call: to look into them anew takes 1 us.
    """
    return Limits(some + others)


def _merged(found: Iterable[Limit]) -> tuple[Limit, ...]:
    """
    *found*, and where several are of one allowance, the strictest: they would be counted twice.
    """
    merged: dict[object, Limit] = {}
    for each in found:
        place = (each.subject, each.kind, each.span, each.model)
        merged[place] = _strictest(merged[place], each) if place in merged else each
    return tuple(merged.values())


def _strictest(one: Limit, other: Limit) -> Limit:
    least = min(one, other, key=lambda each: each.cap)
    raised = min(each.cap + each.raised_by for each in (one, other))
    softs = [each.soft for each in (one, other) if each.soft is not None]
    return evolve(
        least,
        soft=min(softs, default=None),
        raised_by=raised - least.cap,
        raised_until=least.raised_until if raised > least.cap else None,
    )


def _anchor(source: Limited | LimitSettings) -> datetime | None:
    return (source.budget_reset_at or source.created_at) if isinstance(source, Limited) else None


UNLIMITED = Limits()
