"""
Files, kept in memory until they are deleted or the demo ends.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from attrs import define, field, frozen

from dheera.demo.calls import Answer, Call, answer
from dheera.demo.forms import parsed
from dheera.demo.refusals import invalid
from dheera.demo.shelves import Shelf

MOST_FILES = 1000
MOST_BYTES = 64 * 1024 * 1024
MOST_A_PAGE = 100
_SAMPLES = {"batch": "batch_request", "fine-tune": "instruct"}


@frozen(kw_only=True)
class File:
    """
    One file.
    """

    id: str
    name: str
    purpose: str
    sample_type: str
    source: str
    content_type: str
    created: int
    content: bytes

    def card(self) -> dict[str, Any]:
        """
        What is told about it.
        """
        lines = self.content.count(b"\n") + (not self.content.endswith(b"\n"))
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": self.created,
            "filename": self.name,
            "purpose": self.purpose,
            "sample_type": self.sample_type,
            "num_lines": lines if self.name.endswith(".jsonl") else None,
            "mimetype": self.content_type,
            "source": self.source,
            "signature": None,
            "expires_at": None,
            "visibility": "workspace",
        }


def _shelf() -> Shelf[File]:
    return Shelf("File", MOST_FILES, MOST_BYTES)


@define(eq=False)
class Files:
    """
    The endpoints under ``/v1/files``.
    """

    shelf: Shelf[File] = field(init=False, factory=_shelf)

    def upload(self, call: Call) -> Answer:
        """
        ``POST /v1/files``
        """
        form = parsed(call.content_type, call.body)
        sent = form.upload("file")
        purpose = form.asked.text("purpose") or "fine-tune"
        file = File(
            id=str(uuid4()),
            name=sent.name,
            purpose=purpose,
            sample_type=_SAMPLES.get(purpose, "instruct"),
            source="upload",
            content_type=sent.content_type,
            created=int(call.now),
            content=sent.content,
        )
        self.keep(file)
        return answer(file.card())

    def keep(self, file: File) -> None:
        """
        Keep *file*.

        :raises Refused: 413, it does not fit beside the others.
        """
        extra = len(file.name) + len(file.purpose) + len(file.content_type)
        self.shelf.put(file.id, file, len(file.content) + extra)

    def listed(self, call: Call) -> Answer:
        """
        ``GET /v1/files``, newest first.
        """
        wanted = call.query.get("purpose")
        cards = [file.card() for file in self.shelf if wanted in (None, file.purpose)]
        return answer({"object": "list", "data": paged(cards, call), "total": len(cards)})

    def told(self, call: Call) -> Answer:
        """
        ``GET /v1/files/{id}``
        """
        return answer(self.shelf.get(call.names[0]).card() | {"deleted": False})

    def content(self, call: Call) -> Answer:
        """
        ``GET /v1/files/{id}/content``
        """
        file = self.shelf.get(call.names[0])
        return Answer(body=file.content, content_type="application/octet-stream")

    def url(self, call: Call) -> Answer:
        """
        ``GET /v1/files/{id}/url``: a link that leads nowhere, since the demo has no storage.
        """
        file = self.shelf.get(call.names[0])
        return answer({"url": f"https://files.demo.invalid/{file.id}"})

    def delete(self, call: Call) -> Answer:
        """
        ``DELETE /v1/files/{id}``
        """
        file = self.shelf.get(call.names[0])
        self.shelf.drop(file.id)
        return answer({"id": file.id, "object": "file", "deleted": True})


def paged(cards: list[dict[str, Any]], call: Call) -> list[dict[str, Any]]:
    """
    The page that *call* asks for; the first is number 0.
    """
    try:
        page = max(0, int(call.query.get("page", "0")))
        size = min(MOST_A_PAGE, max(1, int(call.query.get("page_size", "100"))))
    except ValueError:
        raise invalid("int_parsing", ["page"], "Input should be a valid integer") from None
    return cards[page * size : (page + 1) * size]
