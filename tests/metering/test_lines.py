"""
What is read from JSON lines: the output of batches, and streams.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.metering.gathering import HELD_BYTES
from dheera.metering.lines import MOST_MODELS, BatchMeter, LineMeter
from dheera.usage import Part, Reading, Usage
from tests.metering.shapes import (
    CHAT,
    CHAT_USED,
    CONVERSATION_USAGE,
    CONVERSATION_USED,
    MODEL,
    TRANSCRIPTION_USAGE,
    TRANSCRIPTION_USED,
    dumps,
    reading,
)
from tests.strategies import chunkings

OCR = "mistral-ocr-latest"


def line(body: Any, status: Any = 200) -> bytes:
    """
    A line of a batch's output.
    """
    answer = {"status_code": status, "body": body}
    return dumps({"id": "batch-1", "custom_id": "7", "response": answer, "error": None}) + b"\n"


def ocr(pages: int, **more: Any) -> dict[str, Any]:
    """
    An answer of OCR.
    """
    images = [{"id": "img-0", "image_base64": "AAAA", "image_annotation": more.pop("image_annotation", None)}]
    usage = {"pages_processed": pages, "doc_size_bytes": 5}
    page = {"index": 0, "markdown": '"usage": {}', "images": images}
    return {"pages": [{"index": 1, "images": []}, page], "model": OCR, "usage_info": usage} | more


def batch(*usages: tuple[str | None, Usage]) -> Reading:
    """
    The reading of a batch.
    """
    parts = [Part(model=model, usage=usage, is_batch=True) for model, usage in usages]
    return Reading(model=usages[0][0], parts=parts)


def read(*pieces: bytes) -> Reading:
    """
    What is read from a batch's output.
    """
    return reading(BatchMeter(), pieces)


LINES = [
    line(CHAT), line(ocr(2)), line(CHAT, 429), line(None), b"\n", b"\r\n", b'{"response":', b'"}\n', b"[1]\n", b"\xff",
    line(ocr(1, document_annotation="{}", filler="x" * HELD_BYTES)),
]  # fmt: skip


class BatchTests(SynchronousTestCase):
    def test_sums(self) -> None:
        """
        What each model used is summed, and is at the price of a batch.
        """
        twice = Usage(prompt_tokens=2026, cached_tokens=2016, completion_tokens=60, total_tokens=2086)
        told = read(line(CHAT), line(ocr(2)), line(CHAT), line(ocr(3)))
        self.assertEqual(batch((MODEL, twice), (OCR, Usage(pages=5))), told)

    def test_other_shapes(self) -> None:
        """
        Transcriptions and conversations are read too; a conversation names its model in its outputs.
        """
        lines = [
            line({"model": "voxtral", "text": "so", "usage": TRANSCRIPTION_USAGE}),
            line({"outputs": [{"type": "tool.execution"}, {"model": MODEL}], "usage": CONVERSATION_USAGE}),
        ]
        self.assertEqual(batch(("voxtral", TRANSCRIPTION_USED), (MODEL, CONVERSATION_USED)), read(*lines))

    def test_annotations(self) -> None:
        """
        Pages count as annotated where the answer has annotations, of the document or of an image.
        """
        lines = [line(ocr(1)), line(ocr(2, document_annotation="{}")), line(ocr(4, image_annotation="{}"))]
        self.assertEqual(batch((OCR, Usage(pages=1, annotated_pages=6))), read(*lines))

    def test_long_lines(self) -> None:
        """
        A line may be of any length, and is read like a short one.
        """
        filler = "x" * HELD_BYTES
        lines = [
            line(ocr(1, filler=filler)),
            line(ocr(2, document_annotation=filler)),
            line(ocr(4, image_annotation=filler)),
            line(CHAT | {"choices": filler}),
        ]
        self.assertEqual(batch((OCR, Usage(pages=1, annotated_pages=6)), (MODEL, CHAT_USED)), read(*lines))

    def test_refused(self) -> None:
        """
        What upstream refused is not counted, whatever it says.
        """
        self.assertEqual(Reading(), read(*[line(CHAT, status) for status in (400, 429, 500, None, "200")]))

    def test_last_line(self) -> None:
        """
        The last line needs no end, but must be whole.
        """
        self.assertEqual(batch((MODEL, CHAT_USED)), read(line(CHAT).rstrip()))
        for cut in (1, 2, 20):
            self.assertEqual(Reading(), read(line(CHAT).rstrip()[:-cut]))
            self.assertEqual(Reading(), read(line(CHAT | {"id": "x" * HELD_BYTES}).rstrip()[:-cut]))

    def test_other_files(self) -> None:
        """
        A file of another kind tells nothing, though it holds what looks like usage.
        """
        self.assertEqual(Reading(), read(b"\x89PNG\r\n\x1a\n", bytes(range(256)), dumps(CHAT) + b"\n", dumps(CHAT)))

    def test_many_models(self) -> None:
        """
        A file may name no more than so many models; what others used goes to none, and is not lost.
        """
        told = read(*[line(CHAT | {"model": f"m{n}"}) for n in range(1000)])
        self.assertEqual(MOST_MODELS + 1, len(told.parts))
        rest = (1000 - MOST_MODELS) * 1043
        self.assertEqual([rest], [part.usage.total_tokens for part in told.parts if part.model is None])

    @settings(deadline=None)
    @given(st.data(), st.lists(st.sampled_from(LINES), max_size=6).map(b"".join))
    def test_any_cut(self, data: st.DataObject, content: bytes) -> None:
        """
        However a file is cut, the reading is the same; asking does not change it.
        """
        meter = BatchMeter()
        for piece in data.draw(chunkings(content)):
            meter.feed(piece)
            meter.reading()
        self.assertEqual(read(content), meter.reading())


class StreamTests(SynchronousTestCase):
    def test_lines(self) -> None:
        """
        Lines are counted, and the usage is read from whichever has it.
        """
        lines = dumps({"model": MODEL, "text": "a"}) + b"\n\n" + dumps({"usage": CONVERSATION_USAGE}) + b"\n"
        wanted = Reading(model=MODEL, parts=[Part(model=MODEL, usage=CONVERSATION_USED)], events=2)
        self.assertEqual(wanted, reading(LineMeter(), [lines]))
        self.assertEqual(wanted, reading(LineMeter(), [lines[:-1]]))
        self.assertEqual(wanted, reading(LineMeter(), [lines[at : at + 1] for at in range(len(lines))]))

    def test_cut(self) -> None:
        """
        A line that is cut is none.
        """
        lines = dumps({"model": MODEL}) + b"\n" + dumps({"usage": CONVERSATION_USAGE})[:-1]
        self.assertEqual(Reading(model=MODEL, events=1), reading(LineMeter(), [lines]))

    def test_error(self) -> None:
        """
        An error that a line tells of is noted.
        """
        self.assertEqual("busy", reading(LineMeter(), [dumps({"error": {"code": "busy"}}) + b"\n"]).error)
