"""
Where a key opens: canonical paths, sensitive endpoints, allowed routes.
"""

from __future__ import annotations

import re
from itertools import product
from urllib.parse import quote, unquote_to_bytes

from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from twisted.trial.unittest import SynchronousTestCase

from dheera.errors import BadTarget
from dheera.proxy.target import map_target, parse_base
from dheera.routes import (
    EVERYWHERE,
    KEY_TYPES,
    REMEMBERED_BYTES,
    SENSITIVE,
    Routes,
    _sensitive,
    canonical_path,
    is_sensitive,
    judged,
)
from tests.proxy import strategies

BASE = parse_base("https://api.example")

DANGEROUS = [
    "/v1/admin/api-keys",
    "/v1/admin",
    "/v1/audio/sessions",
    "/v1/audio/sessions/a1",
    "/v1/audio/workers/registration-token",
    "/v1/client/sessions",
    "/v1/connectors/c/auth_url",
    "/v1/connectors/c/user/credentials",
    "/v1/connectors/c/credentials/mine",
    "/v1/files/f1/url",
    "/v1/libraries/l/documents/d/signed-url",
    "/v1/libraries/l/documents/d/extracted-text-signed-url",
    "/v1/observability/datasets/d/exports/to-jsonl",
    "/v1/service-accounts",
    "/v1/service-accounts/s/roles",
    "/v1/webhooks",
    "/v1/webhooks/w/signing-secret",
    "/v1/workflows/deployments",
    "/v1/workflows/deployments/d/archive",
    "/v1/workflows/workers/whoami",
]
HARMLESS = [
    "/v1/chat/completions",
    "/v1/files",
    "/v1/files/f1",
    "/v1/files/f1/content",
    "/v1/audio/speech",
    "/v1/connectors/c/tools",
    "/v1/libraries/l/documents/d",
    "/v1/workflows/executions/e/stream",
    "/v1/workflows/w/execute",
    "/v1/users/me",
    "/v1/observability/datasets/d",
    "/v2/prompts",
    "/mcp",
    "/telemetry/v1/traces",
]
UPSTREAM_ROUTES = re.compile(
    "|".join(
        re.sub("{}", "[^/]+", route)
        for route in (
            "/v1/admin/.+", "/v1/audio/sessions", "/v1/audio/sessions/{}", "/v1/audio/workers/registration-token",
            "/v1/client/sessions", "/v1/connectors/{}/auth_url", "/v1/connectors/{}/{}/credentials",
            "/v1/connectors/{}/{}/credentials/{}", "/v1/files/{}/url", "/v1/libraries/{}/documents/{}/signed-url",
            "/v1/observability/datasets/{}/exports/to-jsonl", "/v1/service-accounts", "/v1/service-accounts/{}",
            "/v1/webhooks", "/v1/webhooks/{}/signing-secret", "/v1/workflows/deployments/{}",
        )
    )
)  # fmt: skip


@st.composite
def disguised(draw: DrawFn, path: str) -> bytes:
    """
    *path*, written in another way that some server reads as the same.
    """
    written = ""
    for char in path:
        form = char
        if char == "/":
            form = draw(st.sampled_from(["/", "/", "/", "//", ";a=b/", "%2F", "%252f", "%20/"]))
        elif draw(st.integers(0, 5)) == 0:
            form = draw(st.sampled_from([char.upper(), f"%{ord(char):02x}", f"%25{ord(char):02X}"]))
        written += form
    if written[0] != "/":
        written = "/" + written
    tail = draw(st.sampled_from(["", "", "/", "//", ";x", "%3Bx=1", "?a=/v1/models", "/;v", "%2f"]))
    return (written + tail).encode()


def fragments() -> st.SearchStrategy[bytes]:
    """
    Targets made of what routes are made of, and of what servers differ on.
    """
    words = ["v1", "files", "url", "client", "sessions", "admin", "connectors", "credentials", "webhooks", "audio", "x"]
    marks = ["/", "/", "/", "//", "%2F", "%252F", "%25252F", ";", "%3B", ";p=1", "%3F", "%23", "?", "%20", "%25", "%"]
    other = ["%2e%2e", "%252e", ".", "\\", "%5c", "%255c", "%00", "%0a", "%63", "%2563", "F", "URL", "\u00e9"]
    pieces = st.lists(st.sampled_from(words + marks + other), max_size=8).map("".join)
    heads = ["/v1/", "/v1/files/", "/v1/client", "/v1/admin/", "/v1/connectors/c/", "/v1/audio/", "/V1/webhooks", "/"]
    return st.tuples(st.sampled_from(heads), pieces).map(lambda parts: "".join(parts).encode())


def readings(target: bytes) -> set[str]:
    """
    All the paths that servers of some kind may take *target* for.
    """
    read = set()
    for decodings, cut, again, collapse, lower in product((0, 1, 2), (0, 1), (0, 1), (0, 1), (0, 1)):
        path = target.partition(b"?")[0]
        for _ in range(decodings):
            path = unquote_to_bytes(path)
        if again:  # a gateway decodes, and whoever is behind it parses what came of that as a target
            path = re.split(rb"[?#]", path)[0]
        text = path.decode("latin-1")
        if cut:
            text = re.sub(";[^/]*", "", text)
        if collapse:
            text = re.sub("/+", "/", text)
        read.add((text.lower() if lower else text).rstrip("/") or "/")
    return read


class TestCanonicalPath(SynchronousTestCase):
    """
    ``canonical_path``.
    """

    def test_plain(self) -> None:
        """
        What is written plainly stays as it is, without the query.
        """
        for target in (b"/v1/models", b"/v1/models?a=/x;%2e", b"/v1/models?", b"/v1/models/a.b~c@d:e", b"/V1/Models"):
            self.assertEqual(target.decode().partition("?")[0], canonical_path(target), target)

    def test_forms(self) -> None:
        """
        Encodings are undone, slashes collapsed, parameters, outer spaces and trailing slashes cut.
        """
        for target, expected in (
            (b"/v1/%63hat%2Fcompletions", "/v1/chat/completions"),
            (b"/v1/%2563hat", "/v1/chat"),
            (b"/v1/%252563hat", "/v1/chat"),
            (b"//v1///chat//", "/v1/chat"),
            (b"/v1;a=b/chat;c;d=e/completions;", "/v1/chat/completions"),
            (b"/v1/chat%20/%20x", "/v1/chat/x"),
            (b"/v1/a%20b", "/v1/a b"),
            (b"/v1/caf%C3%A9", "/v1/caf\u00e9"),
            (b"/v1/100%", "/v1/100%"),
            (b"/v1/...", "/v1/..."),
            (b"/", "/"),
        ):
            self.assertEqual(expected, canonical_path(target), target)

    def test_refused(self) -> None:
        """
        What means different places to different servers is refused, however often it is encoded.
        """
        for text in ("/v1/a/../b", "/v1/.", "/v1/..;a/b", "/v1/ ../b", "/v1/a\\b", "/v1/a\0", "/v1/a\nb", "/v1/a?b",
                     "/v1/a#b"):  # fmt: skip
            target = text
            for _ in range(3):
                target = quote(target, safe="/").replace(".", "%2E")
                self.assertRaises(BadTarget, canonical_path, target.encode())
        self.assertRaises(BadTarget, canonical_path, b"/v1/%2525252561")

    @given(st.binary(max_size=20).map(lambda rest: b"/v1/" + rest))
    def test_any_bytes(self, target: bytes) -> None:
        """
        No bytes are too strange to be decided about.
        """
        try:
            path = canonical_path(target)
        except BadTarget:
            return
        self.assertRegex(path, r"(?s)\A/v1(?:/[^/]+)*\Z")

    @given(strategies.paths(), st.integers(0, 2))
    def test_once_and_for_all(self, path: bytes, encodings: int) -> None:
        """
        The canonical form of a canonical path is itself, however it is encoded.
        """
        try:
            canonical = canonical_path(path)
        except BadTarget:
            return
        assume("%" not in canonical)
        target = canonical.encode("utf-8", "surrogateescape")
        for _ in range(encodings):
            target = quote(target, safe="/").encode()
        self.assertEqual(canonical, canonical_path(target))


class TestSensitive(SynchronousTestCase):
    """
    ``is_sensitive``.
    """

    def test_table(self) -> None:
        """
        What hands out credentials, or ways round us, is known in each version and case; its neighbours are not.
        """
        for path in DANGEROUS:
            for written in (path, path.upper(), path.replace("/v1", "/v2")):
                self.assertTrue(is_sensitive(written), written)
        for path in HARMLESS:
            self.assertFalse(is_sensitive(path), path)

    def test_each_is_needed(self) -> None:
        """
        Each line of the table is there for something that no other covers.
        """
        for pattern in SENSITIVE:
            others = re.compile("|".join(_sensitive(other) for other in SENSITIVE if other != pattern))
            self.assertTrue([path for path in DANGEROUS if not others.fullmatch(path)], pattern)

    @given(st.sampled_from(DANGEROUS).flatmap(disguised))
    @example(b"/v1/files//x/url")
    @example(b"/v1/FILES/%78/%2575rl;a/")
    def test_disguised(self, target: bytes) -> None:
        """
        No way of writing makes a sensitive path another one.
        """
        try:
            path = canonical_path(target)
        except BadTarget:
            return
        self.assertTrue(is_sensitive(path), path)

    @given(fragments())
    @example(b"/v1/client/sessions%3Fx")
    @example(b"/v1/files/%2F/url")
    @example(b"/v1/files/;x/url")
    @example(b"/v1/files/a%252Furl")
    def test_read_by_others(self, target: bytes) -> None:
        """
        If there is a server, however careless, to which a target leads to a sensitive endpoint, it does to us.
        """
        if not any(UPSTREAM_ROUTES.fullmatch(reading) for reading in readings(target)):
            return
        try:
            map_target(b"/mistral" + target, BASE)
            path = canonical_path(target)
        except BadTarget:
            return
        self.assertTrue(is_sensitive(path), path)


class TestRoutes(SynchronousTestCase):
    """
    ``Routes``.
    """

    def check(self, routes: list[str], *paths: str) -> None:
        for path in paths:
            self.assertTrue(Routes.of(routes).permits("POST", path), (routes, path))

    def check_not(self, routes: list[str], *paths: str) -> None:
        for path in paths:
            self.assertFalse(Routes.of(routes).permits("POST", path), (routes, path))

    def test_none(self) -> None:
        """
        Without routes all of the Mistral API is permitted, nothing sensitive is named, and nothing of ours permitted.
        """
        routes = Routes.of([])
        self.assertTrue(all(routes.permits("POST", path) for path in HARMLESS))
        self.assertFalse(any(routes.names("POST", path) for path in DANGEROUS))
        self.assertFalse(routes.permits_management("GET"))

    def test_spellings(self) -> None:
        """
        A path is the same with and without ``/mistral`` and ``/v1``; it is that path alone, in its case of letters.
        """
        for written in ("/v1/chat/completions", "/mistral/v1/chat/completions", "/mistral/chat/completions",
                        "/chat/completions", "/chat/completions/", "//chat//completions"):  # fmt: skip
            self.check([written], "/v1/chat/completions")
            self.check_not(
                [written], "/v1/chat", "/v1/chat/completions/x", "/v1/chat/moderations", "/V1/chat/completions",
                "/v2/chat/completions", "/chat/completions",
            )  # fmt: skip
        self.check(["/v2/prompts"], "/v2/prompts")
        self.check(["/mistral/telemetry/v1/traces", "/mcp"], "/telemetry/v1/traces", "/mcp")

    def test_wildcards(self) -> None:
        """
        A star is one segment or more, also in the middle, or a part of one.
        """
        self.check(["/v1/files/*"], "/v1/files/a", "/v1/files/a/content")
        self.check_not(["/v1/files/*"], "/v1/files", "/v1/filesx", "/v2/files/a")
        self.check(["/files/*/content"], "/v1/files/a/content", "/v1/files/a/b/content")
        self.check_not(["/files/*/content"], "/v1/files/content", "/v1/files/a/contents")
        self.check(["/v1/models*"], "/v1/models", "/v1/models/a")
        for all_there_is in ("*", "/*", "/mistral/*"):
            self.check([all_there_is], *HARMLESS)
        self.check(["/v*"], "/v1/models", "/v2/prompts")
        self.check_not(["/v1*"], "/v2/prompts", "/mcp")
        self.check_not(["/v1/*"], "/v2/prompts", "/mcp")

    def test_groups(self) -> None:
        """
        A group of that name is all of the Mistral API; other words permit nothing.
        """
        for group in ("llm_api_routes", "mistral_routes", "openai_routes"):
            self.check([group], *HARMLESS)
            self.assertFalse(any(Routes.of([group]).names("POST", path) for path in DANGEROUS), group)
        for word in ("management_routes", "info_routes", "anthropic_routes", "v1/models", "", " /v1/models"):
            self.check_not([word], *HARMLESS)
        self.check(["nonsense", "/v1/models"], "/v1/models")

    def test_named(self) -> None:
        """
        A sensitive path is named by a route that is spelled as one, with stars for what varies; no wider one names it.
        """
        for route, path in (
            ("/v1/files/*/url", "/v1/files/f1/url"),
            ("/mistral/files/*/url", "/v1/files/f1/url"),
            ("/v1/files/f1/url", "/v1/files/f1/url"),
            ("/v1/admin/*", "/v1/admin/api-keys"),
            ("/v1/admin/**", "/v1/admin/api-keys"),
            ("/v1/webhooks*", "/v1/webhooks/w/signing-secret"),
            ("/client/sessions", "/v1/client/sessions"),
            ("/v1/libraries/*/signed-url", "/v1/libraries/l/documents/d/signed-url"),
        ):
            self.assertTrue(Routes.of([route]).names("POST", path), route)
            self.check([route], path)
        for route in ("*", "/*", "/mistral/*", "/v1/*", "/v1/*/*", "/v1/files/*", "/v1/files/*/*", "/v1/connectors/*",
                      "/v1/workflows/*", "/v1/ad*", "/v1/audio/*", "/v1/libraries/*", "/v1/files/f2/url",
                      "/v1/client"):  # fmt: skip
            self.assertEqual([], [path for path in DANGEROUS if Routes.of([route]).names("POST", path)], route)

    @given(st.lists(st.sampled_from(["/v1/files/*/url", "/v1/admin/*", "/v1/*", "*", "/v1/webhooks"]), min_size=1))
    def test_named_is_permitted(self, routes: list[str]) -> None:
        """
        What is named is permitted too.
        """
        compiled = Routes.of(routes)
        self.assertEqual(
            [], [path for path in DANGEROUS if compiled.names("POST", path) and not compiled.permits("POST", path)]
        )

    def test_methods(self) -> None:
        """
        A route may be bound to a method; GET brings HEAD with it.
        """
        routes = Routes.of(["GET /v1/files/*", "DELETE /mistral/files/*/url", "/v1/models"])
        for method, path, expected in (
            ("GET", "/v1/files/7", True),
            ("HEAD", "/v1/files/7", True),
            ("DELETE", "/v1/files/7", False),
            ("POST", "/v1/models", True),
            ("get", "/v1/files/7", False),
        ):
            self.assertEqual(expected, routes.permits(method, path), (method, path))
        self.assertEqual((True, False), tuple(routes.names(each, "/v1/files/7/url") for each in ("DELETE", "GET")))

    def test_understood(self) -> None:
        """
        What can be in a list is told from what would silently permit nothing.
        """
        for route in ("/v1/models", "*", "GET /v1/*", "llm_api_routes", "management_routes"):
            self.assertTrue(Routes.understands(route), route)
        for route in (
            "",
            "v1/models",
            "nonsense",
            "TRACE /v1/models",
            "get /v1/models",
            "GET  /v1/models",
            "llm_api_route",
        ):
            self.assertFalse(Routes.understands(route), route)

    def test_management(self) -> None:
        """
        Our own API opens to its groups alone; paths and wildcards never lead there.
        """
        for routes, expected in (
            (["management_routes"], [True, True, True]),
            (["info_routes"], [True, True, False]),
            (["management_routes", "/v1/chat/*"], [True, True, True]),
            ([], [False] * 3),
            (["*", "/*", "/key/*", "/key/generate", "/mistral/*", "/k*", "llm_api_routes"], [False] * 3),
        ):
            compiled = Routes.of(routes)
            self.assertEqual(expected, [compiled.permits_management(each) for each in ("GET", "HEAD", "POST")], routes)
        self.check_not(["/key/*"], "/v1/key/generate", "/key/generate")
        self.check(["/mistral/key/*"], "/v1/key/generate")

    def test_key_types(self) -> None:
        """
        Each type of key is a way of writing routes.
        """
        opens = {
            name: (
                Routes.of(routes).permits("POST", "/v1/models"),
                Routes.of(routes).permits_management("POST"),
                Routes.of(routes).permits_management("GET"),
            )
            for name, routes in KEY_TYPES.items()
        }
        self.assertEqual(
            {
                "llm_api": (True, False, False),
                "management": (False, True, True),
                "read_only": (False, False, True),
                "default": (True, False, False),
            },
            opens,
        )

    def test_everywhere(self) -> None:
        """
        There are routes to everything.
        """
        self.assertTrue(all(EVERYWHERE.permits("POST", path) for path in HARMLESS + DANGEROUS))
        self.assertTrue(all(EVERYWHERE.names("POST", path) for path in DANGEROUS))
        self.assertTrue(EVERYWHERE.permits_management("POST"))


class TestJudgement(SynchronousTestCase):
    """
    A path's canonical form and its verdict at once.
    """

    def test_same(self) -> None:
        """
        What is remembered is what would be found anew, for short paths and long ones, whatever the query.
        """
        for path in HARMLESS + DANGEROUS:
            for target in (path, f"{path}?a=/v1/admin", f"{path}/{'x' * REMEMBERED_BYTES}"):
                canonical = canonical_path(target.encode())
                for _ in range(2):
                    self.assertEqual((canonical, is_sensitive(canonical)), judged(target.encode()), target)

    def test_refused(self) -> None:
        """
        A path with two meanings is refused each time.
        """
        for _ in range(2):
            self.assertRaises(BadTarget, judged, b"/v1/%2e%2e/admin")
