"""
How open files are shared out between clients, upstream, and the books.
"""

from __future__ import annotations

import resource

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dheera.descriptors import Shares, file_limit, made_room, reserved, shares
from dheera.settings import Config, Listen, OtherUpstream, Storage
from dheera.wire.crowd import TOLD_TO_LEAVE
from dheera.wire.limits import ClientLimits, ServerLimits

COUNTS = st.integers(1, 100_000)


class ShareTests(SynchronousTestCase):
    """
    What there is room for.
    """

    def test_enough(self) -> None:
        """
        Where there are files enough, all is as it is wanted.
        """
        self.assertEqual(Shares(connections=10_000, requests=4096), shares(20_000, 10_000, 4096, 100))

    def test_too_few(self) -> None:
        """
        Where there are too few, connections and requests are lowered alike.
        """
        self.assertEqual(Shares(connections=646, requests=266), shares(1024, 10_000, 4096, 112))

    def test_few_connections(self) -> None:
        """
        Few connections are not lowered for calls that nobody could make on them.
        """
        self.assertEqual(Shares(connections=20, requests=892), shares(1012, 20, 4096, 100))

    def test_next_to_none(self) -> None:
        """
        There is one of each at least.
        """
        self.assertEqual(Shares(connections=1, requests=1), shares(10, 10_000, 4096, 112))

    @given(COUNTS, COUNTS, COUNTS, st.integers(0, 1000))
    def test_bounds(self, limit: int, connections: int, requests: int, kept: int) -> None:
        """
        Clients and upstream never take what is kept for others, as long as there is a file for one of each; nobody gets
        more than was wanted, and nothing is lowered where there is room.
        """
        given = shares(limit, connections, requests, kept)
        self.assertTrue(1 <= given.connections <= connections)
        self.assertTrue(1 <= given.requests <= requests)
        if limit >= kept + 2:
            self.assertLessEqual(given.connections + given.requests, limit - kept)
        if connections + requests <= limit - kept:
            self.assertEqual((connections, requests), (given.connections, given.requests))

    @given(COUNTS, COUNTS, COUNTS)
    def test_more_files(self, limit: int, connections: int, requests: int) -> None:
        """
        With more files there is never room for fewer connections.
        """
        before, after = shares(limit, connections, requests, 100), shares(limit + 50, connections, requests, 100)
        self.assertLessEqual(before.connections, after.connections)


class ReserveTests(SynchronousTestCase):
    """
    What is kept for the books.
    """

    def test_what_is_counted(self) -> None:
        """
        The database, each listener, each sink, and what is kept idle to other upstreams.
        """
        plain = Config()
        for more, config in [
            (0, Config(listen=Listen(endpoints=("tcp:1",)))),
            (2, Config(listen=Listen(endpoints=("tcp:1", "tcp:2", "tcp:3")))),
            (12, Config(store=Storage(connections=20))),
            (16, Config(sinks={"a": {}, "b": {}})),
            (5, Config(upstreams={"own": OtherUpstream()}, client_limits=ClientLimits(pool_connections=5))),
        ]:
            self.assertEqual(more, reserved(config) - reserved(plain), config)


class RoomTests(SynchronousTestCase):
    """
    What an operator's limits come to.
    """

    def test_room(self) -> None:
        """
        Where there is room, nothing changes, and nothing is said.
        """
        config = Config(server_limits=ServerLimits(connections=500, requests=100, queue=7))
        room = made_room(config, 4096)
        self.assertEqual((config.server_limits, ""), (room.limits, room.describe()))
        self.assertEqual(500 + TOLD_TO_LEAVE, room.shares.connections)

    def test_no_room(self) -> None:
        """
        Where there is none, the operator is told what is less, and what to do. All other limits stay.
        """
        room = made_room(Config(server_limits=ServerLimits(queue=7)), 1024)
        self.assertEqual(7, room.limits.queue)
        for words in "1024 files", "594 connections", "10000", "LimitNOFILE=", "ulimit -n":
            self.assertIn(words, room.describe())
        self.assertEqual(room.shares.requests, room.limits.requests)
        self.assertLessEqual(room.reserved + room.shares.connections + room.limits.requests, 1024)

    def test_demo(self) -> None:
        """
        A call of the demo takes two: its upstream is here as well.
        """
        limits = ServerLimits(connections=1000, requests=1000)
        with_demo, without = (made_room(Config(demo=demo, server_limits=limits), 2000) for demo in (True, False))
        for room, ends in (with_demo, 2), (without, 1):
            self.assertLessEqual(room.reserved + room.shares.connections + ends * room.limits.requests, 2000)
        self.assertLess(with_demo.limits.requests, without.limits.requests)


class LimitTests(SynchronousTestCase):
    """
    How many files there may be.
    """

    def test_of_this_process(self) -> None:
        """
        What the system says.
        """
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] - 1, before[1]))
        self.assertEqual(before[0] - 1, file_limit())
