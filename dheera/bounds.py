"""
The most that a call can cost, and the most tokens that it can be about, before it is sent.

docs/allowances.md says the rules in words, and why they hold. Imports no Twisted and does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import chain, combinations

from attrs import define, evolve
from msgspec import Struct
from msgspec.structs import astuple, replace

from dheera.endpoints import OTHER, PRICED, is_free
from dheera.estimates import BYTES_PER_TOKEN
from dheera.money import LARGEST, NANO
from dheera.price_rows import Price, Tariff
from dheera.prices import PriceList
from dheera.settings import AllowanceSettings
from dheera.usage import Part, Usage

BATCHES = "batch/jobs"
CONVERSATIONS = "conversations"

MOST_TOKENS = 2**53

EVENTS_AROUND = 8
"""
Of a stream, events that hold no token: what begins and ends it, and its parts. Where usage never came each event is
taken for one (`dheera.estimates`).
"""

_ANSWERED_IN_TOKENS = frozenset(
    {"chat/completions", "fim/completions", "agents/completions", CONVERSATIONS, "responses"}
)
_READ_IN_TOKENS = frozenset(
    {"embeddings", "moderations", "chat/moderations", "classifications", "chat/classifications"}
)
_HEARD = frozenset({"audio/transcriptions", "audio/transcriptions/realtime"})
_SESSIONS = frozenset({"audio/transcriptions/realtime", "audio/speech/realtime"})
_SHOWN = 80
_ASK = "ask whoever runs this dheera"


class Asked(Struct, frozen=True, kw_only=True, gc=False):
    """
    What a request says that bounds what it can cost.

    :param model: that it names; ``None`` if it names none.
    :param is_agent: an agent is to answer, with a model and words of its own.
    :param request_bytes: of its body.
    :param added_tokens: that upstream may make of it beyond one for each byte.
    :param has_more: something in it can stand for more than its bytes: an image, a file, what upstream keeps.
    :param continues: it goes on with what upstream keeps.
    :param connectors: that the model may call while it answers, by the names that usage has for them.
    :param max_tokens: of each answer; ``None`` if it does not say.
    :param choices: how many answers it wants.
    :param pages: how many pages are to be read; ``None`` if it does not say.
    :param annotates: pages are to be annotated.
    :param characters: of the text that is to be spoken.
    :param cancels: it ends a batch, and begins none.
    :param is_socket: it begins a WebSocket, in which the rest is said.
    """

    model: str | None = None
    is_agent: bool = False
    request_bytes: int = 0
    added_tokens: int = 0
    has_more: bool = False
    continues: bool = False
    connectors: tuple[str, ...] = ()
    max_tokens: int | None = None
    choices: int = 1
    pages: int | None = None
    annotates: bool = False
    characters: int = 0
    cancels: bool = False
    is_socket: bool = False


class Bound(Struct, frozen=True, kw_only=True, gc=False):
    """
    What a call can take at most.

    :param nano: whole nano-dollars, at most as many as any budget can have; ``None`` if that cannot be told.
    :param tokens: of input and output, as far as that can be told.
    :param reason: why it cannot be told, and what to do: a clause, to stand after "and". It may show the model's name.
    :param param: what in the request is the reason, if that is one thing: its ``model``.
    """

    nano: int | None
    tokens: int = 0
    reason: str = ""
    param: str | None = None


_NOTHING = Bound(nano=0)


def is_bound_by_body(endpoint: str, method: str) -> bool:
    """
    Whether the request must be read (`dheera.proxy.asking`) before `bound` can tell.
    """
    return endpoint in PRICED | {BATCHES} and not _is_free(endpoint, method)


def bound(  # noqa: PLR0917 - all that decides, and nothing else
    asked: Asked | None, endpoint: str, method: str, prices: PriceList, at: datetime, rules: AllowanceSettings
) -> Bound:
    """
    What a call can take.

    :param asked: ``None`` if it was not read.
    :param endpoint: as in `dheera.endpoints`.
    :param at: when it begins, aware.
    """
    price = None if asked is None or asked.model is None else prices.find(asked.model, at)
    if (
        (asked is not None and price is not None)
        and (method == "POST" and endpoint in _ANSWERED_IN_TOKENS)
        and not (asked.has_more or asked.continues or asked.connectors or asked.is_agent or asked.is_socket)
        and (most := _of_text(asked, price, rules)) is not None
    ):
        return most
    if _is_free(endpoint, method) or (asked is not None and asked.cancels and endpoint == BATCHES):
        return _NOTHING
    return bound_at_large(asked or _UNREAD, endpoint, price, prices, at, rules)


def bound_at_large(  # noqa: PLR0917 - as `bound`
    asked: Asked, endpoint: str, price: Price | None, prices: PriceList, at: datetime, rules: AllowanceSettings
) -> Bound:
    """
    The same, whatever it is that may cost something.

    :param price: of the model that it names.
    """
    case = _Case(asked, endpoint, price, rules)
    try:
        nano = case.nano(prices, at)
    except _Unpriced as unpriced:
        ceiling = rules.ceilings.get(endpoint)
        if ceiling is None:
            return Bound(nano=None, tokens=case.tokens(), reason=str(unpriced), param=unpriced.param)
        nano = max(ceiling.nano, _least(case, prices, at))
    return Bound(nano=_smaller(nano, _LARGEST), tokens=case.tokens())


def _of_text(asked: Asked, price: Price, rules: AllowanceSettings) -> Bound | None:
    """
    What a call can take that is answered in tokens and consists of text, as most do. `_Case` comes to the same, and
    takes 23,000 instructions more, a twentieth of a call.

    :return: ``None`` if `_Case` is to tell.
    """
    context, rates = price.context_tokens, price.dearest_texts
    if asked.max_tokens is not None:
        expected = output = _smaller(asked.max_tokens, context)
    elif context is not None:
        expected, output = _smaller(rules.output_tokens, context), context
    else:
        return None
    if rates is None:
        return None
    prompt = _smaller(asked.request_bytes + asked.added_tokens, context)
    estimate = _smaller(-(-asked.request_bytes // BYTES_PER_TOKEN), context)
    of_input, of_output = rates[0], rates[1] * asked.choices
    used = of_input * prompt + of_output * output
    estimated = of_input * estimate + of_output * (output + EVENTS_AROUND)
    nano = -(-(estimated if estimated > used else used) // price.dearest.units)  # noqa: FURB136 - as in `_smaller`
    return Bound(nano=_smaller(nano, _LARGEST), tokens=_smaller(prompt + asked.choices * expected, MOST_TOKENS))


_UNREAD = Asked()
_LARGEST = LARGEST * NANO


def _least(case: _Case, prices: PriceList, at: datetime) -> int:
    """
    What the call could cost at most without what makes it unclear: to add that must not make it cheaper.
    """
    named = replace(case.asked, is_agent=False, is_socket=False)
    unclear = {"has_more": False, "continues": False, "connectors": (), "annotates": False}
    least = 0
    for some in chain.from_iterable(combinations(unclear, count) for count in range(len(unclear) + 1)):
        with suppress(_Unpriced):
            asked = replace(named, **{name: unclear[name] for name in some})
            least = max(least, evolve(case, asked=asked).nano(prices, at))
    return least


def _is_free(endpoint: str, method: str) -> bool:
    """
    Whether it costs nothing. To begin a batch does, although it is billed only when its output is fetched.
    """
    return is_free("" if endpoint == BATCHES else endpoint, method)


class _Unpriced(Exception):
    """
    It cannot be told what the call can cost: the reason.

    :param param: as in `Bound`.
    """

    def __init__(self, reason: str, param: str | None = None) -> None:
        super().__init__(reason)
        self.param = param


class _Most(Struct, frozen=True, kw_only=True, gc=False):
    """
    The most that can be used, in one of the ways in which usage comes, by the places of `Price.dearest`; ``None`` if it
    cannot be told.
    """

    input: int | None = 0
    output: int | None = 0
    audio_ms: int | None = 0
    pages: int | None = 0
    annotated_pages: int | None = 0
    characters: int | None = 0


@define(eq=False)  # one for each call: to freeze it would take four times as long
class _Case:
    """
    A call that may cost something.

    :param price: of the model that it names; ``None`` if there is none.
    """

    asked: Asked
    endpoint: str
    price: Price | None
    rules: AllowanceSettings

    def nano(self, prices: PriceList, at: datetime) -> int:
        """
        What it can cost.

        :raises _Unpriced: that cannot be told.
        """
        tariff = self._required_price().dearest
        nano = -(-max([self._cost(most, tariff) for most in self._ways()]) // tariff.units)
        for name in self.asked.connectors:
            calls = Part(model=self.asked.model, usage=Usage(connectors={name: self.rules.conversation_steps}))
            cost = prices.cost(calls, at)
            nano += 0 if cost is None else cost.nano + 1  # it may have been rounded down
        return nano

    def tokens(self) -> int:
        """
        What it can be about; of an answer without a bound, what is expected.
        """
        asked, context = self.asked, self._context
        tokens = asked.request_bytes + asked.added_tokens
        if self.endpoint in _ANSWERED_IN_TOKENS:
            prompt = self._prompt() or tokens
            most = self.rules.output_tokens if asked.max_tokens is None else asked.max_tokens
            if asked.is_agent:  # its model may take more than the one that is named
                prompt, context = max(prompt, tokens), None
            tokens = prompt + asked.choices * _smaller(most, context)
        elif self.endpoint not in _READ_IN_TOKENS:
            tokens = self.rules.output_tokens if self.endpoint in _HEARD else 0
        return _smaller(tokens, MOST_TOKENS)

    @property
    def _context(self) -> int | None:
        return None if self.price is None else self.price.context_tokens

    def _required_price(self) -> Price:
        if self.endpoint not in PRICED or (self.asked.is_socket and self.endpoint not in _SESSIONS):
            path = "this path" if self.endpoint == OTHER else f"/v1/{self.endpoint}"
            raise _Unpriced(f"nobody can tell what a call of {path} costs: {self._ask_for_ceiling}")
        if self.asked.is_agent:
            raise _Unpriced(
                f"an agent, or a conversation that goes on, has a model of its own: {self._ask_for_ceiling}"
            )
        if self.asked.model is None:
            raise _Unpriced(f"the call names no model: name one, or {self._ask_for_ceiling}", "model")
        if self.price is None:
            raise _Unpriced(f"there is no price for the model {self._model}: {self._ask_for_price}", "model")
        return self.price

    def _ways(self) -> Iterator[_Most]:
        asked, endpoint, context = self.asked, self.endpoint, self._context
        audio_ms = 1000 * self.rules.audio_seconds
        if endpoint in _ANSWERED_IN_TOKENS:
            # How often the model is asked.
            steps = self.rules.conversation_steps if asked.continues or asked.connectors else 1
            answers = steps * asked.choices
            prompt, output = (
                self._prompt(),
                context if asked.max_tokens is None else _smaller(asked.max_tokens, context),
            )
            heard = steps * audio_ms if asked.has_more else 0
            yield _Most(input=_times(steps, prompt), output=_times(answers, output), audio_ms=heard)
            # Usage may never come: then each four bytes count as a token, and each event.
            estimate = _smaller(-(-asked.request_bytes // BYTES_PER_TOKEN), context)
            yield _Most(input=estimate, output=None if output is None else answers * (output + EVENTS_AROUND))
        elif endpoint in _READ_IN_TOKENS:
            yield _Most(input=None if asked.has_more else asked.request_bytes)
        elif endpoint == "ocr":
            pages = self.rules.ocr_pages if asked.pages is None else asked.pages
            yield _Most(annotated_pages=pages) if asked.annotates else _Most(pages=pages)
        elif endpoint in _SESSIONS:
            yield _Most(input=None, output=None, audio_ms=audio_ms if endpoint in _HEARD else None, characters=None)
        elif endpoint in _HEARD:
            yield _Most(input=context, output=context, audio_ms=audio_ms)
        else:
            yield _Most(input=context, output=context, characters=asked.characters)

    def _prompt(self) -> int | None:
        """
        Tokens of input each time. A tokenizer that falls back to bytes makes one of each byte, at most.
        """
        asked = self.asked
        if asked.has_more or asked.continues or asked.connectors:
            return self._context
        return _smaller(asked.request_bytes + asked.added_tokens, self._context)

    def _cost(self, most: _Most, tariff: Tariff) -> int:
        """
        In units of *tariff*. What has no price costs nothing beside what has, as in `PriceList.cost`.
        """
        used = astuple(most)
        cost, is_known = 0, False
        for place, rate in tariff.rates:
            much = used[place]
            if rate and much is None:
                raise self._unbounded()
            if much != 0:
                cost, is_known = cost + rate * (much or 0), True
        if not is_known and any(rate for _, rate in tariff.rates) and any(much != 0 for much in used):
            what = f"{self._model} has no price for what a call of /v1/{self.endpoint} uses"
            raise _Unpriced(f"{what}: {self._ask_for_price}", "model")
        return cost

    # What to do. It is said to whoever makes the call, who may not be the one who can do it.

    def _unbounded(self) -> _Unpriced:
        if self.endpoint in _ANSWERED_IN_TOKENS | {"audio/transcriptions"}:
            how = f"to set its context_tokens ([prices.{self._model}] {self._or_ceiling}"
            return _Unpriced(f"it is not known how many tokens {self._model} takes at most: {_ASK} {how}", "model")
        return _Unpriced(f"nobody can tell how much {self._model} will have to do: {self._ask_for_ceiling}")

    @property
    def _ask_for_price(self) -> str:
        return f"{_ASK} to set a price ([prices.{self._model}] {self._or_ceiling}"

    @property
    def _or_ceiling(self) -> str:
        return f'in its configuration), or a ceiling for such calls ("{self.endpoint}" in [allowances] ceilings)'

    @property
    def _ask_for_ceiling(self) -> str:
        return (
            f'{_ASK} to set a ceiling for such calls ("{self.endpoint}" in [allowances] ceilings of its configuration)'
        )

    @property
    def _model(self) -> str:
        name = self.asked.model or ""
        return json.dumps(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")


def _smaller(one: int, other: int | None) -> int:
    return other if other is not None and other < one else one  # min() takes three times as long


def _times(number: int, other: int | None) -> int | None:
    return None if other is None else number * other
