"""
What is read from requests.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.metering.gathering import HELD_BYTES
from dheera.metering.requests import MOST_TAGS, RequestMeter, read_request
from dheera.usage import Wanted
from tests.metering.shapes import dumps
from tests.strategies import chunkings

JSON = b"application/json"
CHAT = "chat/completions"
SPEECH = "audio/speech"

MEMBERS: dict[str, Any] = {
    "model": "mistral-small-latest",
    "agent_id": "ag:1",
    "user": "ada",
    "metadata": {"user_id": "bob", "tags": ["red", "blue", "red", 7]},
    "stream": True,
    "temperature": 0.7,
    "max_tokens": 100,
    "n": 2,
    "safe_prompt": False,
    "random_seed": None,
    "document_annotation_format": {"type": "json_schema"},
    "input": 'Say "hé\n\U0001f600"',
    "messages": [{"role": "user", "content": '{"model": "other", "a": ["]"]}\\'}],
    "completion_args": {"top_p": 0.5, "temperature": 1, "stop": "x"},
}
LONG = {"filler": [{"text": 'x"\\\u00e9' * 40} for _ in range(300)]}


def bodies() -> st.SearchStrategy[bytes]:
    """
    Requests with some of the members in any order, some of them too long to be held.
    """
    some = st.lists(st.sampled_from([*MEMBERS.items(), *LONG.items()]), unique_by=lambda member: member[0])
    indent = st.sampled_from([None, 1])
    ascii_only = st.booleans()
    return st.builds(
        lambda members, indent, ascii_only: json.dumps(dict(members), indent=indent, ensure_ascii=ascii_only).encode(),
        some, indent, ascii_only,
    )  # fmt: skip


def metered(pieces: list[bytes], endpoint: str = CHAT, kind: bytes | None = JSON) -> Wanted:
    """
    What a meter makes of *pieces*.
    """
    meter = RequestMeter(kind, endpoint)
    for piece in pieces:
        meter.feed(piece)
    return meter.wanted()


class WholeRequestTests(SynchronousTestCase):
    def read(self, endpoint: str = CHAT, **members: Any) -> Wanted:
        """
        What is read from a body with these members.
        """
        return read_request(dumps(members), JSON, endpoint)

    def test_chat(self) -> None:
        """
        Model, end user, stream and settings are read; what holds content is not.
        """
        told = self.read(
            model="m", user="ada", stream=True, temperature=0, max_tokens=5, messages=[{"content": "hi"}], stop="x"
        )
        parameters: dict[str, int | float | bool] = {"stream": True, "temperature": 0, "max_tokens": 5}
        self.assertEqual(Wanted(model="m", end_user="ada", is_stream=True, parameters=parameters), told)

    def test_agent(self) -> None:
        """
        An agent stands for a model where none is named.
        """
        self.assertEqual("ag:1", self.read(agent_id="ag:1").model)
        self.assertEqual("m", self.read(agent_id="ag:1", model="m").model)

    def test_end_user(self) -> None:
        """
        The end user is ``user``, and else ``metadata.user_id``.
        """
        metadata = {"user_id": "bob"}
        self.assertEqual("bob", self.read(metadata=metadata).end_user)
        self.assertEqual("ada", self.read(metadata=metadata, user="ada").end_user)
        self.assertEqual("bob", self.read(metadata=metadata, user=None).end_user)

    def test_tags(self) -> None:
        """
        Tags are texts, each once, and not too many.
        """
        self.assertEqual(["a", "b"], self.read(metadata={"tags": ["a", 1, "", "b", "a", None]}).tags)
        self.assertEqual(MOST_TAGS, len(self.read(metadata={"tags": [str(n) for n in range(1000)]}).tags))
        self.assertEqual([], self.read(metadata={"tags": "a"}).tags)

    def test_annotation(self) -> None:
        """
        Either kind of annotation makes pages cost more; one that is null does not.
        """
        for name in ("document_annotation_format", "bbox_annotation_format"):
            self.assertTrue(self.read("ocr", **{name: {"type": "json_schema"}}).annotates)
            self.assertFalse(self.read("ocr", **{name: None}).annotates)

    def test_characters(self) -> None:
        """
        Of a request for speech, the characters of its input are counted; elsewhere input is something else.
        """
        self.assertEqual(4, self.read(SPEECH, input='é"\U0001f600\n').characters)
        self.assertEqual(0, self.read(SPEECH, input=["abc"]).characters)
        self.assertEqual(0, self.read(SPEECH, input=12).characters)
        self.assertEqual(0, self.read("embeddings", input="abc").characters)

    def test_settings_of_conversations(self) -> None:
        """
        A conversation has its settings one level down.
        """
        told = self.read("conversations", stream=False, completion_args={"temperature": 0.3, "stop": "x", "top_p": "1"})
        self.assertEqual({"stream": False, "temperature": 0.3}, told.parameters)

    def test_strange_values(self) -> None:
        """
        What is of another kind than it should be is as if it were not there, and hides nothing else.
        """
        told = self.read(
            model=["m"], agent_id=7, user={"a": 1}, metadata=[1], stream="yes", n=10**400, top_p=[1], max_tokens=3
        )
        self.assertEqual(Wanted(parameters={"max_tokens": 3}), told)

    def test_out_of_range(self) -> None:
        """
        A number that no float holds hides nothing else.
        """
        told = read_request(b'{"model":"m","n":1e999,"max_tokens":3}', JSON, CHAT)
        self.assertEqual(Wanted(model="m", parameters={"max_tokens": 3}), told)

    def test_bounded(self) -> None:
        """
        Texts are cut, and their control characters replaced.
        """
        told = self.read(model="m" * 1000, user="a\n\x1b[31m")
        self.assertEqual("m" * 256, told.model)
        self.assertEqual("a??[31m", told.end_user)

    def test_half_a_character(self) -> None:
        """
        Half a character somewhere hides nothing, since upstream may take it.
        """
        body = b'{"user":"\\ud800","model":"m","messages":[{"content":"\\udc00"}],"stream":true}'
        self.assertEqual(Wanted(model="m", is_stream=True, parameters={"stream": True}), read_request(body, JSON, CHAT))

    def test_not_a_number(self) -> None:
        """
        Neither does what is no JSON, but passes for it in Python.
        """
        told = read_request(b'{"model":"m","temperature":NaN,"document_annotation_format":{"a":-Infinity}}', JSON, CHAT)
        self.assertEqual(Wanted(model="m", annotates=True), told)

    def test_no_json(self) -> None:
        """
        What is no JSON object says nothing.
        """
        for body in (b"", b"x", b"[]", b'"model"', b'{"model":"m"}}', b'{"model":"m",}', b'{"model":"m" "a":1}'):
            self.assertEqual(Wanted(), read_request(body, JSON, CHAT), body)

    def test_form(self) -> None:
        """
        A form is not looked into, though it were JSON.
        """
        for kind in (b"multipart/form-data; boundary=x", b"Multipart/mixed"):
            self.assertEqual(Wanted(), read_request(b'{"model":"m"}', kind, CHAT))
            self.assertEqual(Wanted(), metered([b'{"model":"m"}'], kind=kind))

    def test_no_kind(self) -> None:
        """
        A body of no kind, or of another that upstream may take for JSON, is read.
        """
        for kind in (None, b"text/plain", b"application/json; charset=utf-8"):
            self.assertEqual("m", read_request(b'{"model":"m"}', kind, CHAT).model)


class StreamingRequestTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(st.data())
    def test_same(self, data: st.DataObject) -> None:
        """
        However a body is cut, a meter reads the same as is read from the whole, and all that is there.
        """
        body = data.draw(bodies())
        whole = read_request(body, JSON, SPEECH)
        self.assertEqual(whole, metered(data.draw(chunkings(body)), SPEECH))
        self.assertEqual(read_request(dumps(json.loads(body) | {"filler": 0}), JSON, SPEECH), whole)

    @settings(deadline=None)
    @given(st.data())
    def test_any_bytes(self, data: st.DataObject) -> None:
        """
        The same goes for what is no JSON, and none of it raises.
        """
        body = data.draw(bodies())
        at = data.draw(st.integers(0, len(body)))
        damaged = body[:at] + data.draw(st.binary(max_size=4)) + body[at + data.draw(st.integers(0, 3)) :]
        self.assertEqual(read_request(damaged, JSON, SPEECH), metered(data.draw(chunkings(damaged)), SPEECH))

    def test_so_far(self) -> None:
        """
        At any time it is known what came already, in short bodies and in long ones.
        """
        for filler in (10, 2 * HELD_BYTES):
            meter = RequestMeter(JSON, CHAT)
            self.assertEqual(Wanted(), meter.wanted())
            meter.feed(b'{"model":"m","messages":"' + b"x" * filler)
            self.assertEqual(Wanted(model="m"), meter.wanted())
            meter.feed(b'","user":"a')
            self.assertEqual(Wanted(model="m"), meter.wanted())
            meter.feed(b'da"')
            self.assertEqual(Wanted(model="m", end_user="ada"), meter.wanted())

    def test_long_and_wrong(self) -> None:
        """
        A long body that turns out to be no JSON says nothing.
        """
        body = b'{"model":"m","a":"' + b"x" * HELD_BYTES + b'",}'
        self.assertEqual("m", metered([body[:-2]]).model)
        self.assertEqual(Wanted(), metered([body]))
        self.assertEqual(Wanted(), read_request(body, JSON, CHAT))

    def test_many_members(self) -> None:
        """
        A body of so many things that reading it would take long is given up.
        """
        for body in (b'{"model":"m"' + b',"a":1' * 250_000 + b"}", b'{"model":"m","a":' + b"[" * 1_100_000):
            pieces = [body[at : at + HELD_BYTES] for at in range(0, len(body), HELD_BYTES)]
            self.assertEqual(Wanted(), metered(pieces))
            self.assertEqual(Wanted(), read_request(body, JSON, CHAT))
