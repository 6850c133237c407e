"""
Whom TLS to upstream trusts, and the pools of connections that differ in that.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import define, field

from dheera.wire.authorities import trusting
from dheera.wire.client import Agent
from dheera.wire.limits import ClientLimits


@define(eq=False)
class Agents:
    """
    An agent for each set of authorities: those of the system, or those of a file. A file that has changed makes another
    agent, for which it has to be asked again.

    :param limits: of all of them.
    """

    _reactor: Any
    limits: ClientLimits
    _made: dict[str, Agent] = field(factory=dict, init=False)

    def of(self, ca_file: Path | None) -> Agent:
        """
        The agent that trusts the authorities in *ca_file*.

        :raises OSError: it cannot be read, or there are none in it.
        """
        bundle = None if ca_file is None else ca_file.read_bytes()
        name = "" if bundle is None else sha256(bundle).hexdigest()
        agent = self._made.get(name)
        if agent is None:
            context = None if bundle is None else trusting(bundle)
            agent = self._made[name] = Agent(self._reactor, self.limits, context)
        return agent

    def change(self, limits: ClientLimits, used: Collection[Agent]) -> None:
        """
        From now on these are the limits. Of agents that are not *used* any more what is kept is closed.
        """
        self.limits = limits
        for name, agent in [*self._made.items()]:
            agent.limits = limits
            if agent not in used:
                del self._made[name]
                agent.close()

    @property
    def idle_connections(self) -> int:
        """
        How many connections are kept for the next requests.
        """
        return sum(agent.idle_connections for agent in self._made.values())

    def close(self) -> None:
        """
        Close what is kept.
        """
        for agent in self._made.values():
            agent.close()
