"""
The management API, from outside: who is let in, what is answered to whom, and when somebody leaves.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from twisted.internet.defer import Deferred

from dheera.boundaries import Caller
from dheera.entities import decoded
from dheera.errors import BadRequest, NotAllowed, StoreAway, TooManyRequests
from dheera.management.catalogue import ROUTES
from dheera.management.openapi import describe
from dheera.management.routes import BODY_LIMIT_BYTES, Access, Actor, AnyRoute, Asked, Nothing, Office, Route
from tests.house import Overheard, in_chunks, read_answer, request
from tests.management.office import MASTER, AtDesk, Desk
from tests.network import LOCAL

DESCRIPTION = describe(ROUTES)
ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]


class Said(Struct, frozen=True):
    """
    A body with a word in it.
    """

    word: str = ""


@define(eq=False)
class Bench:
    """
    Two routes whose verbs wait until the test answers for them.
    """

    asked: list[Asked[Any, Any]] = field(factory=list)
    answers: list[Deferred[Any]] = field(factory=list)

    async def verb(self, _office: Office, asked: Asked[Any, Any]) -> Any:
        self.asked.append(asked)
        answer: Deferred[Any] = Deferred()
        self.answers.append(answer)
        return await answer

    def routes(self) -> list[AnyRoute]:
        return [
            Route(
                path="/x/look", methods=("GET",), summary="", body=Nothing, query=Nothing, answer=Said, verb=self.verb
            ),
            Route(path="/x/{one}/do", summary="", body=Said, query=Nothing, answer=Said, verb=self.verb),
        ]


class Admitted(AtDesk):
    def every(self) -> list[tuple[str, AnyRoute]]:
        return [
            (method, route) for route in ROUTES for method in (*route.methods, *("HEAD",) * ("GET" in route.methods))
        ]

    def test_nobody(self) -> None:
        """
        No route answers to who has no key, or a key that nobody has made; none looks at the body before.
        """
        for method, route in self.every():
            for key in (None, "sk-nobody-has-made-this"):
                reply = self.desk.send(method, route.path, body=b"{", key=key)
                self.assertEqual(401, reply.status, (method, route.path))
                self.assertEqual([b"Bearer"], reply.answer.values(b"www-authenticate"))

    def test_virtual_keys(self) -> None:
        """
        A key that may not manage can ask about itself, and do nothing else; it is told which keys may.
        """
        key = self.desk.generate()["key"]
        for method, route in self.every():
            reply = self.desk.send(method, route.path, body=b"{}", key=key)
            allowed = (200, 404) if route.access is Access.SELF else (403,)  # 404: it has no user, and no team
            self.assertIn(reply.status, allowed, (method, route.path))
            if reply.status == 403 and method != "HEAD":
                self.assertIn(b"management", reply.answer.body)
                self.assertEqual(method == "GET", b"read_only" in reply.answer.body, (method, route.path))

    def test_what_is_asked_of_the_authority(self) -> None:
        """
        The authority is told who calls, and which route: not what stands in the path.
        """
        told: list[tuple[Caller, str, str]] = []

        class Strict:
            def admit(self, caller: Caller, method: str, path: str) -> Deferred[Actor]:
                told.append((caller, method, path))
                raise NotAllowed("No.")

        desk = Desk(authority=Strict())
        self.refused(desk.post("/key/sk-a%2Fb/regenerate", {}), 403, "auth_error")
        ((caller, method, path),) = told
        self.assertEqual((MASTER.encode(), LOCAL), (caller.credential, caller.peer))
        self.assertEqual(("POST", "/key/{key}/regenerate"), (method, path))

    def test_refusals_of_the_authority(self) -> None:
        """
        What the authority says is answered, with when to come again.
        """
        for refusal, status in ((TooManyRequests("Slow.", retry_after_seconds=7), 429), (StoreAway(), 503)):

            class Strict:
                def admit(self, _caller: Caller, _method: str, _path: str) -> Deferred[Actor]:
                    raise refusal  # noqa: B023 - used within the loop

            reply = Desk(authority=Strict()).get("/key/list")
            self.assertEqual(status, reply.status)
            self.assertEqual(1, len(reply.answer.values(b"retry-after")))


class Found(AtDesk):
    def test_other_methods(self) -> None:
        """
        A path that is there for another method says for which; HEAD is where GET is.
        """
        for path, allowed in {
            "/key/info": ["GET", "HEAD"],
            "/key/health": ["POST", "GET", "HEAD"],
            "/key/generate": ["POST"],
            "/key/x/regenerate": ["POST"],
        }.items():
            for method in set(ALL_METHODS) - set(allowed):
                reply = self.desk.send(method, path, key=None)
                self.assertEqual((405, [", ".join(allowed).encode()]), (reply.status, reply.answer.values(b"allow")))

    def test_head(self) -> None:
        """
        HEAD is GET without the body.
        """
        for path in ("/key/list", "/key/health", "/openapi.json"):
            got, head = self.desk.get(path), self.desk.send("HEAD", path)
            self.assertEqual((200, b""), (head.status, head.answer.body))
            self.assertEqual([b"%d" % len(got.answer.body)], head.answer.values(b"content-length"))
        self.assertEqual([b"GET, HEAD"], self.desk.send("POST", "/openapi.json").answer.values(b"allow"))

    def test_nothing_there(self) -> None:
        """
        All other paths are not there, for anybody.
        """
        for path in (
            "/key",
            "/key/",
            "/key/x",
            "/key/generate/",
            "/key//generate",
            "/key/generate/x",
            "/key/x/y/regenerate",
            "/key/a%2Fb",
            "/key%2Fgenerate",
            "/key/%2567enerate",
            "/KEY/generate",
            "/key/Generate",
            "/key/generate;x",
            "/key/%ff",
            "/key/../key/generate",
            "/v2/key/generate",
            "/v2/key",
        ):
            for method in ("GET", "POST"):
                for key in (None, MASTER):
                    reply = self.desk.send(method, path, key=key)
                    self.assertIn(reply.status, (400, 404) if ".." in path else (404,), (method, path))

    def test_encoded(self) -> None:
        """
        A path is decoded once, segment by segment: a slash in a parameter parts nothing.
        """
        bench = Bench()
        desk = Desk(routes=bench.routes())
        for path, one in {
            "/x/a/do": "a",
            "/%78/a/%64o": "a",
            "/x/a%2Fb/do": "a/b",
            "/x/a%252Fb/do": "a%2Fb",
            "/x/a+b%20c/do": "a+b c",
            "/x/%C3%A9/do": "é",
        }.items():
            desk.begin(request(path.encode(), (b"Authorization", b"Bearer " + MASTER.encode()), method=b"POST"))
            self.assertEqual({"one": one}, bench.asked[-1].path)
        for path in ("/x//do", "/x/%00/do", f"/x/{'y' * 257}/do"):
            self.wrong(desk.post(path, {}), ["path", "one"])


class Answered(AtDesk):
    def test_fields(self) -> None:
        """
        Every answer is JSON that nobody may keep, with the name of the call, and errors say whose they are.
        """
        for reply in (
            self.desk.post("/key/generate", {}),
            self.desk.get("/key/info"),
            self.desk.get("/key/list", key=None),
            self.desk.get("/key/nothing"),
            self.desk.post("/key/list", {}),
            self.desk.send("POST", "/key/update", body=b"{"),
        ):
            self.assertEqual([b"no-store"], reply.answer.values(b"cache-control"))
            self.assertEqual([b"application/json"], reply.answer.values(b"content-type"))
            self.assertEqual(1, len(reply.answer.values(b"x-dheera-call-id")))
            source = [] if reply.status == 200 else [b"dheera"]
            self.assertEqual(source, reply.answer.values(b"x-dheera-error-source"))

    def test_description(self) -> None:
        """
        The description is there for everybody.
        """
        reply = self.desk.get("/openapi.json", key=None)
        self.assertEqual((200, json.loads(json.dumps(DESCRIPTION))), (reply.status, reply.json))

    def test_content_type(self) -> None:
        """
        JSON is JSON, whatever it is said to be; and what is said to be JSON need not be.
        """
        for kind in (b"application/x-www-form-urlencoded", b"text/plain", b"application/json; charset=utf-8"):
            reply = self.desk.post("/key/generate", {"key_alias": kind.decode()}, (b"Content-Type", kind))
            self.assertEqual((200, kind.decode()), (reply.status, reply.json["key_alias"]))
        fields = (b"Content-Type", b"application/json")
        reply = self.desk.send("POST", "/key/generate", fields, body=b"key_alias=x")
        self.wrong(reply, ["body"])

    def test_strict_fields(self) -> None:
        """
        Where it is wanted, unknown fields of bodies and queries are named; otherwise they are let pass.
        """
        strict = Desk(strict_fields=True)
        self.wrong(
            strict.post("/key/generate", {"key_alais": "a", "modles": []}), ["body", "key_alais"], ["body", "modles"]
        )
        self.wrong(strict.get("/key/list?sise=5"), ["query", "sise"])
        self.assertEqual(200, strict.post("/key/generate", {"key_alias": "a"}).status)
        self.assertEqual(200, self.desk.post("/key/generate", {"key_alais": "a"}).status)
        self.assertEqual(200, self.desk.get("/key/list?sise=5").status)

    def test_large(self) -> None:
        """
        A body that is too large is refused, announced or not, and nothing was done.
        """
        body = b'{"key_alias": "%s"}' % (b"x" * BODY_LIMIT_BYTES)
        self.refused(self.desk.send("POST", "/key/generate", body=body), 413, "request_too_large")
        head = request(
            b"/key/generate",
            (b"Authorization", b"Bearer " + MASTER.encode()),
            (b"Transfer-Encoding", b"chunked"),
            method=b"POST",
        )
        client = self.desk.begin(head + in_chunks(*[b" " * 65536] * 17))
        self.assertEqual(413, read_answer(client.received).status)
        self.assertEqual([], self.desk.audit())

    def test_get_with_a_body(self) -> None:
        """
        What a GET says in a body is not looked at.
        """
        self.assertEqual(200, self.desk.send("GET", "/key/list", body=b"not JSON").status)

    def test_claim(self) -> None:
        """
        Whom a caller says it acts for is kept, ours first, as far as it can be shown.
        """
        for fields, claimed in (
            ([], None),
            ([(b"litellm-changed-by", b"bob")], "bob"),
            ([(b"litellm-changed-by", b"bob"), (b"X-Dheera-Changed-By", "zoé\u202e".encode())], "zoé?"),
            ([(b"x-dheera-changed-by", b"\xff" + b"x" * 500)], "\ufffd" + "x" * 199),
            ([(b"x-dheera-changed-by", b"")], None),
        ):
            made = self.desk.post("/key/generate", {}, *fields).json
            (line,) = self.desk.audit(subject=made["key_id"])
            self.assertEqual(claimed, line.claimed)

    def test_store_away(self) -> None:
        """
        While the database is away nothing is managed, and one is told when to come again.
        """
        self.desk.store.fail()
        for reply in (self.desk.post("/key/generate", {}), self.desk.get("/key/list")):
            self.refused(reply, 503, "no_db_connection")
            self.assertEqual([b"1"], reply.answer.values(b"retry-after"))
        rows = [{"key": "x"}, {"key": "y"}]
        self.assertEqual(503, self.desk.post("/key/bulk_update", {"keys": rows}).status)
        self.assertEqual(503, self.desk.post("/key/import", {"keys": [{"token": "a" * 64}]}).status)

    def test_bug(self) -> None:
        """
        What fails inside is logged under the name of the call, and answered without what it said.
        """
        overheard = Overheard.by(self)
        bench = Bench()
        desk = Desk(routes=bench.routes())
        client = desk.begin(request(b"/x/look", (b"Authorization", b"Bearer " + MASTER.encode())))
        bench.answers[0].errback(RuntimeError("planted"))
        desk.network.settle()
        answer = read_answer(client.received)
        self.assertEqual(500, answer.status)
        self.assertNotIn(b"planted", answer.body)
        (call_id,) = answer.values(b"x-dheera-call-id")
        self.assertEqual(1, sum(call_id.decode() in line for line in overheard.lines()))
        self.assertNotIn(MASTER, overheard.everything())
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))


class Left(AtDesk):
    def setUp(self) -> None:
        self.bench = Bench()
        self.desk = Desk(routes=self.bench.routes())

    def begin(self, method: bytes, path: bytes) -> Any:
        return self.desk.begin(request(path, (b"Authorization", b"Bearer " + MASTER.encode()), method=method))

    def test_look(self) -> None:
        """
        Whoever looks and leaves, ends the looking.
        """
        client = self.begin(b"GET", b"/x/look")
        client.close()
        self.desk.network.settle()
        self.assertTrue(self.bench.answers[0].called)

    def test_act(self) -> None:
        """
        What has begun to change something is finished, though nobody waits for it.
        """
        client = self.begin(b"POST", b"/x/a/do")
        client.close()
        self.desk.network.settle()
        self.assertFalse(self.bench.answers[0].called)
        self.bench.answers[0].callback(Said())

    def test_act_that_fails(self) -> None:
        """
        A refusal that nobody waits for is let go; a bug is logged.
        """
        for failure, logged in ((BadRequest("no"), 0), (RuntimeError(), 1)):
            self.begin(b"POST", b"/x/a/do").close()
            self.desk.network.settle()
            self.bench.answers.pop().errback(failure)
            self.assertEqual(logged, len(self.flushLoggedErrors(RuntimeError)))

    def test_before_the_body(self) -> None:
        """
        Who leaves before all was said, has asked for nothing.
        """
        client = self.desk.begin(
            request(
                b"/x/a/do",
                (b"Authorization", b"Bearer " + MASTER.encode()),
                (b"Content-Length", b"10"),
                method=b"POST",
            )
            + b"{"
        )
        client.close()
        self.desk.network.settle()
        self.assertEqual([], self.bench.asked)

    def test_answer(self) -> None:
        """
        Who waits is answered when it is done.
        """
        for method, path in ((b"GET", b"/x/look"), (b"POST", b"/x/a/do")):
            client = self.begin(method, path)
            self.assertEqual(b"", client.received)
            self.bench.answers.pop().callback(Said("done"))
            self.desk.network.settle()
            self.assertEqual({"word": "done"}, json.loads(read_answer(client.received).body))


ONE_KEY = "sk-the-one-key-there-is"
NAMES = st.sampled_from(sorted({name for route in ROUTES for name in route.body.__struct_fields__}))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["", "-1", "1d", "30d", ONE_KEY, "0" * 64, "x" * 300, "\u0000", "2026-01-01T00:00:00Z"])
    | st.sampled_from([-1, 0, 2**53, 2**64, 10**40, 1e300, "1e999", "NaN"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """
    JSON that mostly is what *schema* describes.
    """
    if "$ref" in schema:
        schema = DESCRIPTION["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return st.one_of(*map(fitting, schema["anyOf"]))
    if "properties" in schema:
        required = set(schema["required"])
        fields = {name: fitting(each) for name, each in schema["properties"].items()}
        chosen = st.sets(st.sampled_from(sorted(fields)), max_size=4).map(required.union)
        return chosen.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in sorted(names)}))
    if "items" in schema:
        return st.lists(fitting(schema["items"]), min_size=schema.get("minItems", 0), max_size=3)
    least, most = schema.get("minimum"), schema.get("maximum")
    return {
        "object": st.dictionaries(st.sampled_from(["a", "key_alias"]), VALUES, max_size=3),
        "integer": st.integers(least, most),
        "number": st.floats(least, most),
        "string": st.just(text_for(schema)),
        "enum": st.sampled_from(schema.get("enum", [None])),
    }.get(schema.get("type", "enum" if "enum" in schema else ""), VALUES)


def text_for(schema: dict[str, Any]) -> str:
    """
    A text that is what *schema* describes.
    """
    pattern = schema.get("pattern", "")
    if "64" in pattern:
        return "a" * 64
    if "mo)" in pattern:
        return "30d"
    return ONE_KEY if "maxLength" in schema else "2026-01-01T00:00:00Z"


@cache
def shape_of(route: AnyRoute) -> st.SearchStrategy[Any]:
    """
    Bodies that are more or less like what *route* takes.
    """
    if route.body is Nothing:
        return VALUES
    right = fitting({"$ref": f"#/components/schemas/{route.body.__name__}"})
    almost = st.builds(lambda body, more: {**body, **more}, right, st.dictionaries(NAMES, VALUES, max_size=2))
    return right | almost | VALUES


class Anything(AtDesk):
    """
    Whatever is sent, the answer is one of those that are described.
    """

    def check(self, method: str, path: str, query: str, body: bytes | None) -> None:
        desk = Desk()
        desk.generate(key=ONE_KEY)
        route = next(route for route in ROUTES if route.path == path)
        target = path.replace("{key}", ONE_KEY) + query
        reply = desk.send(method, target, body=body)
        described = DESCRIPTION["paths"][path][method.lower()]["responses"]
        self.assertIn(str(reply.status), described)
        self.assertLess(reply.status, 500)
        if reply.status == 200:
            msgspec.convert(reply.json, route.answer, dec_hook=decoded)
        else:
            self.assertEqual(str(reply.status), reply.json["error"]["code"])

    @settings(deadline=None, max_examples=200)
    @given(
        st.sampled_from(ROUTES).flatmap(
            lambda route: st.tuples(st.just(route.path), st.sampled_from(route.methods), shape_of(route))
        )
    )
    def test_any_json(self, sent: tuple[str, str, Any]) -> None:
        """
        Any JSON, to any route.
        """
        path, method, value = sent
        self.check(method, path, "", json.dumps(value).encode())

    @settings(deadline=None)
    @given(st.sampled_from(ROUTES), st.binary(max_size=50))
    def test_any_bytes(self, route: AnyRoute, body: bytes) -> None:
        """
        Any bytes, to any route.
        """
        self.check(route.methods[0], route.path, "", body)

    @settings(deadline=None)
    @given(
        st.sampled_from([route for route in ROUTES if route.query is not Nothing]).flatmap(
            lambda route: st.tuples(
                st.just(route),
                st.lists(st.tuples(st.sampled_from(route.query.__struct_fields__), st.text(max_size=8)), max_size=3),
            )
        )
    )
    def test_any_query(self, sent: tuple[AnyRoute, list[tuple[str, str]]]) -> None:
        """
        Any query, to any route that takes one.
        """
        route, pairs = sent
        query = "&".join(f"{name}={''.join(f'%{byte:02x}' for byte in text.encode())}" for name, text in pairs)
        self.check("GET", route.path, f"?{query}", None)
