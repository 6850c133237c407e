"""
What every `Books` promises, as properties. A test of an adapter subclasses `BooksContract` (import this module, not the
class, or the class itself would be run) and says how stores are made, broken and mended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from msgspec import structs
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from dheera.bookkeeping import Books, Dimension, Kept, LedgerLine, LinesQuery, Moved, Question, Sums
from dheera.boundaries import Add, Retire, Spent, Store, Write
from dheera.entities import Customer, Key, Team, User
from dheera.errors import Outdated, StoreAway
from dheera.holding import Allowance, Claim, Grown, Release, Share, Turn, Verdict
from dheera.money import Usd
from dheera.records import Record
from dheera.stores import Stores
from dheera.stores.ledger_rows import BILLED_BEFORE, microseconds
from dheera.usage import Usage
from tests.stores.contract import Contract, a_key, a_team, a_user, hour
from tests.stores.strategies import drawn

SOME = Usage(prompt_tokens=100, cached_tokens=10, completion_tokens=20, total_tokens=120)
ZERO = Sums()

_numbers = count(1)


def a_record(call_id: str | None = None, **fields: Any) -> Record:
    """
    A call that cost 5 nano-dollars and went well.
    """
    told = {
        "call_id": call_id or f"call-{next(_numbers):08}",
        "started_at": hour(1),
        "node": "node",
        "method": "POST",
        "path": "/v1/chat/completions",
        "endpoint": "chat/completions",
        "model": "m",
        "key_alias": "ada",
        "outcome": "complete",
        "status": 200,
        "duration_us": 12,
        "usage": SOME,
        "cost_nano_usd": 5,
        "price_list": "p",
    }
    return Record(**{**told, **fields})


def a_customer(id_: str = "e", **fields: Any) -> Customer:
    """
    A customer.
    """
    return Customer(**{"id": id_, "created_at": hour(0), "updated_at": hour(0), **fields})


def sums(of: Sequence[object] = (), requests: int = 1, **fields: Any) -> Sums:
    """
    What so many calls like `a_record` come to, but for *fields*.
    """
    usage = {name: getattr(SOME, name) * requests for name in SOME.__struct_fields__ if hasattr(ZERO, name)}
    return Sums(**{**usage, "of": tuple(of), "requests": requests, "cost": Usd(5 * requests), **fields})


def folded(records: Iterable[Record], *names: str) -> dict[tuple[Any, ...], Sums]:
    """
    What the sums of *records* must be, told apart by fields of the record.
    """
    groups: dict[tuple[Any, ...], Counter[str]] = {}
    for record in records:
        usage = record.usage or Usage()
        group = groups.setdefault(tuple(getattr(record, name) for name in names), Counter())
        group.update(
            requests=1,
            failed=int(record.failed),
            unpriced=int(record.cost_nano_usd is None and record.outcome != "refused"),
            estimated=int(record.estimated),
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
            pages=usage.pages + usage.annotated_pages,
            audio_ms=usage.audio_ms,
            characters=usage.characters,
            cost=record.cost_nano_usd or 0,
        )
    return {of: _sums_of(of, group) for of, group in groups.items()}


def _sums_of(of: tuple[Any, ...], group: Counter[str]) -> Sums:
    counters: dict[str, Any] = {name: value for name, value in group.items() if name != "cost"}
    return Sums(of=of, cost=Usd(group["cost"]), **counters)


@st.composite
def histories(draw: DrawFn) -> list[list[Record]]:
    """
    Batches of records, in which some come again, in the same batch or in another.
    """
    few: Any = lambda *values: st.sampled_from(values)  # noqa: E731 - a short name for a strategy
    usages = st.builds(
        Usage,
        prompt_tokens=st.integers(0, 9),
        cached_tokens=st.integers(0, 9),
        completion_tokens=st.integers(0, 9),
        total_tokens=st.integers(0, 9),
        pages=st.integers(0, 9),
        annotated_pages=st.integers(0, 9),
        audio_ms=st.integers(0, 9),
        characters=st.integers(0, 9),
    )
    fields = st.fixed_dictionaries(
        {
            "started_at": st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 3), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis wants it so
            "key_id": few("k", "l", "gone", None),
            "user_id": few("u", "v", None),
            "team_id": few("t", None),
            "end_user": few("e", "f", None),
            "model": few("m", "n", None),
            "outcome": few("complete", "client_left", "refused"),
            "status": few(200, 500, None),
            "estimated": st.booleans(),
            "usage": st.none() | usages,
            "cost_nano_usd": st.none() | st.integers(0, 10**12),
            "once": few("f", "g", None, None, None),
        }
    )
    told = draw(st.lists(fields, min_size=1, max_size=12))
    records = [a_record(f"{number}", **each) for number, each in enumerate(told)]
    return draw(st.lists(st.lists(st.sampled_from(records), max_size=8), min_size=1, max_size=6))


class OnBooks(Contract):
    """
    A database for each test, with books and a directory in it.
    """

    def new_stores(self) -> Stores:
        """
        Stores on this test's database, not open; each call gives others on the same.
        """
        raise NotImplementedError

    def new_store(self) -> Store:
        return self.new_stores().directory

    async def open_stores(self) -> Stores:
        """
        Stores, open until the test ends.
        """
        stores = self.new_stores()
        await stores.directory.open()
        self.addCleanup(stores.directory.close)
        return stores

    async def books(self) -> Books:
        """
        Books, open until the test ends.
        """
        return (await self.open_stores()).books

    async def spend(self, store: Store, sort: Any, id_: str) -> Usd:
        """
        What somebody has spent.
        """
        found = await store.get(sort, id_)
        assert found is not None
        return Usd(found.spend.nano)

    async def by(self, books: Books, *by: Dimension, **settings: Any) -> list[Sums]:
        """
        The sums by some dimensions.
        """
        return list(await books.sums(Question(by=by, **settings)))


class Keeping(OnBooks):
    async def test_line(self) -> None:
        """
        A line says of a call what the ledger keeps, all as it was.
        """
        books = await self.books()
        usage = Usage(prompt_tokens=7, connectors={"web_search": 2}, annotated_pages=3)
        full = a_record(
            "c",
            started_at=datetime(2026, 1, 1, 1, 2, 3, 456789, tzinfo=UTC),
            first_byte_us=9,
            key_id="k",
            user_id="u",
            team_id="t",
            end_user="Zoë",
            answered_model="m-2512",
            error="rate_limited",
            status=429,
            estimated=True,
            usage=usage,
            tags=["a b", "c\nd", "", "a b"],
            client="::1",
            upstream_id="x",
        )
        bare = a_record("d", model=None, status=None, usage=None, cost_nano_usd=None, price_list=None)
        await books.keep([full, bare])
        expected = LedgerLine(
            call_id="c",
            started_at=full.started_at,
            duration_us=12,
            first_byte_us=9,
            key_id="k",
            key_alias="ada",
            user_id="u",
            team_id="t",
            end_user="Zoë",
            model="m-2512",
            endpoint="chat/completions",
            outcome="complete",
            status=429,
            error="rate_limited",
            failed=True,
            estimated=True,
            cost=Usd(5),
            price_list="p",
            usage=usage,
            tags=["a b", "c d"],
            client="::1",
            node="node",
            upstream_id="x",
        )
        self.assertEqual([expected], await books.lines(LinesQuery(equal={"call_id": "c"})))
        [line] = await books.lines(LinesQuery(equal={"call_id": "d"}))
        nothing: Any = (None, None, None, None, None, None, None, None, Usage(), [])
        self.assertEqual(
            nothing,
            (
                line.first_byte_us, line.key_id, line.end_user, line.model, line.status, line.error, line.cost,
                line.price_list, line.usage, line.tags,
            ),
        )  # fmt: skip

    async def test_again(self) -> None:
        """
        Records that are there already change nothing, and those among them that are not are kept.
        """
        stores = await self.open_stores()
        await stores.directory.apply([Add(a_key())], [])
        first, second = a_record(key_id="k"), a_record(key_id="k")
        await stores.books.keep([first])
        kept = await stores.books.keep([first, second, first])
        self.assertEqual(Kept(), await stores.books.keep([second, first]))
        self.assertEqual([Moved("key", "k", "k", Usd(5), Usd(10))], kept.moved)
        self.assertEqual(2, await stores.books.count(LinesQuery()))
        self.assertEqual([sums(requests=2)], await self.by(stores.books))
        self.assertEqual(Usd(10), await self.spend(stores.directory, Key, "k"))

    async def test_many(self) -> None:
        """
        Batches of any length are kept, and known again.
        """
        books = await self.books()
        for number in (1, 2, 7, 64, 65, 131, 200):
            records = [a_record(started_at=hour(number), tags=[f"t{each % 3}"]) for each in range(number)]
            await books.keep(records)
            await books.keep([*records[::2], *records])
            query = LinesQuery(since=hour(number), until=hour(number + 1))
            self.assertEqual(number, await books.count(query), number)
        self.assertEqual([sums(requests=470)], await self.by(books))

    async def test_spends(self) -> None:
        """
        What a call costs is added to the spend of its key, user, team and customer, where there are such; who they
        are, and how far it went, is told.
        """
        stores = await self.open_stores()
        await stores.directory.apply(
            [
                Add(a_key("k", alias="ada")),
                Add(a_key("old", user_id="u")),
                Add(a_user(alias="Ada")),
                Add(a_team(alias="search", spend=Usd(3))),
                Add(a_customer()),
            ],
            [],
        )
        await stores.directory.apply([Retire(field="id", value="old", at=hour(1), by="me")], [])
        kept = await stores.books.keep(
            [
                a_record(key_id="k", user_id="u", team_id="t", end_user="e"),
                a_record(key_id="old", user_id="unknown", end_user="unknown"),
                a_record(key_id="never", cost_nano_usd=None),
                a_record(key_id="k", cost_nano_usd=0),
                a_record(team_id="t", cost_nano_usd=10**12),
            ]
        )
        expected = {
            Moved("key", "k", "ada", Usd(), Usd(5)),
            Moved("key", "old", "old", Usd(), Usd(5)),
            Moved("user", "u", "Ada", Usd(), Usd(5)),
            Moved("team", "t", "search", Usd(3), Usd(10**12 + 8)),
            Moved("customer", "e", "e", Usd(), Usd(5)),
        }
        self.assertEqual(expected, set(kept.moved))
        self.assertEqual(len(expected), len(kept.moved))
        for sort, id_, spend in ((Key, "old", 5), (User, "u", 5), (Team, "t", 10**12 + 8), (Customer, "e", 5)):
            self.assertEqual(Usd(spend), await self.spend(stores.directory, sort, id_), id_)

    async def test_quiet(self) -> None:
        """
        That somebody spends is no news: those who know keys go on knowing them, and may change what they have read.
        """
        stores = self.new_stores()
        told: list[object] = []
        stores.directory.watch(told.append, lambda: told.append(None))
        await stores.directory.open()
        self.addCleanup(stores.directory.close)
        await stores.directory.apply([Add(a_key())], [])
        told.clear()
        await stores.books.keep([a_record(key_id="k")])
        self.assertEqual([], told)
        found = await stores.directory.get(Key, "k")
        self.assertEqual(0, 99 if found is None else found.version)

    async def test_billed_once(self) -> None:
        """
        What is billed once only costs nothing the second time, and uses nothing; also after its line was pruned. What
        had no price the first time is billed when it has one.
        """
        stores = await self.open_stores()
        await stores.directory.apply([Add(a_key())], [])
        books = stores.books
        unpriced = a_record("a", once="f", cost_nano_usd=None, key_id="k")
        first, same = (a_record(id_, once="f", key_id="k", started_at=hour(2)) for id_ in "bc")
        await books.keep([unpriced])
        await books.keep([first, same])
        self.assertEqual(3, await books.prune(hour(3), 10))
        await books.keep([a_record("d", once="f", key_id="k"), a_record("e", once="g", key_id="k")])
        [d, e] = sorted(await books.lines(LinesQuery()), key=lambda line: line.call_id)
        self.assertEqual((Usd(), BILLED_BEFORE, Usage()), (d.cost, d.price_list, d.usage))
        self.assertEqual((Usd(5), "p", SOME), (e.cost, e.price_list, e.usage))
        self.assertEqual(Usd(10), await self.spend(stores.directory, Key, "k"))
        expected = evolve(sums(requests=3), requests=5, unpriced=1, cost=Usd(10))
        self.assertEqual([expected], await self.by(books))

    async def test_at_once(self) -> None:
        """
        Of several who write the same at the same time each succeeds, and it counts once.
        """
        several = [await self.open_stores() for _ in range(3)]
        await several[0].directory.apply([Add(a_key(id_, alias=id_)) for id_ in "kl"], [])
        shared = [a_record(key_id=id_, once=f"f{number % 3}") for number, id_ in enumerate("klkl")]
        own = [[a_record(key_id=id_, tags=["x"]) for id_ in "lk"] for _ in several]
        orders = [[*shared, *own[0]], [*own[1], *shared[::-1]], [*shared[2:], *own[2], *shared[:2]]]
        doing = [each.books.keep(records) for each, records in zip(several, orders, strict=True)]
        await gatherResults(doing, consumeErrors=True)
        self.assertEqual(10, await several[0].books.count(LinesQuery()))
        [total] = await self.by(several[0].books)
        self.assertEqual((10, Usd(5 * 9)), (total.requests, total.cost))
        spent = [await self.spend(several[0].directory, Key, id_) for id_ in "kl"]
        self.assertEqual(5 * 9, sum(each.nano for each in spent))

    async def test_strange_texts(self) -> None:
        """
        No text of a client keeps a record out: neither NUL, nor half a surrogate pair, nor a very long one, nor one
        that means something to a database; and lines are found by it. Two that are cut stay two.
        """
        books = await self.books()
        texts = ["a\0b", "c\ud800", "é" * 5000, "é" * 5000 + "x", "\U0001f600" * 200, "'\"\\ :rows %s \\u0000 \t"]
        await books.keep([a_record(f"c{each}", end_user=text, tags=[text]) for each, text in enumerate(texts)])
        for number, text in enumerate(texts):
            for query in LinesQuery(equal={"end_user": text}), LinesQuery(tag=text):
                self.assertEqual([f"c{number}"], [line.call_id for line in await books.lines(query)])
            for dimension in "end_user", "tag":
                self.assertEqual([sums()], list(await books.sums(Question(equal={dimension: text}))))

    async def test_absurd_quantities(self) -> None:
        """
        Numbers that upstream cannot mean do not spoil the sums.
        """
        books = await self.books()
        await books.keep([a_record(usage=Usage(prompt_tokens=10**30, pages=-5))])
        [total] = await self.by(books)
        self.assertEqual((10**12, 0), (total.prompt_tokens, total.pages))

    async def test_uncountable_cost(self) -> None:
        """
        A cost that no amount can be is refused, and with it the batch: nothing of that is kept.
        """
        books = await self.books()
        for cost in (10**30, -1):
            await self.fails(ValueError, books.keep([a_record(), a_record(cost_nano_usd=cost)]))
        self.assertEqual(0, await books.count(LinesQuery()))

    async def test_away(self) -> None:
        """
        When the database is away each question is answered so, and nothing was done.
        """
        books = await self.books()
        record = a_record()
        await self.break_it()
        for doing in (
            lambda: books.keep([record]),
            lambda: books.lines(LinesQuery()),
            lambda: books.count(LinesQuery()),
            lambda: books.sums(Question()),
            lambda: books.prune(hour(9), 1),
        ):
            await self.fails(StoreAway, doing())
        await self.mend_it()
        await self.when_back(lambda: books.keep([record]))
        self.assertEqual(1, await self.when_back(lambda: books.count(LinesQuery())))

    async def when_back(self, ask: Callable[[], Awaitable[object]]) -> object:
        """
        What is answered at last.
        """
        from twisted.internet import reactor

        for _ in range(400):
            try:
                return await ask()
            except StoreAway:
                await deferLater(reactor, 0.05)
        return self.fail("the database does not come back")


class Lines(OnBooks):
    async def found(self, books: Books, **settings: Any) -> str:
        """
        The call ids of the lines of a page.
        """
        query = LinesQuery(**settings)
        lines = await books.lines(query)
        if not query.offset and query.after is None and query.limit >= len(lines):
            self.assertEqual(len(lines), await books.count(query) if len(lines) < query.limit else len(lines))
        return "".join(line.call_id for line in lines)

    async def test_filters(self) -> None:
        """
        Lines are chosen by any of the columns, by what is not there, by tag and time.
        """
        books = await self.books()
        values = {
            "key_id": "k", "key_alias": "eve", "user_id": "u", "team_id": "t", "end_user": "e", "model": "n",
            "endpoint": "ocr", "outcome": "refused", "status": 403,
        }  # fmt: skip
        for number, (name, value) in enumerate(values.items()):
            await books.keep([a_record(f"{number}", started_at=hour(number), **{name: value})])
        for number, (name, value) in enumerate(values.items()):
            self.assertEqual(f"{number}", await self.found(books, equal={name: value}), name)
        self.assertEqual("4", await self.found(books, equal={"call_id": "4"}))
        self.assertEqual("87654321", await self.found(books, equal={"key_id": None}))
        self.assertEqual("7", await self.found(books, equal={"outcome": "refused", "model": "m"}))
        self.assertEqual("", await self.found(books, equal={"model": "M"}))
        self.assertEqual("432", await self.found(books, since=hour(2), until=hour(5)))
        self.assertEqual("3", await self.found(books, since=hour(3), until=hour(5), equal={"team_id": "t"}))

    async def test_failed(self) -> None:
        """
        Lines of what failed, and of what did not, are found and counted: refused, broken off, answered with an error,
        or not at all.
        """
        books = await self.books()
        ways: Sequence[dict[str, Any]] = (
            {}, {"outcome": "refused", "status": 403}, {"outcome": "client_left"}, {"error": "rate_limited"},
            {"status": 500}, {"status": None}, {"status": 302},
        )  # fmt: skip
        records = [a_record(f"{number}", started_at=hour(number), **way) for number, way in enumerate(ways)]
        await books.keep(records)
        self.assertEqual("54321", await self.found(books, failed=True))
        self.assertEqual("60", await self.found(books, failed=False))
        self.assertEqual("32", await self.found(books, failed=True, since=hour(2), until=hour(4)))
        self.assertEqual("4", await self.found(books, failed=True, equal={"status": 500}))
        told = {line.call_id: line.failed for line in await books.lines(LinesQuery())}
        self.assertEqual({each.call_id: each.failed for each in records}, told)

    async def test_strange_column(self) -> None:
        """
        A column that lines cannot be chosen by is refused before anybody is asked.
        """
        books = await self.books()
        query = LinesQuery(equal={"cost = 0 or 1": 1})
        for ask in books.lines, books.count:
            await self.fails(ValueError, ask(query))

    async def test_tags(self) -> None:
        """
        A tag is found as a whole, and in no other tag.
        """
        books = await self.books()
        await books.keep([a_record("1", tags=["ab", "c,d"]), a_record("2", tags=["b", "AB", "%"]), a_record("3")])
        for tag, expected in (
            ("ab", "1"), ("b", "2"), ("AB", "2"), ("%", "2"), ("a", ""), ("d", ""), (",", ""), ("c,d", "1"),
        ):  # fmt: skip
            self.assertEqual(expected, await self.found(books, tag=tag), tag)

    async def test_pages(self) -> None:
        """
        Newest first, page after page, each line once, also where many started in the same moment and while others are
        added.
        """
        books = await self.books()
        await books.keep([a_record(each, started_at=hour(int(each > "d"))) for each in "abcdefg"])
        self.assertEqual("gfedcba", await self.found(books))
        self.assertEqual("dc", await self.found(books, offset=3, limit=2))
        pages, after = "", None
        while page := await books.lines(LinesQuery(limit=2, after=after)):
            pages += "".join(line.call_id for line in page)
            after = (page[-1].started_at, page[-1].call_id)
            await books.keep([a_record(started_at=hour(2))])
        self.assertEqual("gfedcba", pages)
        self.assertEqual("cb", await self.found(books, after=(hour(0), "d"), limit=2, equal={"model": "m"}))

    async def test_prune(self) -> None:
        """
        The oldest lines go first, no more than are asked for, and none that is young enough; sums and spends stay.
        """
        stores = await self.open_stores()
        books = stores.books
        await stores.directory.apply([Add(a_key())], [])
        await books.keep([a_record(each, started_at=hour(n), key_id="k") for n, each in enumerate("cabd")])
        self.assertEqual(2, await books.prune(hour(3), 2))
        self.assertEqual("db", await self.found(books))
        self.assertEqual(1, await books.prune(hour(3), 2))
        self.assertEqual(0, await books.prune(hour(3), 2))
        self.assertEqual("d", await self.found(books))
        self.assertEqual([sums(requests=4)], await self.by(books))
        self.assertEqual(Usd(20), await self.spend(stores.directory, Key, "k"))


class Totals(OnBooks):
    async def test_none(self) -> None:
        """
        Of nothing there is one sum, which is nothing, and none by anything.
        """
        books = await self.books()
        self.assertEqual([ZERO], await self.by(books))
        self.assertEqual([], await self.by(books, "key"))

    async def test_dimensions(self) -> None:
        """
        Each dimension tells calls apart, and chooses among them.
        """
        books = await self.books()
        dimensions: dict[Dimension, str] = {
            "key": "key_id", "user": "user_id", "team": "team_id", "end_user": "end_user", "model": "model",
            "endpoint": "endpoint",
        }  # fmt: skip
        for name in dimensions.values():
            await books.keep([a_record(**{name: "this"}), a_record(**{name: "this"})])
        for dimension, name in dimensions.items():
            other = {"model": "m", "endpoint": "chat/completions"}.get(name)
            expected = [sums([other], requests=10), sums(["this"], requests=2)]
            self.assertEqual(expected, await self.by(books, dimension))
            self.assertEqual([sums(requests=2)], await self.by(books, equal={dimension: "this"}))
            self.assertEqual([sums(requests=10)], await self.by(books, equal={dimension: other}))
        self.assertEqual([sums(requests=10)], await self.by(books, equal={"team": ""}))
        many = await self.by(books, "key", "user", "model", equal={"key": "this"})
        self.assertEqual([sums(["this", None, "m"], requests=2)], many)

    async def test_days(self) -> None:
        """
        Days are those of UTC; both ends are included, and the latest come first.
        """
        books = await self.books()
        east = datetime(2026, 1, 2, 1, tzinfo=UTC).astimezone().astimezone(tz=UTC)
        starts = [hour(0), hour(23), hour(24), hour(71), east - timedelta(hours=2)]
        await books.keep([a_record(started_at=each) for each in starts])
        days = [date(2026, 1, day) for day in (1, 2, 3)]
        expected = [sums([days[2]]), sums([days[1]]), sums([days[0]], requests=3)]
        self.assertEqual(expected, await self.by(books, "day"))
        self.assertEqual(expected[1:], await self.by(books, "day", until=days[1]))
        self.assertEqual(expected[1:2], await self.by(books, "day", since=days[1], until=days[1]))
        self.assertEqual(expected[:1], await self.by(books, "day", limit=1))
        self.assertEqual(expected[1:2], await self.by(books, "day", limit=1, offset=1))

    async def test_largest_first(self) -> None:
        """
        The largest costs come first; within a day too.
        """
        books = await self.books()
        for key, cost in (("a", 1), ("b", 3), ("c", 2), ("d", 3)):
            await books.keep([a_record(key_id=key, cost_nano_usd=cost, started_at=hour(30 if key == "a" else 1))])
        self.assertEqual(list("bdca"), [each.of[0] for each in await self.by(books, "key")])
        self.assertEqual(list("dc"), [each.of[0] for each in await self.by(books, "key", limit=2, offset=1)])
        self.assertEqual(list("abdc"), [each.of[0] for each in await self.by(books, "key", "day")])

    async def test_sums_by_tag(self) -> None:
        """
        A call with two tags counts under both, and one without under none.
        """
        books = await self.books()
        await books.keep([a_record(tags=["a", "b"], key_id="k"), a_record(tags=["b"], model="n"), a_record()])
        self.assertEqual([sums(["b"], requests=2), sums(["a"])], await self.by(books, "tag"))
        self.assertEqual([sums([None]), sums(["k"])], await self.by(books, "key", equal={"tag": "b"}))
        self.assertEqual([sums(requests=2)], await self.by(books, equal={"tag": "b"}))
        found = await self.by(books, "day", "tag", "model", equal={"key": "k"})
        self.assertEqual([sums([date(2026, 1, 1), tag, "m"]) for tag in "ab"], found)

    async def test_no_such_sums(self) -> None:
        """
        What cannot be told apart is refused: too much at once, twice the same, a tag beside what is not kept with it.
        """
        books = await self.books()
        for question in (
            Question(by=("key", "user", "team", "model")),
            Question(by=("key", "key")),
            Question(by=("tag", "user")),
            Question(by=("endpoint",), equal={"tag": "x"}),
            Question(equal={"day": "2026-01-01"}),
            Question(by=("cost",)),  # type: ignore[arg-type]  # that is the point
        ):
            await self.fails(ValueError, books.sums(question))


class Agreement(OnBooks):
    async def test_histories(self) -> None:
        """
        Whatever comes, in whatever batches, and however often: lines, sums and spends say what the distinct records
        say, of which those that are billed once only cost something once.
        """
        stores = await self.open_stores()
        people = [Add(a_key(id_, alias=id_)) for id_ in "kl"]
        await stores.directory.apply([*people, Add(a_user()), Add(a_team()), Add(a_customer())], [])
        seen: dict[str, Record] = {}
        spends: Counter[tuple[str, str]] = Counter()
        for number, history in enumerate(drawn(histories(), 40)):
            for batch in history:
                records = [structs.replace(each, call_id=f"{number}-{each.call_id}") for each in batch]
                for each in records:
                    seen.setdefault(each.call_id, as_billed(each, seen.values()))
                for moved in (await stores.books.keep(records)).moved:
                    self.assertEqual(spends[moved.kind, moved.id], moved.before.nano)
                    spends[moved.kind, moved.id] = moved.after.nano
            await self.check(stores, seen, spends)

    async def check(self, stores: Stores, seen: dict[str, Record], spends: Counter[tuple[str, str]]) -> None:
        """
        Assert that what is in *stores* is what was *seen*, and *spends* what was told.
        """
        lines = await stores.books.lines(LinesQuery(limit=10_000))
        told = {line.call_id: line.cost and line.cost.nano for line in lines}
        self.assertEqual({call_id: each.cost_nano_usd for call_id, each in seen.items()}, told)
        self.assertEqual(len(seen), len(lines))
        keys: tuple[Dimension, ...] = ("key", "user", "team")
        others: tuple[Dimension, ...] = ("end_user", "model")
        for by, names in (keys, ("key_id", "user_id", "team_id")), (others, ("end_user", "model")):
            found = await stores.books.sums(Question(by=by))
            self.assertEqual(folded(seen.values(), *names), {each.of: each for each in found})
        for kind, sort, name, id_ in (
            ("key", Key, "key_id", "k"), ("key", Key, "key_id", "l"), ("user", User, "user_id", "u"),
            ("team", Team, "team_id", "t"), ("customer", Customer, "end_user", "e"),
        ):  # fmt: skip
            total = sum(each.cost_nano_usd or 0 for each in seen.values() if getattr(each, name) == id_)
            self.assertEqual(Usd(total), await self.spend(stores.directory, sort, id_), id_)
            self.assertEqual(total, spends[kind, id_])


KEY = Allowance(subject="key/k", kind="usd")
CAP = 100


def a_share(allowance: Allowance = KEY, **fields: Any) -> Share:
    """
    What a call may take of a budget of 100 nano-dollars: 30, unless *fields* say otherwise.
    """
    return Share(**{"allowance": allowance, "cap": CAP, "amount": 30, **fields})


def of(subject: str, **fields: Any) -> Allowance:
    """
    A budget.
    """
    return Allowance(**{"subject": subject, "kind": "usd", **fields})


class Settling(OnBooks):
    """
    What records do to budgets.
    """

    async def opened(self, *writes: Write) -> Stores:
        """
        Stores with a key, and *writes*.
        """
        stores = await self.open_stores()
        await stores.directory.apply([Add(a_key()), *writes], [])
        return stores

    async def claim(self, stores: Stores, call_id: str, *shares: Share, **turn: Any) -> Verdict:
        """
        What becomes of a claim.
        """
        claims = [Claim(call_id=call_id, shares=list(shares or [a_share()]))]
        turned = await stores.allowances.turn(Turn(owner="me", claims=claims, **turn))
        [verdict] = turned.verdicts
        return verdict

    async def release(self, stores: Stores, call_id: str, usd: int = 0) -> None:
        """
        The call is over, and cost so much.
        """
        await stores.allowances.turn(Turn(owner="me", releases=[Release(call_id=call_id, usd=usd)]))

    async def stand(self, stores: Stores, *allowances: Allowance) -> list[tuple[int, int]]:
        """
        What is used and held of each.
        """
        allowances = allowances or (KEY,)
        looked = await stores.allowances.look([each.subject for each in allowances])
        found = {each.allowance: (each.used, each.held) for each in looked}
        return [found[each] for each in allowances]

    async def test_hold(self) -> None:
        """
        What a call holds becomes what it cost when its record is kept, and how much more is used is told; whether it
        was released before or not, and once, however often it is kept.
        """
        stores = await self.opened()
        before = 0
        for call_id, is_released in ("a", True), ("b", False):
            await self.claim(stores, call_id)
            self.assertEqual([(before, 30)], await self.stand(stores))
            if is_released:
                await self.release(stores, call_id, 5)
                self.assertEqual([(before, 5)], await self.stand(stores))
            record = a_record(call_id, key_id="k", held_nano_usd=30)
            kept = await stores.books.keep([record, record])
            self.assertEqual([Grown(allowance=KEY, before=before, after=before + 5, cap=CAP)], list(kept.grown))
            before += 5
            self.assertEqual(Kept(), await stores.books.keep([record]))
            await self.release(stores, call_id, 5)
            self.assertEqual([(before, 0)], await self.stand(stores))

    async def test_cost_nothing(self) -> None:
        """
        What was held for a call that costs nothing, or has no price, returns.
        """
        stores = await self.opened()
        for call_id, cost in ("a", 0), ("b", None):
            await self.claim(stores, call_id)
            await stores.books.keep([a_record(call_id, key_id="k", held_nano_usd=30, cost_nano_usd=cost)])
            self.assertEqual([(0, 0)], await self.stand(stores))

    async def test_cost_more(self) -> None:
        """
        A call that cost more than was held counts in full.
        """
        stores = await self.opened()
        await self.claim(stores, "a")
        await stores.books.keep([a_record("a", key_id="k", held_nano_usd=30, cost_nano_usd=250)])
        self.assertEqual([(250, 0)], await self.stand(stores))

    async def test_billed_before(self) -> None:
        """
        What is billed once only is used once.
        """
        stores = await self.opened()
        for call_id in "ab":
            await self.claim(stores, call_id)
            await stores.books.keep([a_record(call_id, key_id="k", held_nano_usd=30, once="f")])
        self.assertEqual([(5, 0)], await self.stand(stores))

    async def test_without_hold(self) -> None:
        """
        A call that held nothing counts against the budgets of all whom it concerns, in the windows in which it began;
        a user's only if there is no team, a model's if it is the one, and none twice.
        """
        stores = await self.opened(Add(a_team()), Add(a_user()))
        all_ = [
            KEY, of("user/u"), of("team/t"), of("member/t/u"), of("customer/e"), of("proxy"), of("key/l"),
            of("key/k", model="m"), of("key/k", model="answered"), of("key/k", model="other"),
        ]  # fmt: skip
        windowed = of("key/k", span="5h")
        start = datetime(2025, 1, 1, tzinfo=UTC)
        window = a_share(windowed, starts_us=microseconds(start), ends_us=2**60)
        await self.claim(stores, "holding", *map(a_share, all_), window)
        held = (0, 30)
        self.assertEqual([held] * 11, await self.stand(stores, *all_, windowed))
        fields: dict[str, Any] = {"key_id": "k", "user_id": "u", "end_user": "e", "answered_model": "answered"}
        await stores.books.keep([a_record("none", team_id="t", **fields)])
        used = (5, 30)
        expected = [used, held, used, used, used, used, held, used, used, held, used]
        self.assertEqual(expected, await self.stand(stores, *all_, windowed))
        old = a_record("old", **fields, started_at=start - timedelta(hours=1))
        await stores.books.keep([a_record("holding", team_id="t", **fields, held_nano_usd=30), old])
        expected = [(15, 0), (10, 0), (10, 0), (10, 0), (15, 0), (15, 0), (5, 0), (15, 0), (15, 0), (5, 0), (10, 0)]
        self.assertEqual(expected, await self.stand(stores, *all_, windowed))

    async def test_nobody(self) -> None:
        """
        A call that is nobody's counts against the budget of the whole.
        """
        stores = await self.opened()
        await self.claim(stores, "a", a_share(of("proxy")))
        await stores.books.keep([a_record("b")])
        self.assertEqual([(5, 30)], await self.stand(stores, of("proxy")))

    async def test_expired(self) -> None:
        """
        A hold that nobody extended is used as a whole, and put right when the record comes after all; whether the call
        is released in between or not.
        """
        stores = await self.opened()
        for call_id, before, is_released in ("a", 0, False), ("b", 5, True):
            await self.claim(stores, call_id, lasts_us=0)
            await self.expired(stores)
            self.assertEqual([(before + 30, 0)], await self.stand(stores))
            if is_released:
                await self.release(stores, call_id, 5)
                self.assertEqual([(before + 5, 0)], await self.stand(stores))
            await stores.books.keep([a_record(call_id, key_id="k", held_nano_usd=30)])
            self.assertEqual([(before + 5, 0)], await self.stand(stores))

    async def expired(self, stores: Stores) -> None:
        """
        Wait until a hold is ended.
        """
        from twisted.internet import reactor

        for _ in range(400):
            if await stores.allowances.sweep():
                return
            await deferLater(reactor, 0.005)
        self.fail("the hold does not end")

    async def test_spent_anew(self) -> None:
        """
        When what somebody has spent is set anew, so is what they have used of their budgets in the windows that are
        under way, whatever their lengths: who was refused may call again. Others, and budgets of single models, stay as
        they are.
        """
        stores = await self.opened()
        daily, model = of("key/k", span="5h"), of("key/k", model="m")
        others = [model, of("key/l"), of("proxy")]
        shares = [a_share(each, amount=CAP) for each in (KEY, *others)]
        await self.claim(stores, "a", *shares, a_share(daily, amount=CAP, starts_us=1, ends_us=2**60))
        await stores.books.keep([a_record("a", key_id="k", held_nano_usd=CAP, cost_nano_usd=CAP)])
        self.assertEqual(0, (await self.claim(stores, "b")).refused)
        await stores.directory.apply([Spent("key", "k", Usd())], [])
        full = (CAP, 0)
        self.assertEqual([(0, 0), (0, 0), full, full, full], await self.stand(stores, KEY, daily, *others))
        self.assertIsNone((await self.claim(stores, "c")).refused)
        self.assertEqual([(0, 30)], await self.stand(stores))
        await stores.directory.apply([Spent("key", "k", Usd(70))], [])
        self.assertEqual([(70, 30), (70, 0)], await self.stand(stores, KEY, daily))
        await self.fails(Outdated, stores.directory.apply([Spent("key", "k", Usd()), Spent("key", "x", Usd())], []))
        self.assertEqual([(70, 30)], await self.stand(stores))

    async def test_spent_anew_and_late(self) -> None:
        """
        What was used for a call that was given up is forgotten with the rest: if its record comes after all, no more
        and no less than its cost is used.
        """
        stores = await self.opened()
        await self.claim(stores, "a", lasts_us=0)
        await self.expired(stores)
        await stores.directory.apply([Spent("key", "k", Usd())], [])
        self.assertEqual([(0, 0)], await self.stand(stores))
        await stores.books.keep([a_record("a", key_id="k", held_nano_usd=30)])
        self.assertEqual([(5, 0)], await self.stand(stores))


def as_billed(record: Record, before: Iterable[Record]) -> Record:
    """
    What *record* is after those *before*. What has no price was not billed.
    """
    billed = {each.once for each in before if each.cost_nano_usd is not None}
    if record.cost_nano_usd is None or record.once is None or record.once not in billed:
        return record
    return structs.replace(record, cost_nano_usd=0, usage=None)


class BooksContract(Keeping, Lines, Totals, Agreement, Settling):
    """
    All of it. See `OnBooks` for what a subclass has to say.
    """
