"""
What an enemy sends who has a key with limits: nothing breaks, and no budget is passed, though upstream reads each body
in the way that costs most.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, ClassVar
from unittest import TestCase

from tests.process import callers, databases, ledgers
from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.callers import CHAT
from tests.process.daemon import ANY_PORT, UPSTREAM_KEY, Daemon, alive, eventually
from tests.process.peers import Peer, Upstream, answer, chunk, connect
from tests.process.till import MODEL, PRICES

CONTEXT_TOKENS = 4096
CAP_NANO = 20_000_000
MEGABYTE = 1 << 20
SETTINGS = f"""{PRICES}
[end_user_limits]
max_budget = 100
[keys]
inspected_bytes = {12 * MEGABYTE}
"""
CHUNKED = b"Transfer-Encoding: chunked"
GZIP = b"Content-Encoding: gzip"
FORM = b"Content-Type: multipart/form-data; boundary=XX"
UPGRADE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
NUMBERS = (
    b'"13"',
    b"1.5",
    b"-1",
    b"1e3",
    b"1" * 5000,
    b"99999999999999",
    b"null",
    b"true",
    b"[]",
    b"NaN",
    b"0",
    b"\xff",
)
NAMES = ("n" * 10_240, "a\0b", "\U0001f600", "../../etc", "", " ", "\ud800", "\x7f", "%00", "a/b", "'; drop table keys")
DEEP = b"[" * 100_000 + b"]" * 100_000
MANY = b"{" + b",".join(b'"name%d":0' % number for number in range(750_000)) + b"}"
NO_CHATS = (b"", b"null", b"[]", b"1", b"{", b"\xef\xbb\xbf{}", b'{"model": null}', b'{"model": "\\ud800"}', DEEP)
PLACES = (
    *("chat/completions", "fim/completions", "agents/completions", "embeddings", "moderations", "ocr", "responses"),
    *("conversations", "audio/speech", "audio/transcriptions", "batch/jobs", "unknown/path"),
)

_NUMBER = re.compile(rb'"(max_tokens|n)"\s*:\s*"?([0-9.e]+)')


class Greedy:
    """
    An upstream that finds the largest numbers in whatever it is sent, and bills all that they allow.

    :ivar bodies: that it was sent.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def script(self, peer: Peer) -> None:
        """
        One connection.
        """
        while True:
            head, body = peer.message()
            with suppress(OSError):
                body = gzip.decompress(body)
            self.bodies.append(body)
            numbers: dict[bytes, float] = {b"n": 1}
            for name, number in _NUMBER.findall(body.replace(b"\\u005f", b"_")):
                numbers[name] = max(numbers.get(name, 0), float(number))
            most = int(min(numbers.get(b"max_tokens") or CONTEXT_TOKENS, CONTEXT_TOKENS))
            usage = {"prompt_tokens": len(body), "completion_tokens": most * int(numbers[b"n"])}
            peer.send(
                answer(b"" if head.startswith(b"HEAD ") else json.dumps({"model": MODEL, "usage": usage}).encode())
            )


Written = Callable[[str], bytes]
"""
A request, for a key.
"""


def chat(*lines: bytes, body: bytes) -> Written:
    """
    A chat.
    """
    return lambda key: callers.chat(key, *lines, body=body)


def said(**more: Any) -> bytes:
    """
    The body of a chat, and more.
    """
    return json.dumps(
        {"model": MODEL, "max_tokens": 13, "messages": [{"role": "user", "content": "Hi"}], **more}
    ).encode()


def with_members(members: bytes) -> bytes:
    """
    The body of a chat, and more that is no JSON perhaps.
    """
    return said()[:-1] + b", " + members + b"}"


def at(method: str, path: str, *lines: bytes, body: bytes) -> Written:
    """
    A request to any path.
    """
    return lambda key: callers.chat(key, *lines, method=method, path=path, body=body)


Attacks = Iterator[tuple[object, Written]]
"""
Each with something to know it by.
"""


def attacks() -> Attacks:
    """
    All of them.
    """
    yield from numbers()
    yield from names()
    yield from places()
    yield from shapes()
    yield from forms()
    yield from framings()


def numbers() -> Attacks:
    """
    Numbers that bound the cost, and are none, or two.
    """
    for number in NUMBERS:
        for name in b"max_tokens", b"n", b"best_of", b"max_completion_tokens":
            body = with_members(b'"%b": %b' % (name, number)).replace(b'"max_tokens": 13, ', b"")
            yield (name, number[:20]), chat(body=body)
    for member in b'"max_tokens": 4000', b'"max\\u005ftokens": 4000', b'"n": 2, "n": 1000', b'"n": 1000000000':
        yield member, chat(body=with_members(member))


def names() -> Attacks:
    """
    End users.
    """
    for name in NAMES:
        yield ("user", name[:20]), chat(body=said(user=name))
        yield ("user_id", name[:20]), chat(body=said(metadata={"user_id": name}))
        header = name.encode(errors="surrogatepass").replace(b"\0", b"\t")
        yield ("end user", name[:20]), chat(b"x-dheera-end-user: " + header, body=said())
    for thing in "[]", "{}", "1", "true", "null":
        yield ("user", thing), chat(body=said(user=json.loads(thing)))


def places() -> Attacks:
    """
    Bodies that are not of the shape that is asked for, everywhere, and methods that have no body.
    """
    for place in PLACES:
        for body in NO_CHATS:
            yield (place, body[:20]), at("POST", f"/mistral/v1/{place}", body=body)
        for method in "GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE":
            yield (place, method), at(method, f"/mistral/v1/{place}", body=said())


def shapes() -> Attacks:
    """
    Bodies that are deep, long, or have very many names.
    """
    for thing in DEEP, b'"' + b"m" * MEGABYTE + b'"':
        yield ("model", thing[:20]), chat(body=b'{"model": %b}' % thing)
        yield ("metadata", thing[:20]), chat(body=with_members(b'"metadata": %b' % thing))
    yield "names", chat(body=MANY)
    yield "more names", chat(body=with_members(b'"metadata": %b' % MANY))


def forms() -> Attacks:
    """
    Forms with two models, none, half of one, and a very long one.
    """
    both = b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\nabacus\r\n' * 2 + b"--XX--\r\n"
    for number, body in enumerate((both, both[:40], b"", both.replace(b"abacus", b"x" * MEGABYTE))):
        for path in "/mistral/v1/audio/transcriptions", CHAT:
            yield (path, number), at("POST", path, FORM, body=body)


def framings() -> Attacks:
    """
    What is not what its header lines say, or does not end; and sockets without a model, or with two.
    """
    yield "gzip", chat(GZIP, body=gzip.compress(said(max_tokens=4000)))
    yield "bomb", chat(GZIP, body=gzip.compress(b" " * MEGABYTE + said()))
    yield "no gzip", chat(GZIP, body=said())
    yield "flood", lambda key: callers.head(key, CHUNKED) + chunk(b" " * MEGABYTE) * 20
    yield "no chunk", lambda key: callers.head(key, CHUNKED) + b"zz\r\n"
    yield "two lengths", lambda key: callers.head(key, CHUNKED, b"Content-Length: 3") + chunk(said())
    for query in "", "?model=", "?model=abacus&model=x", "?model=%00", "?model=%ff":
        yield ("socket", query), socket(query)


def socket(query: str) -> Written:
    """
    A handshake.
    """
    path = f"/mistral/v1/audio/transcriptions/realtime{query}"
    return lambda key: callers.head(key, *UPGRADE, path=path, method="GET")


class EnemyTests(TestCase):
    """
    All attacks, with keys that have limits of several sorts.
    """

    daemon: ClassVar[Daemon]

    def test_all(self) -> None:
        """
        Each is answered, and none as if dheera were broken; nothing stays held; what upstream billed is what was used,
        and no more than the budget; and the daemon lives.
        """
        greedy = Greedy()
        with databases.sqlite() as url, Upstream(greedy.script) as upstream:
            variables = {
                "MISTRAL_API_BASE": upstream.url,
                "MISTRAL_API_KEY": UPSTREAM_KEY,
                "DATABASE_URL": url,
                "DHEERA_AI_MASTER_KEY": MASTER_KEY,
            }
            with Daemon(*ANY_PORT, said=variables, settings=SETTINGS) as daemon:
                chief = master(daemon)
                budget = chief.issue(max_budget=CAP_NANO / 10**9, max_parallel_requests=1)
                rated = chief.issue(tpm_limit=10**6, model_rpm_limit={MODEL: 10**6})
                for key in budget, rated:
                    statuses = {what: _status(daemon, written(key)) for what, written in attacks()}
                    self.assertEqual({}, {what: status for what, status in statuses.items() if status >= 500})
                    self.assertLessEqual({200, 400}, {*statuses.values()})
                    self.assertIn(Bearer(daemon, key).chat_with(said().decode()).status, (200, 429))
                self.assertTrue(alive(daemon.url))
                eventually(lambda: not ledgers.total(url, "select sum(held) from allowances"), "nothing is held")
                lines = ledgers.total(url, "select count(*) from ledger where outcome <> 'refused'")
                self.assertEqual(len(greedy.bodies), lines)
                rows = ledgers.query(
                    url, "select used, cap from allowances where kind = 'usd' and subject like 'key/%'"
                )
                [(used, cap)] = rows
                self.assertEqual(CAP_NANO, cap)
                self.assertLess(0, used)
                self.assertLessEqual(used, cap)
                self.assertEqual([], [line for line in daemon.log.splitlines() if "[critical]" in line])


def _status(daemon: Daemon, whole: bytes) -> int:
    with connect(daemon.port) as client:
        with suppress(ConnectionError):  # what is refused may be refused before all of it is sent
            client.send(whole)
        return int(client.head().split()[1])
