"""
How the open files that the system allows are shared out: those of the store, the spool and the sinks are kept for them,
and clients and upstream get what is left, so that no crowd of clients can take a file from the books.
"""

from __future__ import annotations

import resource
import sys

from attrs import evolve, frozen

from dheera.settings import Config
from dheera.wire.crowd import TOLD_TO_LEAVE, served_of
from dheera.wire.limits import ServerLimits

OWN = 64
"""
What a process has open besides what is counted apart: some 20 for the reactor, the log, the file of a small database
and the spool; the rest is for what is open for a moment: segments that are read, names that are looked up, a table of
metrics for each kind.
"""
LISTENING = 2
"""
To the database, besides its pool: the connection that listens, and one that takes the place of another.
"""
OF_A_SINK = 8
"""
Its place in the spool, a file and what is compressed, or up to four connections.
"""
OF_THE_DEMO = 2
"""
A call of the demo has both ends of the connection to its upstream here.
"""


@frozen(kw_only=True)
class Shares:
    """
    What there is room for.

    :param connections: of clients, those who are only told that they are too many included.
    :param requests: that are passed on at once.
    """

    connections: int
    requests: int


@frozen(kw_only=True)
class Room:
    """
    What an operator's limits come to where files are few.

    :param files: that this process may have open.
    :param reserved: how many of them are for the database, records and listeners.
    :param shares: of the rest; for `Server.accepting`.
    :param limits: what the operator has set, with no more requests than there is room for.
    """

    files: int
    reserved: int
    shares: Shares
    limits: ServerLimits
    _wanted: ServerLimits

    def describe(self) -> str:
        """
        What is less than the operator wants, and what to do; empty if there is room for all.
        """
        connections, requests = self._served, self.limits.requests
        if connections == self._wanted.connections and requests == self._wanted.requests:
            return ""
        return (
            f"This process may have {self.files} files open, and {self.reserved} of them are kept for the database, "
            f"records and listeners. So it serves {connections} connections and {requests} calls at once, not "
            f"{self._wanted.connections} and {self._wanted.requests}. Allow more files (LimitNOFILE= in the unit, or "
            "ulimit -n), or lower [limits] connections and requests."
        )

    @property
    def _served(self) -> int:
        return served_of(self.shares.connections, self._wanted)


def made_room(config: Config, files: int) -> Room:
    """
    The limits of *config* as far as *files* allow them.
    """
    wanted, kept, ends = config.server_limits, reserved(config), OF_THE_DEMO if config.demo else 1
    given = shares(files, wanted.connections + TOLD_TO_LEAVE, wanted.requests * ends, kept)
    given = evolve(given, requests=max(1, given.requests // ends))
    limits = evolve(wanted, requests=given.requests)
    return Room(files=files, reserved=kept, shares=given, limits=limits, wanted=wanted)


def reserved(config: Config) -> int:
    """
    How many files are for other things than clients and the calls of theirs that are under way.
    """
    listeners = max(1, len(config.listen.endpoints))
    # Connections to one upstream may be idle while all calls go to another.
    idle = min(config.client_limits.pool_connections, config.server_limits.requests) * len(config.upstreams)
    return OWN + listeners + config.store.connections + LISTENING + OF_A_SINK * len(config.sinks) + idle


def shares(limit: int, connections: int, requests: int, reserved: int) -> Shares:
    """
    Share *limit* files out. If there are too few, connections and requests are lowered alike, though never below 1
    each: then less than *reserved* is left.
    """
    left = max(0, limit - reserved)
    if connections + requests > left:
        # A call that is under way has a connection of its client, as a rule: there is no use for many more of them.
        both = connections + min(connections, requests)
        connections = max(1, min(connections, connections * left // both))
        requests = max(1, min(requests, left - connections))
    return Shares(connections=connections, requests=requests)


def file_limit() -> int:
    """
    How many files this process may have open.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
