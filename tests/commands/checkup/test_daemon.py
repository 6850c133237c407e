"""
What the answers of a running daemon mean.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import TestCase

from twisted.trial.unittest import TestCase as AsyncTestCase

from dheera import __version__
from dheera.commands.checkup.addresses import Address
from dheera.commands.checkup.daemon import admitted, judged, kept, look_inside
from dheera.commands.checkup.findings import Finding
from dheera.commands.checkup.questions import Reply
from dheera.errors import StoreAway
from dheera.keys import Secret

HERE = Address(host="127.0.0.1", port=4000)
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def reply(document: object, status: int = 200, **fields: str) -> Reply:
    """
    An answer of JSON.
    """
    return Reply(status=status, fields=fields, content=json.dumps(document).encode())


WELCOME = reply({"name": "dheera", "version": __version__})


class Ready(TestCase):
    """
    Whether it serves.
    """

    def states(self, status: int, words: dict[str, str], welcome: Reply = WELCOME) -> list[tuple[str, str]]:
        """
        How bad it is, and what was found.
        """
        return [(each.state, each.found) for each in judged(HERE, reply(words, status), welcome)]

    def test_ready(self) -> None:
        """
        One that is ready is well.
        """
        expected = f"ready at http://127.0.0.1:4000, version {__version__}"
        self.assertEqual([("ok", expected)], self.states(200, {"status": "ready"}))

    def test_not_ready(self) -> None:
        """
        What is away is a failure; a stop is but a warning.
        """
        for status, expected in (("draining", "warn"), ("database away", "fail"), ("spool not writable", "fail")):
            found = f"not ready at http://127.0.0.1:4000: {status}"
            self.assertEqual([(expected, found)], self.states(503, {"status": status}))

    def test_refuses(self) -> None:
        """
        A refusal in place of an answer is told with its words.
        """
        refusal = Reply(status=503, fields={"x-dheera-error-source": "dheera"}, content=StoreAway().envelope())
        [found] = judged(HERE, refusal, refusal)
        self.assertEqual("fail", found.state)
        self.assertIn("The database is not answering", found.found)

    def test_another_program(self) -> None:
        """
        What is no dheera is told as such, whatever it answers.
        """
        for welcome in reply({"name": "nginx"}), Reply(status=200, fields={}, content=b"<html>"), reply([]):
            [(state, found)] = self.states(200, {"status": "ready"}, welcome)
            self.assertEqual(("fail", "another program answers at http://127.0.0.1:4000"), (state, found))

    def test_version(self) -> None:
        """
        That another version runs is a warning beside the rest.
        """
        states = self.states(200, {"status": "ready"}, reply({"name": "dheera", "version": "0.0.9"}))
        self.assertEqual(["ok", "warn"], [state for state, _ in states])
        self.assertEqual(f"version 0.0.9 runs, and this is {__version__}", states[1][1])


class Admitted(TestCase):
    """
    Whether both have the same master key.
    """

    def states(self, status: int, *, has_key: bool) -> list[str]:
        """
        How bad that answer is.
        """
        return [each.state for each in admitted(reply({"message": "Words."}, status), has_key=has_key)]

    def test_key(self) -> None:
        """
        One that is taken is well; one that is unknown, or not wanted there, is a failure; one that could not be tried
        is a warning.
        """
        for status, expected in ((200, ["ok"]), (401, ["fail"]), (403, ["fail"]), (503, ["warn"])):
            self.assertEqual(expected, self.states(status, has_key=True), status)

    def test_no_key(self) -> None:
        """
        Without one here, there should be none there.
        """
        for status, expected in ((403, []), (401, ["warn"]), (503, [])):
            self.assertEqual(expected, self.states(status, has_key=False), status)


class Strangers(AsyncTestCase):
    """
    Somebody else's machine.
    """

    async def test_no_key(self) -> None:
        """
        The master key is not sent to what is no address of this machine: nothing is connected to at all.
        """
        from twisted.internet import reactor

        stranger = Address(scheme="https", host="192.0.2.1", port=443)
        [found] = await look_inside(reactor, stranger, Secret("sk-canary"), 30.0)
        self.assertEqual(("warn", "master key"), (found.state, found.name))


class Kept(TestCase):
    """
    Ledger and sinks, as it sees them.
    """

    def states(self, **ledger: Any) -> list[Finding]:
        """
        What is found of a ledger.
        """
        lag = {"waiting_bytes": 0, "oldest_at": None, "dropped": 0, **ledger.pop("lag", {})}
        return list(kept({"ledger": {"refused": 0, "lag": lag, **ledger}}, NOON))

    def test_ledger(self) -> None:
        """
        A ledger that is far behind, or has given something up, is a warning.
        """
        recently, long_ago = (NOON - timedelta(seconds=each) for each in (50, 70))
        for expected, found in (
            ("ok", self.states()),
            ("ok", self.states(lag={"oldest_at": recently.isoformat(), "waiting_bytes": 9})),
            ("warn", self.states(lag={"oldest_at": long_ago.isoformat(), "waiting_bytes": 9})),
            ("warn", self.states(lag={"dropped": 1})),
            ("warn", self.states(refused=1)),
        ):
            self.assertEqual([(expected, "ledger")], [(each.state, each.name) for each in found])

    def test_sinks(self) -> None:
        """
        A sink that is away is a failure, with its reason.
        """
        away = {"status": "away", "since": "2026-11-01T11:00:00+00:00", "reason": "refused.", "lag": {}}
        found = list(kept({"ledger": {}, "sinks": {"hook": away, "files": {"status": "healthy"}}}, NOON))
        self.assertEqual(
            [("ok", "ledger"), ("fail", "sink hook"), ("ok", "sink files")], [(f.state, f.name) for f in found]
        )
        self.assertEqual("away since 2026-11-01T11:00:00+00:00: refused", found[1].found)
