"""
The realtime WebSockets, in memory: handshake, sessions, endings, and what is refused.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from mistralai.client import models
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from dheera.demo.audio import RECORDED_BYTES_PER_SECOND
from dheera.demo.realtime import MOST_SPOKEN_CHARACTERS, Listener
from dheera.demo.sockets import GOODBYE_SECONDS, MOST_MESSAGE_CHARACTERS
from dheera.demo.words import tokens
from tests.demo.line import AUTHORIZATION, Standing, leave

LISTEN = "/v1/audio/transcriptions/realtime"
SPEAK = "/v1/audio/speech/realtime"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = [
    AUTHORIZATION,
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
    (b"sec-websocket-key", KEY),
    (b"sec-websocket-version", b"13"),
]
SECOND = base64.b64encode(bytes(RECORDED_BYTES_PER_SECOND)).decode()


def opened(
    demo: Standing, path: str, *fields: tuple[bytes, bytes]
) -> tuple[StringTransportWithDisconnection, bytes, bytes]:
    """
    A connection on which an upgrade was asked for, the head of the answer, and what came after it.
    """
    transport = demo.connect()
    lines = b"".join(b"%b: %b\r\n" % line for line in [*fields, (b"host", b"demo")])
    transport.protocol.dataReceived(b"GET %b HTTP/1.1\r\n%b\r\n" % (path.encode(), lines))
    head, _, rest = transport.value().partition(b"\r\n\r\n")
    transport.clear()
    return transport, head, rest


class Talk:
    """
    A client's side of a session.
    """

    def __init__(self, demo: Standing, path: str, *, deflate: bool = False) -> None:
        offers = [(b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits")]
        self.transport, self.head, first = opened(demo, path, *HANDSHAKE, *(offers if deflate else []))
        extension = PerMessageDeflate()
        if b"permessage-deflate" in self.head:
            line = next(x for x in self.head.split(b"\r\n") if x.lower().startswith(b"sec-websocket-extensions"))
            extension.finalize(line.partition(b":")[2].decode().strip())
        self.frames = Connection(ConnectionType.CLIENT, [extension])
        self.frames.receive_data(first)

    def heard(self) -> list[Event]:
        """
        What the demo has said since the last time.
        """
        data = self.transport.value()
        self.transport.clear()
        if data:
            self.frames.receive_data(data)
        return list(self.frames.events())

    def messages(self) -> list[dict[str, Any]]:
        """
        The JSON messages among it.
        """
        return [json.loads(event.data) for event in self.heard() if isinstance(event, TextMessage)]

    def raw(self, data: bytes) -> None:
        """
        Send bytes as they are.
        """
        self.transport.protocol.dataReceived(data)

    def send(self, *said: dict[str, Any] | Event) -> list[dict[str, Any]]:
        """
        Send messages, and take the answers.
        """
        for one in said:
            event = TextMessage(data=json.dumps(one)) if isinstance(one, dict) else one
            self.raw(self.frames.send(event))
        return self.messages()


class TestHandshake(SynchronousTestCase):
    """
    Who gets a session.
    """

    def setUp(self) -> None:
        self.demo = Standing()

    def status(self, path: str, *fields: tuple[bytes, bytes]) -> int:
        """
        How an upgrade is answered.
        """
        return int(opened(self.demo, path, *fields)[1].split(b" ")[1])

    def test_accepted(self) -> None:
        """
        The key is answered as in the example of RFC 6455.
        """
        _, head, _ = opened(self.demo, LISTEN, *HANDSHAKE)
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
        self.assertIn(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", head)

    def test_refused(self) -> None:
        """
        No bearer, no such model, no key, another version, a broken offer: an ordinary HTTP answer each.
        """
        offer = b"sec-websocket-extensions"
        self.assertEqual(401, self.status(LISTEN, *HANDSHAKE[1:]))
        self.assertEqual(400, self.status(LISTEN + "?model=none", *HANDSHAKE))
        self.assertEqual(400, self.status(LISTEN, *HANDSHAKE[:3], HANDSHAKE[4]))
        self.assertEqual(400, self.status(LISTEN, *HANDSHAKE[:4], (b"sec-websocket-version", b"8")))
        self.assertEqual(400, self.status(LISTEN, *HANDSHAKE, (offer, b"permessage-deflate; client_max_window_bits=x")))
        self.assertEqual(426, self.status(LISTEN, AUTHORIZATION))
        self.assertEqual(404, self.status("/v1/nowhere", *HANDSHAKE))

    def test_unusable_offer(self) -> None:
        """
        An extension that cannot be had is left out, not refused.
        """
        _, head, _ = opened(self.demo, LISTEN, *HANDSHAKE, (b"sec-websocket-extensions", b"x-other"))
        self.assertTrue(head.startswith(b"HTTP/1.1 101 "))
        self.assertNotIn(b"sec-websocket-extensions", head.lower())


class TestSessions(SynchronousTestCase):
    """
    What is said.
    """

    def setUp(self) -> None:
        self.demo = Standing()

    def test_transcription(self) -> None:
        """
        Created, updated, a word for each piece of audio, all of them with the usage at the end, then close 1000.
        """
        for deflate in (False, True):
            talk = Talk(self.demo, LISTEN + "?model=voxtral-mini-transcribe-realtime-2602", deflate=deflate)
            self.assertEqual(deflate, b"permessage-deflate" in talk.head)
            (created,) = talk.messages()
            session = models.RealtimeTranscriptionSessionCreated.model_validate(created).session
            self.assertEqual("voxtral-mini-transcribe-realtime-2602", session.model)
            audio_format = {"encoding": "pcm_s16le", "sample_rate": 8000}
            wanted = {"audio_format": audio_format, "target_streaming_delay_ms": 240}
            (updated,) = talk.send({"type": "session.update", "session": wanted})
            self.assertEqual("session.updated", updated["type"])
            self.assertEqual(wanted, {name: updated["session"][name] for name in wanted})
            append = {"type": "input_audio.append", "audio": SECOND}
            deltas = talk.send(append, append, {"type": "input_audio.flush"}, append)
            self.assertEqual({"transcription.text.delta"}, {delta["type"] for delta in deltas})
            talk.raw(talk.frames.send(TextMessage(data='{"type": "input_audio.end"}')))
            last, close = talk.heard()
            assert isinstance(last, TextMessage)
            done = models.TranscriptionStreamDone.model_validate_json(last.data)
            self.assertEqual("".join(delta["text"] for delta in deltas), done.text)
            self.assertEqual(3, done.usage.prompt_audio_seconds)
            self.assertEqual(CloseConnection(1000, ""), close)
            talk.raw(talk.frames.send(CloseConnection(1000)))
            self.assertFalse(talk.transport.connected)

    def test_speech(self) -> None:
        """
        Sound for each piece of text, and the usage of all of it at the end.
        """
        talk = Talk(self.demo, SPEAK)
        models.RealtimeSpeechSessionCreated.model_validate(talk.messages()[0])
        said = talk.send(
            {"type": "session.update", "session": {"voice": "a"}},
            {"type": "input_text.append", "text": "Good "},
            {"type": "input_text.flush", "text": "morning"},
            {"type": "input_text.flush"},
            {"type": "input_text.end"},
        )
        updated, *deltas, done = said
        self.assertEqual("session.updated", updated["type"])
        self.assertEqual(2, len(deltas))
        for delta in deltas:
            self.assertTrue(models.SpeechStreamAudioDelta.model_validate(delta).audio_data)
        usage = models.SpeechStreamDone.model_validate(done).usage
        self.assertEqual(tokens("Good morning"), usage.prompt_tokens)

    def test_errors(self) -> None:
        """
        A message that the session does not know is answered with an error, and the session goes on.
        """
        talk = Talk(self.demo, LISTEN)
        talk.messages()
        wrong: list[Any] = [
            {"type": "input_text.append"},
            {},
            {"type": "input_audio.append"},
            {"type": "input_audio.append", "audio": "&&&"},
            {"type": "input_audio.append", "audio": 7},
            {"type": "session.update", "session": 7},
            TextMessage(data="{"),
            TextMessage(data="[]"),
        ]
        for message in wrong:
            (error,) = talk.send(message)
            models.RealtimeTranscriptionError.model_validate(error)
            self.assertEqual("error", error["type"])
        self.assertEqual(1, len(talk.send({"type": "input_audio.append", "audio": SECOND})))

    def test_too_much_text(self) -> None:
        """
        A speech session speaks so many characters and no more.
        """
        talk = Talk(self.demo, SPEAK)
        talk.messages()
        (error,) = talk.send({"type": "input_text.append", "text": "a" * (MOST_SPOKEN_CHARACTERS + 1)})
        self.assertEqual(("error", 413), (error["type"], error["error"]["code"]))


class TestEndings(SynchronousTestCase):
    """
    Pings, closes, faults.
    """

    def setUp(self) -> None:
        self.demo = Standing()
        self.talk = Talk(self.demo, LISTEN, deflate=True)
        self.talk.messages()

    def close(self) -> tuple[int, bool]:
        """
        The code with which the demo closed, and whether the connection is still there.
        """
        (event,) = [one for one in self.talk.heard() if isinstance(one, CloseConnection)]
        return int(event.code), self.talk.transport.connected

    def test_ping(self) -> None:
        """
        A ping comes back with what was in it.
        """
        self.talk.raw(self.talk.frames.send(Ping(payload=b"are you there")))
        self.assertEqual([Pong(payload=b"are you there")], self.talk.heard())

    def test_client_closes(self) -> None:
        """
        A close is answered with the same code, and the connection ends.
        """
        self.talk.raw(self.talk.frames.send(CloseConnection(3000, "enough")))
        self.assertEqual((3000, False), self.close())

    def test_client_leaves(self) -> None:
        """
        A client that just goes leaves nothing behind.
        """
        leave(self.talk.transport)
        self.assertEqual([], self.demo.clock.getDelayedCalls())

    def test_binary(self) -> None:
        """
        Messages are text.
        """
        self.talk.raw(self.talk.frames.send(BytesMessage(data=b"\0")))
        self.assertEqual((1003, True), self.close())

    def test_too_big(self) -> None:
        """
        A message of more than 1 MiB is refused, also when it was made of little.
        """
        self.talk.raw(self.talk.frames.send(TextMessage(data="a" * (MOST_MESSAGE_CHARACTERS + 1))))
        self.assertEqual((1009, True), self.close())

    def test_too_big_in_pieces(self) -> None:
        """
        It does not help to send it in pieces.
        """
        self.talk = Talk(self.demo, LISTEN)
        piece = TextMessage(data="a" * (1 << 19), message_finished=False)
        for _ in range(3):
            self.talk.raw(self.talk.frames.send(piece))
        self.assertEqual((1009, True), self.close())

    def test_broken_frames(self) -> None:
        """
        What is no frame is a protocol error; nothing after it is looked at.
        """
        self.talk.raw(b"\xff" * 100)
        self.talk.raw(b"\xff" * 100)
        self.assertEqual((1002, True), self.close())

    def test_fault(self) -> None:
        """
        A fault of the demo itself is logged, and closes the session as an internal error.
        """

        class Faulty(Listener):
            def hear(self, message: dict[str, Any]) -> Iterator[dict[str, Any]]:
                raise ZeroDivisionError(message)

        channel: Any = self.talk.transport.protocol
        channel._tunnel._speaker = Faulty("voxtral-mini-latest")
        self.talk.raw(self.talk.frames.send(TextMessage(data="{}")))
        self.assertEqual((1011, True), self.close())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_silent_client(self) -> None:
        """
        A client that does not say goodbye in return is left after a moment.
        """
        self.talk.raw(self.talk.frames.send(TextMessage(data='{"type": "input_audio.end"}')))
        self.assertEqual((1000, True), self.close())
        self.demo.clock.advance(GOODBYE_SECONDS)
        self.assertFalse(self.talk.transport.connected)

    def test_after_the_end(self) -> None:
        """
        What is sent after the end is not answered.
        """
        for message in ('{"type": "input_audio.end"}', '{"type": "session.update"}', "{"):
            self.talk.raw(self.talk.frames.send(TextMessage(data=message)))
        self.assertEqual(2, len(self.talk.heard()))

    def test_slow_reader(self) -> None:
        """
        While the client takes nothing, nothing is read from it.
        """
        producer: Any = self.talk.transport.producer
        producer.pauseProducing()
        self.assertEqual("paused", self.talk.transport.producerState)
        producer.resumeProducing()
        self.assertEqual("producing", self.talk.transport.producerState)

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=300))
    def test_any_bytes(self, noise: bytes) -> None:
        """
        Whatever is sent, the session goes on or closes; it never breaks.
        """
        demo = Standing()
        talk = Talk(demo, LISTEN, deflate=True)
        talk.raw(noise)
        talk.heard()
        self.assertIn(talk.frames.state, set(ConnectionState))
        leave(talk.transport)
        self.assertEqual([], demo.clock.getDelayedCalls())
