"""
Conversations: Mistral keeps them, and so does the demo; a stream's events have names.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any
from uuid import uuid4

from attrs import define, evolve, field, frozen

from dheera.demo.agents import iso
from dheera.demo.calls import Answer, Asked, Call, Stream, answer, event
from dheera.demo.completions import AGENTS_MODEL
from dheera.demo.files import paged
from dheera.demo.refusals import invalid, not_found
from dheera.demo.shelves import Shelf
from dheera.demo.words import cut, pieces, reply, text_of, tokens


@frozen(kw_only=True)
class Entry:
    """
    One thing said. Of what a client sends only the text is kept.
    """

    id: str
    role: str
    text: str
    model: str | None
    created_at: str

    def card(self) -> dict[str, Any]:
        """
        As it is told.
        """
        card = {
            "id": self.id,
            "object": "entry",
            "type": "message.output" if self.role == "assistant" else "message.input",
            "created_at": self.created_at,
            "completed_at": self.created_at,
            "role": self.role,
            "content": self.text,
        }
        return card | {"model": self.model} if self.role == "assistant" else card


@frozen(kw_only=True)
class Conversation:
    """
    Everything said so far, and with whom: a model, or an agent.
    """

    id: str
    model: str
    agent_id: str | None
    instructions: str | None
    name: str | None
    created_at: str
    updated_at: str
    entries: tuple[Entry, ...] = ()

    def card(self) -> dict[str, Any]:
        """
        What is told about it.
        """
        card = {
            "id": self.id,
            "object": "conversation",
            "name": self.name,
            "description": None,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }
        if self.agent_id is not None:
            return card | {"agent_id": self.agent_id}
        return card | {"model": self.model, "instructions": self.instructions, "tools": []}

    def size(self) -> int:
        """
        Roughly the bytes that it takes.
        """
        texts = chain((self.agent_id, self.instructions, self.name), (one.text for one in self.entries))
        return sum(4 * len(text or "") for text in texts) + 500 * len(self.entries)


def _shelf() -> Shelf[Conversation]:
    return Shelf("Conversation", 1000, 16 * 1024 * 1024, forgets=True)


@define(eq=False)
class Conversations:
    """
    The endpoints under ``/v1/conversations``; beyond 1000 conversations or 16 MiB the oldest are
    forgotten. An agent need not exist to be talked to.
    """

    shelf: Shelf[Conversation] = field(init=False, factory=_shelf)

    def start(self, call: Call) -> Answer | Stream:
        """
        ``POST /v1/conversations``
        """
        asked = call.json()
        agent_id = asked.text("agent_id")
        conversation = Conversation(
            id=f"conv_{uuid4().hex}",
            model=asked.model(None if agent_id is None else AGENTS_MODEL),
            agent_id=agent_id,
            instructions=asked.text("instructions"),
            name=asked.text("name"),
            created_at=iso(call.now),
            updated_at=iso(call.now),
        )
        return self._answered(call, asked, conversation)

    def append(self, call: Call) -> Answer | Stream:
        """
        ``POST /v1/conversations/{id}``
        """
        return self._answered(call, call.json(), self.shelf.get(call.names[0]))

    def restart(self, call: Call) -> Answer | Stream:
        """
        ``POST /v1/conversations/{id}/restart``: a new one that goes as far as ``from_entry_id``.
        """
        asked = call.json()
        old = self.shelf.get(call.names[0])
        last = asked.needed_text("from_entry_id")
        names = [entry.id for entry in old.entries]
        if last not in names:
            raise not_found("Entry")
        kept = old.entries[: names.index(last) + 1]
        return self._answered(call, asked, evolve(old, id=f"conv_{uuid4().hex}", entries=kept))

    def listed(self, call: Call) -> Answer:
        """
        ``GET /v1/conversations``, newest first.
        """
        return answer(paged([one.card() for one in self.shelf], call))

    def told(self, call: Call) -> Answer:
        """
        ``GET /v1/conversations/{id}``
        """
        return answer(self.shelf.get(call.names[0]).card())

    def history(self, call: Call) -> Answer:
        """
        ``GET /v1/conversations/{id}/history``
        """
        return self._entries(call, "history", "entries")

    def messages(self, call: Call) -> Answer:
        """
        ``GET /v1/conversations/{id}/messages``
        """
        return self._entries(call, "messages", "messages")

    def delete(self, call: Call) -> Answer:
        """
        ``DELETE /v1/conversations/{id}``
        """
        self.shelf.get(call.names[0])
        self.shelf.drop(call.names[0])
        return Answer(body=b"", status=204)

    def _entries(self, call: Call, kind: str, name: str) -> Answer:
        one = self.shelf.get(call.names[0])
        entries = [entry.card() for entry in one.entries]
        return answer({"object": f"conversation.{kind}", "conversation_id": one.id, name: entries})

    def _answered(self, call: Call, asked: Asked, before: Conversation) -> Answer | Stream:
        question = text_of(asked.fields.get("inputs"))
        if not question and not before.entries:
            raise invalid("missing", ["inputs"], "Field required")
        limit = asked.inner("completion_args").count("max_tokens")
        text, _ = cut(reply(question), limit)
        now = iso(call.now)
        heard = _entry("user", question, None, now)
        said = _entry("assistant", text, before.model, now)
        after = evolve(before, updated_at=now, entries=(*before.entries, heard, said))
        if asked.fields.get("store") is not False:
            self.shelf.put(after.id, after, after.size())
        usage = _usage(before.instructions, (*before.entries, heard), text)
        if asked.flag("stream"):
            events = _events(after, said, usage)
            return Stream(events=events, tokens=usage["total_tokens"])
        return answer(
            {
                "object": "conversation.response",
                "conversation_id": after.id,
                "outputs": [said.card()],
                "usage": usage,
            },
            tokens=usage["total_tokens"],
        )


def _entry(role: str, text: str, model: str | None, now: str) -> Entry:
    return Entry(id=f"msg_{uuid4().hex}", role=role, text=text, model=model, created_at=now)


def _usage(instructions: str | None, asked: tuple[Entry, ...], said: str) -> dict[str, Any]:
    prompt = tokens(instructions or "") + sum(tokens(entry.text) for entry in asked)
    completion = tokens(said)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "connector_tokens": None,
        "connectors": None,
    }


def _events(after: Conversation, said: Entry, usage: dict[str, Any]) -> Iterator[bytes]:
    def one(name: str, **more: object) -> bytes:
        return event({"type": name, "created_at": said.created_at, **more}, name)

    yield one("conversation.response.started", conversation_id=after.id)
    for piece in pieces(said.text):
        yield one(
            "message.output.delta",
            id=said.id,
            output_index=0,
            content_index=0,
            model=said.model,
            agent_id=after.agent_id,
            role="assistant",
            content=piece,
        )
    yield one("conversation.response.done", usage=usage)
