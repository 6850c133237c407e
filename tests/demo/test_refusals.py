"""
What the demo refuses, and that nothing which a client sends breaks it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from dheera.demo import completions
from dheera.demo.batches import Batches
from dheera.demo.calls import MOST_PARTS, Answer, Call, Stream, answer, dumps
from dheera.demo.files import Files
from dheera.demo.refusals import Refused
from dheera.demo.root import Demo
from dheera.demo.routes import FORM_BYTES, JSON_BYTES, Endpoint, Route, routes
from dheera.demo.shelves import Shelf
from tests.demo.line import AUTHORIZATION, Heard, Standing, form, leave
from tests.demo.test_answers import CHAT

GUIDE_CHAT = b"""{
    "messages": [
        {
            "role": "user",
            "content": "I am going to Paris, what should I see?"
        }
    ],
    "max_tokens": 2048,
    "temperature": 0.8,
    "top_p": 0.1,
    "model": "mistral-large-latest",
}"""
"""
The guide's chat line, with the comma that JSON does not allow.
"""

BAD_BODIES = (
    b"",
    b"{",
    b"null",
    b"[1]",
    b"\xff\xfe",
    b'{"a": NaN}',
    b'{"a": %b}' % (b"9" * 5000),
    b"[" * 100_000,
    b'{"messages":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"messages":' + b'{"content":' * 400 + b"1" + b"}" * 401,
)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(scalars, lambda some: st.lists(some) | st.dictionaries(st.text(), some), max_leaves=8)
NAMES = ("model", "messages", "input", "inputs", "stream", "prompt", "document", "endpoint", "requests", "name")
bodies = st.dictionaries(st.sampled_from(NAMES), values)


class TestRefusals(SynchronousTestCase):
    """
    Mistral's ways to say no.
    """

    def setUp(self) -> None:
        self.demo = Standing()

    def test_unknown_path(self) -> None:
        """
        A path that is none is answered as the gateway does, with or without a key.
        """
        for fields in ([], [AUTHORIZATION]):
            transport, heard = self.demo.send("GET", "/v1/nowhere", b"", *fields)
            self.demo.hear(transport, heard)
            self.assertEqual(404, heard.status)
            self.assertEqual("no Route matched with those values", heard.json()["message"])

    def test_no_bearer(self) -> None:
        """
        Without a bearer nothing is answered; the scheme may be written in any case.
        """
        for fields in ([], [(b"authorization", b"Basic eDp5")], [(b"authorization", b"Bearer ")]):
            transport, heard = self.demo.send("GET", "/v1/models", b"", *fields)
            self.assertEqual({"detail": "Unauthorized"}, self.demo.hear(transport, heard).json())
            self.assertEqual(401, heard.status)
        transport, heard = self.demo.send("GET", "/v1/models", b"", (b"authorization", b"bearer anything"))
        self.assertEqual(200, self.demo.hear(transport, heard).status)

    def test_wrong_method(self) -> None:
        """
        A method that a path does not have is refused, with those that it has.
        """
        heard = self.demo.ask("PATCH", "/v1/files")
        self.assertEqual((405, "GET, POST"), (heard.status, heard.field("allow")))

    def test_head(self) -> None:
        """
        HEAD has the head of GET, and no body.
        """
        transport, heard = self.demo.send("HEAD", "/v1/models", b"", AUTHORIZATION)
        self.assertTrue(transport.value().endswith(b"\r\n\r\n"))
        self.demo.hear(transport, heard)
        length = len(self.demo.ask("GET", "/v1/models").body)
        self.assertEqual((200, str(length)), (heard.status, heard.field("content-length")))

    def test_guide(self) -> None:
        """
        The guide's chat line is refused where upstream refuses it: at the brace after the comma.
        """
        heard = self.demo.ask("POST", "/v1/chat/completions", GUIDE_CHAT)
        complaint = heard.json()["detail"][0]
        self.assertEqual(422, heard.status)
        self.assertEqual("json_invalid", complaint["type"])
        self.assertEqual(["body", GUIDE_CHAT.rindex(b"}")], complaint["loc"])

    def test_guide_mended(self) -> None:
        """
        Without the comma it is answered.
        """
        mended = GUIDE_CHAT.replace(b'latest",', b'latest"')
        self.assertEqual(200, self.demo.ask("POST", "/v1/chat/completions", mended).status)

    def test_missing_field(self) -> None:
        """
        A field that is missing is named.
        """
        cases = [
            ("/v1/chat/completions", {"model": "mistral-small-latest"}, "messages"),
            ("/v1/chat/completions", {"messages": CHAT["messages"]}, "model"),
            ("/v1/fim/completions", {"model": "codestral-latest"}, "prompt"),
            ("/v1/agents/completions", {"messages": CHAT["messages"]}, "agent_id"),
            ("/v1/embeddings", {"model": "mistral-embed"}, "input"),
            ("/v1/ocr", {"model": "mistral-ocr-latest"}, "document"),
            ("/v1/conversations", {"model": "mistral-small-latest"}, "inputs"),
            ("/v1/audio/speech", {}, "input"),
            ("/v1/audio/transcriptions", {"model": "voxtral-mini-latest"}, "file"),
            ("/v1/batch/jobs", {}, "endpoint"),
        ]
        for path, body, name in cases:
            heard = self.demo.ask("POST", path, body)
            self.assertEqual(422, heard.status, path)
            complaint = heard.json()["detail"][0]
            self.assertEqual(("missing", ["body", name]), (complaint["type"], complaint["loc"]))

    def test_wrong_types(self) -> None:
        """
        A field of another type is refused, not guessed at.
        """
        cases: list[tuple[str, dict[str, Any]]] = [
            ("/v1/chat/completions", CHAT | {"messages": "hello"}),
            ("/v1/chat/completions", CHAT | {"messages": []}),
            ("/v1/chat/completions", CHAT | {"model": 7}),
            ("/v1/chat/completions", CHAT | {"max_tokens": "7"}),
            ("/v1/chat/completions", CHAT | {"max_tokens": 0}),
            ("/v1/embeddings", {"model": "mistral-embed", "input": [1, 2]}),
            ("/v1/ocr", {"model": "mistral-ocr-latest", "document": "a.pdf"}),
            ("/v1/ocr", {"model": "mistral-ocr-latest", "document": {"type": "tape"}}),
            ("/v1/conversations", {"model": "mistral-small-latest", "inputs": "a", "completion_args": 1}),
            ("/v1/chat/classifications", {"model": "mistral-moderation-latest", "input": [1]}),
            ("/v1/batch/jobs", {"endpoint": "/v1/files", "input_files": ["a"]}),
            ("/v1/batch/jobs", {"endpoint": "/v1/ocr", "input_files": 3}),
            ("/v1/batch/jobs", {"endpoint": "/v1/ocr"}),
        ]
        for path, body in cases:
            self.assertEqual(422, self.demo.ask("POST", path, body).status, body)
        self.assertEqual(422, self.demo.ask("POST", "/v1/files", {}).status)
        nameless = {"model": "voxtral-mini-latest", "purpose": "a" * 70_000}
        for wrong in (b"--edge--", form(nameless, "a.bin", b"")[0], form({}, "a", b"")[0].replace(b'"file"', b'"x"')):
            heard = self.demo.ask("POST", "/v1/files", wrong, b"multipart/form-data; boundary=edge")
            self.assertEqual(422, heard.status, wrong[:90])
        self.assertEqual(422, self.demo.ask("GET", "/v1/files?page=one").status)

    def test_unknown_model(self) -> None:
        """
        A model that is not listed is refused as Mistral refuses it.
        """
        heard = self.demo.ask("POST", "/v1/chat/completions", CHAT | {"model": "qwen2.5-7b-instruct"})
        self.assertEqual(400, heard.status)
        self.assertEqual("Invalid model: qwen2.5-7b-instruct", heard.json()["message"])
        self.assertEqual(("invalid_model", "1500"), (heard.json()["type"], heard.json()["code"]))


class TestBounds(SynchronousTestCase):
    """
    Memory is bounded, and nothing breaks.
    """

    def setUp(self) -> None:
        self.demo = Standing()

    def test_bad_bodies(self) -> None:
        """
        Whatever is no JSON object, or a strange one, is refused as the client's fault at every endpoint.
        """
        for route in routes(self.demo.clock):
            if route.method != "POST" or "{}" in route.path:
                continue
            for body in BAD_BODIES:
                heard = self.demo.ask("POST", "/".join(route.path), body)
                self.assertIn(heard.status, range(400, 500), (route.path, body[:50]))

    @settings(max_examples=60, deadline=None)
    @given(st.sampled_from([r for r in routes(Standing().clock) if r.method == "POST"]), bodies)
    def test_any_object(self, route: Any, body: dict[str, Any]) -> None:
        """
        Any JSON object is answered, or refused as the client's fault.
        """
        heard = Standing().ask("POST", "/".join(route.path).replace("{}", "x"), body)
        self.assertLess(heard.status, 500)

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=200), st.binary(max_size=40))
    def test_any_form(self, content: bytes, noise: bytes) -> None:
        """
        Any form is taken or refused; one that is taken is the file that was sent.
        """
        demo = Standing()
        body, kind = form({"purpose": "ocr"}, "a.bin", content)
        for sent in (noise, body[: len(body) // 2], body.replace(b"form-data", b"form-dat\xe4"), body[:-4]):
            self.assertEqual(422, demo.ask("POST", "/v1/files", sent, kind).status)
        heard = demo.ask("POST", "/v1/files", body, kind)
        if b"\r\n--edge" not in content:
            self.assertEqual(len(content), heard.json()["bytes"])

    def test_body_too_large(self) -> None:
        """
        A body that says it is too large is refused before it is sent.
        """
        for path, most in (("/v1/chat/completions", JSON_BYTES), ("/v1/files", FORM_BYTES)):
            transport = self.demo.connect()
            head = b"POST %b HTTP/1.1\r\nhost: demo\r\nauthorization: Bearer x\r\n" % path.encode()
            transport.protocol.dataReceived(head + b"content-length: %d\r\n\r\n" % (most + 1))
            self.assertIn(b" 413 ", transport.value().split(b"\r\n")[0])

    def test_chunked_body_too_large(self) -> None:
        """
        A body that does not say it is refused where it passes the limit.
        """
        transport = self.demo.connect()
        transport.protocol.dataReceived(
            b"POST /v1/ocr HTTP/1.1\r\nhost: demo\r\nauthorization: Bearer x\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        piece = b"%x\r\n%b\r\n" % (1 << 20, bytes(1 << 20))
        for _ in range(33):
            transport.protocol.dataReceived(piece)
        self.assertIn(b" 413 ", transport.value().split(b"\r\n")[0])

    def test_too_many_bodies(self) -> None:
        """
        Bodies that are announced take room; when there is none the next one is told to wait, until one leaves.
        """
        head = b"POST /v1/files HTTP/1.1\r\nhost: demo\r\nauthorization: Bearer x\r\ncontent-length: %d\r\n\r\n"
        waiting = []
        for _ in range(4):
            waiting.append(self.demo.connect())
            waiting[-1].protocol.dataReceived(head % (60 << 20))
        self.assertEqual(503, self.demo.ask("POST", "/v1/files", bytes(20 << 20)).status)
        leave(waiting[0])
        self.assertEqual(422, self.demo.ask("POST", "/v1/files", bytes(20 << 20)).status)

    def test_client_leaves_in_upload(self) -> None:
        """
        A client that leaves while it uploads leaves nothing behind.
        """
        transport = self.demo.connect()
        head = b"POST /v1/files HTTP/1.1\r\nhost: demo\r\nauthorization: Bearer x\r\ncontent-length: 99\r\n\r\nabc"
        transport.protocol.dataReceived(head)
        leave(transport)
        self.assertEqual([], self.demo.clock.getDelayedCalls())

    def test_files_full(self) -> None:
        """
        When the files are full a new one is refused, the old ones stay, and deleting one makes room.
        """
        sent = form({}, "a.bin", bytes(40 << 20))
        first = self.demo.ask("POST", "/v1/files", *sent)
        self.assertEqual((200, 413), (first.status, self.demo.ask("POST", "/v1/files", *sent).status))
        path = f"/v1/files/{first.json()['id']}"
        self.assertEqual(200, self.demo.ask("GET", path).status)
        self.demo.ask("DELETE", path)
        self.assertEqual(200, self.demo.ask("POST", "/v1/files", *sent).status)

    def test_too_many_inputs(self) -> None:
        """
        Vectors and verdicts are made for so many texts at once.
        """
        for path in ("/v1/embeddings", "/v1/moderations"):
            body = {"model": "mistral-embed", "input": ["a"] * 257}
            self.assertEqual(400, self.demo.ask("POST", path, body).status)
        wide = {"model": "mistral-embed", "input": "a", "output_dimension": 5000}
        self.assertEqual(400, self.demo.ask("POST", "/v1/embeddings", wide).status)

    def test_too_many_parts(self) -> None:
        """
        A body of very many small parts is refused before it is parsed; large text is not.
        """
        for part in (b"[],", b"1,", b"{", b"["):
            heard = self.demo.ask("POST", "/v1/chat/completions", part * MOST_PARTS + b"1,")
            self.assertEqual(413, heard.status)
        text = CHAT | {"messages": [{"role": "user", "content": "a " * 5_000_000}]}
        self.assertEqual(200, self.demo.ask("POST", "/v1/chat/completions", text).status)

    def test_long_query(self) -> None:
        """
        A query of very many parts counts as none.
        """
        self.assertEqual(200, self.demo.ask("GET", "/v1/files?page=one" + "&a=b" * 200).status)

    def test_batch_too_long(self) -> None:
        """
        A batch has so many requests at most.
        """
        body = {"endpoint": "/v1/ocr", "requests": [{}] * 1001}
        self.assertEqual(400, self.demo.ask("POST", "/v1/batch/jobs", body).status)

    def test_batch_without_room(self) -> None:
        """
        A batch whose output does not fit fails, and gives back what it held.
        """
        self.demo.ask("POST", "/v1/files", *form({}, "a.bin", bytes((64 << 20) - 1000)))
        body = {"endpoint": "/v1/chat/completions", "requests": [{"body": CHAT}] * 2}
        job = self.demo.ask("POST", "/v1/batch/jobs", body).json()
        self.demo.clock.pump([0.2] + [0] * 5)
        self.assertEqual("FAILED", self.demo.ask("GET", f"/v1/batch/jobs/{job['id']}").json()["status"])

    def test_batch_too_much_output(self) -> None:
        """
        A batch that makes more than may be held fails where it passes the bound, and then holds nothing.
        """
        clock = Clock()
        batches = Batches(clock, Files(), {"/v1/fim/completions": completions.fim}, most_held_bytes=1000)
        line = {"body": {"model": "codestral-latest", "prompt": "def f():"}}

        def created(count: int) -> Any:
            body = dumps({"endpoint": "/v1/fim/completions", "requests": [line] * count})
            return json.loads(batches.create(Call(now=0, body=body)).body)

        def status(job: Any) -> Any:
            return json.loads(batches.told(Call(now=0, names=(job["id"],))).body)["status"]

        many, few = created(10), created(1)
        self.assertEqual(413, self.assertRaises(Refused, created, 10).status)
        clock.pump([0.2] + [0] * 15)
        self.assertEqual(("FAILED", "SUCCESS"), (status(many), status(few)))
        self.assertEqual("QUEUED", status(created(10)))


class TestFaults(SynchronousTestCase):
    """
    What a fault of the demo itself looks like. No request is known to cause one, so these endpoints are at fault.
    """

    def answered(self, endpoint: Endpoint) -> tuple[StringTransportWithDisconnection, Heard]:
        """
        What a client hears from *endpoint*, and whether it is still connected.
        """
        demo = Standing()
        route = Route(method="GET", path=("", "fault"), endpoint=endpoint)
        demo.server.resource = Demo(demo.clock, [route])
        transport, heard = demo.send("GET", "/fault", b"", AUTHORIZATION)
        demo.clock.advance(1)
        return transport, demo.hear(transport, heard)

    def test_before_the_answer(self) -> None:
        """
        It is logged, and told as Mistral's 500.
        """

        def endpoint(_call: Call) -> Answer:
            raise ZeroDivisionError

        _, heard = self.answered(endpoint)
        self.assertEqual((500, "error"), (heard.status, heard.json()["object"]))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_in_a_stream(self) -> None:
        """
        An answer that has begun is cut, never ended as if it were complete.
        """

        def events() -> Iterator[bytes]:
            yield b"data: 1\n\n"
            raise ZeroDivisionError

        transport, heard = self.answered(lambda _call: Stream(events=events()))
        self.assertEqual([(None, 1)], heard.events())
        self.assertFalse(heard.complete or transport.connected)
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_in_a_batch(self) -> None:
        """
        A request that fails is one failed line; the job goes on.
        """

        def endpoint(call: Call) -> Answer:
            return answer({"half": 1 // (call.json().count("max_tokens") or 0)})

        clock, files = Clock(), Files()
        batches = Batches(clock, files, {"/fault": endpoint})
        requests = [{"body": {}}, {"body": {"max_tokens": 1}}]
        batches.create(Call(now=0, body=dumps({"endpoint": "/fault", "requests": requests})))
        clock.pump([0.2] + [0] * 5)
        (output,) = files.shelf
        lines = [json.loads(line) for line in output.content.splitlines()]
        self.assertEqual([500, 200], [line["response"]["status_code"] for line in lines])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))


class TestShelves(SynchronousTestCase):
    """
    What is kept stays within its bounds.
    """

    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12))), st.booleans())
    def test_bounds(self, puts: list[tuple[int, int]], forgets: bool) -> None:  # noqa: FBT001 - from hypothesis
        """
        Never more things, never more bytes than stated; a refusal changes nothing; one that forgets takes all that
        could ever fit.
        """
        shelf: Shelf[int] = Shelf("Thing", 3, 20, forgets)
        kept: dict[str, int] = {}
        for name, size in puts:
            before = (shelf.taken_bytes, list(shelf))
            try:
                shelf.put(str(name), size, size)
            except Refused as no:
                self.assertFalse(forgets)
                self.assertEqual(413, no.status)
                self.assertEqual(before, (shelf.taken_bytes, list(shelf)))
            else:
                kept[str(name)] = size
                self.assertEqual(size, shelf.get(str(name)))
            self.assertLessEqual(len(shelf), 3)
            self.assertLessEqual(shelf.taken_bytes, 20)
            self.assertEqual(sum(shelf), shelf.taken_bytes)

    def test_too_large_for_all(self) -> None:
        """
        What could never fit is refused also by a shelf that forgets.
        """
        shelf: Shelf[int] = Shelf("Thing", 3, 20, forgets=True)
        shelf.put("a", 1, 20)
        self.assertRaises(Refused, shelf.put, "b", 2, 21)
        self.assertEqual(1, shelf.get("a"))
