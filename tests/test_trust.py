"""
Agents by whom they trust, and what becomes of them when that changes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import trustme
from twisted.trial.unittest import SynchronousTestCase

from dheera.trust import Agents
from dheera.wire.client import Agent
from dheera.wire.limits import ClientLimits
from tests.network import UPSTREAM_HOST, UPSTREAM_PORT, Network, Script

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class AgentsTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.file, self.other = folder / "ca.pem", folder / "other.pem"
        self.authority = trustme.CA().cert_pem.bytes()
        self.file.write_bytes(self.authority)
        self.network = Network()
        self.script = Script(self.network)
        self.network.listen(self.script)
        self.limits = ClientLimits()
        self.agents = Agents(self.network, self.limits)

    def use(self, agent: Agent) -> None:
        """
        Send a request that leaves its connection behind.
        """
        answered = agent.request(b"GET", b"http://%b:%d/" % (UPSTREAM_HOST.encode(), UPSTREAM_PORT))
        self.network.settle()
        self.script.last.send(ANSWER)
        self.successResultOf(answered)

    def test_one_for_each(self) -> None:
        """
        There is one for those of the system, and one for each set of authorities, whatever their file is called.
        """
        self.other.write_bytes(self.authority)
        system, ours = self.agents.of(None), self.agents.of(self.file)
        self.assertIsNot(system, ours)
        self.assertIs(system, self.agents.of(None))
        self.assertIs(ours, self.agents.of(self.file))
        self.assertIs(ours, self.agents.of(self.other))

    def test_file_changes(self) -> None:
        """
        A file that has changed makes another one.
        """
        before = self.agents.of(self.file)
        self.file.write_bytes(self.authority + trustme.CA().cert_pem.bytes())
        self.assertIsNot(before, self.agents.of(self.file))

    def test_unreadable(self) -> None:
        """
        That a file cannot be read is told, and nothing is made.
        """
        with self.assertRaises(FileNotFoundError):
            self.agents.of(self.other)
        self.assertEqual(0, self.agents.idle_connections)

    def test_unused(self) -> None:
        """
        Of those that are used no more what is kept is closed; the others keep theirs, and all are counted together.
        """
        old, stays = self.agents.of(self.file), self.agents.of(None)
        self.use(old)
        gone = self.script.last
        self.use(stays)
        self.assertEqual(2, self.agents.idle_connections)
        self.agents.change(self.limits, [stays])
        self.network.settle()
        self.assertEqual(("reset", "open"), (gone.ended, self.script.last.ended))
        self.assertEqual(1, self.agents.idle_connections)
        self.assertIsNot(old, self.agents.of(self.file))
        self.assertIs(stays, self.agents.of(None))

    def test_limits(self) -> None:
        """
        New limits are those of all that there are, and of all that will be made.
        """
        before = self.agents.of(None)
        limits = ClientLimits(pool_connections=3)
        self.agents.change(limits, [before])
        self.assertEqual([limits, limits], [before.limits, self.agents.of(self.file).limits])

    def test_close(self) -> None:
        """
        At the end all that is kept is closed.
        """
        for agent in self.agents.of(None), self.agents.of(self.file):
            self.use(agent)
        self.agents.close()
        self.network.settle()
        self.assertEqual(["reset"] * 2, [each.ended for each in self.script.connections])
        self.assertEqual(0, self.agents.idle_connections)
