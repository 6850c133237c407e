"""
The keys that one upstream knows: which of them a call is sent with, and what is learnt of them from its answer.

Where there is only one nothing is learnt: it is never rested, and what upstream says to it is the client's to hear.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dheera.call_ids import new_call_id
from dheera.keys import Digest, WeightedKey, digest
from dheera.proxy.health import Health
from dheera.proxy.retrying import asked_seconds
from dheera.records import Alert
from dheera.settings import BalanceSettings
from dheera.wire.response import Response

log = Logger()

UNAUTHORIZED = 401
TOO_MANY_REQUESTS = 429
UNAVAILABLE = 503
FAILURES = frozenset({500, 502, UNAVAILABLE, 504})
FIRST_SERVER_ERROR = 500


@define(eq=False)
class Credential:
    """
    One key.

    :param name: what it is called in logs and records.
    :param authorization: the value of ``Authorization``.
    """

    name: str
    authorization: bytes = field(repr=False)
    weight: int
    digest: Digest = field(repr=False)
    health: Health
    _owed: int = field(default=0, init=False)

    def owe(self, total: int) -> float | None:
        """
        Another call is to be sent: its share of that is owed to this key.

        :param total: the weights of all keys together.
        :return: how many calls hence it must have been sent one at the latest; ``None`` if nothing is owed to it.
        """
        self._owed += self.weight
        return (total - self._owed) / self.weight if self._owed > 0 else None

    def take(self, total: int) -> None:
        """
        The call is sent with this key.
        """
        self._owed -= total

    @property
    def owed(self) -> int:
        """
        How much is.
        """
        return self._owed

    def forget(self) -> None:
        """
        Nothing is owed any more.
        """
        self._owed = 0


@define(eq=False)
class Turn:
    """
    One call that is sent with one of several keys. It is over when its answer has begun, or will not.

    :param is_probe: it tries a key that has rested.
    :ivar is_doubtful: with another key the call was refused already (401): what it wants, perhaps no key may.
    """

    credential: Credential
    _over: Callable[[Turn, Response | None], None]
    is_probe: bool = field(default=False, kw_only=True)
    rests: int = field(init=False)
    is_doubtful: bool = field(default=False, init=False)
    _is_over: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.rests = self.credential.health.rests

    def over(self, response: Response | None) -> None:
        """
        This is upstream's answer.

        :param response: ``None`` if there was none: that is nothing of the key's.
        """
        if not self._is_over:
            self._is_over = True
            self._over(self, response)


@define(eq=False, kw_only=True)
class Credentials:
    """
    All keys of one upstream; several.

    :param upstream: its name.
    :param alert: told when upstream does not know a key, and when it does again.
    :param now: aware, in UTC.
    """

    _all: Sequence[Credential]
    _reactor: IReactorTime
    _rules: BalanceSettings
    _upstream: str
    _node: str
    _alert: Callable[[Alert], None]
    _now: Callable[[], datetime]
    _free: Sequence[Credential] = field(default=(), init=False)

    def __iter__(self) -> Iterator[Credential]:
        return iter(self._all)

    def healths(self) -> Mapping[Digest, Health]:
        """
        How each key fares, for those who come after.
        """
        return {each.digest: each.health for each in self._all}

    def resting(self) -> Mapping[str, bool]:
        """
        Which keys rest now, by their names.
        """
        now = self._reactor.seconds()
        return {each.name: not each.health.is_free(now) for each in self._all}

    def choose(self, *, may_probe: bool = True) -> Turn:
        """
        The key whose turn it is, for a call that any of them may make: in proportion to their weights, as evenly as
        that can be, among those that do not rest. One that has rested is tried by the first call that may. If all rest,
        it is the one whose rest ends first.

        :param may_probe: the call can be sent again with another key, so that its client does not pay for the trial.
        """
        now = self._reactor.seconds()
        for each in self._all:
            if may_probe and each.health.wants_probe(now):
                each.health.probed = True
                return Turn(each, self._learn, is_probe=True)
        free = [each for each in self._all if each.health.is_free(now)]
        if not free:
            return self._turn(min(self._all, key=lambda each: each.health.until))
        if free != self._free:
            self._free = free
            for each in self._all:
                each.forget()
        return self._turn(_next(free))

    def first(self) -> Turn:
        """
        The first key, for a call that no other may make. Nothing is learnt from it: what it may do, and how often, is
        another matter.
        """
        return Turn(self._all[0], lambda _, __: None)

    def other(self, tried: Collection[Credential]) -> Turn | None:
        """
        A key that does not rest and is none of those *tried*.
        """
        now = self._reactor.seconds()
        free = [each for each in self._all if each not in tried and each.health.is_free(now)]
        return self._turn(max(free, key=lambda each: each.owed)) if free else None

    def confirm(self, refused: Iterable[Turn]) -> None:
        """
        Another key may do what those *refused* that were doubtful could not: so it was for the keys.
        """
        for turn in refused:
            if turn.is_doubtful and turn.rests == turn.credential.health.rests:
                turn.is_doubtful = False
                self._refuse(turn)

    def _turn(self, credential: Credential) -> Turn:
        return Turn(credential, self._learn)

    def _learn(self, turn: Turn, response: Response | None) -> None:
        credential = turn.credential
        health = credential.health
        if turn.is_probe:
            health.probed = False
        if response is None:
            return
        # What was sent before the key began to rest tells of a time that is over.
        is_old = turn.rests != health.rests
        code = response.code
        if code == TOO_MANY_REQUESTS:
            if not is_old or health.cause == "limited":
                asked = asked_seconds(response.fields, self._now())
                self._known(credential, is_new=health.limited(self._reactor.seconds(), asked))
        elif is_old:
            return
        elif code == UNAUTHORIZED:
            self._refuse(turn)
        elif code in FAILURES:
            # Who says when to come back has not failed.
            if code != UNAVAILABLE or asked_seconds(response.fields, self._now()) is None:
                self._failed(credential, code)
        elif code < FIRST_SERVER_ERROR:
            self._known(credential, is_new=health.accepted(self._reactor.seconds()))

    def _known(self, credential: Credential, *, is_new: bool) -> None:
        if is_new:
            self._tell(credential, "knows", "it is used again", is_over=True)

    def _refuse(self, turn: Turn) -> None:
        credential = turn.credential
        if not turn.is_doubtful and credential.health.refused(self._reactor.seconds(), self._rules):
            self._tell(credential, "does not know", "it rests, and the others go on", is_over=False)

    def _failed(self, credential: Credential, code: int) -> None:
        now, health = self._reactor.seconds(), credential.health
        if health.failed(now, self._rules):
            log.warn(
                "Upstream {upstream} fails with its {key} (last with {status}): it rests for {seconds:g} s",
                upstream=self._upstream,
                key=_shown(credential.name),
                status=code,
                seconds=health.until - now,
            )

    def _tell(self, credential: Credential, verb: str, rest: str, *, is_over: bool) -> None:
        self._alert(
            Alert(
                id=new_call_id(),
                at=self._now(),
                node=self._node,
                about="upstream",
                subject=f"upstream {self._upstream}, {_shown(credential.name)}",
                text=f"Upstream {self._upstream} {verb} its {_shown(credential.name)}: {rest}.",
                level="resolved" if is_over else "warning",
            )
        )


def _shown(name: str) -> str:
    return name if name.startswith("key ") else f"key {name}"


def _next(free: Sequence[Credential]) -> Credential:
    """
    Of keys to which something is owed, the one that must have its call the soonest: so none is ever a whole call ahead
    of its share, or behind it.
    """
    total = sum(each.weight for each in free)
    due = [(late, place) for place, each in enumerate(free) if (late := each.owe(total)) is not None]
    chosen = free[min(due)[1]]
    chosen.take(total)
    return chosen


def make_credentials(keys: Sequence[WeightedKey], healths: Mapping[Digest, Health]) -> Sequence[Credential]:
    """
    *keys* as they are sent.

    :param healths: what is known of some of them from before.
    """
    made = []
    for number, each in enumerate(keys, 1):
        text = each.key.reveal().encode("ascii")
        known = digest(text)
        made.append(
            Credential(
                name=each.name or f"key {number}",
                authorization=b"Bearer " + text,
                weight=each.weight,
                digest=known,
                health=healths.get(known) or Health(),
            )
        )
    return made
