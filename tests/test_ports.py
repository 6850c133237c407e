"""
Sockets that are opened, inherited, handed on and let go.
"""

from __future__ import annotations

import os
import socket
import ssl
import stat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trustme
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from dheera.errors import CannotStart
from dheera.ports import SOCKETS_VARIABLE, Bequest, Ports, Sockets
from dheera.wire.certificate import ReloadingCertificate

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 30.0


class Greeter(ServerFactory):
    """
    Says its name to whoever comes.
    """

    noisy = False

    def __init__(self, name: bytes = b"hello") -> None:
        self.name = name

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        del addr
        protocol = Protocol()

        def greet() -> None:
            assert protocol.transport is not None
            protocol.transport.write(self.name)
            protocol.transport.loseConnection()

        protocol.connectionMade = greet  # type: ignore[method-assign]  # one line in place of a class
        return protocol


def call(address: object, family: int = socket.AF_INET) -> bytes:
    """
    What a client hears that connects there.
    """
    with socket.socket(family) as sock:
        sock.settimeout(PATIENCE_SECONDS)
        sock.connect(address)  # type: ignore[arg-type]  # whatever the family has
        return sock.recv(100)


class PortsCase(TestCase):
    """
    Ports on the real reactor. What still listens at the end is closed.
    """

    def ports(self, *, shares: int = 0) -> Ports:
        return self.heir({}, shares=shares)

    def heir(self, sockets: Sockets, *, lent: bool = False, shares: int = 0) -> Ports:
        """
        Another process's, in a way: it has descriptors of its own of *sockets*.
        """
        from twisted.internet import reactor

        environment = {}
        if sockets:
            own = {place: [os.dup(each) for each in found] for place, found in sockets.items()}
            environment[SOCKETS_VARIABLE] = Bequest(sockets=own, lent=lent).text()
        ports = Ports(reactor, environment, shares)
        self.assertEqual({}, environment)
        self.addCleanup(ports.close)
        self.addCleanup(ports.close_rest)
        return ports

    async def open(self, ports: Ports, text: str, name: bytes = b"hello") -> Any:
        return await serverFromString(ports, text).listen(Greeter(name))

    def folder(self) -> Path:
        # Paths of Unix sockets are short.
        folder = Path(f"/tmp/dheera-{os.getpid()}-{id(self):x}")  # noqa: S108 - see above
        folder.mkdir()
        self.addCleanup(folder.rmdir)
        return folder


def port_of(listening: Any) -> int:
    """
    The port's number.
    """
    return int(listening.getHost().port)


class TcpTests(PortsCase):
    async def test_open(self) -> None:
        """
        What an endpoint opens serves, is among the sockets under the place that was asked for, and is closed by
        stopListening.
        """
        ports = self.ports()
        listening = await TCP4ServerEndpoint(ports, 0, interface=LOOPBACK).listen(Greeter())
        self.assertEqual(["tcp:127.0.0.1:0"], list(ports.sockets()))
        number = port_of(listening)
        self.assertEqual(b"hello", await deferToThread(call, (LOOPBACK, number)))
        await listening.stopListening()
        self.assertEqual({}, ports.sockets())
        with self.assertRaises(ConnectionRefusedError):
            await deferToThread(call, (LOOPBACK, number))

    async def test_six(self) -> None:
        """
        An IPv6 address is one.
        """
        listening = await self.open(self.ports(), r"tcp6:0:interface=\:\:1")
        self.assertEqual(b"hello", await deferToThread(call, ("::1", port_of(listening)), socket.AF_INET6))

    async def test_taken(self) -> None:
        """
        A port that another has is refused as Twisted refuses it.
        """
        number = port_of(await self.open(self.ports(), f"tcp:0:interface={LOOPBACK}"))
        with self.assertRaises(CannotListenError) as caught:
            await self.open(self.ports(), f"tcp:{number}:interface={LOOPBACK}")
        self.assertEqual((LOOPBACK, number), (caught.exception.interface, caught.exception.port))

    async def test_two_doors_at_any_port(self) -> None:
        """
        Two doors that both take any free port are two places, and are inherited in this order.
        """
        text = f"tcp:0:interface={LOOPBACK}"
        old = self.ports()
        numbers = [port_of(await self.open(old, text)) for _ in range(2)]
        new = self.heir(old.sockets())
        self.assertEqual(numbers, [port_of(await self.open(new, text)) for _ in range(2)])

    async def test_tls(self) -> None:
        """
        An endpoint with TLS is one, and is handed on like any other.
        """
        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        pem = Path(self.enterContext(TemporaryDirectory())) / "pem"
        issued.private_key_and_cert_chain_pem.write_to_path(pem)
        context = ssl.create_default_context()
        authority.configure_trust(context)

        def greeted(number: int) -> bytes:
            with (
                socket.create_connection((LOOPBACK, number), PATIENCE_SECONDS) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as sock,
            ):
                return sock.recv(100)

        from twisted.internet import reactor

        def listen(ports: Ports, name: bytes) -> Any:
            certificate = ReloadingCertificate(reactor, pem, pem)
            return ports.listenSSL(0, Greeter(name), certificate, interface=LOOPBACK)

        old = self.ports()
        number = port_of(listen(old, b"hello"))
        self.assertEqual(b"hello", await deferToThread(greeted, number))
        listen(self.heir(old.sockets()), b"heir")
        old.let_go(os.getpid())
        self.assertEqual(b"heir", await deferToThread(greeted, number))


class HandOverTests(PortsCase):
    """
    One process lets go, another has the same sockets.
    """

    def setUp(self) -> None:
        self.text = f"tcp:0:interface={LOOPBACK}"

    async def test_hand_over(self) -> None:
        """
        Who connects after the old one has let go is served by the new one, and remains so when the old one has stopped.
        """
        old = self.ports()
        listening = await self.open(old, self.text)
        number = port_of(listening)
        new = self.heir(old.sockets())
        self.assertEqual(number, port_of(await self.open(new, self.text, b"heir")))
        old.let_go(os.getpid())
        self.assertEqual(b"heir", await deferToThread(call, (LOOPBACK, number)))
        await listening.stopListening()
        self.assertEqual(b"heir", await deferToThread(call, (LOOPBACK, number)))

    async def test_heir_dies(self) -> None:
        """
        When the new one is no more while the old one finishes what is under way, clients are refused, and the port is
        free: they would wait for an old one that accepts nothing.
        """
        old = self.ports()
        number = port_of(await self.open(old, self.text))
        new = self.heir(old.sockets())
        await self.open(new, self.text, b"heir")
        old.let_go(os.getpid())
        self.assertEqual(b"heir", await deferToThread(call, (LOOPBACK, number)))
        await new.close()
        with self.assertRaises(ConnectionRefusedError):
            await deferToThread(call, (LOOPBACK, number))
        await self.open(self.ports(), f"tcp:{number}:interface={LOOPBACK}")

    async def test_waiting_connection(self) -> None:
        """
        A connection that waits in the socket while nobody accepts is served by the next who does.
        """
        old = self.ports()
        listening = await self.open(old, self.text)
        number = port_of(listening)
        new = self.heir(old.sockets())
        old.let_go(os.getpid())
        await listening.stopListening()
        waiting = deferToThread(call, (LOOPBACK, number))
        await self.open(new, self.text, b"heir")
        self.assertEqual(b"heir", await waiting)

    async def test_rest(self) -> None:
        """
        What nobody asks for is closed, and its port is free.
        """
        old = self.ports()
        listening = await self.open(old, self.text)
        number = port_of(listening)
        new = self.heir(old.sockets())
        await self.open(new, f"tcp:0:interface={LOOPBACK}:backlog=7", b"same place")
        other = self.heir(old.sockets())
        await self.open(other, "tcp:0:interface=127.0.0.2")
        other.close_rest()
        self.assertEqual(["tcp:127.0.0.2:0"], list(other.sockets()))
        await listening.stopListening()
        await new.close()
        with self.assertRaises(ConnectionRefusedError):
            await deferToThread(call, (LOOPBACK, number))

    async def test_lent_elsewhere(self) -> None:
        """
        A worker listens where its supervisor listens, and nowhere else.
        """
        old = self.ports()
        await self.open(old, self.text)
        worker = self.heir(old.sockets(), lent=True)
        with self.assertRaisesRegex(CannotStart, r"tcp:127\.0\.0\.2:0 is not among the places"):
            await self.open(worker, "tcp:0:interface=127.0.0.2")

    def test_not_inherited_by_children(self) -> None:
        """
        What is inherited is not inherited further by accident.
        """
        with socket.create_server((LOOPBACK, 0)) as sock:
            number = os.dup(sock.fileno())
            os.set_inheritable(number, True)  # noqa: FBT003 - its only parameter
            ports = Ports(None, {SOCKETS_VARIABLE: Bequest(sockets={"tcp::1": [number]}).text()})
            self.assertEqual(False, os.get_inheritable(number))
            ports.close_rest()

    def test_nonsense(self) -> None:
        """
        What no dheera has left is refused in words.
        """
        for text in "", "{}", '{"sockets": {"tcp::1": [1048575]}}', '{"sockets": 1}':
            with self.subTest(text=text), self.assertRaisesRegex(CannotStart, SOCKETS_VARIABLE):
                Ports(None, {SOCKETS_VARIABLE: text})


class ThoroughTests(PortsCase):
    """
    Clients whom the kernel has connected before the port is closed.
    """

    def setUp(self) -> None:
        self.doors = (
            (socket.AF_INET, f"tcp:0:interface={LOOPBACK}:backlog=500"),
            (socket.AF_UNIX, f"unix:{self.folder()}/s:backlog=500"),
        )

    async def test_taken(self) -> None:
        """
        Each of them is served, however many there are; they would be reset otherwise.
        """
        for family, text in self.doors:
            listening = await self.open(self.ports(), text)
            clients = self.connected(family, listening.getHost())
            await listening.stopListening()
            self.assertEqual({b"hello"}, await self.heard(clients))

    async def test_left(self) -> None:
        """
        Where the sockets are another process's by then, they are left to that.
        """
        for family, text in self.doors:
            old = self.ports()
            listening = await self.open(old, text)
            new, host = self.heir(old.sockets()), listening.getHost()
            old.let_go(os.getpid())
            clients = self.connected(family, host)
            await listening.stopListening()
            again = await self.open(new, text, b"heir")
            self.assertEqual({b"heir"}, await self.heard(clients))
            await again.stopListening()

    def connected(self, family: int, host: Any) -> list[socket.socket]:
        """
        Clients whom nobody has accepted yet: the reactor had no turn.
        """
        clients = [socket.socket(family) for _ in range(300)]
        for each in clients:
            self.addCleanup(each.close)
            each.settimeout(PATIENCE_SECONDS)
            each.connect((LOOPBACK, host.port) if family == socket.AF_INET else host.name)
        return clients

    async def heard(self, clients: list[socket.socket]) -> set[bytes]:
        return {await deferToThread(each.recv, 100) for each in clients}


class SharesTests(PortsCase):
    """
    A supervisor's: one socket for each worker, at which it accepts nothing itself.
    """

    async def test_spread(self) -> None:
        """
        At any free port there are that many sockets, and connections come at each of them.
        """
        supervisor = self.ports(shares=3)
        number = port_of(await self.open(supervisor, f"tcp:0:interface={LOOPBACK}"))
        [descriptors] = supervisor.sockets().values()
        self.assertEqual(3, len(descriptors))
        workers = [self.heir({"tcp:127.0.0.1:0": [each]}, lent=True) for each in descriptors]
        for index, each in enumerate(workers):
            await self.open(each, f"tcp:0:interface={LOOPBACK}", b"%d" % index)
        heard = {await deferToThread(call, (LOOPBACK, number)) for _ in range(100)}
        self.assertEqual({b"0", b"1", b"2"}, heard)

    async def test_taken(self) -> None:
        """
        The port of another supervisor is taken, though that shares it with its workers.
        """
        number = port_of(await self.open(self.ports(shares=2), f"tcp:0:interface={LOOPBACK}"))
        with self.assertRaises(CannotListenError):
            await self.open(self.ports(shares=2), f"tcp:{number}:interface={LOOPBACK}")

    async def test_stop(self) -> None:
        """
        A supervisor that stops takes no connection that waits at a worker's socket.
        """
        supervisor = self.ports(shares=2)
        listening = await self.open(supervisor, f"tcp:0:interface={LOOPBACK}", b"nobody")
        number = port_of(listening)
        [descriptors] = supervisor.sockets().values()
        workers = [self.heir({"tcp:127.0.0.1:0": [each]}, lent=True) for each in descriptors]
        waiting = [deferToThread(call, (LOOPBACK, number)) for _ in range(9)]
        await listening.stopListening()
        for each in workers:
            await self.open(each, f"tcp:0:interface={LOOPBACK}", b"worker")
        self.assertEqual({b"worker"}, {await each for each in waiting})

    async def test_withdraw(self) -> None:
        """
        Where one of them does not come back the others get all connections, until it serves at its new socket.
        """
        text = f"tcp:0:interface={LOOPBACK}"
        supervisor = self.ports(shares=2)
        number = port_of(await self.open(supervisor, text))

        async def serve(index: int) -> Ports:
            [descriptors] = supervisor.sockets().values()
            worker = self.heir({"tcp:127.0.0.1:0": [descriptors[index]]}, lent=True)
            await self.open(worker, text, b"%d" % index)
            return worker

        async def heard() -> set[bytes]:
            return {await deferToThread(call, (LOOPBACK, number)) for _ in range(60)}

        await serve(0)
        dead = await serve(1)
        await dead.close()
        supervisor.withdraw(1, 2)
        self.assertEqual({b"0"}, await heard())
        [before] = supervisor.sockets().values()
        supervisor.withdraw(1, 2)
        self.assertEqual([before], list(supervisor.sockets().values()))  # which nobody has used
        await serve(1)
        self.assertEqual({b"0", b"1"}, await heard())

    async def test_withdraw_shared(self) -> None:
        """
        A socket that all of them have stays open.
        """
        old = self.ports()
        await self.open(old, f"tcp:0:interface={LOOPBACK}")
        new = self.heir(old.sockets(), shares=2)
        await self.open(new, f"tcp:0:interface={LOOPBACK}")
        before = new.sockets()
        new.withdraw(1, 2)
        self.assertEqual(before, new.sockets())

    async def test_more_workers(self) -> None:
        """
        A successor with more workers has one socket for each.
        """
        old = self.ports(shares=2)
        await self.open(old, f"tcp:0:interface={LOOPBACK}")
        new = self.heir(old.sockets(), shares=3)
        await self.open(new, f"tcp:0:interface={LOOPBACK}")
        [descriptors] = new.sockets().values()
        self.assertEqual(3, len(descriptors))

    async def test_one_process_after_many(self) -> None:
        """
        A single process that succeeds a supervisor serves at all its sockets.
        """
        text = f"tcp:0:interface={LOOPBACK}"
        old = self.ports(shares=3)
        number = port_of(await self.open(old, text))
        await self.open(self.heir(old.sockets()), text, b"alone")
        await old.close()
        self.assertEqual({b"alone"}, {await deferToThread(call, (LOOPBACK, number)) for _ in range(30)})

    async def test_many_after_one_process(self) -> None:
        """
        The socket of a single process cannot be spread: a supervisor that succeeds it has that one.
        """
        old = self.ports()
        await self.open(old, f"tcp:0:interface={LOOPBACK}")
        new = self.heir(old.sockets(), shares=3)
        await self.open(new, f"tcp:0:interface={LOOPBACK}")
        self.assertEqual([1], [len(each) for each in new.sockets().values()])


class UnixTests(PortsCase):
    """
    Unix sockets, with a path and a lock.
    """

    def setUp(self) -> None:
        self.path = self.folder() / "door"
        self.lock = self.path.with_name("door.lock")
        self.text = f"unix:{self.path}:mode=600"

    def mode(self) -> int:
        return stat.S_IMODE(self.path.stat().st_mode)

    async def called(self) -> bytes:
        greeting: Deferred[bytes] = deferToThread(call, str(self.path), socket.AF_UNIX)
        return await greeting

    async def test_open(self) -> None:
        """
        It has the mode that was asked for and a lock while it serves; nothing of it remains.
        """
        listening = await self.open(self.ports(), self.text)
        self.assertEqual(b"hello", await self.called())
        self.assertEqual((0o600, str(os.getpid())), (self.mode(), str(self.lock.readlink())))
        await listening.stopListening()
        self.assertEqual([], list(self.path.parent.iterdir()))

    async def test_locked(self) -> None:
        """
        The path of a living process is refused, that of a dead one is taken over.
        """
        listening = await self.open(self.ports(), self.text)
        with self.assertRaises(CannotListenError):
            await self.open(self.ports(), self.text)
        self.assertEqual(b"hello", await self.called())
        await listening.stopListening()
        self.lock.symlink_to(str(2**22 + 1))  # more than there can be (proc(5), pid_max)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(self.path))
        listening = await self.open(self.ports(), self.text, b"next")
        self.assertEqual(b"next", await self.called())
        await listening.stopListening()

    async def test_own_number(self) -> None:
        """
        A dead process that had our number, as each first process of a container has, is dead all the same.
        """
        self.lock.symlink_to(str(os.getpid()))
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(self.path))
        listening = await self.open(self.ports(), self.text)
        self.assertEqual(b"hello", await self.called())
        await listening.stopListening()
        self.assertEqual([], list(self.path.parent.iterdir()))

    async def test_hand_over(self) -> None:
        """
        The successor has the path with its mode and the lock, and the old one removes nothing when it stops.
        """
        old = self.ports()
        listening = await self.open(old, self.text)
        new = self.heir(old.sockets())
        heir = await self.open(new, self.text, b"heir")
        self.assertEqual(0o600, self.mode())
        old.let_go(1)
        self.assertEqual("1", str(self.lock.readlink()))
        await listening.stopListening()
        self.assertEqual(b"heir", await self.called())
        self.lock.unlink()
        self.lock.symlink_to(str(os.getpid()))
        await heir.stopListening()
        self.assertEqual([], list(self.path.parent.iterdir()))

    async def test_other_mode(self) -> None:
        """
        A successor may ask for another mode.
        """
        old = self.ports()
        listening = await self.open(old, self.text)
        await self.open(self.heir(old.sockets()), f"unix:{self.path}:mode=660")
        self.assertEqual(0o660, self.mode())
        await listening.stopListening()

    async def test_lent(self) -> None:
        """
        A worker that stops leaves the path to its supervisor.
        """
        old = self.ports(shares=2)
        listening = await self.open(old, self.text)
        worker = await self.open(self.heir(old.sockets(), lent=True), self.text, b"worker")
        self.assertEqual(b"worker", await self.called())
        await worker.stopListening()
        self.assertEqual(["door", "door.lock"], sorted(each.name for each in self.path.parent.iterdir()))
        await listening.stopListening()

    async def test_abstract(self) -> None:
        """
        An abstract address has neither a path nor a lock.
        """
        name = f"\0dheera-{os.getpid()}".encode()
        listening: Any = self.ports().listenUNIX(name, Greeter())
        self.assertEqual(b"hello", await deferToThread(call, name, socket.AF_UNIX))
        await listening.stopListening()


class SystemdTests(PortsCase):
    """
    Sockets that systemd has opened.
    """

    async def test_adopted(self) -> None:
        """
        They serve, and a path among them stays as it is, when they are adopted and when we stop: it is systemd's.
        """
        path = self.folder() / "door"
        self.addCleanup(path.unlink)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
            path.chmod(0o640)
            sock.listen()
            listening: Any = self.ports().adoptStreamPort(sock.fileno(), socket.AF_UNIX, Greeter())
        self.assertEqual(b"hello", await deferToThread(call, str(path), socket.AF_UNIX))
        self.assertEqual(0o640, stat.S_IMODE(path.stat().st_mode))
        await listening.stopListening()
        self.assertTrue(path.is_socket())
