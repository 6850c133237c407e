"""
What is read from streams of events.
"""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.metering.events import EventMeter
from dheera.metering.gathering import HELD_BYTES
from dheera.metering.gist import Gist
from dheera.usage import Part, Reading, Usage
from tests.metering.shapes import (
    CHAT_STREAM,
    CHAT_STREAM_READING,
    CHAT_USAGE,
    CHAT_USED,
    CONVERSATION_USAGE,
    CONVERSATION_USED,
    DONE,
    MODEL,
    RESPONSES_USAGE,
    RESPONSES_USED,
    TRANSCRIPTION_USAGE,
    TRANSCRIPTION_USED,
    chunk,
    dumps,
    event,
    reading,
)
from tests.strategies import chunkings

ENDS = [b"\n", b"\r", b"\r\n"]
PIECES = [
    chunk("a"), chunk("error"), chunk("", usage=CHAT_USAGE), chunk("", usage=None), DONE, b": comment\n\n",
    b"event: error\ndata: {}\n\n", b"data: {\ndata: }\n\n", b"data\n\n", b"data:\n\n", b"id: 1\n\n", b"\n", b"\r",
    b"\n\n",
    b"\xef\xbb\xbf", b"data: " + b"x" * HELD_BYTES + b"\n", b"data:" + b"y" * (HELD_BYTES - 5), b'data: {"usage":',
    b'data: {"x":"' + b"z" * HELD_BYTES + b'","usage":{"total_tokens":5},', b'"model":"m"}\n\n',
]  # fmt: skip


def read(*pieces: bytes, bills: bool = True) -> Reading:
    """
    What is read from *pieces*.
    """
    return reading(EventMeter(Gist(bills=bills)), pieces)


def used(usage: Usage, model: str | None = MODEL, events: int = 1) -> Reading:
    """
    The reading of a stream in which *usage* was told.
    """
    return Reading(model=model, parts=[Part(model=model, usage=usage)], events=events)


class ShapeTests(SynchronousTestCase):
    def test_chat(self) -> None:
        """
        A chat tells its usage in the last event before its end, which is none.
        """
        self.assertEqual(CHAT_STREAM_READING, read(CHAT_STREAM))

    def test_usage_in_every_chunk(self) -> None:
        """
        Where each event tells of usage, or that there is none yet, the last that tells one counts.
        """
        early = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
        stream = chunk("a", usage=None) + chunk("b", usage=early) + chunk("", usage=CHAT_USAGE) + chunk("", usage=None)
        self.assertEqual(used(CHAT_USED, events=4), read(stream + DONE))

    def test_conversation(self) -> None:
        """
        A conversation names its model in the pieces of the answer only, and tells its usage when it is done.
        """
        stream = [
            event(
                {"type": "conversation.response.started", "conversation_id": "conv_1"}, "conversation.response.started"
            ),
            event({"type": "message.output.delta", "model": MODEL, "content": "x"}, "message.output.delta"),
            event({"type": "conversation.response.done", "usage": CONVERSATION_USAGE}, "conversation.response.done"),
        ]
        self.assertEqual(used(CONVERSATION_USED, events=3), read(*stream))

    def test_responses(self) -> None:
        """
        The usage of a response is one level down.
        """
        started = {"id": "r", "model": MODEL, "usage": None, "error": None}
        stream = [
            event({"type": "response.created", "response": started}, "response.created"),
            event({"type": "response.output_text.delta", "delta": '"usage":{'}, "response.output_text.delta"),
            event(
                {"type": "response.completed", "response": started | {"usage": RESPONSES_USAGE}}, "response.completed"
            ),
        ]
        self.assertEqual(used(RESPONSES_USED, events=3), read(*stream))

    def test_transcription(self) -> None:
        """
        A transcription tells its usage when it is done.
        """
        stream = [
            event({"type": "transcription.text.delta", "text": "so"}, "transcription.text.delta"),
            event(
                {"type": "transcription.done", "model": MODEL, "text": "so", "usage": TRANSCRIPTION_USAGE},
                "transcription.done",
            ),
        ]
        self.assertEqual(used(TRANSCRIPTION_USED, events=2), read(*stream))

    def test_cut(self) -> None:
        """
        A stream that is cut tells its model and how many events there were, but no usage.
        """
        self.assertEqual(Reading(model=MODEL, events=2), read(chunk("a") + chunk("b")[:50]))

    def test_no_last_blank_line(self) -> None:
        """
        The last event counts though its end is missing.
        """
        self.assertEqual(used(CHAT_USED), read(chunk("", usage=CHAT_USAGE).rstrip()))
        self.assertEqual(CHAT_STREAM_READING, read(CHAT_STREAM.rstrip()))

    def test_not_its_own(self) -> None:
        """
        A stream that shows what others used is counted, but its usage is not read.
        """
        self.assertEqual(Reading(model=MODEL, events=3), read(CHAT_STREAM, bills=False))

    def test_long_event(self) -> None:
        """
        An event of any length is read: the last of a response holds all of its text.
        """
        response = {"output": "x\n" * HELD_BYTES, "model": MODEL, "usage": RESPONSES_USAGE}
        last = event({"type": "response.completed", "response": response}, "response.completed")
        self.assertEqual(used(RESPONSES_USED), read(last))
        self.assertEqual(used(RESPONSES_USED, events=2), read(last[:1000], last[1000:-1], last[-1:] + chunk("b")))


class FramingTests(SynchronousTestCase):
    def test_line_ends(self) -> None:
        """
        Lines may end in three ways.
        """
        for end in ENDS:
            stream = b": hi" + end + end + CHAT_STREAM.replace(b"\n", end)
            self.assertEqual(CHAT_STREAM_READING, read(stream), end)

    def test_lines_of_data(self) -> None:
        """
        An event's data may stand in several lines, and beside other fields.
        """
        data = dumps({"model": MODEL, "usage": CHAT_USAGE}).replace(b":", b":\ndata: ").replace(b",", b",\ndata:")
        self.assertEqual(used(CHAT_USED), read(b"id: 7\nretry: 5\ndata: " + data + b"\n: comment\n\n"))

    def test_mark(self) -> None:
        """
        A mark of the byte order at the beginning belongs to no event.
        """
        self.assertEqual(CHAT_STREAM_READING, read(b"\xef\xbb\xbf" + CHAT_STREAM))

    def test_without_data(self) -> None:
        """
        What has no data is no event, nor is the word that ends a chat.
        """
        self.assertEqual(Reading(), read(b": ping\n\nevent: x\n\nid: 3\n\n\n\n", DONE, b"data:[DONE]\n\n"))

    @settings(deadline=None)
    @given(st.data(), st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join), st.sampled_from(ENDS))
    def test_any_cut(self, data: st.DataObject, stream: bytes, end: bytes) -> None:
        """
        However a stream is cut, the reading is the same, also of what is no stream; asking does not change it.
        """
        stream = stream.replace(b"\n", end)
        meter = EventMeter(Gist())
        for piece in data.draw(chunkings(stream)):
            meter.feed(piece)
            meter.reading()
        self.assertEqual(read(stream), meter.reading())

    @settings(deadline=None)
    @given(st.text('data:event \r\n{}"usage,', max_size=60).map(str.encode))
    @example(b"data: x\r\n\r\ndata: y\r\r\n\ndata: z\n\r")
    def test_single_bytes(self, stream: bytes) -> None:
        """
        Nor does it matter if each byte comes alone.
        """
        self.assertEqual(read(stream), read(*[stream[at : at + 1] for at in range(len(stream))]))

    @given(st.lists(st.sampled_from([each for each in PIECES if len(each) < HELD_BYTES]), max_size=8).map(b"".join))
    @example(b"data: a\n\n: b\n\ndata: c\ndata: d\n\n" + chunk("", usage=CHAT_USAGE) + DONE)
    @example(b"data: a\n\n\n\n\ndata: b\n\ndata: [DONE]\n\ndata: c\n\n")
    def test_many_at_once(self, events: bytes) -> None:
        """
        Nor if many come at once, when the model is known already and hardly one is worth a look.
        """
        first = chunk("a")
        self.assertEqual(read(first, *[events[at : at + 1] for at in range(len(events))]), read(first, events))

    def test_length_is_no_matter(self) -> None:
        """
        At the length where events are no longer held, all is as before.
        """
        for more in range(-4, 5):
            fixed = event({"x": "", "usage": CHAT_USAGE, "model": MODEL})
            stream = event({"x": "y" * (HELD_BYTES + more - len(fixed)), "usage": CHAT_USAGE, "model": MODEL})
            for cut in range(1, 6):
                pieces = (stream[:-cut], stream[-cut:], chunk("a"))
                self.assertEqual(used(CHAT_USED, events=2), read(*pieces), (more, cut))


class ErrorTests(SynchronousTestCase):
    def blamed(self, *pieces: bytes) -> str | None:
        """
        The error that is read.
        """
        return read(chunk("error"), *pieces, chunk(" after the error.")).error

    def test_conversation(self) -> None:
        """
        A conversation tells a code.
        """
        told = {"type": "conversation.response.error", "message": "No, that is an error", "code": 3001}
        self.assertEqual("3001", self.blamed(event(told, "conversation.response.error")))

    def test_named_event(self) -> None:
        """
        An event may be an error by its name alone.
        """
        self.assertEqual("error", self.blamed(b"event: error\ndata: gone\n\n"))
        self.assertEqual("E7", self.blamed(event({"code": "E7"}, "error")))

    def test_object(self) -> None:
        """
        An error in the form that answers have elsewhere.
        """
        told = {"object": "error", "message": "slow down", "type": "rate_limited", "code": None}
        self.assertEqual("rate_limited", self.blamed(event(told)))
        self.assertEqual("1300", self.blamed(event(told | {"code": "1300"})))

    def test_inside(self) -> None:
        """
        An error inside of a response, or of an event.
        """
        error = {"code": "server_error", "message": "oh"}
        self.assertEqual("server_error", self.blamed(event({"type": "response.failed", "response": {"error": error}})))
        self.assertEqual("server_error", self.blamed(event({"error": error})))

    def test_finish(self) -> None:
        """
        A completion may end in an error.
        """
        self.assertEqual("error", self.blamed(event({"choices": [{"delta": {}, "finish_reason": "error"}]})))

    def test_none(self) -> None:
        """
        Text about errors is none, nor is an error that is null.
        """
        self.assertIsNone(self.blamed(chunk('"error"'), event({"error": None, "type": "x"}), event({"text": "error"})))

    def test_no_text(self) -> None:
        """
        A message is no code: it may hold anything, and is not kept.
        """
        self.assertEqual("error", self.blamed(event({"error": "key sk-123 is bad"})))
        self.assertEqual("error", self.blamed(event({"error": {"code": "a b", "type": ["x"]}})))

    def test_first(self) -> None:
        """
        Of several, the first counts.
        """
        self.assertEqual("a", self.blamed(event({"error": {"code": "a"}}), event({"error": {"code": "b"}})))
