"""
Which header lines cross, and how they change.
"""

from __future__ import annotations

from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.trial.unittest import SynchronousTestCase

from dheera.proxy.headers import NOT_SENT_BACK, NOT_SENT_UP, caller, downward, interim, upward
from dheera.proxy.target import parse_base
from dheera.wire.heads import Fields
from tests.proxy.strategies import (
    BACK_PREFIXES,
    UP_PREFIXES,
    forbidden_back,
    forbidden_up,
    free_lines,
    in_any_case,
)
from tests.strategies import values

BASE = parse_base("https://api.mistral.ai")
OURS = b"http://localhost:4000"


def mixed(forbidden: st.SearchStrategy[bytes]) -> st.SearchStrategy[list[tuple[bool, tuple[bytes, bytes]]]]:
    """
    Header lines in any order: those that cross, and those that must not.
    """
    free = st.tuples(st.just(True), free_lines())  # noqa: FBT003 - hypothesis takes it so
    bound = st.tuples(st.just(False), st.tuples(forbidden, values()))  # noqa: FBT003 - the same
    return st.lists(st.one_of(free, bound), max_size=12)


class Upward(SynchronousTestCase):
    """
    From a client to upstream.
    """

    def test_list(self) -> None:
        """
        What is promised not to go up is on the list.
        """
        promised = b"""connection keep-alive proxy-connection te trailer transfer-encoding upgrade host content-length
        expect authorization x-api-key api-key cookie forwarded via x-real-ip x-litellm-api-key x-goog-api-key
        ocp-apim-subscription-key"""
        self.assertEqual(set(), set(promised.split()) - NOT_SENT_UP)

    @given(mixed(forbidden_up()), st.data())
    def test_only_the_rest(self, lines: list[tuple[bool, tuple[bytes, bytes]]], data: st.DataObject) -> None:
        """
        Nothing forbidden goes up, in whatever case, nor what ``Connection`` names; all else does, byte for byte, in its
        order and as often.
        """
        free = [line for crosses, line in lines if crosses]
        # What a line of Connection says is hidden from the draw above, so that it is known here.
        sent = [line for crosses, line in lines if crosses or line[0].lower() != b"connection"]
        named = data.draw(st.lists(st.sampled_from([name for name, _ in free]), max_size=3)) if free else []
        spelt = [data.draw(in_any_case(name)) for name in named]
        sent.insert(data.draw(st.integers(0, len(sent))), (b"Connection", b", ".join([b"close", *spelt])))
        hidden = {name.lower() for name in named} | {b"close"}
        expected = [line for line in free if line[0].lower() not in hidden]
        crossing = upward(sent)
        self.assertEqual(expected, crossing)
        for name, _ in crossing:
            self.assertNotIn(name.lower(), NOT_SENT_UP)
            self.assertFalse(name.lower().startswith(UP_PREFIXES))

    def test_connection(self) -> None:
        """
        Every line of ``Connection`` counts, in any spelling.
        """
        fields = [
            (b"connection", b"X-One ,x-two"),
            (b"X-ONE", b"1"),
            (b"x-two", b"2"),
            (b"CONNECTION", b"\tX-Three,,Authorization, host"),
            (b"x-three", b"3"),
            (b"x-four", b"4"),
        ]
        self.assertEqual([(b"x-four", b"4")], upward(fields))

    def test_credentials(self) -> None:
        """
        However many credentials a client sends, upstream gets none of them.
        """
        fields = [
            (b"Authorization", b"Bearer a"),
            (b"AUTHORIZATION", b"Basic b"),
            (b"X-Api-Key", b"c"),
            (b"Api-Key", b"d"),
        ]
        self.assertEqual([], upward(fields))

    def test_accept_encoding(self) -> None:
        """
        ``Accept-Encoding`` is narrowed to codings that we can read ourselves; none is added.
        """
        for accepted, narrowed in [
            (b"gzip, deflate", b"gzip, deflate"),
            (b"gzip, deflate, br, zstd", b"gzip, deflate"),
            (b"gzip;q=1.0, br;q=0.9, *;q=0", b"gzip;q=1.0"),
            (b"GZIP , X-Gzip", b"GZIP, X-Gzip"),
            (b"br", b"identity"),
            (b"*", b"identity"),
            (b"", b"identity"),
            (b"identity;q=0.5, br", b"identity;q=0.5"),
            (b"gzipped, deflate64", b"identity"),
            (b", ,gzip", b"gzip"),
        ]:
            fields = [(b"accept-Encoding", accepted)]
            self.assertEqual((b"accept-Encoding", narrowed), upward(fields)[0], accepted)
        self.assertEqual([], upward([]))

    def test_websocket(self) -> None:
        """
        A WebSocket handshake keeps what is its own, and asks to switch in our words.
        """
        own = [
            (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
            (b"Sec-WebSocket-Version", b"13"),
            (b"Sec-WebSocket-Protocol", b"a, b"),
            (b"Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits"),
        ]
        fields = [(b"Upgrade", b"WebSocket"), (b"Connection", b"keep-alive, Upgrade"), *own]
        ours = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket")]
        self.assertEqual(own + ours, upward(fields, websocket=True))

    def test_other_upgrades(self) -> None:
        """
        An offer to switch to anything else is not passed on.
        """
        fields = [(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade, HTTP2-Settings"), (b"HTTP2-Settings", b"AAM")]
        self.assertEqual([], upward(fields))


class Downward(SynchronousTestCase):
    """
    From upstream to a client.
    """

    def test_list(self) -> None:
        """
        What is promised not to come back is on the list.
        """
        promised = b"""connection keep-alive proxy-connection te trailer transfer-encoding upgrade proxy-authenticate
        set-cookie alt-svc strict-transport-security"""
        self.assertEqual(set(), set(promised.split()) - NOT_SENT_BACK)

    @given(mixed(forbidden_back()), st.data())
    def test_only_the_rest(self, lines: list[tuple[bool, tuple[bytes, bytes]]], data: st.DataObject) -> None:
        """
        Nothing forbidden comes back, nor what ``Connection`` names; all else does, byte for byte, in its order and as
        often.
        """
        free = [line for crosses, line in lines if crosses]
        sent = [line for crosses, line in lines if crosses or line[0].lower() != b"connection"]
        named = data.draw(st.lists(st.sampled_from([name for name, _ in free]), max_size=3)) if free else []
        sent.append((b"CONNECTION", b",".join(named)))
        sent.append((b"dAte", b"Sun, 06 Nov 1994 08:49:37 GMT"))
        hidden = {name.lower() for name in named}
        crossing = downward(sent, BASE)
        self.assertEqual([line for line in free if line[0].lower() not in hidden], crossing[:-1])
        for name, _ in crossing:
            self.assertNotIn(name.lower(), NOT_SENT_BACK)
            self.assertFalse(name.lower().startswith(BACK_PREFIXES))
        self.assertEqual([(name, value) for name, value in crossing[:-1]], interim(sent)[:-1])

    def test_date(self) -> None:
        """
        An answer without ``Date`` gets one (RFC 9110 §6.6.1); upstream's own stays.
        """
        date = (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")
        self.assertEqual([date], downward([date], BASE))
        ((name, value),) = downward([], BASE)
        self.assertEqual(b"Date", name)
        self.assertRegex(value, rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT")

    def test_location(self) -> None:
        """
        Each ``Location`` leads to where our clients can follow.
        """
        fields = [(b"location", b"https://api.mistral.ai/v1/x"), (b"LOCATION", b"https://elsewhere.test/")]
        seen = [(b"location", b"/mistral/v1/x"), (b"LOCATION", b"https://elsewhere.test/")]
        self.assertEqual(seen, downward(fields, BASE)[:-1])

    def test_length_named(self) -> None:
        """
        An upstream that calls its length hop-by-hop gets that: the body is framed anew.
        """
        fields = [(b"Connection", b"content-length"), (b"Content-Length", b"5")]
        self.assertEqual([b"Date"], [name for name, _ in downward(fields, BASE)])

    def test_interim(self) -> None:
        """
        Interim answers are sifted in the same way; they have no length and need no date.
        """
        fields: Fields = [
            (b"Link", b"</a>; rel=preload"),
            (b"Set-Cookie", b"a=b"),
            (b"Content-Length", b"0"),
            (b"X-Dheera-Call-Id", b"forged"),
            (b"Connection", b"x-hop"),
            (b"X-Hop", b"1"),
            (b"link", b"</b>"),
        ]
        self.assertEqual([(b"Link", b"</a>; rel=preload"), (b"link", b"</b>")], interim(fields))


def offered_credential(fields: Fields) -> bytes | None:
    return caller(fields, PEER).credential


PEER = IPv4Address("TCP", "127.0.0.1", 1)


class Credentials(SynchronousTestCase):
    """
    What a client offers to be let in.
    """

    def test_bearer(self) -> None:
        """
        A bearer token is found in every spelling of the scheme, with any white space around it.
        """
        for value in (b"Bearer sk-1", b"bearer sk-1", b"BEARER  sk-1", b"beaReR \t sk-1", b"Bearer sk-1 "):
            self.assertEqual(b"sk-1", offered_credential([(b"aUTHORIZATION", value)]), value)

    def test_key_headers(self) -> None:
        """
        Other headers will do, in any case of their names, with or without a scheme.
        """
        for name in (b"X-Dheera-API-Key", b"X-LiteLLM-API-Key", b"X-API-Key", b"Api-Key"):
            self.assertEqual(b"sk-1", offered_credential([(name, b"sk-1")]))
            self.assertEqual(b"sk-1", offered_credential([(name, b"Bearer sk-1")]))

    def test_order(self) -> None:
        """
        Our own header goes first, then that of LiteLLM, the bearer token, ``x-api-key``, ``api-key``, wherever they
        stand; but a good key before one that cannot be read.
        """
        names = [b"api-key", b"x-api-key", b"authorization", b"x-litellm-api-key", b"x-dheera-api-key"]
        fields: Fields = []
        for name in names:
            fields = [*fields, (name, b"Bearer " + name)]
            self.assertEqual(name, offered_credential(fields))
            self.assertEqual(name, offered_credential(fields[::-1]))
        self.assertEqual(b"sk-1", offered_credential([(b"Authorization", b"Basic x"), (b"api-key", b"sk-1")]))

    def test_two(self) -> None:
        """
        Two different keys are told as such; the same twice, or an empty one, is not.
        """
        one = (b"Authorization", b"Bearer sk-1")
        for other, ambiguous in (
            ((b"x-api-key", b"sk-2"), True),
            ((b"authorization", b"bearer sk-2"), True),
            ((b"x-api-key", b"sk-1"), False),
            ((b"x-api-key", b""), False),
            ((b"authorization", b"Basic eA=="), False),
        ):
            self.assertEqual(ambiguous, caller([one, other], PEER).ambiguous, other)

    def test_none(self) -> None:
        """
        No header, or an empty one of the lesser kind, offers nothing; what should be a bearer token but is none offers
        an empty key.
        """
        for value in (b"", b"Bearer", b"Bearer ", b"Basic c2stMQ==", b"sk-1", b"Bearersk-1", b"Token sk-1"):
            self.assertEqual(b"", offered_credential([(b"Authorization", value)]), value)
        self.assertIsNone(offered_credential([(b"x-api-key", b""), (b"Cookie", b"api-key=sk-1")]))
        self.assertIsNone(offered_credential([]))

    def test_caller(self) -> None:
        """
        Who asks is read from the first line of each kind, in any case of its name.
        """
        peer = IPv4Address("TCP", "127.0.0.1", 1)
        seen = caller([(b"HOST", b"a"), (b"host", b"b"), (b"Origin", b"null"), (b"Authorization", b"Bearer x")], peer)
        self.assertEqual((b"a", b"null", b"x"), (seen.host, seen.origin, seen.credential))
        self.assertEqual((False, False), (seen.cross_site, seen.forwarded))
        for name in (b"Forwarded", b"x-FORWARDED-for"):
            self.assertTrue(caller([(name, b"")], peer).forwarded)
        self.assertTrue(caller([(b"Sec-Fetch-Site", b"Cross-Site")], peer).cross_site)
        self.assertNotIn("Bearer", repr(caller([(b"Authorization", b"Bearer sk-canary")], peer)))
        self.assertNotIn("canary", repr(caller([(b"Authorization", b"Bearer sk-canary")], peer)))

    def test_underscores(self) -> None:
        """
        A name that a CGI-like upstream would take for a credential does not go up.
        """
        for name in (
            b"X_API_KEY",
            b"api_key",
            b"x_litellm-api_key",
            b"X_Dheera_API_Key",
            b"x_forwarded_for",
            b"Proxy_A",
        ):
            self.assertEqual([], upward([(name, b"k")]), name)

    def test_subprotocol(self) -> None:
        """
        A subprotocol that is a key does not go up; others do.
        """
        for offered, crossing in (
            (b"realtime, openai-insecure-api-key.sk-1, a", b"realtime, a"),
            (b"realtime,OpenAI-Insecure-API-Key.sk-1", b"realtime"),
            (b"openai-insecure-api-key.sk-1", None),
            (b"a,b", b"a,b"),
        ):
            for name in (b"Sec-WebSocket-Protocol", b"sec_websocket_protocol"):
                expected = [] if crossing is None else [(name, crossing)]
                self.assertEqual(expected, upward([(name, offered)]))


class OriginTests(SynchronousTestCase):
    """
    Where a request comes from, when proxies of ours stand before us.
    """

    PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))

    def origin(self, peer: str, *chain: bytes) -> str:
        """
        The address that is taken for the client's.
        """
        fields = [(b"X-Forwarded-For", each) for each in chain]
        return str(getattr(caller(fields, IPv4Address("TCP", peer, 1), self.PROXIES).peer, "host", ""))

    def test_word_of_our_proxies(self) -> None:
        """
        The last address that is not one of ours counts, over all lines of the header.
        """
        self.assertEqual("192.0.2.1", self.origin("10.0.0.1", b"192.0.2.1"))
        self.assertEqual("192.0.2.1", self.origin("10.0.0.1", b"198.51.100.7, 192.0.2.1, 10.9.9.9"))
        self.assertEqual("192.0.2.1", self.origin("10.0.0.1", b"198.51.100.7, 192.0.2.1", b"10.9.9.9"))
        self.assertEqual("2001:db8::1", self.origin("10.0.0.1", b"2001:db8::1, fd00::2"))

    def test_ports(self) -> None:
        """
        Some gateways write the port as well; it is no part of the address.
        """
        self.assertEqual("192.0.2.1", self.origin("10.0.0.1", b"192.0.2.1:5678, 10.9.9.9:80"))
        self.assertEqual("2001:db8::1", self.origin("10.0.0.1", b"[2001:db8::1]:443, [fd00::2]:80, [fd00::3]"))
        self.assertEqual("2001:db8::1:80", self.origin("10.0.0.1", b"2001:db8::1:80"))
        for nonsense in b"192.0.2.1:http", b"192.0.2.1:", b":80", b"[192.0.2.1", b"[]:80", b"[::1]80", b"1:2:3:80":
            self.assertEqual("10.0.0.1", self.origin("10.0.0.1", nonsense), nonsense)

    def test_word_of_others(self) -> None:
        """
        Whoever is no proxy of ours is the client, whatever it says.
        """
        self.assertEqual("192.0.2.9", self.origin("192.0.2.9", b"127.0.0.1"))
        self.assertEqual(
            "10.0.0.1", str(getattr(caller([], IPv4Address("TCP", "10.0.0.1", 1), self.PROXIES).peer, "host", ""))
        )

    def test_nonsense(self) -> None:
        """
        What is no address ends the way back: the proxy that wrote it stands for whoever is behind.
        """
        self.assertEqual("10.0.0.1", self.origin("10.0.0.1", b"192.0.2.1, unknown"))
        self.assertEqual("10.9.9.9", self.origin("10.0.0.1", b"me, 10.9.9.9"))

    def test_without_proxies(self) -> None:
        """
        Where none is trusted, the header counts for nothing.
        """
        told = caller([(b"X-Forwarded-For", b"192.0.2.1")], IPv4Address("TCP", "10.0.0.1", 1))
        self.assertEqual(IPv4Address("TCP", "10.0.0.1", 1), told.peer)
        self.assertTrue(told.forwarded)


class TellingTests(SynchronousTestCase):
    """
    What else a request says of who it is for.
    """

    def test_end_user(self) -> None:
        """
        Ours goes before LiteLLM's two names, and an empty one says nothing.
        """
        peer = IPv4Address("TCP", "127.0.0.1", 1)
        lines = [
            (b"X-LiteLLM-Customer-Id", b"third"),
            (b"x-litellm-end-user-id", b"second"),
            (b"X-Dheera-End-User", b"first"),
        ]
        self.assertEqual(b"third", caller(lines[:1], peer).end_user)
        self.assertEqual(b"second", caller(lines[:2], peer).end_user)
        self.assertEqual(b"first", caller(lines, peer).end_user)
        self.assertEqual(b"second", caller([*lines[:2], (b"x-dheera-end-user", b"")], peer).end_user)

    def test_tags_and_program(self) -> None:
        """
        The header with the tags, and the client's program.
        """
        told = caller([(b"X-Dheera-Tags", b"a, b"), (b"User-Agent", b"curl/8")], IPv4Address("TCP", "127.0.0.1", 1))
        self.assertEqual((b"a, b", b"curl/8"), (told.tags, told.program))

    def test_not_told_upstream(self) -> None:
        """
        Whom a call is for is nothing that upstream should learn from a header for gateways.
        """
        lines = [(b"x-litellm-end-user-id", b"ada"), (b"x-dheera-tags", b"a"), (b"X_LiteLLM_Customer_Id", b"ada")]
        self.assertEqual([], upward(lines))
