"""
What a call can cost at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from unittest import TestCase

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from msgspec.structs import replace

from dheera.bounds import EVENTS_AROUND, MOST_TOKENS, Asked, Bound, bound, bound_at_large, is_bound_by_body
from dheera.endpoints import PRICED
from dheera.money import LARGEST, NANO, Usd
from dheera.prices import PriceList
from dheera.settings import AllowanceSettings
from dheera.settlement import Deed, settled
from dheera.usage import Part, Reading, Usage, Wanted

WHEN = datetime(2026, 11, 23, tzinfo=UTC)
PRICES = PriceList.load(
    {
        "small": {"input_per_million": 1, "output_per_million": 3, "context_tokens": 1000},
        "boundless": {"input_per_million": 1, "output_per_million": 3},
        "cached": {
            "input_per_million": 0.3333,
            "cached_per_million": 2.000000007,
            "output_per_million": 0.77,
            "context_tokens": 500,
        },
        "hears": {
            "input_per_million": 0.1,
            "output_per_million": 0.3,
            "audio_per_minute": 0.0037,
            "context_tokens": 99,
        },
        "listens": {"audio_per_minute": 0.003},
        "reads": {"pages_per_thousand": 4, "annotated_pages_per_thousand": 5},
        "scans": {"pages_per_thousand": 1},
        "speaks": {"characters_per_million": 16},
        "free": {"input_per_million": 0, "output_per_million": 0},
        "connectors_per_thousand": {"web_search": 30.0},
        "moves": [
            {"input_per_million": 1, "output_per_million": 1},
            {"from": WHEN + timedelta(days=1), "input_per_million": 2, "output_per_million": 2},
        ],
    }
)
RULES = AllowanceSettings(
    output_tokens=50,
    ocr_pages=20,
    audio_seconds=120,
    conversation_steps=3,
    ceilings={"batch/jobs": Usd.of(2), "conversations": Usd.of(1), "audio/speech/realtime": Usd.of("0.5")},
)
CHEAP = AllowanceSettings(ceilings={endpoint: Usd(1) for endpoint in sorted(PRICED)})
PLAIN = AllowanceSettings(conversation_steps=3, audio_seconds=120, ocr_pages=20, output_tokens=50)
CHAT = "chat/completions"
TEXTS = ("embeddings", "moderations", "classifications", "chat/moderations", "chat/classifications")
ANSWERS = (CHAT, "fim/completions", "conversations", "responses")


def bound_of(endpoint: str = CHAT, *, method: str = "POST", rules: AllowanceSettings = PLAIN, **said: Any) -> Bound:
    """
    Of a call of the model ``small`` with a body of 100 bytes, of which nothing is known but what is said.
    """
    usual: dict[str, Any] = {"model": "small", "request_bytes": 100}
    return bound(Asked(**usual | said), endpoint, method, PRICES, WHEN, rules)


class TestAnswers(TestCase):
    """
    Calls that are answered in tokens.
    """

    def test_bytes_and_max_tokens(self) -> None:
        """
        Each byte is a token of input at most, and ``max_tokens`` are all that comes.
        """
        for endpoint in ANSWERS:
            self.assertEqual(Bound(nano=100_000 + 20 * 3_000, tokens=120), bound_of(endpoint, max_tokens=20))

    def test_context(self) -> None:
        """
        Neither input nor output is longer than the model's context, which counts where nothing else is said.
        """
        self.assertEqual(Bound(nano=100_000 + 3_000_000, tokens=150), bound_of())
        full = 1_000_000 + (1000 + EVENTS_AROUND) * 3_000
        self.assertEqual(Bound(nano=full, tokens=2000), bound_of(request_bytes=10**6, max_tokens=10**9))

    def test_choices(self) -> None:
        """
        Each of several answers may be as long; the input is read once.
        """
        self.assertEqual(Bound(nano=100_000 + 60 * 3_000, tokens=160), bound_of(max_tokens=20, choices=3))

    def test_more_than_bytes(self) -> None:
        """
        What stands for more than its bytes may fill the context.
        """
        for said in ({"has_more": True}, {"continues": True}, {"connectors": ("code_interpreter",)}):
            found = bound_of("responses", max_tokens=20, **said)
            self.assertGreaterEqual(found.nano or 0, 1_000_000 + 60_000)
            self.assertEqual(1020, found.tokens)

    def test_added_tokens(self) -> None:
        """
        What upstream adds of its own counts.
        """
        self.assertEqual(Bound(nano=500_000 + 3_000, tokens=501), bound_of(added_tokens=400, max_tokens=1))

    def test_steps(self) -> None:
        """
        A model that may call connectors, or an old conversation, may ask itself again, and connectors have a price.
        """
        step = 1_000_000 + 20 * 3_000
        self.assertEqual(3 * step, bound_of("conversations", continues=True, max_tokens=20).nano)
        self.assertEqual(3 * step, bound_of(connectors=("code_interpreter",), max_tokens=20).nano)
        searching = bound_of("conversations", connectors=("web_search",), max_tokens=20)
        self.assertEqual(3 * step + 3 * 30_000_000 + 1, searching.nano)

    def test_no_context(self) -> None:
        """
        Where the context is not known, bytes and ``max_tokens`` bound the call; without one of them nothing does, and
        the reason tells what to set.
        """
        known = bound_of(model="boundless", max_tokens=20)
        self.assertEqual(Bound(nano=160_000, tokens=120), known)
        for said in ({"max_tokens": None}, {"max_tokens": 20, "has_more": True}):
            found = bound_of(model="boundless", **said)
            self.assertIsNone(found.nano)
            self.assertIn('set its context_tokens ([prices."boundless"]', found.reason)

    def test_events(self) -> None:
        """
        The estimate of a stream that is left, in which each event counts as a token, is never above.
        """
        found = bound_of(max_tokens=1, request_bytes=10_000)
        self.assertEqual(1_000_000 + (1 + EVENTS_AROUND) * 3_000, found.nano)

    def test_tokens_are_bounded(self) -> None:
        """
        However many are asked for, the number fits into those that stores count with.
        """
        self.assertEqual(MOST_TOKENS, bound_of(model="boundless", max_tokens=10**14, choices=10**14).tokens)

    def test_rounding(self) -> None:
        """
        A part of a nano-dollar is rounded up.
        """
        prices = PriceList.load({"m": {"input_per_million": 0.000001, "output_per_million": 0}})
        asked = Asked(model="m", request_bytes=1, max_tokens=1)
        self.assertEqual(1, bound(asked, CHAT, "POST", prices, WHEN, PLAIN).nano)


class TestOthers(TestCase):
    """
    Calls that are paid by something else.
    """

    def test_texts(self) -> None:
        """
        What is only read costs its bytes; several texts together may be longer than the context of one.
        """
        for endpoint in TEXTS:
            self.assertEqual(
                Bound(nano=5_000_000, tokens=5000), bound_of(endpoint, request_bytes=5000, max_tokens=7, choices=9)
            )
            self.assertIsNone(bound_of(endpoint, has_more=True).nano)
            self.assertEqual(0, bound_of(endpoint, model="free", has_more=True).nano)

    def test_pages(self) -> None:
        """
        Pages that are named, or as many as a document may have; annotated ones are dearer.
        """
        self.assertEqual(Bound(nano=2 * 4_000_000), bound_of("ocr", model="reads", pages=2))
        self.assertEqual(Bound(nano=20 * 4_000_000), bound_of("ocr", model="reads"))
        self.assertEqual(Bound(nano=20 * 5_000_000), bound_of("ocr", model="reads", annotates=True))
        self.assertIn(
            "has no price for what a call of /v1/ocr uses", bound_of("ocr", model="scans", annotates=True).reason
        )

    def test_audio(self) -> None:
        """
        Audio may last as long as the settings say, whatever its size.
        """
        for endpoint in ("audio/transcriptions", "audio/transcriptions/realtime"):
            self.assertEqual(Bound(nano=6_000_000, tokens=50), bound_of(endpoint, model="listens"))
        hears = bound_of("audio/transcriptions", model="hears")
        self.assertEqual(7_400_000 + 99 * 100 + 99 * 300, hears.nano)
        self.assertIsNone(bound_of("audio/transcriptions/realtime", model="hears").nano)

    def test_audio_in_a_chat(self) -> None:
        """
        A model that is paid for what it hears may hear something in a message that is not text, and in no other.
        """
        self.assertEqual(99 * 100 + 300, bound_of(model="hears", max_tokens=1).nano)
        heard = bound_of(model="hears", max_tokens=1, has_more=True)
        self.assertEqual(7_400_000 + 99 * 100 + 300, heard.nano)

    def test_speech(self) -> None:
        """
        What is spoken is paid by the character; of a session nobody knows beforehand how much that is.
        """
        self.assertEqual(Bound(nano=16_000), bound_of("audio/speech", model="speaks", characters=1))
        self.assertIsNone(bound_of("audio/speech/realtime", model="speaks").nano)
        self.assertEqual(Bound(nano=500_000_000), bound_of("audio/speech/realtime", model="speaks", rules=RULES))

    def test_day(self) -> None:
        """
        The price of the day counts on which the call begins.
        """
        asked = Asked(model="moves", request_bytes=100)
        days = [WHEN, WHEN + timedelta(days=1), WHEN]
        costs = [bound(asked, "embeddings", "POST", PRICES, day, PLAIN).nano for day in days]
        self.assertEqual([100_000, 200_000, 100_000], costs)


class TestUnpriced(TestCase):
    """
    Calls of which nobody can tell what they cost.
    """

    def test_free(self) -> None:
        """
        Looking, deleting, files and the end of a batch cost nothing, and need no body.
        """
        for endpoint, method in (
            *((endpoint, "GET") for endpoint in (CHAT, "libraries", "batch/jobs", "other", "files/content")),
            *(("conversations", "DELETE"), ("files", "POST"), ("agents", "PATCH")),
        ):
            self.assertEqual(Bound(nano=0), bound(None, endpoint, method, PRICES, WHEN, PLAIN))
            self.assertFalse(is_bound_by_body(endpoint, method))
        self.assertEqual(Bound(nano=0), bound_of("batch/jobs", cancels=True))

    def test_read(self) -> None:
        """
        All others that have a price, and batches, must be read; sessions too, which begin with a GET.
        """
        for endpoint in (*PRICED, "batch/jobs"):
            self.assertTrue(is_bound_by_body(endpoint, "POST"))
        self.assertTrue(is_bound_by_body("audio/transcriptions/realtime", "GET"))
        self.assertFalse(is_bound_by_body("libraries", "POST"))

    def test_ceilings(self) -> None:
        """
        Where nothing else tells, the ceiling of the endpoint does; it does not stand in for a bound.
        """
        self.assertEqual(2_000_000_000, bound_of("batch/jobs", rules=RULES).nano)
        self.assertEqual(2_000_000_000, bound(None, "batch/jobs", "POST", PRICES, WHEN, RULES).nano)
        for said in ({"is_agent": True}, {"model": None}, {"model": "unheard-of"}, {"model": "listens"}):
            self.assertEqual(1_000_000_000, bound_of("conversations", rules=RULES, **said).nano)
        self.assertEqual(160_000, bound_of("conversations", rules=RULES, max_tokens=20).nano)

    def test_ceilings_are_no_discount(self) -> None:
        """
        What makes a call unclear does not make it cheaper: a ceiling below what the call could cost without that does
        not count.
        """
        for has_more, name in product((False, True), ("is_agent", "is_socket")):
            said: dict[str, Any] = dict.fromkeys([name], True)
            expected = bound_of(max_tokens=20, has_more=has_more).nano
            self.assertEqual(expected, bound_of(rules=CHEAP, max_tokens=20, has_more=has_more, **said).nano)
        for said in ({"has_more": True}, {"continues": True}, {"connectors": ("c",)}):
            self.assertEqual(160_000, bound_of(rules=CHEAP, model="boundless", max_tokens=20, **said).nano)
        self.assertEqual(1, bound_of(rules=CHEAP, model=None, max_tokens=20).nano)

    def test_sockets(self) -> None:
        """
        A WebSocket has a bound on a path where there are known sessions; nobody knows what is said in others.
        """
        known = "audio/transcriptions/realtime"
        self.assertEqual(6_000_000, bound_of(known, model="listens", is_socket=True).nano)
        for endpoint in (CHAT, "audio/transcriptions", "other"):
            found = bound_of(endpoint, is_socket=True)
            self.assertIsNone(found.nano)
            self.assertIn("nobody can tell what a call of", found.reason)

    def test_reasons(self) -> None:
        """
        Without one the call has no bound. The reason tells whoever makes the call whom to ask, and for what to be set;
        it is the model's only where the model has a part in it.
        """
        for endpoint, said, reason, param in (
            ("batch/jobs", {}, "what a call of /v1/batch/jobs costs: ask whoever runs this dheera to set a", None),
            ("libraries", {}, 'ceiling for such calls ("libraries" in [allowances] ceilings of its conf', None),
            ("other", {}, "what a call of this path costs: ", None),
            ("other", {}, '("other" in [allowances] ceilings', None),
            (
                "agents/completions",
                {"is_agent": True},
                "an agent, or a conversation that goes on, has a model of its own",
                None,
            ),
            ("conversations", {"model": None}, "names no model", "model"),
            (CHAT, {"model": "unheard-of"}, '"unheard-of": ask whoever runs this dheera to set a price', "model"),
            (CHAT, {"model": "unheard-of"}, '([prices."unheard-of"] in its configuration)', "model"),
            (CHAT, {"model": "listens"}, '"listens" has no price for what a call of /v1/chat/completions', "model"),
            (CHAT, {"model": "boundless"}, "how many tokens", "model"),
            ("audio/speech/realtime", {"model": "speaks"}, '"audio/speech/realtime" in [allowances] ceilings', None),
        ):
            found = bound_of(endpoint, **said)
            self.assertIsNone(found.nano)
            self.assertIn(reason, found.reason)
            self.assertEqual(param, found.param, reason)

    def test_names_are_shown_safely(self) -> None:
        """
        The name of a model is shown on one line, in ASCII, and not as a whole if it is long.
        """
        reason = bound_of(model="\n\x1b\u2028" + 200 * "x").reason
        self.assertTrue(reason.isascii() and reason.isprintable())
        self.assertNotIn(100 * "x", reason)

    def test_tokens_are_told(self) -> None:
        """
        Tokens are bounded where dollars are not: a key may have a limit of those alone.
        """
        self.assertEqual(120, bound_of("agents/completions", is_agent=True, max_tokens=20).tokens)
        self.assertEqual(150, bound_of(model="unheard-of", has_more=True).tokens)

    def test_free_models(self) -> None:
        """
        A free model costs nothing, whatever it does.
        """
        for endpoint in (CHAT, "conversations", "embeddings"):
            self.assertEqual(0, bound_of(endpoint, model="free", has_more=True, continues=True).nano)

    def test_beyond_counting(self) -> None:
        """
        A cost that is too large to be counted is as much as the largest budget.
        """
        self.assertEqual(LARGEST * NANO, bound_of(max_tokens=10, choices=10**18).nano)


CONTEXTS = {"small": 1000, "cached": 500, "hears": 99, "free": None, "boundless": None}
PAID_BY = {"ocr": ["reads", "scans"], "audio/speech": ["speaks"], "audio/transcriptions": ["listens", "hears"]}


def models_of(endpoint: str) -> Sequence[str]:
    """
    Those that it may be asked for.
    """
    return PAID_BY.get(endpoint.removesuffix("/realtime"), sorted(CONTEXTS))


@st.composite
def calls(draw: DrawFn) -> tuple[str, Asked]:
    """
    A call of an endpoint, as it was asked for.
    """
    endpoint = draw(st.sampled_from(sorted(PRICED)))
    is_more = draw(st.booleans())  # else most would be
    asked = Asked(
        model=draw(st.sampled_from(models_of(endpoint))),
        request_bytes=draw(st.integers(0, 3000)),
        added_tokens=draw(st.sampled_from([0, 64])),
        has_more=is_more and draw(st.booleans()),
        continues=is_more and draw(st.booleans()),
        connectors=tuple(draw(st.sets(st.sampled_from(["web_search", "code_interpreter"])))) if is_more else (),
        max_tokens=draw(st.none() | st.integers(1, 2000)),
        choices=draw(st.integers(1, 3)),
        pages=draw(st.none() | st.integers(0, 30)),
        annotates=draw(st.booleans()),
        characters=draw(st.integers(0, 500)),
    )
    return endpoint, asked


def used(endpoint: str, asked: Asked, up_to: Callable[[int], int] = int) -> Usage:
    """
    What a call may honestly be said to have used.

    :param up_to: how much, of the most that it may be of each.
    """
    if endpoint == "ocr":
        pages = up_to(PLAIN.ocr_pages if asked.pages is None else asked.pages)
        return Usage(annotated_pages=pages) if asked.annotates else Usage(pages=pages)
    context = CONTEXTS.get(asked.model or "") or 5000
    if endpoint.startswith("audio/speech"):
        return Usage(characters=asked.characters, completion_tokens=up_to(context))
    if endpoint.startswith("audio/"):
        return Usage(audio_ms=up_to(120_000), prompt_tokens=up_to(context), completion_tokens=up_to(context))
    if endpoint in TEXTS:
        prompt = up_to(asked.request_bytes)
        return Usage(prompt_tokens=prompt, total_tokens=prompt)
    steps = PLAIN.conversation_steps if asked.continues or asked.connectors else 1
    is_more = asked.has_more or asked.continues or asked.connectors
    prompt = steps * up_to(context if is_more else min(context, asked.request_bytes + asked.added_tokens))
    put_in = up_to(steps * context - prompt) if asked.connectors else 0
    return Usage(
        prompt_tokens=prompt,
        cached_tokens=up_to(prompt),
        completion_tokens=steps
        * asked.choices
        * up_to(context if asked.max_tokens is None else min(context, asked.max_tokens)),
        connector_tokens=put_in,
        connectors={name: up_to(steps) for name in asked.connectors},
        audio_ms=steps * up_to(120_000) if asked.has_more else 0,
    )


MANY_FIELDS = ("input_per_million", "cached_per_million", "output_per_million", "audio_per_minute", "context_tokens")
MANY_PRICES = {
    f"m{nth}": {name: value for name, value in zip(MANY_FIELDS, row, strict=True) if value is not None}
    for nth, row in enumerate(
        product((None, 0, 0.3333), (None, 2.000000007), (None, 0, 0.77), (None, 0.0037), (None, 99, 4000))
    )
    if any(value is not None for value in row[:4])
}


class TestShortWay(TestCase):
    """
    What is reckoned at once for calls of nothing but text.
    """

    prices = PriceList.load(MANY_PRICES)

    @given(
        calls(),
        st.sampled_from(sorted(MANY_PRICES)),
        st.sampled_from([PLAIN, RULES, CHEAP]),
        st.sampled_from([1, 10**14]),
    )
    def test_same(self, call: tuple[str, Asked], model: str, rules: AllowanceSettings, size: int) -> None:
        """
        It is what comes of all the ways in which a call could be paid, whatever its model costs.
        """
        endpoint, asked = call
        asked = replace(
            asked, model=model, choices=size * asked.choices, max_tokens=asked.max_tokens and asked.max_tokens * size
        )
        price = self.prices.find(model, WHEN)
        self.assertEqual(
            bound_at_large(asked, endpoint, price, self.prices, WHEN, rules),
            bound(asked, endpoint, "POST", self.prices, WHEN, rules),
        )


class TestHonesty(TestCase):
    """
    What is settled in the end.
    """

    def check(self, endpoint: str, asked: Asked, reading: Reading) -> None:
        found = bound(asked, endpoint, "POST", PRICES, WHEN, PLAIN)
        deed = Deed(
            endpoint=endpoint,
            method="POST",
            path="/v1/" + endpoint,
            at=WHEN,
            wanted=Wanted(model=asked.model, annotates=asked.annotates, characters=asked.characters),
            reading=reading,
            request_bytes=asked.request_bytes,
            status=200,
            is_whole=bool(reading.parts),
        )
        cost = settled(deed, PRICES).cost_nano_usd
        if found.nano is not None:
            self.assertLessEqual(cost or 0, found.nano)
        if found.nano == 0:
            self.assertIn(cost, (0, None))

    @given(st.data())
    def test_usage(self, data: st.DataObject) -> None:
        """
        No usage that upstream can report within a model's limits costs more than the bound; and where tokens are said,
        none is about more of them.
        """
        endpoint, asked = data.draw(calls())
        usage = used(endpoint, asked, lambda most: data.draw(st.sampled_from([0, most]) | st.integers(0, most)))
        self.check(endpoint, asked, Reading(parts=[Part(model=asked.model, usage=usage)]))
        steps = asked.continues or asked.connectors
        if endpoint in (*ANSWERS, *TEXTS) and asked.max_tokens and CONTEXTS.get(asked.model or "") and not steps:
            tokens = bound(asked, endpoint, "POST", PRICES, WHEN, PLAIN).tokens
            self.assertLessEqual(usage.prompt_tokens + usage.completion_tokens, tokens)

    def test_most(self) -> None:
        """
        Neither does the most of everything at once.
        """
        for endpoint, has_more, continues, connectors, most in product(
            sorted(PRICED), (False, True), (False, True), ((), ("web_search", "code_interpreter")), (None, 7)
        ):
            for model, size in product(models_of(endpoint), (3, 70, 3001)):
                asked = Asked(
                    model=model,
                    request_bytes=size,
                    has_more=has_more,
                    continues=continues,
                    connectors=connectors,
                    max_tokens=most,
                    choices=2,
                    annotates=has_more,
                    characters=size,
                )
                usage = used(endpoint, asked)
                for each in (usage, replace(usage, cached_tokens=0)):
                    self.check(endpoint, asked, Reading(parts=[Part(model=model, usage=each)]))

    def test_connectors_below_ceiling(self) -> None:
        """
        Where a ceiling is taken since something is unclear, connectors are not forgotten.
        """
        asked = Asked(model="small", request_bytes=0, connectors=("web_search",))
        fees, both = (
            bound(each, "chat/classifications", "POST", PRICES, WHEN, CHEAP).nano or 0
            for each in (asked, replace(asked, has_more=True))
        )
        self.assertGreater(fees, 1)
        self.assertGreaterEqual(both, fees)

    @given(calls(), st.sampled_from([PLAIN, RULES, CHEAP]), st.data())
    def test_more_is_never_cheaper(
        self, call: tuple[str, Asked], rules: AllowanceSettings, data: st.DataObject
    ) -> None:
        """
        Whatever else a request says, its bound is no lower for it.
        """
        endpoint, asked = call
        more = {
            "is_agent": True,
            "has_more": True,
            "continues": True,
            "is_socket": True,
            "connectors": (*asked.connectors, "another"),
            "added_tokens": asked.added_tokens + 1,
            "choices": asked.choices + 1,
            "max_tokens": asked.max_tokens and asked.max_tokens + 1,
        }
        names = data.draw(st.sets(st.sampled_from(sorted(more))))
        less, much = (
            bound(each, endpoint, "POST", PRICES, WHEN, rules)
            for each in (asked, replace(asked, **{name: more[name] for name in names}))
        )
        if much.nano is not None:
            self.assertLessEqual(less.nano or 0, much.nano)
        if endpoint not in TEXTS:
            self.assertLessEqual(less.tokens, much.tokens)

    @given(calls(), st.integers(0, EVENTS_AROUND), st.floats(0, 1))
    @example((CHAT, Asked(model="small", request_bytes=9000, max_tokens=1)), EVENTS_AROUND, 1.0)
    def test_estimate(self, call: tuple[str, Asked], around: int, share: float) -> None:
        """
        Neither does a call whose client left, however many tokens had come.
        """
        endpoint, asked = call
        context = CONTEXTS.get(asked.model or "") or 5000
        tokens = context if asked.max_tokens is None else min(context, asked.max_tokens)
        steps = PLAIN.conversation_steps if asked.continues or asked.connectors else 1
        events = int(share * steps * asked.choices * (tokens + around))
        self.check(endpoint, asked, Reading(events=events))
