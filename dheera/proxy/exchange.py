"""
The story of one exchange: admit, afford, send, relay, account for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial

from attrs import define, field
from twisted.internet.defer import CancelledError, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from dheera.boundaries import Gate
from dheera.errors import ClientLeft, ConnectFailed, Refusal, Unavailable, UpstreamError
from dheera.lifecycle import Hurry
from dheera.proxy.accounting import Account, Accountant
from dheera.proxy.affording import Affording
from dheera.proxy.capacity import Capacity
from dheera.proxy.crossing import crossing_of
from dheera.proxy.errand import errand_of
from dheera.proxy.headers import Subnet, downward
from dheera.proxy.inspection import inspect
from dheera.proxy.notes import place
from dheera.proxy.progress import Progress
from dheera.proxy.relay import listen, relay
from dheera.proxy.sending import DECLINED, Sending
from dheera.proxy.tunnel import tunnel
from dheera.proxy.upstream import Upstream
from dheera.wire.body import RequestBody
from dheera.wire.headroom import Headroom
from dheera.wire.request import Request
from dheera.wire.response import Response

log = Logger()

REPLAYED_BYTES = 256 * 1024
"""
Of a body whose length is known and no more than this, all is waited for before it goes on: what is here as a whole can
be searched for what it names, and sent again. As clients send it, its head mostly comes alone.
"""
CALL_ID = b"x-dheera-call-id"
ERROR_SOURCE = b"x-dheera-error-source"
SWITCHING_PROTOCOLS = 101
FIRST_ERROR_STATUS = 400


@define(eq=False)
class Departed:
    """
    The exchanges whose clients have left, and whose answers are read all the same. They outlive a reload.
    """

    _exchanges: set[Progress] = field(factory=set, init=False)

    def add(self, exchange: Progress) -> None:
        """
        Keep *exchange* until it is over.
        """
        self._exchanges.add(exchange)
        exchange.end().addCallback(lambda _: self._exchanges.discard(exchange))

    @property
    def count(self) -> int:
        """
        How many there are.
        """
        return len(self._exchanges)

    async def close(self, over: Hurry) -> None:
        """
        Wait for them until it is *over*, and end what is not finished then.
        """
        if self._exchanges:
            finished = DeferredList([exchange.end() for exchange in self._exchanges])
            late = over.wait()
            late.addCallbacks(lambda _: self._give_up(), lambda failure: failure.trap(CancelledError))
            await finished
            late.cancel()

    def _give_up(self) -> None:
        for exchange in [*self._exchanges]:
            exchange.cancel()


@define(eq=False)
class Exchanges:
    """
    Runs exchanges between clients and upstreams.

    :param inspected_bytes: largest body that is read for the model it names, where a key demands it.
    :param headroom: for all such bodies together, as long as their exchanges last.
    :param trusted: networks of proxies whose word is taken on whom they speak for.
    :param capacity: how many are passed on at once; ``None``: as many as come.
    :param finishes: an answer whose client has left is read to its end, for its usage.
    """

    _gate: Gate
    _accountant: Accountant
    _inspected_bytes: int
    _headroom: Headroom
    _trusted: Sequence[Subnet] = ()
    _affording: Affording | None = field(default=None, kw_only=True)
    _capacity: Capacity | None = field(default=None, kw_only=True)
    _departed: Departed = field(factory=Departed, kw_only=True)
    _finishes: bool = field(default=False, kw_only=True)

    def begin(self, request: Request, upstream: Upstream) -> None:
        """
        Run the exchange of *request* with *upstream* to its end. The client's leaving cancels it, unless its answer is
        to be read all the same.
        """
        account = self._accountant.open(request, upstream)
        call_id = account.call_id
        exchange = Progress(self._run(request, upstream, call_id, account), partial(_broken, request, call_id))
        exchange.begin()
        if not exchange.is_over:
            request.when_left(partial(self._left, exchange, account))

    def _left(self, exchange: Progress, account: Account) -> None:
        if account.leave(finishes=self._finishes):
            self._departed.add(exchange)
        else:
            exchange.cancel()

    async def _run(self, request: Request, upstream: Upstream, call_id: str, account: Account) -> None:
        try:
            await self._exchange(request, upstream, call_id.encode("ascii"), account)
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
            if account.has_place and self._capacity is not None:
                self._capacity.leave()

    async def _gather(self, body: RequestBody, account: Account) -> None:
        """
        Wait for all of *body*, if it is short and there is room for it.
        """
        length = body.length
        if isinstance(length, int) and length <= REPLAYED_BYTES and self._headroom.has_spare(length):
            since = self._accountant.clock()
            await body.gather(REPLAYED_BYTES, self._headroom)
            account.waited(self._accountant.clock() - since)

    async def _exchange(self, request: Request, upstream: Upstream, call_id: bytes, account: Account) -> None:
        errand = errand_of(request, upstream, self._trusted)
        asking, path = errand.caller, errand.path
        account.asked(errand)
        gate, method = self._gate, request.method
        admission = gate.admit_at_once(asking, method, path) or await gate.admit(asking, method, path)
        account.admitted(admission)
        capacity = self._capacity
        if capacity is not None and not capacity.take():
            await _wait(capacity, place(asking.peer) if admission.key is None else admission.key.id, account)
            # Meanwhile its key may have been blocked, or have other limits.
            admission = await gate.admit(asking, method, path)
            account.admitted(admission)
        account.has_place = True
        if admission.models is not None:
            await inspect(request, path, admission.models, self._inspected_bytes, self._headroom)
        affording = self._affording
        if affording is not None and (held := affording.afford(request, errand, admission, account)) is not None:
            await held
        if upstream.lacks_key:
            raise Unavailable("No upstream key is configured here: set MISTRAL_API_KEY and start dheera again.")
        body = request.body
        if body is not None and not body.complete:
            await self._gather(body, account)
        account.begin()
        sending = Sending(request, upstream, account, errand)
        try:
            response = await sending.begin()
        except ConnectFailed as failed:
            response = await sending.go_on(failed)
        else:
            if response.code in DECLINED:
                response = await sending.go_on(response)
        account.answered(response)
        passing = _pass_on(response, request, upstream, call_id, account)
        if passing is not None:
            await passing


async def _wait(capacity: Capacity, whose: str, account: Account) -> None:
    turn = capacity.enter(whose)
    if turn is not None:
        await turn
    account.has_place = True


def _pass_on(
    response: Response, request: Request, upstream: Upstream, call_id: bytes, account: Account
) -> Awaitable[None] | None:
    """
    Give the client the answer; if it has left, only look at it.

    :return: fires when it has all of it; ``None``: it has.
    """
    if account.is_left:
        return listen(response, account.answer.saw)
    code, ours = response.code, [(CALL_ID, call_id)]
    if code == SWITCHING_PROTOCOLS:
        ours += [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        fields = downward(response.fields, upstream.base, upstream.prefix) + ours
        return tunnel(response, request, fields, account.answer.saw_up, account.answer.saw_down)
    if code >= FIRST_ERROR_STATUS:
        ours.append((ERROR_SOURCE, b"upstream"))
    whole = response.whole()
    ours += account.fields(response, whole)
    crossing = crossing_of(response)
    lines = crossing.lines(response)
    if lines is None:
        request.begin(code, response.phrase, downward(response.fields, upstream.base, upstream.prefix) + ours)
    else:
        lines += map(b": ".join, ours)
        request.begin_written(code, response.phrase, lines, sized=crossing.is_sized)
    if whole is None:
        return relay(response, request, account.answer.saw)
    request.finish_with(whole)
    return None


def _broken(request: Request, call_id: str, failure: Failure) -> None:
    log.failure("Call {call_id} failed inside dheera", failure, call_id=call_id)
    _refuse(request, Refusal("Something failed inside dheera; its log says what."), call_id)


def _refuse(request: Request, refusal: Refusal, call_id: str) -> None:
    request.setHeader(CALL_ID, call_id.encode("ascii"))
    request.refuse(refusal)
