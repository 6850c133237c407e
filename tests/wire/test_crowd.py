"""
Who is one too many: in all, from one network, and when there are too few files.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import F_DUPFD, fcntl
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from dheera.wire.crowd import TOLD_TO_LEAVE, network_of
from dheera.wire.limits import ServerLimits
from dheera.wire.server import Server
from tests.wire.line import Line, Stand
from tests.wire.test_server import NEXT


def address(number: int) -> IPv4Address:
    """
    One of many clients.
    """
    return IPv4Address("TCP", f"192.0.2.{number}", 50000)


class TestCaps(SynchronousTestCase):
    """
    Too many connections.
    """

    def check_told(self, line: Line) -> None:
        answer = line.answer()
        self.assertEqual(
            (503, b"1", b"close"), (answer.status, answer.field(b"retry-after"), answer.field(b"connection"))
        )
        self.assertEqual("half-closed", line.state)

    def test_in_all(self) -> None:
        """
        One too many is told so, at once; a place that is left can be taken.
        """
        stand = Stand(limits=ServerLimits(connections=2))
        lines = [stand.connect(address(number)) for number in range(3)]
        self.check_told(lines[2])
        lines[2].send(NEXT)
        lines[0].hang_up()
        lines[2].hang_up()
        lines.append(stand.connect(address(9)))
        for line in (lines[1], lines[3]):
            line.send(NEXT)
            self.assertEqual(200, line.answer().status)
        self.assertEqual(2, len(stand.place.requests))

    def test_per_address(self) -> None:
        """
        The same for one address, and another is not concerned.
        """
        stand = Stand(limits=ServerLimits(connections_per_address=2))
        lines = [stand.connect(address(1)) for _ in range(3)]
        self.check_told(lines[2])
        other = stand.connect(address(2))
        other.send(NEXT)
        self.assertEqual(200, other.answer().status)
        lines[0].hang_up()
        lines[2].hang_up()
        self.assertEqual("open", stand.connect(address(1)).state)

    def test_no_address(self) -> None:
        """
        Clients of a Unix socket have none to be counted by.
        """
        stand = Stand(limits=ServerLimits(connections_per_address=1))
        self.assertEqual(["open"] * 3, [stand.connect(UNIXAddress(None)).state for _ in range(3)])

    def test_network(self) -> None:
        """
        Addresses of one network count as one; another network is not concerned.
        """
        stand = Stand(limits=ServerLimits(connections_per_address=2))
        hosts = ["2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:1::3", "2001:db8:0:2::1"]
        lines = [stand.connect(IPv6Address("TCP", host, 50000)) for host in hosts]
        self.check_told(lines[2])
        lines[3].send(NEXT)
        self.assertEqual(200, lines[3].answer().status)
        lines[0].hang_up()
        lines[2].hang_up()
        self.assertEqual("open", stand.connect(IPv6Address("TCP", hosts[2], 50000)).state)

    def test_accepting(self) -> None:
        """
        The number of connections can be set lower than the limits say. Those who are told to leave are among them, so
        that there are never more.
        """
        stand = Stand(limits=ServerLimits(connections=1000))
        lines = [stand.connect(address(1)) for _ in range(20)]
        stand.server.accepting(80)
        lines += [stand.connect(address(1)) for _ in range(100)]
        told = [line for line in lines if line.state == "half-closed"]
        self.assertEqual((10, 40), (len(told), sum(line.state == "reset" for line in lines)))
        self.check_told(told[0])
        self.assertEqual(80, stand.server.connections)
        stand.server.accepting(1 << 20)
        self.assertEqual("open", stand.connect(address(1)).state)

    def test_accepting_more(self) -> None:
        """
        What there is room for beyond the limits is for those who are told to leave.
        """
        stand = Stand(limits=ServerLimits(connections=20))
        stand.server.accepting(120)
        lines = [stand.connect(address(1)) for _ in range(140)]
        states = [line.state for line in lines]
        self.assertEqual(["open"] * 20 + ["half-closed"] * 100 + ["reset"] * 20, states)

    def test_far_too_many(self) -> None:
        """
        Those beyond the ones who are told are dropped without a word.
        """
        stand = Stand(limits=ServerLimits(connections=1))
        told = [stand.connect(UNIXAddress(None)) for _ in range(TOLD_TO_LEAVE + 1)]
        dropped = stand.connect(UNIXAddress(None))
        self.assertEqual(("reset", b""), (dropped.state, dropped.take()))
        self.check_told(told[-1])

    def test_far_too_many_from_one(self) -> None:
        """
        The same for one address, so that it cannot fill the places of others by being told.
        """
        stand = Stand(limits=ServerLimits(connections=2 * TOLD_TO_LEAVE, connections_per_address=1))
        lines = [stand.connect(address(1)) for _ in range(3 * TOLD_TO_LEAVE)]
        self.assertEqual(2 * TOLD_TO_LEAVE - 1, sum(line.state == "reset" for line in lines))
        other = stand.connect(address(2))
        other.send(NEXT)
        self.assertEqual(200, other.answer().status)

    def test_told_leave(self) -> None:
        """
        Those who are told leave soon, whatever they do.
        """
        stand = Stand(limits=ServerLimits(connections=0))
        line = stand.connect()
        for _ in range(6):
            line.send(NEXT)
            stand.wait(1)
        self.assertEqual("reset", line.state)
        self.assertEqual([], stand.clock.getDelayedCalls())


class TestNetwork(SynchronousTestCase):
    """
    What counts as one client.
    """

    def test_known(self) -> None:
        """
        Addresses as they are written.
        """
        for host, network in [
            ("", ""),
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::1", "::/64"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
        ]:
            self.assertEqual(network, network_of(host))

    @given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
    def test_six(self, upper: int, one: int, other: int) -> None:
        """
        Two of IPv6 are the same client if their upper halves are equal, but for those that are IPv4.
        """
        hosts = [str(ipaddress.IPv6Address(upper << 64 | lower)) for lower in (one, other)]
        if all(ipaddress.IPv6Address(host).ipv4_mapped is None for host in hosts):
            self.assertEqual(network_of(hosts[0]), network_of(hosts[1]))
        self.assertNotEqual(network_of(hosts[0]), network_of(str(ipaddress.IPv6Address((upper ^ 1) << 64 | one))))

    @given(st.ip_addresses(v=4))
    def test_four(self, host: ipaddress.IPv4Address) -> None:
        """
        An address of IPv4 is itself, however it is written.
        """
        self.assertEqual([str(host)] * 2, [network_of(str(host)), network_of(f"::ffff:{host}")])


SERVE = """
import sys
from resource import RLIMIT_NOFILE, setrlimit
from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.web.resource import Resource
from dheera.wire.limits import ServerLimits
from dheera.wire.server import Server

class Page(Resource):
    isLeaf = True
    def render(self, request):
        return b"here"

setrlimit(RLIMIT_NOFILE, (64, 64))
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
port = reactor.listenTCP(0, Server(reactor, Page(), ServerLimits()), interface="127.0.0.1", backlog=500)
print(port.getHost().port, flush=True)
reactor.run()
"""


@contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """
    A server in a process that may open 64 files, and its port.
    """
    command = [sys.executable, "-c", SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.terminate()


class Numbered(Line):
    """
    A line whose socket has a number of the test's.
    """

    def __init__(self, server: Server, number: int) -> None:
        with socket.socket() as made:
            self._handle = socket.socket(fileno=fcntl(made, F_DUPFD, number))
        assert self._handle.fileno() == number, "this number is taken"
        super().__init__(server)

    def getHandle(self) -> socket.socket:  # noqa: N802 - Twisted's name
        return self._handle

    def hang_up(self) -> None:
        self._handle.close()
        super().hang_up()


class TestFileNumbers(SynchronousTestCase):
    """
    The number of a socket tells how many files are open.
    """

    def setUp(self) -> None:
        before = getrlimit(RLIMIT_NOFILE)
        setrlimit(RLIMIT_NOFILE, (1024, before[1]))
        self.addCleanup(setrlimit, RLIMIT_NOFILE, before)
        self.stand = Stand()

    def outcome(self, number: int) -> str | int:
        """
        The status that a client gets whose socket has this number, or how it finds the connection.
        """
        line = Numbered(self.stand.server, number)
        line.send(NEXT)
        state = line.state
        answers = line.answers()
        line.hang_up()
        return answers[0].status if answers else state

    def test_kept(self) -> None:
        """
        An eighth of the files is not for clients; in its first half they are told so.
        """
        numbers = {895: 200, 896: 503, 959: 503, 960: "reset", 1023: "reset"}
        self.assertEqual([*numbers.values()], [self.outcome(number) for number in numbers])

    def test_told_once(self) -> None:
        """
        The log tells of it once, and once when there are clearly enough.
        """
        with capturedLogs() as events:
            for number in (896, 1000, 895, 896, 768, 897):
                self.outcome(number)
            self.assertEqual([LogLevel.warn], [event["log_level"] for event in events])
            for number in (767, 500):
                self.outcome(number)
            self.assertEqual([LogLevel.warn, LogLevel.info], [event["log_level"] for event in events])
            self.outcome(896)
        self.assertEqual(3, len(events))

    def test_other_limit(self) -> None:
        """
        Where many more may be opened, the same number means nothing.
        """
        setrlimit(RLIMIT_NOFILE, (getrlimit(RLIMIT_NOFILE)[1],) * 2)
        self.assertEqual(200, self.outcome(1000))


class TestFiles(SynchronousTestCase):
    """
    A process that has few files left to open.
    """

    def ask(self, port: int) -> bytes:
        """
        What a new client gets; nothing if it is dropped.
        """
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
                client.sendall(NEXT)
                return client.recv(12)
        except (BrokenPipeError, ConnectionResetError):
            return b""

    def test_few(self) -> None:
        """
        Some are kept from clients: more of these than there are files are refused or dropped, which the log tells once,
        not for each; those who are there are served, and so is everybody when some have left.
        """
        with serving() as (process, port):
            crowd = []
            for _ in range(300):
                try:
                    crowd.append(socket.create_connection(("127.0.0.1", port), timeout=30))
                except ConnectionResetError:
                    continue  # dropped before we noticed that we were connected
            self.assertIn(self.ask(port), (b"HTTP/1.1 503", b""))
            crowd[0].sendall(NEXT)
            self.assertEqual(b"HTTP/1.1 200", crowd[0].recv(12))
            for client in crowd:
                client.close()
            self.assertIn(b"HTTP/1.1 200", (self.ask(port) for _ in range(1000)))
            process.terminate()
            assert process.stderr is not None
            log = process.stderr.read()
        self.assertEqual(1, len(re.findall("Too few files are left to open", log)))
        self.assertNotIn("EMFILE", log)
        self.assertGreater(12, len(log.splitlines()))
