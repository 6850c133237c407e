"""
The demo's URL table.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.interfaces import IReactorTime

from dheera.demo import completions, judgements, vectors
from dheera.demo.agents import Agents
from dheera.demo.audio import Transcriptions, speak
from dheera.demo.batches import Batches
from dheera.demo.calls import Answer, Call, Stream, answer
from dheera.demo.conversations import Conversations
from dheera.demo.documents import Documents
from dheera.demo.files import Files
from dheera.demo.models import CARDS, card_of
from dheera.demo.refusals import not_found
from dheera.demo.responses import respond

JSON_BYTES = 32 * 1024 * 1024
FORM_BYTES = 65 * 1024 * 1024
"""
A file as large as all files together may be, and the form around it.
"""
_HOLE = "{}"

Endpoint = Callable[[Call], Answer | Stream]


@frozen(kw_only=True)
class Route:
    """
    What answers one method on one path.

    :param path: its segments; ``{}`` stands for any one.
    """

    method: str
    path: tuple[str, ...]
    endpoint: Endpoint
    most_bytes: int = JSON_BYTES

    def names_in(self, segments: list[str]) -> tuple[str, ...] | None:
        """
        What stands in the holes of the path, or None if *segments* is another path.
        """
        if len(segments) != len(self.path):
            return None
        pairs = list(zip(self.path, segments, strict=True))
        if any(mine not in (_HOLE, theirs) for mine, theirs in pairs):
            return None
        return tuple(theirs for mine, theirs in pairs if mine == _HOLE)


def routes(reactor: IReactorTime) -> list[Route]:
    """
    Every endpoint but the WebSockets. Of two that fit, the first is meant.
    """
    files, agents, conversations = Files(), Agents(), Conversations()
    transcriptions, documents = Transcriptions(files), Documents(files)
    single: dict[str, Endpoint] = {
        "/v1/chat/completions": completions.chat,
        "/v1/fim/completions": completions.fim,
        "/v1/embeddings": vectors.embed,
        "/v1/moderations": judgements.moderate,
        "/v1/chat/moderations": judgements.moderate_chat,
        "/v1/classifications": judgements.classify,
        "/v1/chat/classifications": judgements.classify_chat,
        "/v1/ocr": documents.read,
        "/v1/audio/transcriptions": transcriptions.transcribe,
        "/v1/conversations": conversations.start,
    }
    batches = Batches(reactor, files, single)
    table: list[tuple[str, str, Endpoint]] = [
        *(("POST", path, endpoint) for path, endpoint in single.items()),
        ("GET", "/v1/models", _list_models),
        ("GET", "/v1/models/{}", _tell_model),
        ("POST", "/v1/agents/completions", completions.agent),
        ("POST", "/v1/responses", respond),
        ("POST", "/v1/audio/speech", speak),
        ("GET", "/v1/conversations", conversations.listed),
        ("GET", "/v1/conversations/{}", conversations.told),
        ("POST", "/v1/conversations/{}", conversations.append),
        ("DELETE", "/v1/conversations/{}", conversations.delete),
        ("GET", "/v1/conversations/{}/history", conversations.history),
        ("GET", "/v1/conversations/{}/messages", conversations.messages),
        ("POST", "/v1/conversations/{}/restart", conversations.restart),
        ("POST", "/v1/agents", agents.create),
        ("GET", "/v1/agents", agents.listed),
        ("GET", "/v1/agents/{}", agents.told),
        ("DELETE", "/v1/agents/{}", agents.delete),
        ("POST", "/v1/files", files.upload),
        ("GET", "/v1/files", files.listed),
        ("GET", "/v1/files/{}", files.told),
        ("DELETE", "/v1/files/{}", files.delete),
        ("GET", "/v1/files/{}/content", files.content),
        ("GET", "/v1/files/{}/url", files.url),
        ("POST", "/v1/batch/jobs", batches.create),
        ("GET", "/v1/batch/jobs", batches.listed),
        ("GET", "/v1/batch/jobs/{}", batches.told),
        ("DELETE", "/v1/batch/jobs/{}", batches.delete),
        ("POST", "/v1/batch/jobs/{}/cancel", batches.cancel),
    ]
    takes_forms = {"/v1/files", "/v1/audio/transcriptions"}
    return [
        Route(
            method=method,
            path=tuple(path.split("/")),
            endpoint=endpoint,
            most_bytes=FORM_BYTES if path in takes_forms else JSON_BYTES,
        )
        for method, path, endpoint in table
    ]


def _list_models(_call: Call) -> Answer:
    return answer({"object": "list", "data": list(CARDS.values())})


def _tell_model(call: Call) -> Answer:
    card = card_of(call.names[0])
    if card is None:
        raise not_found("Model")
    return answer(card)
