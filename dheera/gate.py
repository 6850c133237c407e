"""
Who are you, and may you? With a master key the gate opens to that key, and to the virtual keys that the store knows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from hmac import compare_digest
from math import inf
from time import time

from attrs import define, field
from msgspec import structs
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from dheera.attempts import Attempts, place_of
from dheera.boundaries import Admission, Bearer, Caller, Gate, Grant, Store
from dheera.entities import Key, Team
from dheera.errors import (
    BadRequest,
    BlockedKey,
    ExpiredKey,
    NotAllowed,
    NotAuthenticated,
    Refusal,
    StoreAway,
    UnknownKey,
)
from dheera.keyring import Keyring
from dheera.keys import Digest, Secret, digest
from dheera.limits import Limits
from dheera.models import Models
from dheera.routes import Routes, judged
from dheera.settings import KeySettings

MASTER_REMEMBERED_SECONDS = 3600.0
MASTER_RENEWED_SECONDS = 60.0
MASTER_PLACES = 1000
"""
From how many addresses the master key is known to come, and for how long: there, it needs no look into the store, and
wrong keys of others behind the same address do not slow it down.
"""


@define(eq=False)
class _Pass:
    """
    What is made of a grant once, for many requests.

    :param blocked: why it opens nothing.
    :param expires: seconds since the epoch, as `ends`.
    :param ends: when the text that was offered is no key any more, because another one has taken its place.
    """

    bearer: Bearer
    admission: Admission
    blocked: str | None = None
    expires: float = inf
    ends: float = inf


MASTER = _Pass(Bearer(alias="master", is_master=True), Admission(alias="master"))


@define(eq=False)
class KeyGate:
    """
    Opens to the master key, and to virtual keys as far as each may go.

    :param clock: seconds since the epoch.
    :param sensitive_allowed: virtual keys may call the endpoints that hand out other credentials.
    """

    _reactor: IReactorTime
    _master_key: Secret
    _keyring: Keyring[_Pass]
    _attempts: Attempts
    _clock: Callable[[], float]
    _sensitive_allowed: bool
    _master: Digest = field(init=False)
    _master_seen_at: OrderedDict[str, float] = field(factory=OrderedDict)

    def __attrs_post_init__(self) -> None:
        self._master = digest(self._master_key.reveal().encode())

    def changed(self, master_key: Secret, keys: KeySettings) -> KeyGate:
        """
        A gate with other settings. It takes over what this one knows of keys, so this one shall be asked no more.
        """
        self._keyring.resize(keys.cached, keys.away_seconds)
        attempts = self._attempts  # else each reload would forgive
        if attempts.free != keys.wrong_keys:
            attempts = Attempts(self._reactor, keys.wrong_keys)
        return KeyGate(
            self._reactor, master_key, self._keyring, attempts, self._clock, keys.sensitive_routes == "allow"
        )

    def close(self) -> None:
        """
        Be told of changes no more.
        """
        self._keyring.close()

    def identify(self, caller: Caller) -> Deferred[Bearer]:
        """
        Find out whose key it is that *caller* offers.
        """
        try:
            known = self._known(caller)
        except Refusal as refusal:
            return fail(refusal)
        if known is not None:
            return succeed(known.bearer)
        return Deferred.fromCoroutine(self._find(caller)).addCallback(lambda found: found.bearer)

    def admit_at_once(self, caller: Caller, method: bytes, target: bytes) -> Admission | None:
        """
        Let the bearer of a key that is at hand go where the key leads.
        """
        known = self._known(caller)
        return None if known is None else self._let_through(known, method, target)

    def admit(self, caller: Caller, method: bytes, target: bytes) -> Deferred[Admission]:
        """
        Let the bearer of a key go where the key leads.
        """
        try:
            admission = self.admit_at_once(caller, method, target)
        except Refusal as refusal:
            return fail(refusal)
        if admission is not None:
            return succeed(admission)
        return Deferred.fromCoroutine(self._find(caller)).addCallback(self._let_through, method, target)

    def describe(self) -> str:
        """
        The mode in words.
        """
        return "A key is needed: the master key, or a virtual key made with it."

    def _known(self, caller: Caller) -> _Pass | None:
        """
        What *caller* offers, if it was seen before and still is good.
        """
        offered = _offered(caller)
        if compare_digest(offered, self._master):
            return MASTER if self._comes_often(caller) else None
        found = self._keyring.held(offered)
        if found is not None:
            self._require_good(found)
        return found

    def _comes_often(self, caller: Caller) -> bool:
        seconds = self._clock() - self._master_seen_at.get(place_of(caller.peer), 0.0)
        if seconds > MASTER_REMEMBERED_SECONDS:
            return False
        if seconds > MASTER_RENEWED_SECONDS:
            self._remember_master(caller)
        return True

    async def _find(self, caller: Caller) -> _Pass:
        offered = _offered(caller)
        if self._keyring.knows(offered):
            # It opened something, and that may have changed; whoever has it is not guessing.
            return self._good(await self._keyring.look_up(offered))
        lane = await self._attempts.enter(caller.peer)
        wrong = False
        try:
            return await self._look_up(offered, caller)
        except NotAuthenticated as refusal:
            wrong = not isinstance(refusal, BlockedKey | ExpiredKey)
            raise
        finally:
            lane.leave(wrong=wrong)

    async def _look_up(self, offered: Digest, caller: Caller) -> _Pass:
        is_master = compare_digest(offered, self._master)
        # Right and wrong keys take the same way: the master key is looked for in the store as well.
        try:
            found = await self._keyring.look_up(offered)
        except StoreAway:
            if not is_master:
                raise
        if is_master:
            self._remember_master(caller)
            return MASTER
        if found is None and not (caller.credential or b"").startswith(b"sk-"):
            raise NotAuthenticated("This is no API key of ours: they begin with sk-. Ask whoever runs dheera for one.")
        return self._good(found)

    def _good(self, found: _Pass | None) -> _Pass:
        if found is None:
            raise UnknownKey
        self._require_good(found)
        return found

    def _remember_master(self, caller: Caller) -> None:
        place = place_of(caller.peer)
        self._master_seen_at[place] = self._clock()
        self._master_seen_at.move_to_end(place)
        if len(self._master_seen_at) > MASTER_PLACES:
            self._master_seen_at.popitem(last=False)

    def _require_good(self, found: _Pass) -> None:
        if found.ends != inf and found.ends <= self._clock():
            raise UnknownKey
        if found.blocked is not None:
            raise _known(BlockedKey(found.blocked), found)
        if found.expires != inf and found.expires <= self._clock():
            raise _known(ExpiredKey(found.bearer.key.name if found.bearer.key else ""), found)

    def _let_through(self, found: _Pass, method: bytes, target: bytes) -> Admission:
        if found is MASTER:
            return found.admission
        path, sensitive = judged(target)
        routes = found.bearer.routes
        verb = method.decode("ascii")
        if sensitive:
            if not (self._sensitive_allowed and routes.permits(verb, path)) and not routes.names(verb, path):
                raise _known(
                    NotAllowed(
                        "This endpoint hands out other credentials, or a way round this gateway, so virtual keys may "
                        "not call it. Whoever runs this dheera can name it in the key's allowed_routes."
                    ),
                    found,
                )
        elif not routes.permits(verb, path):
            raise _known(
                NotAllowed("This API key may not call this endpoint: it is not among its allowed_routes."), found
            )
        return found.admission


def make_key_gate(
    reactor: IReactorTime,
    store: Store,
    master_key: Secret,
    keys: KeySettings,
    clock: Callable[[], float] = time,
) -> KeyGate:
    """
    The gate that knows the keys of *store*, which has not been opened yet.
    """
    keyring = Keyring(
        reactor, store, lambda: datetime.fromtimestamp(clock(), UTC), _made_of, keys.cached, keys.away_seconds
    )
    attempts = Attempts(reactor, keys.wrong_keys)
    return KeyGate(reactor, master_key, keyring, attempts, clock, keys.sensitive_routes == "allow")


def _made_of(grant: Grant) -> _Pass:
    # What nobody needs later is let go: there may be many keys, and much in each.
    key = structs.replace(grant.key, metadata={}, rest={})
    alias = key.name if key.alias in (None, MASTER.bearer.alias) else key.alias  # nobody passes for the master key
    models = Models.of(key, grant.team, grant.user)
    return _Pass(
        Bearer(alias=alias, key=key, routes=Routes.of(key.allowed_routes), models=models),
        Admission(
            alias=alias,
            key=key,
            models=models if models.restricts else None,
            team_alias=None if grant.team is None else grant.team.alias,
            content=_text(grant.key.metadata.get("log_content")),
            limits=Limits.of(grant.key, team=grant.team, user=grant.user, member=grant.member, budget=grant.budget),
        ),
        _blocked(key, grant.team),
        key.expires_at.timestamp() if key.expires_at else inf,
        grant.until.timestamp() if grant.until else inf,
    )


def _offered(caller: Caller) -> Digest:
    if caller.ambiguous:
        raise BadRequest("Two different API keys were sent. Send one, as: Authorization: Bearer KEY")
    if caller.credential is None:
        raise NotAuthenticated("No api key passed in. Send one as: Authorization: Bearer KEY")
    if caller.digest is None:
        raise NotAuthenticated("Malformed API Key. Send it as: Authorization: Bearer KEY")
    return caller.digest


def _known(refusal: Refusal, found: _Pass) -> Refusal:
    refusal.known_as = found.admission
    return refusal


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _blocked(key: Key, team: Team | None) -> str | None:
    if key.blocked:
        return "Key is blocked. Ask whoever runs this dheera to unblock it."
    if team is not None and team.blocked:
        return "The team of this key is blocked. Ask whoever runs this dheera to unblock it."
    if team is None and key.team_id is not None:
        # It may have been blocked, or bound to models: nobody knows.
        return "The team of this key does not exist. Ask whoever runs this dheera to make it, or another key."
    return None


_: type[Gate] = KeyGate
