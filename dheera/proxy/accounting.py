"""
What is noted of an exchange while it happens, and made of it when it is over: its record.

Nothing here delays a byte, and nothing that goes wrong here reaches the exchange; but one that cannot be written down
is not begun.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from attrs import field, frozen
from msgspec import structs
from twisted.logger import Logger

from dheera.allowances.hold import Hold
from dheera.bookkeeping import Spool, Tally
from dheera.boundaries import Admission
from dheera.call_ids import CallIds
from dheera.content import Capture, ContentPolicy, ContentRules
from dheera.errors import ConnectFailed, Refusal, Unavailable
from dheera.keys import without_keys
from dheera.money import Usd
from dheera.prices import PriceList
from dheera.proxy.drafts import Draft
from dheera.proxy.errand import Errand
from dheera.proxy.notes import LONGEST_TEXT
from dheera.proxy.telling import end, told
from dheera.proxy.tries import Tries
from dheera.proxy.upstream import Upstream
from dheera.proxy.watching import AnswerWatch, RequestWatch
from dheera.records import Begun, Outcome, Record
from dheera.settlement import NOTHING, Deed, Settlement, charged, settled
from dheera.usage import Reading, Wanted
from dheera.wire.heads import Fields
from dheera.wire.request import Request
from dheera.wire.response import Response

log = Logger()

MICRO = 1_000_000
_UNSENT = (ConnectFailed, Unavailable)


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
    _call_ids: CallIds = field(factory=CallIds, init=False)

    def open(self, request: Request, upstream: Upstream) -> Account:
        """
        The account of an exchange with *upstream* that begins now.
        """
        self.tally.began()
        return Account(self, request, upstream, self._call_ids.next())


class Account:
    """
    What is known of one exchange.

    :ivar started_at: when it began, aware: it costs what is right at that time.
    :ivar tries: how often it was sent.
    :ivar has_place: among those that are passed on at once.
    :ivar is_left: the client has left, and upstream is listened to.
    """

    _errand: Errand

    def __init__(self, office: Accountant, request: Request, upstream: Upstream, call_id: str) -> None:
        self._office = office
        self._request = request
        self._upstream = upstream
        self.call_id = call_id
        self._started = office.clock()
        self.started_at = office.now()
        self._answer = AnswerWatch(office.clock)
        self.tries = Tries(office.clock)
        # Not at the class: Python 3.11 takes four times as long to read what stands there, even if it is set here.
        self.is_left = False
        self.has_place = False
        self._draft: Draft | None = None
        self._admission: Admission | None = None
        self._known: Wanted | None = None
        self._asking: RequestWatch | None = None
        self._policy: ContentPolicy = "none"
        self._response: Response | None = None
        self._answered: float | None = None
        self._waited = 0.0
        self._overhead: float | None = None
        self._begun: Begun | None = None
        self._reading: Reading | None = None
        self._due: Settlement | None = None
        self._hold: Hold | None = None

    def asked(self, errand: Errand) -> None:
        """
        Somebody wants that of upstream.
        """
        self._errand = errand

    def admitted(self, admission: Admission) -> None:
        """
        They may.
        """
        self._admission = admission
        self._draft = self._errand.draft(admission, self._office.node)

    def end_user(self) -> str | None:
        """
        Whom the call is for: as a header says, or the body if all of it is here.
        """
        said = self._errand.end_user
        body = self._request.body
        if said or body is None or body.whole() is None:
            return said
        return self._look().wanted().end_user

    def afforded(self, hold: Hold | None) -> None:
        """
        They can pay for it; so much is held.
        """
        self._hold = hold

    def read(self, wanted: Wanted) -> None:
        """
        All of the body is here, and was read.
        """
        self._known = wanted

    def waited(self, seconds: float) -> None:
        """
        So long the client's body was waited for, which is no work of ours.
        """
        self._waited = seconds

    def begin(self) -> None:
        """
        Write down that the exchange begins, before its first byte goes to upstream.

        :raises Unavailable: it cannot be written.
        """
        asking = self._look()
        begun = self._beginning(asking)
        self._office.spool.begin(begun)
        if asking.is_done:
            self._begun = begun
        self.tries.begin()

    @property
    def answer(self) -> AnswerWatch:
        """
        Sees the answer pass; after `begin`.
        """
        return self._answer

    @property
    def priced(self) -> bool:
        """
        Whether it may cost something.
        """
        return self._upstream.priced

    def answered(self, response: Response) -> None:
        """
        The head of upstream's answer is here.
        """
        self._answered = now = self._office.clock()
        self._response = response
        wanted = Wanted() if self._asking is None else self._asking.wanted()
        self._answer.begin(now, response, self._errand.endpoint, self._request.method, wanted)

    def fields(self, response: Response, whole: bytes | None) -> Fields:
        """
        What the client is told in header lines of ours, beside those of *response*.

        :param whole: the answer's body, if all of it is here.
        """
        try:
            if whole is not None:
                self._answer.saw(whole)
                self._reading = self._answer.reading()
                self._due = self._settle(self._reading, is_whole=True)
            if self._answered is not None:
                took = self._office.clock() - self._answered + self.tries.first_sent - self._started
                self._overhead = took - self._waited
            key = None if self._admission is None else self._admission.key
            spend = None if key is None else self._office.spends(key.id) or key.spend
            return told(response, due=self._due, spend=spend, overhead_seconds=self._overhead, hold=self._hold)
        except Exception:  # noqa: BLE001 - the client gets its answer
            log.failure("Bug: what is known of call {call_id} cannot be told to the client", call_id=self.call_id)
            return []

    def leave(self, *, finishes: bool) -> bool:
        """
        The client has left.

        :param finishes: answers are to be read to their end all the same. The output of a batch is in any case: it is
            billed as a whole, also to whoever does without its last byte.
        :return: upstream has all of the request, and is to be listened to until it has answered.
        """
        if not self._has_reached() or self._request.upgrade_to is not None or not self._look().has_all:
            return False
        if not finishes and not any(part.is_batch for part in self._answer.reading().parts):
            return False
        self.is_left = True
        if self._response is not None:
            self._response.resumeProducing()  # nobody is there any more who was too slow
        return True

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
                    self.admitted(failure.known_as)
            if self._admission is not None:
                record = self._record(outcome, failure)
                self._office.spool.end(record)
                self._office.notice(record)
        except Exception:  # noqa: BLE001 - the client is answered; what began is ended as interrupted at the next start
            log.failure("Bug: call {call_id} has no record", call_id=self.call_id)
        if self._hold is not None:
            end(self._hold, record, reached=self._has_reached(failure))
        self._office.tally.ended(record)

    # What it is made of.

    def _look(self) -> RequestWatch:
        """
        At what is asked for, if that was not done yet.
        """
        if self._asking is None:
            rules, admission = self._office.content, self._admission
            self._policy = rules.of(None if admission is None else admission.content)
            is_shown = self._policy == "full"
            capture = Capture(rules.limit_bytes) if is_shown else None
            self._asking = RequestWatch(self._request, self._errand, capture, self._known)
            if is_shown:
                self._answer = AnswerWatch(self._office.clock, Capture(rules.limit_bytes))
        return self._asking

    def _beginning(self, asking: RequestWatch) -> Begun:
        return self._drafted().begun(
            self.call_id, self.started_at, asking.wanted(), asking.announced_bytes(), self._hold
        )

    def _drafted(self) -> Draft:
        if self._draft is None:
            msg = "nobody has been let in"
            raise ValueError(msg)
        return self._draft

    def _settle(self, reading: Reading, *, is_whole: bool) -> Settlement:
        asking, errand = self._asking, self._errand
        deed = Deed(
            endpoint=errand.endpoint,
            method=errand.acts_as,
            path=errand.place,
            at=self.started_at,
            wanted=Wanted() if asking is None else asking.wanted(),
            reading=reading,
            request_bytes=None if asking is None else asking.received_bytes(),
            status=None if self._response is None else self._response.code,
            is_whole=is_whole,
        )
        if self._upstream.notes:
            deed = structs.replace(deed, **self._upstream.notes)
        due = settled(deed, self._office.prices)
        return due if self._hold is None else charged(due, self._hold.nano)

    def _due_for(self, failure: Refusal | None, reading: Reading, *, is_whole: bool) -> Settlement:
        if self._due is not None:
            return self._due
        if not self._has_reached(failure):
            return NOTHING
        if self._response is None and self._asking is not None and not self._asking.has_all:
            return NOTHING  # upstream does not begin on half a request
        return self._settle(reading, is_whole=is_whole)

    def _record(self, outcome: Outcome, failure: Refusal | None) -> Record:
        office, asking, answer = self._office, self._asking or self._look(), self._answer
        begun = self._begun or self._beginning(asking)
        reading, wanted = self._reading or answer.reading(), asking.wanted()
        is_whole = outcome == "complete"
        if is_whole and self.is_left:
            outcome = "client_left"
        elif outcome == "client_left" and reading.events and reading.parts and not answer.is_socket:
            outcome = "complete"  # clients hang up as soon as they have read that it is over, before the body's end
        due = self._due_for(failure, reading, is_whole=is_whole or outcome == "complete")
        # Fourteen and no more: with a fifteenth, Python makes a dict of them first, which takes 4,000 instructions.
        record = structs.replace(
            self._drafted().ended(begun, asking.received_bytes() + answer.size_up, answer.size),
            outcome=outcome,
            status=self._status(failure),
            duration_us=int((office.clock() - self._started) * MICRO),
            first_byte_us=None if self._answered is None else int((self._answered - self._started) * MICRO),
            overhead_us=None if self._overhead is None else int(self._overhead * MICRO),
            longest_gap_us=int(answer.longest_gap * MICRO) if answer.size else None,
            is_stream=reading.events > 0,
            events=reading.events,
            usage=due.usage,
            estimated=due.estimated,
            cost_nano_usd=due.cost_nano_usd,
            price_list=due.price_list,
            upstream_id=answer.upstream_id,
            parameters={} if self._policy == "none" else wanted.parameters,
        )
        seldom = self._said_seldom(failure, reading, due)
        if reading.model != wanted.model:
            seldom["answered_model"] = reading.model
        return structs.replace(record, **seldom) if seldom else record

    def _said_seldom(self, failure: Refusal | None, reading: Reading, due: Settlement) -> dict[str, Any]:
        """
        What most records do not say.
        """
        said: dict[str, Any] = {}
        if failure is not None:
            said.update(error=type(failure).__name__, message=without_keys(failure.message)[:LONGEST_TEXT])
        elif reading.error is not None:
            said["error"] = reading.error
        if due.unpriced or due.once is not None:
            said.update(unpriced=list(due.unpriced), once=None if due.once is None else without_keys(due.once))
        if not self.tries.is_plain:
            said.update(attempts=self.tries.count, tries=[*self.tries.before], upstream_key=self.tries.key)
        if self._policy == "full" and self._asking is not None:
            redaction = self._office.content.redaction
            said.update(request=self._asking.content(redaction), response=self._answer.content(redaction))
        return said

    def _has_reached(self, failure: Refusal | None = None) -> bool:
        """
        Upstream may have done something for it.
        """
        return self.tries.is_out and not isinstance(failure, _UNSENT)

    def _status(self, failure: Refusal | None) -> int | None:
        """
        What the client was answered, as far as it was.
        """
        if self._response is not None:
            return self._response.code
        return None if failure is None else failure.status
