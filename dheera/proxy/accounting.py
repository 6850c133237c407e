"""
What is noted of an exchange while it happens, and made of it when it is over: its record.

Nothing here delays a byte, and nothing that goes wrong here reaches the exchange; but one that cannot be written down
is not begun.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

from attrs import define, field, frozen
from twisted.logger import Logger

from dheera.bookkeeping import Spool, Tally
from dheera.boundaries import Admission, Caller
from dheera.content import Capture, ContentPolicy, ContentRules
from dheera.endpoints import OTHER, endpoint_of
from dheera.errors import ConnectFailed, Refusal, Unavailable
from dheera.keys import without_keys
from dheera.money import Usd
from dheera.prices import PriceList
from dheera.proxy.notes import LONGEST_PATH, LONGEST_TEXT, noted, place, tags
from dheera.proxy.watching import AnswerWatch, RequestWatch
from dheera.records import Begun, Outcome, Record
from dheera.routes import judged
from dheera.settlement import NOTHING, Deed, Settlement, settled
from dheera.usage import Reading, Wanted
from dheera.wire.heads import Fields
from dheera.wire.request import Request
from dheera.wire.response import Response

log = Logger()

COST = b"x-dheera-response-cost"
KEY_SPEND = b"x-dheera-key-spend"
OVERHEAD = b"x-dheera-overhead-ms"
MICRO = 1_000_000


@frozen(kw_only=True)
class Accountant:
    """
    Keeps an account of each exchange.

    :param spends: what a key has spent, as the ledger last knew.
    :param notice: shown each record of a call that was let in.
    :param clock: monotonic seconds.
    :param now: aware, in UTC.
    """

    spool: Spool
    prices: PriceList
    tally: Tally
    spends: Callable[[str], Usd | None]
    notice: Callable[[Record], None]
    node: str
    content: ContentRules
    clock: Callable[[], float]
    now: Callable[[], datetime]

    def open(self, request: Request, call_id: str) -> Account:
        """
        The account of an exchange that begins now.
        """
        self.tally.began()
        return Account(self, request, call_id, self.clock(), self.now(), AnswerWatch(self.clock))


@define(eq=False)
class Account:
    """
    What is known of one exchange.
    """

    _office: Accountant
    _request: Request
    _call_id: str
    _started: float
    _started_at: datetime
    _answer: AnswerWatch
    _caller: Caller | None = field(default=None, init=False)
    _path: bytes = field(default=b"", init=False)
    _place: str = field(default="", init=False)
    _endpoint: str = field(default=OTHER, init=False)
    _admission: Admission | None = field(default=None, init=False)
    _asking: RequestWatch | None = field(default=None, init=False)
    _response: Response | None = field(default=None, init=False)
    _attempts: int = field(default=0, init=False)
    _sent: float = field(default=0.0, init=False)
    _answered: float | None = field(default=None, init=False)
    _overhead: float | None = field(default=None, init=False)
    _begun: dict[str, Any] | None = field(default=None, init=False)
    _reading: Reading | None = field(default=None, init=False)
    _due: Settlement | None = field(default=None, init=False)

    def asked(self, caller: Caller, path: bytes) -> None:
        """
        Somebody wants to go to *path* of upstream.
        """
        self._caller, self._path = caller, path

    def admitted(self, admission: Admission) -> None:
        """
        They may.
        """
        self._admission = admission

    def begin(self) -> None:
        """
        Write down that the exchange begins, before its first byte goes to upstream.

        :raises Unavailable: it cannot be written.
        """
        asking = self._look()
        begun = self._beginning(asking)
        self._office.spool.begin(Begun(**begun))
        if asking.is_done:
            self._begun = begun
        self._attempts = 1
        self._sent = self._office.clock()

    @property
    def answer(self) -> AnswerWatch:
        """
        Sees the answer pass; after `begin`.
        """
        return self._answer

    def sent_again(self) -> None:
        """
        The first connection was stale.
        """
        self._attempts += 1

    def answered(self, response: Response) -> None:
        """
        The head of upstream's answer is here.
        """
        self._answered = self._office.clock()
        self._response = response
        self._answer.begin(response, self._endpoint, self._request.method, self._wanted())

    def fields(self, whole: bytes | None) -> Fields:
        """
        What the client is told in header lines of ours.

        :param whole: the answer's body, if all of it is here.
        """
        fields: Fields = []
        try:
            self._tell(fields, whole)
        except Exception:  # noqa: BLE001 - the client gets its answer
            log.failure("Bug: what is known of call {call_id} cannot be told to the client", call_id=self._call_id)
        return fields

    def _tell(self, fields: Fields, whole: bytes | None) -> None:
        if whole is not None:
            self._answer.saw(whole)
            self._reading = self._answer.reading()
            self._due = self._settle(self._reading, is_whole=True)
            if (
                self._due.cost_nano_usd is not None and self._due.once is None
            ):  # the ledger knows whether it is the first
                fields.append((COST, _dollars(self._due.cost_nano_usd)))
        if self._admission is not None and (key := self._admission.key) is not None:
            fields.append((KEY_SPEND, _dollars((self._office.spends(key.id) or key.spend).nano)))
        if self._answered is not None:
            self._overhead = self._office.clock() - self._answered + self._sent - self._started
            fields.append((OVERHEAD, b"%.3f" % (self._overhead * 1000)))

    def close(self, outcome: Outcome, failure: Refusal | None = None) -> None:
        """
        The exchange is over: write its record.

        :param failure: why it was not complete.
        """
        record = None
        try:
            if failure is not None:
                self._office.tally.refused(failure)
                if self._admission is None and isinstance(failure.known_as, Admission):
                    self._admission = failure.known_as
            if self._admission is not None:
                record = self._record(outcome, failure)
                self._office.spool.end(record)
                self._office.notice(record)
        except Exception:  # noqa: BLE001 - the client is answered; what began is ended as interrupted at the next start
            log.failure("Bug: call {call_id} has no record", call_id=self._call_id)
        self._office.tally.ended(record)

    # What it is made of.

    def _look(self) -> RequestWatch:
        """
        At what is asked for, if that was not done yet.
        """
        if self._asking is None:
            try:
                self._place, _ = judged(self._path)
                self._endpoint = endpoint_of(self._place)
            except Refusal:
                self._endpoint = OTHER
            rules = self._office.content
            is_shown = self._policy() == "full"
            self._asking = RequestWatch(self._request, self._endpoint, Capture(rules.limit_bytes) if is_shown else None)
            if is_shown:
                self._answer = AnswerWatch(self._office.clock, Capture(rules.limit_bytes))
        return self._asking

    def _policy(self) -> ContentPolicy:
        return self._office.content.of(None if self._admission is None else self._admission.content)

    def _wanted(self) -> Wanted:
        return Wanted() if self._asking is None else self._asking.wanted()

    def _beginning(self, asking: RequestWatch) -> dict[str, Any]:
        wanted, admission, caller = asking.wanted(), self._admission, self._caller
        if admission is None or caller is None:
            msg = "nobody has been let in"
            raise ValueError(msg)
        key = admission.key
        return {
            **admission.whose,
            "call_id": self._call_id,
            "started_at": self._started_at,
            "node": self._office.node,
            "method": self._request.method.decode("ascii"),
            "path": noted(self._path.partition(b"?")[0], LONGEST_PATH),
            "endpoint": self._endpoint,
            "model": wanted.model,
            "request_bytes": asking.announced_bytes(),
            "client": place(caller.peer),
            "user_agent": noted(caller.program),
            "end_user": (noted(caller.end_user) if caller.end_user else None) or wanted.end_user,
            "tags": tags(caller.tags, (key.tags or ()) if key else (), wanted.tags),
        }

    def _settle(self, reading: Reading, *, is_whole: bool) -> Settlement:
        deed = Deed(
            endpoint=self._endpoint,
            method=self._request.method.decode("ascii"),
            path=self._place,
            at=self._started_at,
            wanted=self._wanted(),
            reading=reading,
            request_bytes=None if self._asking is None else self._asking.received_bytes(),
            status=None if self._response is None else self._response.code,
            is_whole=is_whole,
        )
        return settled(deed, self._office.prices)

    def _due_for(self, outcome: Outcome, failure: Refusal | None, reading: Reading) -> Settlement:
        if self._due is not None:
            return self._due
        if self._attempts == 0 or isinstance(failure, ConnectFailed | Unavailable):
            return NOTHING
        if self._response is None and self._asking is not None and not self._asking.has_all:
            return NOTHING  # upstream does not begin on half a request
        return self._settle(reading, is_whole=outcome == "complete")

    def _record(self, outcome: Outcome, failure: Refusal | None) -> Record:
        office, asking, answer = self._office, self._look(), self._answer
        begun = self._begun or self._beginning(asking)
        begun["request_bytes"] = asking.received_bytes() + answer.size_up
        reading, wanted = self._reading or answer.reading(), asking.wanted()
        if outcome == "client_left" and reading.events and reading.parts and not answer.is_socket:
            outcome = "complete"  # clients hang up as soon as they have read that it is over, before the body's end
        due = self._due_for(outcome, failure, reading)
        return Record(
            **begun,
            outcome=outcome,
            status=self._status(failure),
            error=reading.error if failure is None else type(failure).__name__,
            message=None if failure is None else without_keys(failure.message)[:LONGEST_TEXT],
            attempts=self._attempts,
            duration_us=int((office.clock() - self._started) * MICRO),
            first_byte_us=None if self._answered is None else int((self._answered - self._started) * MICRO),
            overhead_us=None if self._overhead is None else int(self._overhead * MICRO),
            longest_gap_us=int(answer.longest_gap * MICRO) if answer.size else None,
            response_bytes=answer.size,
            is_stream=reading.events > 0,
            events=reading.events,
            answered_model=reading.model if reading.model != wanted.model else None,
            usage=due.usage,
            estimated=due.estimated,
            cost_nano_usd=due.cost_nano_usd,
            price_list=due.price_list,
            unpriced=list(due.unpriced),
            once=None if due.once is None else without_keys(due.once),
            upstream_id=answer.upstream_id,
            parameters={} if self._policy() == "none" else wanted.parameters,
            request=asking.content(office.content.redaction),
            response=answer.content(office.content.redaction),
        )

    def _status(self, failure: Refusal | None) -> int | None:
        """
        What the client was answered, as far as it was.
        """
        if self._response is not None:
            return self._response.code
        return None if failure is None else failure.status


@lru_cache(maxsize=1024)
def _dollars(nano: int) -> bytes:
    return str(Usd(nano)).encode("ascii")
