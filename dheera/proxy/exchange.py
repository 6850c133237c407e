"""
The story of one exchange: admit, afford, send, relay, account for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dheera.boundaries import Gate
from dheera.call_ids import new_call_id
from dheera.errors import ClientLeft, Refusal, UpstreamError
from dheera.proxy.accounting import Account, Accountant
from dheera.proxy.affording import Affording
from dheera.proxy.headers import Subnet, caller, downward, interim, upward
from dheera.proxy.inspection import inspect
from dheera.proxy.relay import listen, relay
from dheera.proxy.target import map_target
from dheera.proxy.tunnel import tunnel
from dheera.proxy.upstream import Upstream
from dheera.wire.headroom import Headroom
from dheera.wire.heads import Fields
from dheera.wire.request import Request

log = Logger()

CALL_ID = b"x-dheera-call-id"
ERROR_SOURCE = b"x-dheera-error-source"
SWITCHING_PROTOCOLS = 101
FIRST_ERROR_STATUS = 400


@define(eq=False)
class Exchanges:
    """
    Runs exchanges between clients and upstream.

    :param inspected_bytes: largest body that is read for the model it names, where a key demands it.
    :param headroom: for all such bodies together, as long as their exchanges last.
    :param trusted: networks of proxies whose word is taken on whom they speak for.
    :param finishes: an answer whose client has left is read to its end, for its usage.
    """

    _gate: Gate
    _upstream: Upstream
    _accountant: Accountant
    _inspected_bytes: int
    _headroom: Headroom
    _trusted: Sequence[Subnet] = ()
    _affording: Affording | None = field(default=None, kw_only=True)
    _finishes: bool = field(default=False, kw_only=True)
    _alone: set[Deferred[None]] = field(factory=set, init=False)

    def begin(self, request: Request) -> None:
        """
        Run the exchange of *request* to its end. The client's leaving cancels it, unless its answer is to be read all
        the same.
        """
        call_id = new_call_id()
        account = self._accountant.open(request, call_id)
        exchange = Deferred.fromCoroutine(self._run(request, call_id, account))
        if not exchange.called:
            request.when_left(lambda: self._left(exchange, account))
        exchange.addErrback(_broken, request, call_id)

    async def close(self, seconds: float, reactor: IReactorTime) -> None:
        """
        Wait for the answers that are read though their clients have left, and end what is not over then.
        """
        if self._alone:
            over = DeferredList([*self._alone])
            late = reactor.callLater(seconds, self._give_up)
            await over
            if late.active():
                late.cancel()

    def _give_up(self) -> None:
        for exchange in [*self._alone]:
            exchange.cancel()

    def _left(self, exchange: Deferred[None], account: Account) -> None:
        if not account.leave(finishes=self._finishes):
            exchange.cancel()
            return
        self._alone.add(exchange)
        exchange.addBoth(self._forget, exchange)

    def _forget(self, result: object, exchange: Deferred[None]) -> object:
        self._alone.discard(exchange)
        return result

    async def _run(self, request: Request, call_id: str, account: Account) -> None:
        try:
            await self._exchange(request, call_id.encode("ascii"), account)
        except Refusal as refusal:
            of_upstream = isinstance(refusal, UpstreamError)
            if of_upstream:
                log.warn("Call {call_id}: {reason}", call_id=call_id, reason=refusal.message)
            account.close("upstream_cut" if of_upstream else "refused", refusal)
            _refuse(request, refusal, call_id)
        except (CancelledError, ClientLeft):
            log.debug("Call {call_id}: the client left", call_id=call_id)
            account.close("interrupted" if request.site.ended else "client_left")
        except BaseException:
            account.close("refused", Refusal("Something failed inside dheera; its log says what."))
            raise
        else:
            account.close("complete")
        finally:
            if request.body is not None:
                request.body.release()

    async def _exchange(self, request: Request, call_id: bytes, account: Account) -> None:
        upstream, fields = self._upstream, request.fields
        target = map_target(request.uri, upstream.base)
        path = target[len(upstream.base.prefix) :]
        asking = caller(fields, request.client, self._trusted)
        account.asked(asking, path)
        admission = await self._gate.admit(asking, request.method, path)
        account.admitted(admission)
        if admission.models is not None:
            await inspect(request, path, admission.models, self._inspected_bytes, self._headroom)
        affording = self._affording
        if affording is not None and affording.concerns(admission):
            await affording.afford(request, path, admission, account)
        websocket = request.upgrade_to is not None
        crossing: Fields = upward(fields, upstream.authorization(), websocket=websocket)
        account.begin()
        response = await upstream.send(
            request.method,
            target,
            crossing,
            request.body,
            lambda code, phrase, fields: request.inform(code, phrase, interim(fields)),
            retried=account.sent_again,
        )
        account.answered(response)
        if account.is_left:
            await listen(response, account.answer.saw)
            return
        crossing = downward(response.fields, upstream.base)
        crossing.append((CALL_ID, call_id))
        if response.code == SWITCHING_PROTOCOLS:
            crossing += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
            await tunnel(response, request, crossing, account.answer.saw_up, account.answer.saw_down)
            return
        if response.code >= FIRST_ERROR_STATUS:
            crossing.append((ERROR_SOURCE, b"upstream"))
        whole = response.whole()
        crossing += account.fields(response, whole)
        request.begin(response.code, response.phrase, crossing)
        if whole is None:
            await relay(response, request, account.answer.saw)
        else:
            request.finish_with(whole)


def _broken(failure: Failure, request: Request, call_id: str) -> None:
    log.failure("Call {call_id} failed inside dheera", failure, call_id=call_id)
    _refuse(request, Refusal("Something failed inside dheera; its log says what."), call_id)


def _refuse(request: Request, refusal: Refusal, call_id: str) -> None:
    request.setHeader(CALL_ID, call_id.encode("ascii"))
    request.refuse(refusal)
