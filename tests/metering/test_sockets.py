"""
What is read from realtime sessions.
"""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.extensions import PerMessageDeflate

from dheera.metering.frames import MOST_MESSAGE_BYTES
from dheera.metering.gathering import HELD_BYTES
from dheera.metering.quantities import added
from dheera.metering.sockets import SocketMeter
from dheera.usage import Part, Reading, Usage
from tests.metering.shapes import MODEL, SPEECH_USAGE, SPEECH_USED, TRANSCRIPTION_USAGE, TRANSCRIPTION_USED, dumps
from tests.strategies import chunkings

MEBIBYTE = 1024 * 1024
DEFLATES = [
    "permessage-deflate",
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10",
]
CREATED = {"type": "session.created", "session": {"request_id": "1", "model": MODEL}}
DELTA = {"type": "transcription.text.delta", "text": "so"}
HEARD = {"type": "transcription.done", "model": MODEL, "text": "so", "segments": [], "usage": TRANSCRIPTION_USAGE}
SAID = {"type": "speech.audio.done", "usage": SPEECH_USAGE}


def text(value: Any) -> TextMessage:
    """
    A message.
    """
    return TextMessage(dumps(value).decode())


class Wire:
    """
    One end of a socket: what is sent there, as bytes.
    """

    def __init__(self, kind: ConnectionType, extensions: str = "") -> None:
        deflate = PerMessageDeflate()
        if extensions and kind is ConnectionType.SERVER:
            deflate.accept(extensions)
        elif extensions:
            deflate.finalize(extensions)
        self._connection = Connection(kind, [deflate] if extensions else [])

    def send(self, *events: Event) -> bytes:
        """
        The bytes of *events*.
        """
        return b"".join(self._connection.send(event) for event in events)


def down(*messages: Any, extensions: str = "") -> bytes:
    """
    What upstream sends.
    """
    return Wire(ConnectionType.SERVER, extensions).send(*map(text, messages))


def up(*messages: Any, extensions: str = "") -> bytes:
    """
    What a client sends.
    """
    return Wire(ConnectionType.CLIENT, extensions).send(*map(text, messages))


def frame(opcode: int, payload: bytes, *, bits: int = 0x80) -> bytes:
    """
    A frame of any kind, not masked.
    """
    assert len(payload) < 126
    return bytes([bits | opcode, len(payload)]) + payload


def read(downward: Iterable[bytes], upward: Iterable[bytes] = (), extensions: str = "") -> Reading:
    """
    What is read from both directions.
    """
    meter = SocketMeter(extensions.encode(), "asked")
    for piece in downward:
        meter.feed_down(piece)
    for piece in upward:
        meter.feed_up(piece)
    return meter.reading()


def single(content: bytes) -> list[bytes]:
    """
    *content*, byte by byte.
    """
    return [content[at : at + 1] for at in range(len(content))]


class SessionTests(SynchronousTestCase):
    def test_transcription(self) -> None:
        """
        A session that hears tells its model at the beginning and its usage at the end.
        """
        wanted = Reading(model=MODEL, parts=[Part(model=MODEL, usage=TRANSCRIPTION_USED)], events=4)
        self.assertEqual(wanted, read([down(CREATED, DELTA, DELTA, HEARD)]))

    def test_turns(self) -> None:
        """
        What several turns used is summed; what is told before the end of one is not.
        """
        early = {"type": "transcription.segment", "usage": TRANSCRIPTION_USAGE}
        told = read([down(HEARD, early, DELTA, HEARD)])
        self.assertEqual([Part(model=MODEL, usage=added(TRANSCRIPTION_USED, TRANSCRIPTION_USED))], told.parts)

    def test_speech(self) -> None:
        """
        Of a session that speaks, the characters of the text count too, whatever else the client sends.
        """
        messages = [
            {"type": "session.update", "session": {"text": "no"}},
            {"type": "input_text.append", "text": 'hé"\U0001f600\n'},
            {"text": "x" * 2 * HELD_BYTES, "type": "input_text.append"},
            {"type": "input_text.flush", "text": "abc"},
            {"type": "input_text.append", "text": 7},
            {"type": "input_audio.append", "audio": "input_text", "text": "no"},
            {"type": "input_text.end"},
        ]
        usage = Usage(
            prompt_tokens=SPEECH_USED.prompt_tokens,
            completion_tokens=SPEECH_USED.completion_tokens,
            total_tokens=SPEECH_USED.total_tokens,
            characters=8 + 2 * HELD_BYTES,
        )
        told = read([down({"type": "session.created"}, SAID)], [up(*messages)])
        self.assertEqual(Reading(parts=[Part(model="asked", usage=usage)], events=2), told)

    def test_cut(self) -> None:
        """
        A session that is cut tells what was spoken by then, and of what was heard nothing.
        """
        self.assertEqual(Reading(model=MODEL, events=2), read([down(CREATED, DELTA)]))
        append = {"type": "input_text.append", "text": "abc"}
        cut = read([], [up(append, append)[:-1]])
        self.assertEqual(Reading(parts=[Part(model="asked", usage=Usage(characters=3))]), cut)

    def test_error(self) -> None:
        """
        An error is noted with its code, and text about errors is none.
        """
        self.assertIsNone(read([down({"type": "transcription.text.delta", "text": "error"})]).error)
        error = {"type": "error", "error": {"message": "an error", "code": 1000}}
        self.assertEqual("1000", read([down(CREATED, error)]).error)

    def test_long_message(self) -> None:
        """
        A message of any length is read.
        """
        long = {"type": "transcription.done", "text": "x" * 2 * HELD_BYTES, "usage": TRANSCRIPTION_USAGE}
        for extensions in ("", DEFLATES[0]):
            told = read([down(CREATED, long, extensions=extensions)], extensions=extensions)
            self.assertEqual([Part(model=MODEL, usage=TRANSCRIPTION_USED)], told.parts)


class FrameTests(SynchronousTestCase):
    WANTED = Reading(model=MODEL, parts=[Part(model=MODEL, usage=TRANSCRIPTION_USED)], events=1)

    def test_fragments(self) -> None:
        """
        A message may come in fragments, with control frames between them.
        """
        whole = dumps(HEARD)
        pieces = [whole[at : at + 50] for at in range(0, len(whole), 50)]
        frames = [frame(1, pieces[0], bits=0), frame(9, b"ping")]
        frames += [frame(0, piece, bits=0) + frame(10, b"") for piece in pieces[1:]]
        self.assertEqual(self.WANTED, read([*frames, frame(0, b"")]))

    def test_binary(self) -> None:
        """
        Messages may be binary, and controls are none.
        """
        wire = Wire(ConnectionType.SERVER).send(Ping(b"?"), BytesMessage(dumps(HEARD)), CloseConnection(1000))
        self.assertEqual(self.WANTED, read([wire]))

    def test_after_the_end(self) -> None:
        """
        What comes after a close is not read.
        """
        self.assertEqual(Reading(), read([frame(8, b"\x03\xe8") + down(HEARD)]))

    def test_broken(self) -> None:
        """
        Where the protocol is broken the reading ends, and what was read before stays.
        """
        text_frame = frame(1, b"{}")
        for wrong in (
            frame(3, b""), frame(1, b"", bits=0xC0), frame(1, b"", bits=0xA0), frame(9, b"", bits=0), frame(0, b""),
            frame(1, b"", bits=0) + text_frame, frame(9, b"", bits=0xC0), b"\x89\x7e\x00\xff",
        ):  # fmt: skip
            self.assertEqual(self.WANTED, read([down(HEARD), wrong + bytes(300) + text_frame]), wrong)

    def test_deflated(self) -> None:
        """
        Compressed messages are read, in the ways that may be agreed.
        """
        appends = [{"type": "input_text.append", "text": "abc"}] * 3
        for extensions in DEFLATES:
            downward = down(CREATED, DELTA, DELTA, HEARD, extensions=extensions)
            upward = up(*appends, extensions=extensions)
            usage = Usage(prompt_tokens=4, completion_tokens=635, total_tokens=3264, audio_ms=203_000, characters=9)
            wanted = Reading(model=MODEL, parts=[Part(model=MODEL, usage=usage)], events=4)
            self.assertEqual(wanted, read([downward], [upward], extensions))
            self.assertEqual(wanted, read(single(downward), single(upward), extensions))

    def test_deflated_and_not(self) -> None:
        """
        Where compression was agreed, a message may still come without.
        """
        self.assertEqual(self.WANTED, read([down(HEARD)], extensions=DEFLATES[0]))

    def test_last_block(self) -> None:
        """
        A message may end its compression for good; the next begins a new one.
        """
        deflater = zlib.compressobj(wbits=-15)
        ended = deflater.compress(b"{}") + deflater.flush()
        told = read([frame(1, ended, bits=0xC0), down(HEARD, extensions=DEFLATES[0])], extensions=DEFLATES[0])
        self.assertEqual(Reading(model=MODEL, parts=self.WANTED.parts, events=2), told)

    def test_bomb(self) -> None:
        """
        A message that grows too long ends the reading of its direction, and what was read before stays.
        """
        deflater = zlib.compressobj(wbits=-15)
        packed = deflater.compress(bytes(MOST_MESSAGE_BYTES + 1)) + deflater.flush(zlib.Z_SYNC_FLUSH)
        bomb = bytes([0xC1, 126]) + len(packed).to_bytes(2, "big") + packed
        self.assertLess(len(packed), 1 << 16)
        told = read([down(HEARD), bomb, down(HEARD)], extensions=DEFLATES[0])
        self.assertEqual(self.WANTED, told)

    @settings(deadline=None)
    @given(st.data(), st.sampled_from(["", *DEFLATES]))
    def test_any_cut(self, data: st.DataObject, extensions: str) -> None:
        """
        However both directions are cut, damaged or not, nothing raises and the reading is the same.
        """
        downward = data.draw(damaged(down(CREATED, DELTA, HEARD, extensions=extensions)))
        append = {"type": "input_text.append", "text": "abc"}
        upward = data.draw(damaged(up(append, append, extensions=extensions)))
        cut = read(data.draw(chunkings(downward)), data.draw(chunkings(upward)), extensions)
        self.assertEqual(read([downward], [upward], extensions), cut)

    def test_bounded(self) -> None:
        """
        What is kept of a session is less than a mebibyte, be it one message or many.
        """
        for opcode in (0x01, 0x81):
            piece = bytes([opcode, 127]) + (8 * MEBIBYTE).to_bytes(8, "big") + b'{"type":"' + os.urandom(HELD_BYTES)
            many = frame(1, dumps({"type": "x.done", "usage": {"connectors": {"a": 1}}}))
            for begin, again in ((piece, b"x" * HELD_BYTES), (b"", many * 500)):
                meter = SocketMeter(b"", None)
                meter.feed_down(begin)
                tracemalloc.start()
                for _ in range(40):
                    meter.feed_down(bytes(bytearray(again)))
                kept = tracemalloc.get_traced_memory()[0]
                tracemalloc.stop()
                self.assertLess(kept, MEBIBYTE)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """
    *content*, perhaps with a few other bytes somewhere.
    """
    if draw(st.booleans()):
        return content
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.binary(max_size=3)) + content[at + draw(st.integers(0, 2)) :]
