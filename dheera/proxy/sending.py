"""
One request on its way to upstream: with which key it goes, and whether it is sent again.

It is, where upstream cannot have begun on it, or says itself that it has not; never once the client has had a byte.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dheera.errors import ConnectFailed
from dheera.proxy.accounting import Account
from dheera.proxy.credentials import (
    FIRST_SERVER_ERROR,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    UNAVAILABLE,
    Credential,
    Credentials,
    Turn,
)
from dheera.proxy.errand import Errand
from dheera.proxy.headers import interim
from dheera.proxy.retrying import asked_seconds
from dheera.proxy.upstream import Upstream
from dheera.wire.heads import Fields
from dheera.wire.outgoing import Outgoing
from dheera.wire.request import Request
from dheera.wire.response import Response

log = Logger()

SPREAD = frozenset(
    {
        "chat/completions",
        "chat/moderations",
        "chat/classifications",
        "fim/completions",
        "embeddings",
        "moderations",
        "classifications",
        "ocr",
        "audio/speech",
        "audio/transcriptions",
        "audio/transcriptions/realtime",
    }
)
"""
Endpoints that need nothing of what upstream keeps. Calls of all others go with the first key: what they name may
belong to its workspace.
"""
BOUND = (b"file_id", b"voice_id", b'"ft:')
"""
What in a body names something all the same that belongs to a workspace: a file, a voice, or a model that was trained
there.
"""
NAMELESS = frozenset({"chat/moderations", "embeddings", "moderations"})
"""
Endpoints whose bodies name nothing of the sort, so that any key may take one that cannot be searched.
"""

READING = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""
Methods that change nothing: on a stale connection they may be sent again whatever is set.
"""
DECLINED = frozenset({UNAUTHORIZED, TOO_MANY_REQUESTS, UNAVAILABLE})
"""
Answers with which upstream says that it has done nothing.
"""


class Sending:
    """
    Sends one request.

    :param errand: what its head asks for.
    """

    _turn: Turn | None = None
    _tried: Sequence[Credential] = ()
    _refused: Sequence[Turn] = ()
    _is_informed = False

    def __init__(self, request: Request, upstream: Upstream, account: Account, errand: Errand) -> None:
        self._request = request
        self._upstream = upstream
        self._account = account
        self._errand = errand

    def begin(self) -> Deferred[Response]:
        """
        Send it the first time.

        :return: fires with the head of the answer, its body to come; fails with an ``UpstreamError``. Cancel it to
            close its connection.
        """
        upstream = self._upstream
        if not upstream.budget.is_full:
            upstream.budget.count()
        if upstream.credentials is None:
            return self._send(upstream.authorization)
        self._turn = self._choose(upstream.credentials)
        self._account.tries.use(self._turn.credential.name)
        return self._send_in_turn(self._turn)

    async def go_on(self, result: Response | ConnectFailed) -> Response:
        """
        Send it again, as long as that is safe and may help.

        :param result: what came of it.
        :return: the last answer.
        :raises UpstreamError: there is none.
        """
        while True:
            if self._turn is not None:
                self._tried = [*self._tried, self._turn.credential]
                if isinstance(result, Response) and result.code == UNAUTHORIZED:
                    self._refused = [*self._refused, self._turn]
            seconds = self._pause(result)
            if seconds is None:
                if isinstance(result, ConnectFailed):
                    raise result
                return result
            self._upstream.budget.take()
            self._drop(result)
            if seconds:
                await deferLater(self._upstream.reactor, seconds)
            try:
                result = await self._send_again(result)
            except ConnectFailed as failed:
                result = failed
            if isinstance(result, Response) and result.code not in DECLINED:
                if self._upstream.credentials is not None and result.code < FIRST_SERVER_ERROR:
                    self._upstream.credentials.confirm(self._refused)
                return result

    def _pause(self, result: Response | ConnectFailed) -> float | None:
        """
        How long to wait before it is sent again; ``None`` if it is not.
        """
        budget, tries, body = self._upstream.budget, self._account.tries, self._request.body
        if self._is_informed or self._account.is_left or not budget.allows(tries.count):
            return None
        if isinstance(result, ConnectFailed):
            # Not a byte was sent. Who has waited long for that has waited long enough.
            return (
                budget.pause(self._account.tries.count)
                if self._account.tries.seconds() <= budget.longest_pause
                else None
            )
        if self._request.upgrade_to is not None or (body is not None and body.whole() is None):
            return None
        asked = None if result.code == UNAUTHORIZED else asked_seconds(result.fields, self._upstream.now())
        if asked is None and result.code == UNAVAILABLE:
            return None
        if self._other() is not None:
            return 0.0
        return asked if asked is not None and asked <= budget.longest_pause else None

    def _other(self) -> Turn | None:
        """
        Another key that it can be sent with at once.
        """
        credentials = self._upstream.credentials
        return credentials.other(self._tried) if credentials is not None and self._is_anybodys() else None

    def _drop(self, result: Response | ConnectFailed) -> None:
        if isinstance(result, ConnectFailed):
            self._account.tries.drop(None, type(result).__name__)
            return
        if result.whole() is None:  # else its connection is kept already
            result.abortConnection()
        self._account.tries.drop(result.code, None)

    def _send_again(self, result: Response | ConnectFailed) -> Deferred[Response]:
        credentials = self._upstream.credentials
        if credentials is None:
            self._account.tries.again(None)
            return self._send(self._upstream.authorization)
        other = self._other() if isinstance(result, Response) else None
        self._turn = other or self._choose(credentials)
        self._turn.is_doubtful = bool(self._refused)
        self._account.tries.again(self._turn.credential.name)
        return self._send_in_turn(self._turn)

    def _choose(self, credentials: Credentials) -> Turn:
        if not self._is_anybodys():
            return credentials.first()
        body = self._request.body
        return credentials.choose(may_probe=body is None or body.whole() is not None)

    def _is_anybodys(self) -> bool:
        """
        Whether any key may make the call.
        """
        endpoint, body = self._errand.endpoint, self._request.body
        if endpoint not in SPREAD:
            return False
        if body is None:
            return True
        whole = body.whole()
        if whole is None:
            return endpoint in NAMELESS
        return not any(mark in whole for mark in BOUND)

    def _send_in_turn(self, turn: Turn) -> Deferred[Response]:
        sent = self._send(turn.credential.authorization)
        sent.addBoth(_tell, turn)
        return sent

    def _send(self, authorization: bytes | None) -> Deferred[Response]:
        request = self._request
        upstream = self._upstream
        return upstream.send(
            Outgoing(
                origin=upstream.base.origin,
                method=request.method,
                lines=self._errand.lines(),
                authorization=authorization,
                body=request.body,
                informed=self._inform,
                retried=self._anew,
            )
        )

    def _anew(self) -> bool:
        """
        The connection that it was sent on was stale: whether it may be sent on another one.
        """
        budget, tries = self._upstream.budget, self._account.tries
        if self._request.method not in READING and not budget.allows(tries.count):
            return False
        budget.take()
        tries.anew()
        return True

    def _inform(self, code: int, phrase: bytes, fields: Fields) -> None:
        self._is_informed = True
        self._request.inform(code, phrase, interim(fields))


def _tell(result: Response | Failure, turn: Turn) -> Response | Failure:
    try:
        turn.over(result if isinstance(result, Response) else None)
    except Exception:  # noqa: BLE001 - the exchange goes on
        log.failure("Bug: what an answer tells of a key cannot be learnt")
    return result
