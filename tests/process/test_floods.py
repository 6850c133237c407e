"""
Enemies, one by one: those who come in crowds, those who say nothing, who are slow, and who never read. The daemon stays
as large as it is, and goes on serving a client who means no harm.
"""

from __future__ import annotations

import csv
import resource
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Semaphore
from unittest import TestCase

from tests.process import callers, ledgers
from tests.process.bearers import MASTER_KEY, master
from tests.process.daemon import (
    ANY_PORT,
    PATIENCE_SECONDS,
    PROGRAM,
    UPSTREAM_KEY,
    Daemon,
    Memory,
    alive,
    eventually,
    in_front_of,
)
from tests.process.idlers import PER_ADDRESS, Idlers
from tests.process.peers import STREAM_HEAD, Peer, Upstream, always, answer, chunk, connect, request
from tests.process.programs import program
from tests.process.till import PRICES, Till

MEBIBYTE = 1 << 20
GOOD = request("GET", "/mistral/v1/good")


@contextmanager
def meanwhile(daemon: Daemon) -> Iterator[Counter[int]]:
    """
    Inside ``with`` a good client makes one call after another on its own connection.

    :return: how often it heard what status.
    """
    heard: Counter[int] = Counter()
    over = Event()

    def call(client: Peer) -> None:
        while not over.wait(0.01):
            client.send(GOOD)
            heard[callers.heard(client).status] += 1

    with connect(daemon.port) as client, ThreadPoolExecutor(1) as pool:
        client.send(GOOD)  # so that it has its place before anybody else comes
        heard[callers.heard(client).status] += 1
        calling = pool.submit(call, client)
        try:
            yield heard
        finally:
            over.set()
        calling.result()


class NeverReadingTests(TestCase):
    """
    Clients who ask for much and take nothing.
    """

    def test_many(self) -> None:
        """
        Forty of them, with a stream each, make the daemon grow by less than 10 MiB. Each is ended when it has taken
        nothing for as long as is set, upstream hears of it, and others are served all the time.
        """
        crowd, begun, gone = 40, Semaphore(0), Semaphore(0)
        piece = chunk(bytes(MEBIBYTE))

        def script(peer: Peer) -> None:
            while b"/stream" not in peer.head():
                peer.send(answer())
            peer.send(STREAM_HEAD)
            begun.release()
            try:
                for _ in range(64):
                    peer.send(piece)
            except ConnectionError:
                gone.release()

        with (
            Upstream(script) as upstream,
            in_front_of(upstream.url, settings="[limits]\nsend_seconds = 1\n") as daemon,
            meanwhile(daemon) as heard,
            ExitStack() as stack,
        ):
            memory = Memory(daemon)
            quiet = memory.sockets
            memory.forget_peak()
            before = memory.peak_bytes
            for _ in range(crowd):
                client = stack.enter_context(connect(daemon.port, receive_bytes=4096))
                client.send(request("GET", "/mistral/v1/stream"))
            for each in begun, gone:
                for _ in range(crowd):
                    self.assertTrue(each.acquire(timeout=PATIENCE_SECONDS))
            self.assertLess(memory.peak_bytes - before, 10 * MEBIBYTE)
            eventually(lambda: memory.sockets <= quiet + 2, "all their connections are closed")
            self.assertTrue(alive(daemon.url))
        self.assertEqual({200}, {*heard})


class IdleTests(TestCase):
    """
    Clients who connect and say nothing.
    """

    MANY = 20_000
    MOST_BYTES_EACH = 6 * 1024
    KEPT = 1000
    """
    Of the files that a process may have open at most, those which they surely do not get.
    """

    def test_many(self) -> None:
        """
        Twenty thousand of them take 6 KiB each at most, and a call is answered meanwhile, for which a new connection to
        upstream is made. Those for whom there are no files are closed at once. When they have been idle for long
        enough they are closed, and others find room in the memory of the first.
        """
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        held = self.MANY if files == resource.RLIM_INFINITY else min(self.MANY, files - self.KEPT)
        settings = f"""
        [limits]
        connections = {2 * self.MANY}
        connections_per_address = {PER_ADDRESS}
        requests = 64
        idle_seconds = 10
        """

        def script(peer: Peer) -> None:
            peer.head()
            peer.send(answer(b"{}", b"Connection: close"))

        with (
            Upstream(script) as upstream,
            in_front_of(upstream.url, settings=settings) as daemon,
            meanwhile(daemon) as heard,
        ):
            memory = Memory(daemon)
            quiet, before = memory.open_files, memory.bytes
            with Idlers(daemon.port, self.MANY // 2) as some, Idlers(daemon.port, self.MANY // 2, first=100) as others:
                some.wait()
                others.wait()
                eventually(lambda: memory.open_files >= held, "they are connected")
                self.assertLess((memory.bytes - before) / memory.open_files, self.MOST_BYTES_EACH)
                answered = heard[200]
                eventually(lambda: heard[200] > answered + 10, "calls are answered")
                ended = some.ended() + others.ended()
            self.assertEqual(self.MANY, ended.total())
            self.assertGreaterEqual(ended["closed"], held - quiet)
            eventually(lambda: memory.open_files <= quiet + 8, "their files are free again")
            largest = memory.peak_bytes
            with Idlers(daemon.port, self.MANY // 4) as again:
                again.wait()
                eventually(lambda: memory.open_files >= min(self.MANY // 4, held), "they are connected")
            self.assertLess(memory.peak_bytes - largest, 4 * MEBIBYTE)
        self.assertEqual({200}, {*heard})


class SlowTests(TestCase):
    """
    slowhttptest, which is made to keep servers busy.
    """

    ATTACKS = (
        ("head", ("-H", "-i", "1", "-l", "20")),
        ("body", ("-B", "-i", "2", "-l", "20", "-s", "400000")),
        ("read", ("-X", "-l", "4", "-w", "512", "-y", "1024", "-n", "2", "-z", "32")),
    )
    CROWD = 150

    def test_at_the_same_time(self) -> None:
        """
        Slow heads, slow bodies and slow readers at the same time, 150 of each: whenever the attacker looks the service
        is available. Who sends slowly has no connection left in the end; who reads slowly is served slowly. The daemon
        grows by less than 30 MiB, all files are free again, and others are served all the time.
        """
        settings = """
        [limits]
        head_seconds = 1
        send_seconds = 2
        [upstream_limits]
        between_chunks_seconds = 1
        pool_connections = 4
        """
        slow = program("slowhttptest", "slowhttptest")
        folder = Path(self.enterContext(TemporaryDirectory()))
        with (
            Upstream(always(answer(bytes(MEBIBYTE)))) as upstream,
            in_front_of(upstream.url, settings=settings) as daemon,
            meanwhile(daemon) as heard,
            ThreadPoolExecutor(len(self.ATTACKS)) as pool,
        ):
            memory = Memory(daemon)
            quiet = memory.sockets
            memory.forget_peak()
            before = memory.peak_bytes
            crowd = ("-c", str(self.CROWD), "-r", str(self.CROWD), "-u", daemon.mistral + "/v1/models")
            attacks = {
                name: pool.submit(
                    subprocess.run,
                    [slow, *words, *crowd, "-g", "-o", str(folder / name)],
                    capture_output=True,
                    check=True,
                    timeout=PATIENCE_SECONDS,
                )
                for name, words in self.ATTACKS
            }
            for name, attack in attacks.items():
                said = attack.result().stdout
                with self.subTest(name):
                    rows = [*csv.DictReader((folder / f"{name}.csv").read_text().splitlines())]
                    self.assertNotEqual([], rows)
                    self.assertNotIn("0", {row["Service Available"] for row in rows})
                    how = b"Hit test time limit" if name == "read" else b"No open connections left"
                    self.assertIn(how, said)
            self.assertLess(memory.peak_bytes - before, 30 * MEBIBYTE)
            eventually(lambda: memory.sockets <= quiet + 8, "their connections are closed, on both sides")
        self.assertEqual({200}, {*heard})


class FileTests(TestCase):
    """
    A daemon that may have few files open.
    """

    FILES = 128
    FREE = 32
    """
    Of those, the ones which are never taken by clients, so that the books can open what they need.
    """
    CROWD = 8
    AT_ONCE = 16
    CALLS = 30

    def test_more_clients_than_files(self) -> None:
        """
        The operator is told that files are few. While more clients connect than there are files, the daemon is ready,
        and a client that has its connection is served; the others are served as well, or hear 503 and when to come
        again, or are dropped. The books have each call; afterwards all is well.
        """
        folder, till = self.enterContext(TemporaryDirectory()), Till(0.02)
        database = f"sqlite:///{folder}/dheera.sqlite"
        with Upstream(till.script) as upstream, self.daemon(upstream, database) as daemon, connect(daemon.port) as good:
            self.assertIn("LimitNOFILE=", daemon.log)
            memory, key, over = Memory(daemon), master(daemon).issue(), Event()
            with ThreadPoolExecutor(self.CROWD) as pool:
                crowd = [pool.submit(self.come, daemon.port, key, over) for _ in range(self.CROWD)]
                try:
                    for _ in range(self.CALLS):
                        for asked in callers.chat(key), request("GET", "/health/readiness"):
                            good.send(asked)
                            self.assertEqual(200, callers.heard(good).status)
                        self.assertLessEqual(memory.open_files, self.FILES - self.FREE)
                finally:
                    over.set()
                heard = sum((each.result() for each in crowd), Counter[str]())
            self.assertEqual({"200", "503", "dropped"}, {*heard})
            self.assertNotIn("EMFILE", daemon.log)
            eventually(lambda: memory.open_files <= self.FILES // 2, "the files are free again")
            self.assertEqual(200, callers.asked(daemon, callers.chat(key)).status)
            seen = len(till.seen)
            self.assertGreaterEqual(seen, heard["200"] + self.CALLS + 1)
            lines = "select count(*) from ledger where outcome <> 'refused'"
            eventually(lambda: ledgers.total(database, lines) == seen, "the ledger has all")
            done = "select count(*) from ledger where outcome = 'complete'"
            self.assertGreaterEqual(ledgers.total(database, done), heard["200"] + self.CALLS + 1)

    def daemon(self, upstream: Upstream, database: str) -> Daemon:
        """
        One that may have so few, however often it asks for more.
        """
        said = {
            "MISTRAL_API_BASE": upstream.url,
            "MISTRAL_API_KEY": UPSTREAM_KEY,
            "DHEERA_AI_MASTER_KEY": MASTER_KEY,
            "DATABASE_URL": database,
        }
        few = ("prlimit", f"--nofile={self.FILES}", *PROGRAM)
        return Daemon(*ANY_PORT, program=few, said=said, settings=PRICES)

    def come(self, port: int, key: str, over: Event) -> Counter[str]:
        """
        Connect, many at once, and call.

        :return: what was heard, and how often.
        """
        heard: Counter[str] = Counter()
        while not over.is_set():
            with ExitStack() as stack:
                crowd = []
                for _ in range(self.AT_ONCE):
                    try:
                        client = stack.enter_context(connect(port))
                        crowd.append(client)
                        client.send(callers.chat(key))
                    except ConnectionError:
                        heard["dropped"] += 1
                for client in crowd:
                    try:
                        told = callers.heard(client)
                    except (ConnectionError, EOFError):
                        heard["dropped"] += 1
                    else:
                        assert told.status == 200 or int(told.fields["retry-after"]) > 0, told
                        heard[str(told.status)] += 1
        return heard


class QueueTests(TestCase):
    """
    More calls than may be passed on at once.
    """

    def setUp(self) -> None:
        self.asked, self.go_on = Semaphore(0), Semaphore(0)
        self.upstream = self.enterContext(Upstream(self.script))

    def script(self, peer: Peer) -> None:
        """
        An upstream that answers when it is told to.
        """
        while True:
            peer.message()
            self.asked.release()
            assert self.go_on.acquire(timeout=PATIENCE_SECONDS)
            peer.send(answer())

    def daemon(self, seconds: float) -> Daemon:
        """
        One that passes two on, and lets two wait so long.
        """
        limits = f"[limits]\nrequests = 2\nqueue = 2\nqueue_seconds = {seconds}\n"
        return self.enterContext(in_front_of(self.upstream.url, settings=limits))

    def call(self, daemon: Daemon) -> Peer:
        """
        Somebody who calls.
        """
        client = self.enterContext(connect(daemon.port))
        client.send(request("POST", "/mistral/v1/chat/completions", body=b"{}"))
        return client

    def fill(self, daemon: Daemon) -> list[Peer]:
        """
        Two calls that are under way, and two that wait. One who came after these has been told to come again.
        """
        clients = [self.call(daemon) for _ in range(2)]
        for _ in clients:
            self.assertTrue(self.asked.acquire(timeout=PATIENCE_SECONDS))
        clients += [self.call(daemon) for _ in range(2)]
        self.assertTrue(alive(daemon.url))  # and so the calls before have been read
        told = callers.heard(self.call(daemon))
        self.assertEqual(503, told.status)
        self.assertIn("too many wait for their turn", told.document["message"])
        self.assertIn(int(told.fields["retry-after"]), range(1, 31))
        return clients

    def test_turns(self) -> None:
        """
        Two are at upstream, two wait, of which upstream knows nothing, and one more hears 503 at once. When there is
        room, those who wait are served.
        """
        clients = self.fill(self.daemon(30))
        self.assertEqual(2, self.upstream.connections)
        self.assertFalse(self.asked.acquire(blocking=False))
        for _ in clients:
            self.go_on.release()
        for client in clients:
            self.assertEqual(200, callers.heard(client).status)

    def test_leaving(self) -> None:
        """
        Who leaves while it waits gives its place in the queue to another.
        """
        daemon = self.daemon(30)
        clients = self.fill(daemon)
        clients.pop().reset()
        for _ in range(4):
            self.go_on.release()

        def is_served() -> bool:
            return callers.heard(self.call(daemon)).status == 200

        eventually(is_served, "there is room again")
        for client in clients:
            self.assertEqual(200, callers.heard(client).status)

    def test_too_long(self) -> None:
        """
        Who has waited as long as is set hears 503; who is at upstream is not concerned.
        """
        clients = self.fill(self.daemon(0.5))
        for client in clients[2:]:
            told = callers.heard(client)
            self.assertEqual((503, "1"), (told.status, told.fields["retry-after"]))
            self.assertIn("has waited", told.document["message"])
        for _ in clients[:2]:
            self.go_on.release()
        for client in clients[:2]:
            self.assertEqual(200, callers.heard(client).status)
