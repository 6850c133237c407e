"""
Which target upstream gets, and where its redirects lead.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.errors import BadTarget, NotFound
from dheera.proxy.target import Base, map_location, map_target, parse_base
from dheera.wire.outgoing import Origin
from tests.proxy.strategies import paths, queries

MISTRAL = parse_base("https://api.mistral.ai")
OURS = b"http://localhost:4000"


class Bases(SynchronousTestCase):
    """
    ``MISTRAL_API_BASE``, as operators write it.
    """

    def test_prefix(self) -> None:
        """
        With or without ``/v1``, slashes at the end, a path before it: the prefix is what stands before ``/v1``.
        """
        for path, prefix in [
            ("", b""),
            ("/", b""),
            ("/v1", b""),
            ("/v1/", b""),
            ("/v1//", b""),
            ("//v1", b""),
            ("/llm", b"/llm"),
            ("/llm/", b"/llm"),
            ("/llm/v1", b"/llm"),
            ("/llm/v1/", b"/llm"),
            ("/llm//v1", b"/llm"),
            ("/a/b%2Fc/v1", b"/a/b%2Fc"),
            ("/v1/v1", b"/v1"),
            ("/v10", b"/v10"),
            ("/llmv1", b"/llmv1"),
            ("/v2", b"/v2"),
        ]:
            base = parse_base("http://10.0.0.5:8000" + path)
            self.assertEqual(Base(Origin("http", "10.0.0.5", 8000, b"10.0.0.5:8000"), prefix), base, path)

    def test_space_around(self) -> None:
        """
        White space around it, as a file may leave, is not part of it.
        """
        self.assertEqual(MISTRAL, parse_base(" https://api.mistral.ai/v1\n"))

    def test_refused(self) -> None:
        """
        What is no http(s) URL with a host, or says more than where, is refused.
        """
        for text in [
            "",
            "api.mistral.ai",
            "//api.mistral.ai",
            "ftp://api.mistral.ai",
            "unix:/run/x",
            "https://",
            "https:///v1",
            "https://user@api.mistral.ai",
            "https://user:word@api.mistral.ai",
            "https://api.mistral.ai?x=y",
            "https://api.mistral.ai/?",
            "https://api.mistral.ai/v1?x=y",
            "https://api.mistral.ai/#x",
            "https://api.mistral.ai:port",
            "https://api.mistral.ai:70000",
            "https://api mistral.ai",
            "https://api.mistral.ai/a b",
            "https://api.mistral.ai/\r\nX: y",
            "https://ä.test",
        ]:
            self.assertRaises(ValueError, parse_base, text)


class Targets(SynchronousTestCase):
    """
    ``/mistral/...`` to what upstream gets.
    """

    def test_table(self) -> None:
        """
        A version, ``telemetry`` and ``mcp`` are kept; anything else gets ``/v1``.
        """
        for rest, target in [
            (b"/v1/ocr", b"/v1/ocr"),
            (b"/ocr", b"/v1/ocr"),
            (b"/v1", b"/v1"),
            (b"/v1?x", b"/v1?x"),
            (b"/v1/", b"/v1/"),
            (b"/v2/audio/voices", b"/v2/audio/voices"),
            (b"/v123/x", b"/v123/x"),
            (b"/telemetry/v1/traces", b"/telemetry/v1/traces"),
            (b"/mcp", b"/mcp"),
            (b"/mcp?session=1", b"/mcp?session=1"),
            (b"/", b"/v1/"),
            (b"/v/x", b"/v1/v/x"),
            (b"/v1x/y", b"/v1/v1x/y"),
            (b"/version", b"/v1/version"),
            (b"/mcps", b"/v1/mcps"),
            (b"/telemetry2", b"/v1/telemetry2"),
            (b"/V1/x", b"/v1/V1/x"),
            (b"/v1%2Focr", b"/v1/v1%2Focr"),
            (b"/v1/v1/x", b"/v1/v1/x"),
            (b"//v1/x", b"/v1//v1/x"),
            (b"/models/ft%3Aopen%2Fx", b"/v1/models/ft%3Aopen%2Fx"),
            (b"/mistral/v1/x", b"/v1/mistral/v1/x"),
        ]:
            for prefix in (b"", b"/llm", b"/a/b"):
                base = Base(MISTRAL.origin, prefix)
                self.assertEqual(prefix + target, map_target(b"/mistral" + rest, base), rest)

    @given(st.sampled_from(["", "/", "/v1", "/v1/", "/llm", "/llm/v1/", "/a/b/v1"]), paths(), queries())
    def test_every_byte(self, path: str, rest: bytes, query: bytes) -> None:
        """
        Every byte of path and query goes up as it was written, below the prefix; and it makes no difference whether
        ``/v1`` is written or not, at either place.
        """
        base = parse_base("http://10.0.0.5:8000" + path)
        target = map_target(b"/mistral/v1" + rest + query, base)
        self.assertEqual(base.prefix + b"/v1" + rest + query, target)
        short = map_target(b"/mistral" + rest + query, base)
        self.assertIn(short, (target, base.prefix + rest + query))

    def test_elsewhere(self) -> None:
        """
        What is not below ``/mistral/`` byte for byte is not there.
        """
        for uri in [
            b"/",
            b"/mistral",
            b"/mistral?x=/mistral/",
            b"/mistralx/v1/ocr",
            b"/%6distral/v1/ocr",
            b"/Mistral/v1/ocr",
            b"//mistral/v1/ocr",
            b"/x/mistral/v1/ocr",
            b"/mistral%2fv1/ocr",
            b"/mistral;x/v1/ocr",
            b"*",
        ]:
            self.assertRaises(NotFound, map_target, uri, MISTRAL)

    @given(
        st.sampled_from([b".", b"..", b"%2e", b"%2E", b"%2e.", b".%2E", b"%2e%2E", b"..;x", b".;", b"%2e%2e;a=b"]),
        st.sampled_from([b"/", b"%2f", b"%2F"]),
        st.sampled_from([b"", b"/", b"%2f", b"/x", b"%2Fx", b"?x", b"?"]),
        paths(),
    )
    def test_dot_segments(self, dots: bytes, before: bytes, after: bytes, path: bytes) -> None:
        """
        A dot segment is refused in every spelling, at every place of the path.
        """
        for uri in (path + before + dots + after, before + dots + after if before == b"/" else b"/" + dots + after):
            self.assertRaises(BadTarget, map_target, b"/mistral" + uri, MISTRAL)

    def test_ambiguous(self) -> None:
        """
        Backslashes and NUL are refused, encoded or not, in the path; in the query they are the client's affair.
        """
        for rest in (b"a\\b", b"a%5cb", b"a%5Cb", b"..\\x", b"a\x00b", b"a%00b", b"%00"):
            self.assertRaises(BadTarget, map_target, b"/mistral/" + rest, MISTRAL)
            self.assertTrue(map_target(b"/mistral/a?" + rest, MISTRAL).endswith(b"?" + rest))

    def test_dots_that_are_none(self) -> None:
        """
        Dots within a name, three of them, or encoded twice, are a name.
        """
        for rest in (b"a.b", b".well-known", b"a..b", b"...", b"..a", b"%252e%252e", b"x.", b"a/.b/c..", b"%2e%2e%2e"):
            self.assertEqual(b"/v1/" + rest, map_target(b"/mistral/" + rest, MISTRAL))


class Locations(SynchronousTestCase):
    """
    Where a redirect of upstream's leads our clients.
    """

    def test_own_origin(self) -> None:
        """
        Upstream's own origin, however written, leads to ours; the path below the prefix stays as it is.
        """
        for location, seen in [
            (b"https://api.mistral.ai/v1/jobs/1?x=%7e", b"/mistral/v1/jobs/1?x=%7e"),
            (b"HTTPS://API.Mistral.AI:443/v1/x", b"/mistral/v1/x"),
            (b"//api.mistral.ai/v1/x", b"/mistral/v1/x"),
            (b"https://api.mistral.ai", b"/mistral/"),
            (b"https://api.mistral.ai/v1/x#part", b"/mistral/v1/x#part"),
            (b"/v1/jobs/1", b"/mistral/v1/jobs/1"),
            (b"/v1/jobs/1#a#b", b"/mistral/v1/jobs/1#a#b"),
            (b"/v2/x?y", b"/mistral/v2/x?y"),
        ]:
            self.assertEqual(seen, map_location(location, MISTRAL), location)

    def test_others(self) -> None:
        """
        Another host, port or scheme, and what is relative to the request, stays.
        """
        for location in [
            b"https://storage.test/file?sig=x#y",
            b"//storage.test/file",
            b"http://api.mistral.ai/v1/x",
            b"https://api.mistral.ai:8443/v1/x",
            b"https://api.mistral.ai.evil.test/v1/x",
            b"https://api.mistral.ai@evil.test/v1/x",
            b"https://user@api.mistral.ai/v1/x",
            b"jobs/1",
            b"../jobs/1",
            b"?page=2",
            b"#part",
            b"",
            b"mailto:a@b.test",
            b"https://\xff/",
        ]:
            self.assertEqual(location, map_location(location, MISTRAL))

    def test_prefix(self) -> None:
        """
        A prefix of the base is not shown to clients.
        """
        base = parse_base("http://10.0.0.5:8000/llm/v1")
        for location, seen in [
            (b"http://10.0.0.5:8000/llm/v1/x", b"/mistral/v1/x"),
            (b"/llm/v1/x", b"/mistral/v1/x"),
            (b"http://10.0.0.5:8000/llmx/v1", b"/mistral/llmx/v1"),
            (b"http://10.0.0.5/llm/v1/x", b"http://10.0.0.5/llm/v1/x"),
        ]:
            self.assertEqual(seen, map_location(location, base), location)

    @given(st.sampled_from(["", "/llm", "/a/b"]), paths(), queries(), st.booleans())
    def test_round(self, path: str, rest: bytes, query: bytes, absolute: bool) -> None:  # noqa: FBT001 - hypothesis gives it
        """
        A client that follows a redirect reaches the very target that upstream named.
        """
        base = parse_base("http://10.0.0.5:8000" + path)
        named = base.prefix + b"/v1" + rest + query
        location = b"http://10.0.0.5:8000" + named if absolute else named
        seen = map_location(location, base)
        self.assertEqual(named, map_target(seen, base))
