"""
Which models a request asks for: no request passes that any server could take to ask for another.
"""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
from attrs import field, frozen
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from dheera.errors import BodyTooLarge, ClientLeft, ModelNotAllowed, Unavailable
from dheera.models import Models
from dheera.proxy.inspection import MOST_NAMES_OF_BATCH, inspect
from dheera.proxy.searching import LONGEST_NAME, MOST_NAMES
from dheera.wildcards import Wildcards
from dheera.wire.body import RequestBody
from dheera.wire.headroom import Headroom
from dheera.wire.heads import Fields
from tests.strategies import twisted_bytes

CHAT = b"/v1/chat/completions"
JSON: Fields = [(b"Content-Type", b"application/json")]
GOOD = b'{"model": "good", "messages": []}'
LIMIT = 1 << 20
ALLOWED = Models((("key", Wildcards.of(["good", "fine-*"])),))


class Reader:
    """
    What reads a body, and is asked for nothing.
    """

    def body_wanted(self) -> None: ...

    def body_paused(self, *, paused: bool) -> None: ...


def body_of(*pieces: bytes, announced: int | None = None, complete: bool = True) -> RequestBody:
    body = RequestBody(Reader(), announced)
    for piece in pieces:
        body.deliver(piece)
    if complete:
        body.end()
    return body


@frozen
class Asked:
    """
    A request, as far as it is looked at.
    """

    body: RequestBody | None = None
    method: bytes = b"POST"
    fields: Fields = field(factory=lambda: [*JSON])
    upgrade_to: bytes | None = None


class Inspections(SynchronousTestCase):
    """
    Requests, looked into for a key that may use ``good`` and ``fine-*``.
    """

    def inspecting(self, asked: Asked, target: bytes = CHAT, models: Models = ALLOWED) -> Deferred[None]:
        return Deferred.fromCoroutine(inspect(asked, target, models, LIMIT))

    def assert_passes(self, asked: Asked, target: bytes = CHAT) -> None:
        self.assertIsNone(self.successResultOf(self.inspecting(asked, target)))

    def assert_refused(self, asked: Asked, target: bytes = CHAT, why: str = "") -> None:
        refusal = self.failureResultOf(self.inspecting(asked, target), ModelNotAllowed).value
        self.assertEqual((403, "key_model_access_denied", "model"), (refusal.status, refusal.type, refusal.param))
        self.assertIn(why, refusal.message)

    def passes(self, asked: Asked, target: bytes = CHAT) -> bool:
        inspecting = self.inspecting(asked, target)
        passed: list[bool] = []
        inspecting.addCallbacks(lambda _: passed.append(True), lambda failure: failure.trap(ModelNotAllowed))
        self.successResultOf(inspecting)
        return bool(passed)


class TestMethods(Inspections):
    """
    Which requests are looked into at all.
    """

    def test_modelless(self) -> None:
        """
        What looks up or deletes uses no model: its body is not touched.
        """
        for method in (b"GET", b"HEAD", b"OPTIONS", b"DELETE"):
            body = body_of(b"anything", complete=False)
            self.assert_passes(Asked(body, method), b"/v1/batch/jobs?Model=evil&model=evil;%ff")
            self.assertTrue(body.waiting)

    def test_others(self) -> None:
        """
        All other methods, known or not, must name a model.
        """
        for method in (b"POST", b"PUT", b"PATCH", b"QUERY", b"get"):
            self.assert_refused(Asked(None, method))
            self.assert_refused(Asked(body_of(b"{}"), method), why="add it")
            self.assert_passes(Asked(body_of(GOOD), method))

    def test_overridden(self) -> None:
        """
        A header that makes another method of it is not taken.
        """
        for name in (b"X-HTTP-Method-Override", b"x_http_method", b"X-Method-Override"):
            self.assert_refused(Asked(None, b"GET", [(name, b"POST")]), why="overrides")

    def test_whose(self) -> None:
        """
        A request that cannot be read is refused in the name of the list that it should keep to.
        """
        models = Models((("team", Wildcards.of(["good"])),))
        refusal = self.failureResultOf(self.inspecting(Asked(body_of(b"")), models=models), ModelNotAllowed).value
        self.assertEqual("team_model_access_denied", refusal.type)


class TestWebSockets(Inspections):
    """
    Upgrades name their model in the query.
    """

    def asked(self) -> Asked:
        return Asked(None, b"GET", [], b"websocket")

    def test_query(self) -> None:
        """
        The query names one model, in whatever encoding.
        """
        for query in (b"model=good", b"a=b&model=fine-1", b"model=g%6fod&c", b"%6dodel=good"):
            self.assert_passes(self.asked(), b"/v1/audio/transcriptions/realtime?" + query)

    def test_refused(self) -> None:
        """
        None, two, another, or one that servers read differently, is refused.
        """
        for query in (
            b"", b"a=b", b"model=evil", b"model=", b"model", b"model=good&model=good", b"model=good&model=evil",
            b"model=good&Model=evil", b"model=good&model%5b%5d=evil", b"model=good&model[0]=evil", b"Model=good",
            b"model=good;x", b"x=1;model=evil&model=good", b"model=good&mod%65l=evil", b"model=good%ff",
            b"model=good%00", b"model=good&model%00=evil", b"model=good+",
        ):  # fmt: skip
            self.assert_refused(self.asked(), b"/v1/audio/transcriptions/realtime?" + query)
        self.assert_refused(self.asked(), b"/v1/audio/transcriptions/realtime", why="?model=")

    def test_beside_a_body(self) -> None:
        """
        What the query names counts beside what a body names.
        """
        self.assert_passes(Asked(body_of(GOOD)), CHAT + b"?stream=1&model=good")
        for query in (b"?model=evil", b"?x;model=evil", b"?MODEL=good"):
            self.assert_refused(Asked(body_of(GOOD)), CHAT + query)


class TestKinds(Inspections):
    """
    Which bodies can be looked into.
    """

    def fields(self, kind: bytes) -> Fields:
        return [(b"Host", b"a"), (b"content-type", kind)]

    def test_json(self) -> None:
        """
        JSON under its names; what has no name is read as JSON.
        """
        for kind in (b"application/json", b"application/json; charset=utf-8", b'Application/JSON;charset="UTF-8"',
                     b"application/vnd.api+json"):  # fmt: skip
            self.assert_passes(Asked(body_of(GOOD), fields=self.fields(kind)))
            self.assert_refused(Asked(body_of(b"model=good"), fields=self.fields(kind)))
        self.assert_passes(Asked(body_of(GOOD), fields=[]))
        self.assert_refused(Asked(body_of(b"model=good"), fields=[]))

    def test_others(self) -> None:
        """
        Others are refused before anything of them is read, whatever they hold.
        """
        for kind in (b"application/x-www-form-urlencoded", b"text/plain", b"", b"application/jsonl", b"*/*", b"json",
                     b"application/json; charset=utf-16", b"application/json; charset=utf-7", b"multipart/mixed",
                     b"application/json, text/plain", b"multipart/form-data", b"application/json; a=b"):  # fmt: skip
            body = body_of(GOOD, complete=False)
            self.assert_refused(Asked(body, fields=self.fields(kind)), why="JSON")
            self.assertTrue(body.waiting, kind)

    def test_two_kinds(self) -> None:
        """
        Two types are refused, and so is one that a server might take for a second.
        """
        for name in (b"Content-Type", b"content_type"):
            self.assert_refused(Asked(body_of(GOOD), fields=[*JSON, (name, b"application/json")]), why="two")

    def test_codings(self) -> None:
        """
        A body in a coding cannot be read.
        """
        for name, coding in ((b"Content-Encoding", b"gzip"), (b"content_encoding", b"identity, br")):
            self.assert_refused(Asked(body_of(GOOD), fields=[*JSON, (name, coding)]), why="Content-Encoding")
        for coding in (b"identity", b"", b" Identity "):
            self.assert_passes(Asked(body_of(GOOD), fields=[*JSON, (b"Content-Encoding", coding)]))

    def test_forms(self) -> None:
        """
        A form names one model in a part that is no file, and no agent.
        """
        part = b'--B\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
        file = part % (b"file", b'; filename="a.wav"', b"RIFF\0model")
        kind = [(b"Content-Type", b"multipart/form-data; boundary=B")]

        def asked(*parts: bytes) -> Asked:
            return Asked(body_of(*parts, b"--B--\r\n"), fields=kind)

        good = part % (b"model", b"", b"good")
        self.assert_passes(asked(file, good))
        self.assert_passes(asked(good, file))
        for parts in (
            (file,), (good, good), (file, part % (b"model", b"", b"evil")),
            (part % (b"model", b'; filename=""', b"good"),),
            (good, part % (b"Model", b"", b"evil")), (good, part % (b"agent_id", b"", b"a")), (),
        ):  # fmt: skip
            self.assert_refused(asked(*parts))
        self.assert_refused(Asked(body_of(GOOD), fields=kind), why="form")


class TestBodies(Inspections):
    """
    Reading a body.
    """

    def test_unchanged(self) -> None:
        """
        Afterwards the body is here for whoever takes it next, byte for byte.
        """
        content = b'\n{ "mod\\u0065l" :"good","x":1.0e1 } \r\n'
        body = body_of(content[:9], complete=False)
        inspecting = self.inspecting(Asked(body))
        self.assertNoResult(inspecting)
        body.deliver(content[9:])
        body.end()
        self.successResultOf(inspecting)
        self.assertEqual(content, body.whole())

    def test_too_large(self) -> None:
        """
        A body beyond the limit is not read.
        """
        for body in (body_of(announced=LIMIT + 1, complete=False), body_of(b" " * (LIMIT + 1), complete=False)):
            self.failureResultOf(self.inspecting(Asked(body)), BodyTooLarge)

    def test_no_headroom(self) -> None:
        """
        A body for which there is no room together with others is refused; what was taken for one counts until then.
        """
        headroom = Headroom(len(GOOD) + 1)
        first, second = (body_of(announced=len(GOOD), complete=False) for _ in range(2))
        reading = Deferred.fromCoroutine(inspect(Asked(first), CHAT, ALLOWED, LIMIT, headroom))
        reading_too = Deferred.fromCoroutine(inspect(Asked(second), CHAT, ALLOWED, LIMIT, headroom))
        self.failureResultOf(reading_too, Unavailable)
        first.deliver(GOOD)
        first.end()
        self.successResultOf(reading)
        self.assertEqual(len(GOOD), headroom.taken_bytes)

    def test_client_left(self) -> None:
        """
        A client that leaves ends it, and so does to cancel.
        """
        body = body_of(complete=False)
        inspecting = self.inspecting(Asked(body))
        body.lose()
        self.failureResultOf(inspecting, ClientLeft)
        inspecting = self.inspecting(Asked(body_of(complete=False)))
        inspecting.cancel()
        self.failureResultOf(inspecting, CancelledError)


class TestJSON(Inspections):
    """
    What JSON names.
    """

    def test_passes(self) -> None:
        """
        One name of an allowed model, anywhere in the object; what is deeper does not count.
        """
        for content in (
            GOOD, b'{"messages": [{"model": "evil", "content": "model"}], "model": "fine-2"}',
            b'{"model":"g\\u006fod"}',
            b'{"model": "good", "agent_id": null, "requests": null, "input_files": []}',
            b'{"model": "good", "Body": 1, "body": 2, "BODY": 3}',
            b'{"model": "good", "models": "evil", "x": {"model": 1, "model": 2}, "\xc3\xa9": 1}',
            b'{"model": "good", "x": ' + b"1" * 10_000 + b"}",  # a number to all, if too large for some
        ):  # fmt: skip
            self.assert_passes(Asked(body_of(content)))

    def test_refused(self) -> None:
        """
        None, another, two, an odd spelling, or what is not strictly JSON, is refused.
        """
        for content in (
            b"", b"null", b'"good"', b"[]", b'[{"model": "good"}]', b"{}", b'{"model": "evil"}', b'{"model": null}',
            b'{"model": ["good"]}', b'{"model": {"model": "good"}}', b'{"model": "good", "model": "good"}',
            b'{"model": "good", "MODEL": "evil"}', b'{"Model": "good"}', b'{"model": "good", "mod\\u0065l": "evil"}',
            b'{"model": "good", "model\\u0000x": "evil"}', b'{"model": "good"} {"model": "evil"}',
            b'{"model": "good", "x": NaN}', b'{"model": "good", "x": -Infinity}', b'{"model": "good",}',
            b"{'model': 'good'}", b'{"model": "good", "x": "\n"}', b'{"model": "good", "x": "\xff"}',
            b'\xef\xbb\xbf{"model": "good"}', '{"model": "good"}'.encode("utf-16"),
            '{"model": "good"}'.encode("utf-32"),
            b'{"model": "good", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"model": "good"}\0',
            b'{"model": "good", /* "model": "evil" */ "x": 1}',
            b'{"model": "good ", "x": 1}', b'{"model": "good\\u0000"}', b'{"model": "fine-\\n"}',
            b'{"model": "fine-\\ud800"}',
        ):  # fmt: skip
            self.assert_refused(Asked(body_of(content)))

    def test_agents(self) -> None:
        """
        An agent brings a model of its own, so it is refused, beside a model too.
        """
        for content in (
            b'{"agent_id": "a"}',
            b'{"agent_id": "a", "model": "good"}',
            b'{"model": "good", "agent_id": ""}',
            b'{"model": "good", "Agent_ID": "a"}',
            b'{"model": "good", "agent_id": null, "agent_id": "a"}',
        ):
            self.assert_refused(Asked(body_of(content)), why="agent")

    def test_not_built(self) -> None:
        """
        What is deeper than the names is never built: many small things take no more room than one large one.
        """
        content = b'{"a": [' + b'{"a":1},' * 100_000 + b'0], "model": "good"}'
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        self.assert_passes(Asked(body_of(content)))
        self.assertLess(tracemalloc.get_traced_memory()[1], len(content) // 4)

    def test_utf_8(self) -> None:
        """
        What is not UTF-8 is refused wherever it stands; a character that lies across two slices is one.
        """
        for size in range(65_530, 65_540):
            text = b'{"model": "good", "x": "' + b"x" * (size - 24)
            self.assert_passes(Asked(body_of(text + "\N{GRINNING FACE}".encode() + b'"}')))
            for hurt in (b"\xff", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xa2"):
                self.assert_refused(Asked(body_of(text + hurt + b'"}')), why="UTF-8")

    def test_bounds(self) -> None:
        """
        More names than anybody needs, longer ones, or a longer name of a model, are refused.
        """
        for most, before, repeated, after in (
            (MOST_NAMES - 1, b'{"model": "good"', b', "x": 1', b"}"),
            (LONGEST_NAME, b'{"model": "good", "', b"x", b'": 1}'),
            (MOST_NAMES_OF_BATCH - 1, b'{"model": "good", "requests": [{"body": {}}', b', {"body": {}}', b"]}"),
        ):
            self.assert_passes(Asked(body_of(before + most * repeated + after)))
            self.assert_refused(Asked(body_of(before + (most + 1) * repeated + after)))
        name = b'{"model": "fine-%b"}'
        self.assert_refused(Asked(body_of(name % (b"x" * 3000))), why="as a text")

    def test_message(self) -> None:
        """
        A refusal tells of the model alone, and nothing else of what was sent.
        """
        content = b'{"model": "evil", "messages": "secret prompt"}'
        refusal = self.failureResultOf(self.inspecting(Asked(body_of(content))), ModelNotAllowed).value
        self.assertIn('"evil"', refusal.message)
        self.assertNotIn("secret", refusal.message)


class TestBatches(Inspections):
    """
    What a batch names.
    """

    def test_passes(self) -> None:
        """
        The job's model, or one in each request, or both.
        """
        for content in (
            b'{"model": "good", "requests": [{"custom_id": "1", "body": {"n": 1}}, {"body": {"model": null}}]}',
            b'{"endpoint": "/v1/ocr", "requests": [{"body": {"model": "good"}}, {"body": {"model": "fine-1"}}]}',
            b'{"model": "good", "agent_id": null, "requests": [{"body": {"model": "fine-1"}}], "input_files": null}',
        ):
            self.assert_passes(Asked(body_of(content)), b"/v1/batch/jobs")

    def test_refused(self) -> None:
        """
        Another model in any place, a request without one, an agent, a file: all are refused, on whichever path.
        """
        for content in (
            b'{"model": "good", "input_files": ["f"]}', b'{"model": "good", "Input_Files": ["f"]}',
            b'{"model": "good", "input_files": [], "input_files": ["f"]}', b'{"input_files": ["f"]}',
            b'{"model": "evil", "requests": [{"body": {"model": "good"}}]}',
            b'{"model": "good", "requests": [{"body": {"model": "good"}}, {"body": {"model": "evil"}}]}',
            b'{"requests": [{"body": {"model": "good"}}, {"body": {}}]}', b'{"model": "good", "requests": [{}]}',
            b'{"model": "good", "requests": [{"body": {"agent_id": "a"}}]}', b'{"model": "good", "requests": [1]}',
            b'{"model": "good", "requests": [{"body": {}, "body": {"model": "evil"}}]}',
            b'{"model": "good", "requests": [{"body": {"model": "good", "model": "evil"}}]}',
            b'{"model": "good", "requests": [{"body": {}, "Body": {"model": "evil"}}]}',
            b'{"model": "good", "requests": [{"body": {}, "model": "evil"}]}',
            b'{"model": "good", "requests": [{"body": {}, "agent_id": "a"}]}',
            b'{"model": "good", "requests": [{"body": {"model": 1}}]}',
            b'{"model": "good", "requests": [], "requests": [{"body": {"model": "evil"}}]}',
            b'{"model": "good", "requests": {"body": {"model": "evil"}}}',
            b'{"model": "good", "agent_id": "a", "requests": [{"body": {"model": "good"}}]}',
            b'{"agent_id": "a", "requests": [{"body": {"model": "good"}}]}',
            b'{"model": "good", "requests": [{"body": {"agent_id": []}}]}',
            b'{"model": "good", "requests": [{"body": {"model": []}}]}',
            b'{"model": "good", "requests": [null]}', b'{"model": "good", "requests": [{"custom_id": "1"}]}',
            b'{"model": "good", "requests": [{"body": null}]}', b'{"model": "good", "requests": [{"body": []}]}',
        ):  # fmt: skip
            for path in (b"/v1/batch/jobs", b"/v1/Batch/%6aobs/"):
                self.assert_refused(Asked(body_of(content)), path)


NAMES = ['"model"', '"Model"', '"MODEL"', '"mod\\u0065l"', '"model "', '"agent_id"', '"models"', '"x"', '"requests"']
VALUES = ['"good"', '"good"', '"evil"', '"Good"', '"fine-x"', "null", "1", '["evil"]', '{"model": "evil"}', "NaN"]


@st.composite
def objects(draw: DrawFn, deeper: bool = True) -> bytes:  # noqa: FBT001, FBT002 - hypothesis passes no names
    """
    JSON objects in which the same is said twice, in several spellings.
    """
    pairs = []
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=5)):
        if name == '"requests"' and deeper:
            lines = draw(st.lists(objects(deeper=False), max_size=2))
            value = "[" + ", ".join('{"body": ' + line.decode() + "}" for line in lines) + "]"
        else:
            value = draw(st.sampled_from(VALUES))
        pairs.append(f"{name}: {value}")
    return ("{" + ", ".join(pairs) + "}").encode()


def pair_readers() -> Iterator[Any]:
    """
    Ways to make one value of an object's pairs: the last wins, the first does, in any case of letters or not.
    """
    for first in (False, True):
        for fold in (False, True):

            def read(pairs: list[tuple[str, Any]], first: bool = first, fold: bool = fold) -> dict[str, Any]:  # noqa: FBT001
                ordered = reversed(pairs) if first else pairs
                return {name.lower() if fold else name: value for name, value in ordered}

            yield read


def models_seen(content: bytes) -> set[str]:
    """
    All the models that lenient parsers find a request to ask for.
    """
    documents: list[Any] = []
    for read in pair_readers():
        with contextlib.suppress(ValueError, RecursionError):
            documents.append(json.loads(content, object_pairs_hook=read))
    with contextlib.suppress(ValueError, RecursionError):
        documents.append(msgspec.json.decode(content))
    calls = [each for each in documents if isinstance(each, dict)]
    for call in [*calls]:
        requests = call.get("requests")
        lines = requests if isinstance(requests, list) else []
        calls += [line["body"] for line in lines if isinstance(line, dict) and isinstance(line.get("body"), dict)]
    agents = {"an agent" for call in calls if call.get("agent_id") is not None}
    return agents | {call["model"] for call in calls if isinstance(call.get("model"), str)}


class TestLenientParsers(Inspections):
    """
    Servers whose parsers are not ours.
    """

    def check(self, content: bytes) -> None:
        if self.passes(Asked(body_of(content))):
            seen = models_seen(content)
            self.assertTrue(seen)
            self.assertEqual(set(), {name for name in seen if name != "good" and not name.startswith("fine-")})

    @given(objects())
    @example(b'{"model": "good", "model": "evil"}')
    @example(b'{"agent_id": "a", "requests": [{"body": {"model": "good"}}]}')
    def test_objects(self, content: bytes) -> None:
        """
        What any parser takes to ask for a model that is not allowed, or for an agent, is never let through.
        """
        self.check(content)

    @given(objects().flatmap(twisted_bytes) | objects())
    def test_strict(self, content: bytes) -> None:
        """
        What passes is JSON to a strict reader that has nothing in common with ours.
        """
        if self.passes(Asked(body_of(content))):
            json.loads(content.decode(), parse_constant=self.fail)

    @given(objects().flatmap(twisted_bytes))
    def test_hurt(self, content: bytes) -> None:
        """
        The same for objects that are hurt in a few places.
        """
        self.check(content)

    @given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3), st.integers(0, 3))
    def test_plain(self, others: dict[str, Any], at: int) -> None:
        """
        A model that is allowed, and named once, passes whatever stands around it.
        """
        pairs = [pair for pair in others.items() if pair[0].lower() not in ("model", "agent_id")]
        pairs.insert(at, ("model", "good"))
        self.assert_passes(Asked(body_of(json.dumps(dict(pairs)).encode())))
        self.assert_passes(Asked(body_of(json.dumps(dict(pairs), ensure_ascii=False).encode("utf-8", "replace"))))
