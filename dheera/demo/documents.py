"""
OCR: one page, whatever the document; it is never fetched.
"""

from __future__ import annotations

from attrs import define

from dheera.demo.calls import Answer, Call, answer, dumps
from dheera.demo.files import Files
from dheera.demo.refusals import invalid
from dheera.demo.words import page

_DEFAULT = "mistral-ocr-latest"
_DATA = "data:"


@define(eq=False)
class Documents:
    """
    The endpoint ``/v1/ocr``.
    """

    _files: Files

    def read(self, call: Call) -> Answer:
        """
        ``POST /v1/ocr``
        """
        asked = call.json()
        document = asked.needed("document")
        if not isinstance(document, dict):
            raise invalid("model_attributes_type", ["document"], "Input should be a dictionary")
        annotated = asked.fields.get("document_annotation_format") is not None
        note = dumps({"demo": True}).decode() if annotated else None
        read = {
            "index": 0,
            "markdown": page(),
            "images": [],
            "dimensions": {"dpi": 200, "height": 2200, "width": 1700},
        }
        return answer(
            {
                "pages": [read],
                "model": asked.model(_DEFAULT),
                "document_annotation": note,
                "usage_info": {"pages_processed": 1, "doc_size_bytes": self._size(document)},
            }
        )

    def _size(self, document: dict[str, object]) -> int | None:
        """
        Bytes of a document that is here: uploaded before, or inside the call as a data URL.
        """
        match document:
            case {"type": "file", "file_id": str(name)}:
                return len(self._files.shelf.get(name).content)
            case {"type": "image_url", "image_url": str(url) | {"url": str(url)}}:
                pass
            case {"type": "document_url", "document_url": str(url)}:
                pass
            case _:
                message = "Input should be an image_url, a document_url or a file"
                raise invalid("union_tag_invalid", ["document"], message)
        if not url.startswith(_DATA):
            return None
        return 3 * len(url.partition(",")[2].rstrip("=")) // 4
