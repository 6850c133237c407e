"""
What a request asks for, as far as it bounds its cost: what is not clear is refused, and nothing counts as less than it
may be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from dheera.bounds import Asked, bound
from dheera.endpoints import PRICED
from dheera.errors import BadRequest, BodyTooLarge, ClientLeft, Unavailable
from dheera.money import Usd
from dheera.prices import PriceList
from dheera.proxy.asking import MOST_CHOICES, OWN_WORDS, ask
from dheera.proxy.contents import LONGEST_ANEW, LONGEST_READ, MOST_CONNECTORS, MOST_NAMES_OF_PARTS
from dheera.proxy.pages import LONGEST
from dheera.settings import AllowanceSettings
from dheera.wire.headroom import Headroom
from tests.proxy.test_inspection import JSON, body_of
from tests.proxy.test_inspection import Asked as Request

CHAT = "chat/completions"
LIMIT = 1 << 23
HELLO = [{"role": "user", "content": "Hello"}]


class Questions(SynchronousTestCase):
    """
    Requests of keys that have a budget.
    """

    def asking(self, request: Request, endpoint: str, path: bytes | None) -> Deferred[Asked]:
        target = b"/v1/" + endpoint.encode() if path is None else path
        return Deferred.fromCoroutine(ask(request, target, endpoint, LIMIT))

    def asked(self, content: object, endpoint: str = CHAT, path: bytes | None = None) -> Asked:
        """
        What is found in *content*, JSON or what is written as JSON.
        """
        written = content if isinstance(content, bytes) else json.dumps(content).encode()
        return self.successResultOf(self.asking(Request(body_of(written)), endpoint, path))

    def said(self, endpoint: str = CHAT, **members: Any) -> Asked:
        """
        The same of an object that names a model, too.
        """
        return self.asked({"model": "m"} | members, endpoint)

    def assert_refused(
        self, content: bytes | Request, why: str, endpoint: str = CHAT, path: bytes | None = None
    ) -> BadRequest:
        request = content if isinstance(content, Request) else Request(body_of(content))
        refusal = self.failureResultOf(self.asking(request, endpoint, path), BadRequest).value
        self.assertIsInstance(refusal, BadRequest)
        self.assertIn("A budget or limit bounds this call, so it must be clear what it may cost, and", refusal.message)
        self.assertIn(why, refusal.message)
        return refusal  # type: ignore[no-any-return]  # a Failure does not tell what it holds


class TestRequests(Questions):
    """
    What is read at all.
    """

    def test_looking(self) -> None:
        """
        The body of a call that costs nothing is not touched, and says nothing.
        """
        for method, endpoint in ((b"GET", CHAT), (b"DELETE", "conversations"), (b"POST", "files"), (b"PUT", "other")):
            body = body_of(b"anything", complete=False)
            asking = self.asking(Request(body, method), endpoint, b"/v1/x?model=a&model=b")
            self.assertEqual(Asked(), self.successResultOf(asking))
            self.assertTrue(body.waiting)

    def test_overridden(self) -> None:
        """
        A header that makes another method of it is not taken, not even where nothing would be read.
        """
        self.assert_refused(Request(None, b"GET", [(b"X-HTTP-Method-Override", b"POST")]), "overrides the method")

    def test_websockets(self) -> None:
        """
        A WebSocket names its model in the query, once.
        """
        socket, endpoint = Request(None, b"GET", [], b"websocket"), "audio/transcriptions/realtime"
        path = b"/v1/audio/transcriptions/realtime?model=voxtral"
        expected = Asked(model="voxtral", is_socket=True)
        self.assertEqual(expected, self.successResultOf(self.asking(socket, endpoint, path)))
        for wrong in (path + b"&model=other", path[:-14], path + b"&Model=other"):
            self.assert_refused(socket, "?model=...", endpoint, wrong)

    def test_other_websockets(self) -> None:
        """
        One where no session is known names it or does not; but not two.
        """
        socket, path = Request(None, b"GET", [], b"websocket"), b"/v1/realtime"
        for query, model in (b"?model=m", "m"), (b"", None):
            asked = self.successResultOf(self.asking(socket, "other", path + query))
            self.assertEqual(Asked(model=model, is_socket=True), asked)
        self.assert_refused(socket, "one model", "other", path + b"?model=m&model=n")

    def test_kinds(self) -> None:
        """
        What cannot be read is refused before any of it is.
        """
        for fields, why in (
            ([(b"Content-Type", b"text/plain")], "only JSON"),
            ([*JSON, (b"Content-Encoding", b"gzip")], "Content-Encoding"),
            ([*JSON, *JSON], "two Content-Type"),
        ):
            body = body_of(b'{"model": "m"}', complete=False)
            self.assert_refused(Request(body, fields=fields), why)
            self.assertTrue(body.waiting)

    def test_unchanged(self) -> None:
        """
        Afterwards the body is here for whoever takes it next, byte for byte.
        """
        content = b'\n{ "mod\\u0065l" :"m","max_tokens":7 } \r\n'
        body = body_of(content[:9], content[9:])
        asked = self.successResultOf(self.asking(Request(body), CHAT, None))
        self.assertEqual(("m", 7, len(content)), (asked.model, asked.max_tokens, asked.request_bytes))
        self.assertEqual(content, body.whole())

    def test_not_here(self) -> None:
        """
        A body that is too large, for which there is no room, or whose client leaves, is told as such.
        """
        self.failureResultOf(
            self.asking(Request(body_of(announced=LIMIT + 1, complete=False)), CHAT, None), BodyTooLarge
        )
        full = ask(Request(body_of(announced=9, complete=False)), b"/", CHAT, LIMIT, Headroom(8))
        self.failureResultOf(Deferred.fromCoroutine(full), Unavailable)
        body = body_of(complete=False)
        asking = self.asking(Request(body), CHAT, None)
        body.lose()
        self.failureResultOf(asking, ClientLeft)

    def test_query(self) -> None:
        """
        A model in the query is the one of the body, or the only one.
        """
        path = b"/v1/chat/completions?model=m"
        self.assertEqual("m", self.asked({"model": "m"}, path=path).model)
        self.assertEqual("m", self.asked({}, path=path).model)
        self.assert_refused(b'{"model": "other"}', "another model", path=path)

    def test_message(self) -> None:
        """
        A refusal repeats nothing of what was sent.
        """
        refusal = self.assert_refused(b'{"model": "m", "n": "secret", "messages": "secret"}', "n as a whole number")
        self.assertNotIn("secret", refusal.message)


class TestMembers(Questions):
    """
    What stands in the object.
    """

    def test_not_clear(self) -> None:
        """
        What decides must be there once, in small letters, in strict JSON.
        """
        for content, why in (
            (b'{"model": "m", "model": "n"}', "model twice"),
            (b'{"model": "m", "max_tokens": 1, "Max_Tokens": 9}', "max_tokens twice"),
            (b'{"model": "m", "max_tok\\u0065ns": 1, "max_tokens": 9}', "max_tokens twice"),
            (b'{"model": "m", "N": 9}', "n twice, or spelled otherwise"),
            (b'{"model": "m", "n\\u0000": 9}', "n twice, or spelled otherwise"),
            (b'{"model": "m", "messages": [], "messages": []}', "messages twice"),
            (b'{"model": "m", "tools": [], "Tools": []}', "tools twice"),
            (b'{"model": 1}', "model as a text"),
            (b'{"model": "\\ud800"}', "not JSON"),
            (b'{"model": "' + 3000 * b"x" + b'"}', "model as a text"),
            (b"", "not JSON"), (b"[]", "not JSON"), (b'{"model": "m"', "not JSON"), (b'{"model": NaN}', "not JSON"),
            (b'{"model": "m", "x": "\xff"}', "not JSON"), (b'{"x": ' + 100_000 * b"[" + b"}", "not JSON"),
            (b"{" + b'"x":1,' * 10_000 + b'"model": "m"}', "not JSON"),
        ):  # fmt: skip
            self.assert_refused(content, why)

    def test_what_does_not_decide(self) -> None:
        """
        Anything else may stand there as often as it likes.
        """
        found = self.asked(b'{"model": "m", "stream": true, "Stream": 1, "stream": 2, "temperature": 1e0}')
        self.assertFalse(found.has_more)

    def test_max_tokens(self) -> None:
        """
        What the endpoint's documented name says; what is no whole number above 0 is not said, and no other name helps
        or hurts.
        """
        cases: tuple[tuple[str, dict[str, Any], int | None], ...] = (
            (CHAT, {"max_tokens": 5}, 5), (CHAT, {"max_completion_tokens": 6, "max_tokens": 5}, 5), (CHAT, {}, None),
            (CHAT, {"max_completion_tokens": 5}, None), (CHAT, {"max_tokens": 1e5, "max_completion_tokens": 1}, None),
            ("responses", {"max_output_tokens": "9", "max_tokens": 1}, None),
            (CHAT, {"max_output_tokens": 5}, None), ("responses", {"max_output_tokens": 5, "max_tokens": 9}, 5),
            ("conversations", {"max_tokens": 5}, None), ("conversations", {"completion_args": {"max_tokens": 5}}, 5),
            *((CHAT, {"max_tokens": wrong}, None) for wrong in (0, -1, 1.0, "5", None, True, [5], 10**20)),
        )  # fmt: skip
        self.assertFalse(self.said(max_completion_tokens=5).has_more)
        for endpoint, said, expected in cases:
            self.assertEqual(expected, self.said(endpoint, **said).max_tokens, (endpoint, said))
        self.assert_refused(
            b'{"model": "m", "completion_args": {"max_tokens": 5, "max_tokens": 6}}',
            "max_tokens twice",
            "conversations",
        )

    def test_choices(self) -> None:
        """
        The larger of ``n`` and ``best_of``, which must be whole numbers: servers take ``"3"`` for one.
        """
        for said, expected in (({}, 1), ({"n": 3}, 3), ({"n": None}, 1), ({"n": 0}, 1), ({"n": 2, "best_of": 5}, 5)):
            self.assertEqual(expected, self.said(**said).choices)
        for wrong in (b'"3"', b"3.0", b"3e0", b"-3", b"[3]", b"true"):
            self.assert_refused(b'{"model": "m", "n": %b}' % wrong, "n as a whole number")
        self.assertEqual(MOST_CHOICES, self.said(n=MOST_CHOICES).choices)
        for name in "n", "best_of":
            self.assert_refused(json.dumps({"model": "m", name: MOST_CHOICES + 1}).encode(), "ask for fewer answers")

    def test_agents(self) -> None:
        """
        An agent counts even beside a model.
        """
        found = self.said("agents/completions", agent_id="a")
        self.assertEqual(("m", True), (found.model, found.is_agent))
        self.assertFalse(self.said(agent_id=None).is_agent)

    def test_own_words(self) -> None:
        """
        Where upstream adds a prompt of its own, that counts.
        """
        for said, expected in (
            ({}, 0), ({"safe_prompt": True}, OWN_WORDS), ({"safe_prompt": False}, 0), ({"prompt_mode": None}, 0),
            ({"prompt_mode": "reasoning"}, OWN_WORDS), ({"model": "magistral-small-latest"}, OWN_WORDS),
            ({"model": "magistral-small-latest", "prompt_mode": None}, 0),
        ):  # fmt: skip
            self.assertEqual(expected, self.said(**said).added_tokens)

    def test_unknown_members(self) -> None:
        """
        A member that is not known may bring in what upstream keeps.
        """
        for name in ("previous_response_id", "conversation", "file_ids", "whatever"):
            self.assertTrue(self.said("responses", **{name: "x"}).has_more)
        self.assertTrue(self.said("responses", prompt={"id": "p"}).has_more)
        self.assertTrue(self.said(document={"type": "document_url", "document_url": "u"}).has_more)

    def test_conversations(self) -> None:
        """
        Only one that begins, and brings nothing unknown along, does not go on with something.
        """
        begun = {"model": "m", "inputs": "Hello"}
        self.assertFalse(self.asked(begun, "conversations", b"/v1/conversations?x").continues)
        for path in (b"/v1/conversations/c", b"/v1/conversations/c/restart"):
            self.assertTrue(self.asked(begun, "conversations", path).continues)
        for more in ({"agent_version": 1}, {"completion_args": {"whatever": 1}}, {"completion_args": {"document": 1}}):
            found = self.asked(begun | more, "conversations")
            self.assertEqual((True, True, False), (found.continues, found.has_more, found.is_agent), more)

    def test_earlier_conversations(self) -> None:
        """
        One that goes on has its model already, whatever is named now.
        """
        begun = {"model": "m", "inputs": "Hello"}
        self.assertFalse(self.asked(begun, "conversations", b"/v1/conversations").is_agent)
        for path in (b"/v1/conversations/c", b"/v1/conversations/c/restart"):
            self.assertTrue(self.asked(begun, "conversations", path).is_agent)
        self.assertTrue(self.asked(begun | {"conversation_id": "c"}, "conversations").is_agent)
        self.assertTrue(self.asked(begun | {"completion_args": {"agent_id": "a"}}, "conversations").is_agent)

    def test_batches(self) -> None:
        """
        Of a batch the model is read, if it names one; to cancel one needs no body.
        """
        self.assertEqual("m", self.said("batch/jobs", input_files=["f"]).model)
        self.assertIsNone(self.asked({"requests": []}, "batch/jobs").model)
        self.assertTrue(self.asked(b"", "batch/jobs", b"/v1/batch/jobs/a-1/cancel?x").cancels)
        for path in (b"/v1/batch/jobs?/batch/jobs/a/cancel", b"/v1/batch/jobs/a%2Fcancel", b"/v1/batch/jobs/a;/cancel"):
            self.assertFalse(self.asked({}, "batch/jobs", path).cancels)


class TestContents(Questions):
    """
    What the model has to read.
    """

    def assert_text(self, endpoint: str = CHAT, **members: Any) -> None:
        self.assertFalse(self.said(endpoint, **members).has_more, members)

    def assert_more(self, endpoint: str = CHAT, **members: Any) -> None:
        self.assertTrue(self.said(endpoint, **members).has_more, members)

    def test_text(self) -> None:
        """
        Text in all its forms is what it is: messages, their parts, what models have said and called before.
        """
        part = {"type": "text", "text": "Hello"}
        calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
        for messages in (
            "Hello", None, [], HELLO,
            [{"role": "user", "content": [part, part]}, {"role": "assistant", "content": None}],
            [{"role": "assistant", "content": [{"type": "thinking", "thinking": [part], "closed": True}, part]}],
            [{"role": "assistant", "content": "", "tool_calls": calls, "prefix": False}],
            [{"role": "tool", "content": "1", "tool_call_id": "c", "name": "f"}],
        ):  # fmt: skip
            self.assert_text(messages=messages)
        self.assert_text("responses", input=[{"role": "user", "content": [{"type": "input_text", "text": "a"}]}])
        self.assert_text("fim/completions", prompt="a", suffix="b")

    def test_media(self) -> None:
        """
        What is not text, or not known, may stand for more than its bytes: wherever it stands, however it is spelled.
        """
        for part in (
            {"type": "image_url", "image_url": "u"}, {"type": "document_url", "document_url": "u"}, {"type": "file"},
            {"type": "input_audio", "input_audio": "u"}, {"type": "reference", "reference_ids": [1]},
            {"image_url": "u"},
            {"type": "text", "text": "a", "image_url": "u"}, {"type": ["text"]}, "text", 1, {},
            {"type": "thinking", "thinking": [{"type": "image_url"}]},
        ):  # fmt: skip
            self.assert_more(messages=[*HELLO, {"role": "user", "content": [{"type": "text", "text": "a"}, part]}])
        for content in (b'[{"content": [{"type": "image_url"}], "content": "a"}]', b'[{"Content": [{"type": "x"}]}]',
                        b'[{"content": [{"type": "text", "type": "image_url"}]}]', b'{"content": "a"}',
                        b'[{"c\\u006fntent": [{"type": "x"}]}]', b'[{"content": [{"Type": "x"}]}]'):  # fmt: skip
            self.assertTrue(self.asked(b'{"model": "m", "messages": %b}' % content).has_more, content)
        self.assert_more("responses", input=[{"type": "item_reference", "id": "i"}])
        self.assert_more("conversations", inputs=[{"role": "user", "content": [{"type": "image_url"}]}])
        self.assert_more("chat/moderations", input=[[{"role": "user", "content": "a"}]])

    def test_too_much(self) -> None:
        """
        More names than are read, or a deeper nest, may stand for more.
        """
        name, rest = b'{"role":1},', b'{"role":1}]}'
        for times, expected in ((MOST_NAMES_OF_PARTS - 1, False), (MOST_NAMES_OF_PARTS, True)):
            self.assertEqual(expected, self.asked(b'{"model": "m", "messages": [' + times * name + rest).has_more)
        parts = b'{"content":[' + 1000 * b'{"type":"text"},' + b'{"type":"text"}]},'
        together = b'{"model": "m", "messages": [' + 40 * parts + rest
        self.assertTrue(self.asked(together).has_more)
        nest: Any = "a"
        for _ in range(6):
            nest = [{"content": nest}]
        self.assert_more(messages=nest)

    def test_texts(self) -> None:
        """
        What is to be embedded or judged is texts, whatever stands in them, or tokens.
        """
        texts: Any
        for texts in ("a", ["a", 'b"{[', "\\", "\N{SNOWMAN}"], [[1, 2], [3]], []):
            self.assert_text("embeddings", input=texts)
            self.assert_text("classifications", input=texts)
        for texts in ([{"type": "image_url"}], {"a": "b"}, ["a", {}]):
            self.assert_more("embeddings", input=texts)
        for text, expected in (b'"' + LONGEST_READ * b"x" + b'"', False), (b'"{' + LONGEST_READ * b"x" + b'"', True):
            self.assertEqual(expected, self.asked(b'{"model": "m", "input": [%b]}' % text, "embeddings").has_more)

    def test_long(self) -> None:
        """
        What is longer than any context is not stepped through, and fills it, whatever it is.
        """
        for size, expected in (1000, False), (LONGEST_READ, True):
            self.assertEqual(expected, self.said(messages=[{"role": "user", "content": size * "x"}]).has_more)
        for written in (b'"response_format": [%b1]', b'"messages": [{"tool_calls": [%b1]}]'):
            for times, expected in (1000, False), (LONGEST_ANEW // 2, True):
                found = self.asked(b'{"model": "m", ' + written % (times * b"1,") + b"}")
                self.assertEqual((expected, 0 if expected else times), (found.has_more, found.added_tokens))
        text = LONGEST_READ * b" "
        self.assert_refused(b'{"model": "m", "tools": [%b{"type": "function"}]}' % text, "the tools")
        self.assert_refused(b'{"model": "m", "completion_args": {%b}}' % text, "completion_args has", "conversations")

    def test_tools(self) -> None:
        """
        Upstream writes functions anew, with a space more for each comma and colon, and numbers in its own way.
        """
        tool = {"type": "function", "function": {"name": "f", "parameters": {"enum": [1, 2, 3]}}}
        written = json.dumps([tool], separators=(",", ":"))
        found = self.asked(b'{"model":"m","tools":' + written.encode() + b"}")
        self.assertEqual((False, ()), (found.has_more, found.connectors))
        self.assertEqual(len(json.dumps([tool])), len(written) + found.added_tokens)
        self.assertTrue(self.asked(b'{"model": "m", "tools": [{"type": "function", "x": 1e15}]}').has_more)
        self.assertFalse(self.said(tools=[{"function": {"name": "f"}}]).has_more)
        self.assertEqual(2, self.said(response_format={"type": "json_object", "x": 1}).added_tokens - 1)
        calls = [{"role": "assistant", "content": "", "tool_calls": [{"function": {"arguments": {"a": 1}}}]}]
        self.assertEqual(3, self.said(messages=calls).added_tokens)

    def test_texts_written_anew(self) -> None:
        """
        So it does with JSON in what tools have said and were called with, which some templates read.
        """
        text = json.dumps([1, 2, 3], separators=(",", ":"))
        for message in (
            {"role": "tool", "content": text}, {"role": "t\u006fol", "content": text}, {"content": text},
            {"type": "function.result", "result": text}, {"type": "function_call_output", "output": text},
            {"type": "function.call", "arguments": text},
        ):  # fmt: skip
            self.assertEqual((2, False), self.anew(message), message)
        for role in "user", "assistant", "system", "developer":
            self.assertEqual((0, False), self.anew({"role": role, "content": text}))
        part = [{"type": "text", "text": text}]
        self.assertGreaterEqual(self.anew({"role": "tool", "content": part})[0], 2)

    def test_numbers_written_anew(self) -> None:
        """
        A number that could become longer may become any length; what only looks like one does not matter.
        """
        for number in ("1e15", "[1E+15]", "1.5e3 ", "12345678901234567.0"):
            self.assertTrue(self.anew({"role": "tool", "content": number})[1], number)
        for escaped in (b"1\\u006515", b"1\\u004515", b"1e\\u00315", b"\\u0031e15", b"1e\\u002b15", b"1\\u002E5"):
            content = b'{"model": "m", "messages": [{"role": "tool", "content": "%b"}]}' % escaped.replace(
                b"\\\\", b"\\"
            )
            self.assertTrue(self.asked(content).has_more, content)
        for text in ("3f2a1e4b-77", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "1234567.5", "like 2 elephants"):
            self.assertFalse(self.anew({"role": "tool", "content": text})[1], text)

    def anew(self, message: object) -> tuple[int, bool]:
        found = self.said(messages=[message])
        return found.added_tokens, found.has_more

    def test_connectors(self) -> None:
        """
        Any other tool is one that upstream calls, whose name is kept.
        """
        found = self.said(
            "conversations", tools=[{"type": "web_search"}, {"type": "connector", "connector_id": "gmail"}]
        )
        self.assertTrue(found.has_more)
        self.assertEqual({"connector", "web_search", "gmail"}, {*found.connectors})
        self.assertEqual(("connector",), self.said("conversations", tools=[{"type": "no name\n"}]).connectors)
        for tool in ({"type": "function", "Type": "web_search"}, {"name": "f"}):
            self.assertIn("connector", self.said("conversations", tools=[tool]).connectors)
        tools: Any
        for tools in ([{}], ["web_search"], {"type": "web_search"}):
            self.assert_refused(json.dumps({"model": "m", "tools": tools}).encode(), "the tools", "conversations")
        many = [{"type": f"t{number}"} for number in range(MOST_CONNECTORS)]
        self.assert_refused(json.dumps({"model": "m", "tools": many}).encode(), "name fewer", "conversations")

    def test_connectors_after_much(self) -> None:
        """
        However much stands before them, tools are found.
        """
        many = (MOST_NAMES_OF_PARTS + 1) * [{"role": "user"}]
        found = self.said("conversations", inputs=many, tools=[{"type": "web_search"}])
        self.assertIn("web_search", found.connectors)
        found = self.said("conversations", completion_args={"tools": [{"type": "web_search"}]})
        self.assertIn("web_search", found.connectors)


class TestOthers(Questions):
    """
    Pages, characters, forms.
    """

    def test_pages(self) -> None:
        """
        Pages are counted where they are named, in numbers or ranges; what is not understood is not counted.
        """
        document = b'{"type": "document_url", "document_url": "u"}'
        for pages, expected in (
            ([0, 1, 7], 3), ([3], 1), (4, 1), ("0-4", 5), ("0-4, 7,9-10", 8), ("5-1", 1), ("3", 1),
            (b"[0,\n  1\n]", 2),
            (None, None), ([], None), ([1.0], None), (["0-100"], None), ("all", None), ("1-", None), ("-1", None),
            ([-1], None), ({"from": 1}, None), ("1," * LONGEST + "1", None),
        ):  # fmt: skip
            written = pages if isinstance(pages, bytes) else json.dumps(pages).encode()
            found = self.asked(b'{"model": "m", "document": %b, "pages": %b}' % (document, written), "ocr")
            self.assertEqual(expected, found.pages, str(pages)[:80])

    def test_images(self) -> None:
        """
        An image is one page, if it cannot be taken for something else.
        """
        self.assertEqual(1, self.said("ocr", document={"type": "image_url", "image_url": "u"}).pages)
        for document in (
            b'{"type": "image_url", "Type": "document_url"}', b'{"image_url": "u"}', b"[]", b'"u"',
            b'{"type": "image_url", "image_url": "u", "document_url": "v"}', b'{"type": "image_url", "Image_url": "u"}',
            b'{"type": "image_url", "type": "document_url", "image_url": "u"}', b'{"type": "image_url", "x": 1}',
        ):  # fmt: skip
            self.assertIsNone(self.asked(b'{"model": "m", "document": %b}' % document, "ocr").pages)

    def test_annotations(self) -> None:
        """
        Either sort of annotation counts.
        """
        for name in ("document_annotation_format", "bbox_annotation_format"):
            self.assertTrue(self.said("ocr", **{name: {}}).annotates)
            self.assertFalse(self.said("ocr", **{name: None}).annotates)

    def test_characters(self) -> None:
        """
        Those of what is to be spoken; of a long text, and of what is none, no fewer than it can have.
        """
        self.assertEqual(5, self.said("audio/speech", input="h\N{SNOWMAN}\N{GRINNING FACE}lo").characters)
        for said in ("x" * 100_000, ["many", "texts"]):
            found = self.said("audio/speech", input=said).characters
            self.assertGreaterEqual(found, len(said) if isinstance(said, str) else 9)
        self.assertEqual(0, self.said("audio/speech").characters)

    def test_forms(self) -> None:
        """
        A form names its model in a simple part, once.
        """
        part = b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        kind = [(b"Content-Type", b"multipart/form-data; boundary=B")]

        def form(*parts: bytes) -> Request:
            return Request(body_of(*parts, b"--B--\r\n"), fields=kind)

        good = part % (b"model", b"voxtral")
        asked = self.successResultOf(self.asking(form(good), "audio/transcriptions", None))
        self.assertEqual(("voxtral", False), (asked.model, asked.is_agent))
        self.assertTrue(asked.has_more)
        self.assert_refused(form(good, good), "the form", "audio/transcriptions")
        self.assertIsNone(self.successResultOf(self.asking(form(part % (b"x", b"y")), CHAT, None)).model)


@st.composite
def bodies(draw: DrawFn) -> bytes:
    """
    Objects in which what decides is said several times, in several spellings.
    """
    names = ('"max_tokens"', '"Max_Tokens"', '"max\\u005ftokens"', '"max_tokens "', '"n"', '"N"', '"x"')
    values = ("1", "7", "null", '"7"', "1.5", "7e0", "[]")
    pairs = draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(values)), max_size=4))
    return ("{" + ", ".join(f"{name}: {value}" for name, value in [('"model"', '"m"'), *pairs]) + "}").encode()


class TestLenientParsers(Questions):
    """
    Servers whose parsers are not ours.
    """

    @given(bodies())
    def test_numbers(self, content: bytes) -> None:
        """
        Whichever of several spellings a server takes, it finds no larger number than we have.
        """
        results: list[Any] = []
        self.asking(Request(body_of(content)), CHAT, None).addBoth(results.append)
        asked = results[0]
        if not isinstance(asked, Asked):
            return
        for pairs in (json.loads(content, object_pairs_hook=list), json.loads(content, object_pairs_hook=list)[::-1]):
            found = {name.lower(): value for name, value in pairs}
            most, choices = found.get("max_tokens"), found.get("n")
            self.assertLessEqual(int(choices or 1), asked.choices)
            if asked.max_tokens is not None:
                self.assertLessEqual(int(most or 0), asked.max_tokens)


MEMBERS: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("max_tokens", "max_output_tokens"), ("1", "100", "null", "0", "1.5", '"7"')),
    **dict.fromkeys(("max_completion_tokens", "max_new_tokens", "maxTokens"), ("1", "9", '"9"')),
    "n": ("1", "3", "null"),
    "messages": ('[{"role":"user","content":"a, b"}]', '[{"role":"tool","content":"[1,2]"}]', "[]"),
    "tools": ('[{"type":"web_search"}]', '[{"type":"function","function":{"name":"f"}}]', "[]"),
    "completion_args": ("{}", '{"max_tokens":1}', '{"whatever":1}'),
    "conversation_id": ("null", '"c"'),
    "agent_id": ("null", '"a"'),
    "document": ("null", "{}"),
    "pages": ("null", "[1]", '"0-4"'),
    "previous_response_id": ("null", '"r"'),
    "stream": ("true", "false"),
    "whatever": ("1", "{}"),
}
PRICES = PriceList.load({"m": {"input_per_million": 1, "output_per_million": 2, "context_tokens": 5000}})
RULES = AllowanceSettings(ceilings={endpoint: Usd(1) for endpoint in sorted(PRICED)})


@st.composite
def members(draw: DrawFn) -> dict[str, str]:
    """
    What may stand in an object beside its model, as it is written.
    """
    names = draw(st.lists(st.sampled_from(sorted(MEMBERS)), unique=True))
    return {name: draw(st.sampled_from(MEMBERS[name])) for name in names}


class TestMore(Questions):
    """
    Members beside those that a call needs.
    """

    def nano(self, said: Mapping[str, str], endpoint: str) -> int:
        written = ", ".join(f'"{name}": {value}' for name, value in {"model": '"m"', **said}.items())
        asked = self.asked(f"{{{written}}}".encode(), endpoint)
        nano = bound(asked, endpoint, "POST", PRICES, datetime(2026, 11, 23, tzinfo=UTC), RULES).nano
        assert nano is not None
        return nano

    @given(members(), st.data(), st.sampled_from([CHAT, "fim/completions", "responses", "conversations"]))
    def test_never_cheaper(self, said: dict[str, str], data: st.DataObject, endpoint: str) -> None:
        """
        One more makes no call cheaper, whatever it is, but the one that is documented to limit the answer.
        """
        more = data.draw(st.sampled_from(sorted(MEMBERS)))
        limit = {"responses": "max_output_tokens", "conversations": "completion_args"}.get(endpoint, "max_tokens")
        if more == limit:
            return
        less = {name: value for name, value in said.items() if name != more}
        value = data.draw(st.sampled_from(MEMBERS[more]))
        self.assertLessEqual(self.nano(less, endpoint), self.nano({**less, more: value}, endpoint))

    @given(members(), st.sampled_from([CHAT, "fim/completions", "agents/completions"]))
    def test_documented(self, said: dict[str, str], endpoint: str) -> None:
        """
        No bound is below what upstream's documentation makes of ``max_tokens`` and ``n``: an answer is as long as the
        context, if no whole number says otherwise.
        """
        most = json.loads(said.get("max_tokens", "null"))
        answer = most if isinstance(most, int) and most > 0 else 5000
        choices = json.loads(said.get("n", "null")) or 1
        self.assertGreaterEqual(self.nano(said, endpoint), 2000 * answer * choices)
