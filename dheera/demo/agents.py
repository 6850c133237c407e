"""
Agents that clients make, to be named in conversations. They differ in name only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from attrs import define, field, frozen

from dheera.demo.calls import Answer, Call, answer
from dheera.demo.files import paged
from dheera.demo.shelves import Shelf


@frozen(kw_only=True)
class Agent:
    """
    One agent.
    """

    id: str
    model: str
    name: str
    instructions: str | None
    description: str | None
    created_at: str

    def card(self) -> dict[str, Any]:
        """
        What is told about it.
        """
        return {
            "id": self.id,
            "object": "agent",
            "model": self.model,
            "name": self.name,
            "instructions": self.instructions,
            "description": self.description,
            "version": 0,
            "versions": [0],
            "created_at": self.created_at,
            "updated_at": self.created_at,
            "deployment_chat": False,
            "source": "api",
            "tools": [],
            "handoffs": None,
        }


def _shelf() -> Shelf[Agent]:
    return Shelf("Agent", 200, 4 * 1024 * 1024, forgets=True)


@define(eq=False)
class Agents:
    """
    The endpoints under ``/v1/agents``; beyond 200 agents or 4 MiB the oldest are forgotten.
    """

    shelf: Shelf[Agent] = field(init=False, factory=_shelf)

    def create(self, call: Call) -> Answer:
        """
        ``POST /v1/agents``
        """
        asked = call.json()
        agent = Agent(
            id=f"ag_{uuid4().hex}",
            model=asked.model(),
            name=asked.needed_text("name"),
            instructions=asked.text("instructions"),
            description=asked.text("description"),
            created_at=iso(call.now),
        )
        texts = (agent.model, agent.name, agent.instructions, agent.description)
        self.shelf.put(agent.id, agent, sum(len(text or "") for text in texts))
        return answer(agent.card())

    def listed(self, call: Call) -> Answer:
        """
        ``GET /v1/agents``, newest first.
        """
        return answer(paged([agent.card() for agent in self.shelf], call))

    def told(self, call: Call) -> Answer:
        """
        ``GET /v1/agents/{id}``
        """
        return answer(self.shelf.get(call.names[0]).card())

    def delete(self, call: Call) -> Answer:
        """
        ``DELETE /v1/agents/{id}``
        """
        self.shelf.get(call.names[0])
        self.shelf.drop(call.names[0])
        return Answer(body=b"", status=204)


def iso(now: float) -> str:
    """
    Unix seconds as Mistral writes a time.
    """
    return datetime.fromtimestamp(now, UTC).isoformat().replace("+00:00", "Z")
