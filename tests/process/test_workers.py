"""
Several processes that serve as one.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPException
from typing import ClassVar
from unittest import TestCase

from prometheus_client.parser import text_string_to_metric_families

from tests.process import databases, ledgers
from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.daemon import PROGRAM, UPSTREAM_KEY, Daemon, environment, eventually, in_front_of
from tests.process.peers import Upstream, always, answer, connect
from tests.process.test_stops import CHAT, PATIENT, Story, refused
from tests.process.workers import children, ended_with, lives, open_files

COUNTED, KILLED = "mistral-small-latest", "ministral-8b-latest"
"""
Models, so that calls of one test are told from those of another.
"""
ANSWER = answer(b'{"usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}')


class WorkersTests(TestCase):
    """
    Two that serve.
    """

    daemon: ClassVar[Daemon]
    database: ClassVar[str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.database = cls.enterClassContext(databases.sqlite())
        upstream = cls.enterClassContext(Upstream(always(ANSWER)))
        said = {
            "MISTRAL_API_BASE": upstream.url,
            "MISTRAL_API_KEY": UPSTREAM_KEY,
            "DHEERA_AI_MASTER_KEY": MASTER_KEY,
            "DATABASE_URL": cls.database,
        }
        cls.daemon = cls.enterClassContext(Daemon("--host", "127.0.0.1", "--port", "0", "--workers", "2", said=said))

    def setUp(self) -> None:
        self.master = master(self.daemon)
        self.supervisor = self.daemon.process.pid

    def written(self, model: str) -> Counter[str]:
        """
        Calls of *model* in the ledger, by their ids.
        """
        statement = f"select call_id from ledger where model = '{model}'"  # noqa: S608 - our own word
        return Counter(str(row[0]) for row in ledgers.query(self.database, statement))

    def counted(self) -> float:
        """
        Calls of ``COUNTED`` that the metrics know, whichever worker shows them.
        """
        text = Bearer(self.daemon, "").ask("GET", "/metrics").content.decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "dheera_requests_total" and sample.labels["model"] == COUNTED
        )

    def test_both_serve(self) -> None:
        """
        Connections are spread among the workers.
        """
        workers = children(self.supervisor)
        before = [open_files(each) for each in workers]
        with ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(connect(self.daemon.port))
            eventually(lambda: sum(map(open_files, workers)) >= sum(before) + 60, "all are let in")
            for pid, files in zip(workers, before, strict=True):
                self.assertLess(files + 5, open_files(pid))

    def test_counted_together(self) -> None:
        """
        The metrics show the calls of both, whichever is asked, and the ledger has each once.
        """
        with ThreadPoolExecutor(8) as at_once:
            answers = list(at_once.map(lambda _: self.master.chat(COUNTED), range(40)))
        ids = Counter(each.fields["x-dheera-call-id"] for each in answers)
        self.assertEqual(40, len(ids))
        eventually(lambda: [self.counted() for _ in range(6)] == [40.0] * 6, "the metrics show all calls")
        eventually(lambda: self.written(COUNTED) == ids, "the ledger has each call once")

    def test_death(self) -> None:
        """
        When one is killed the port goes on: nobody is refused, another takes its place, and each call that was
        answered is in the ledger once.
        """
        first, second = children(self.supervisor)
        broken: list[Exception] = []

        def chat(number: int) -> str:
            if number == 60:
                os.kill(first, signal.SIGKILL)
            try:
                return self.master.chat(KILLED).fields["x-dheera-call-id"]
            except (OSError, HTTPException) as error:
                broken.append(error)
                return ""

        with ThreadPoolExecutor(8) as at_once:
            ids = Counter(at_once.map(chat, range(240)))
        self.assertEqual([], [each for each in broken if isinstance(each, ConnectionRefusedError)])
        self.assertLess(ids.pop("", 0), 9)  # what it had in its hands
        eventually(lambda: len(children(self.supervisor)) == 2, "another takes its place")
        self.assertIn(second, children(self.supervisor))
        self.assertNotIn(first, children(self.supervisor))
        self.daemon.wait_for_log(r"Worker 1 ended \(SIGKILL\); another one is started")
        eventually(lambda: ids.keys() <= self.written(KILLED).keys(), "the ledger has all that was answered")
        self.assertEqual({1}, set(self.written(KILLED).values()))

    def test_taken(self) -> None:
        """
        Another dheera cannot take the port, though it too would share it with its workers.
        """
        command = [*PROGRAM, "--demo", "--host", "127.0.0.1", "--port", str(self.daemon.port), "--workers", "2"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
        self.assertEqual(1, ended.returncode)
        self.assertIn("another program listens there", ended.stderr)


class EndTests(TestCase):
    """
    How they end while a stream is under way.
    """

    def test_stop(self) -> None:
        """
        SIGTERM to the supervisor: nobody is let in any more, the stream comes to its end, and it is exit 0 when no
        worker is left.
        """
        story = Story(b"data: 1\n\n", b"data: 2\n\n", b"")
        with (
            Upstream(story.tell) as upstream,
            in_front_of(upstream.url, "--workers", "2", settings=PATIENT) as daemon,
            connect(daemon.port) as client,
        ):
            workers = children(daemon.process.pid)
            self.assertEqual(2, len(workers))
            client.send(CHAT)
            story.goes_on.release()
            client.head()
            self.assertEqual(b"data: 1\n\n", client.chunk())
            daemon.signal(signal.SIGTERM)
            eventually(lambda: refused(daemon.port), "nobody is let in any more")
            story.goes_on.release(2)
            self.assertEqual([b"data: 2\n\n"], list(client.chunks()))
            self.assertEqual(0, daemon.ended())
            self.assertEqual([], [each for each in workers if lives(each)])
            self.assertEqual([], [line for line in daemon.log.splitlines() if "ended while it stopped" in line])

    def test_supervisor_dies(self) -> None:
        """
        When the supervisor is killed its workers stop in order: the stream comes to its end first.
        """
        story = Story(b"data: 1\n\n", b"data: 2\n\n", b"")
        with (
            Upstream(story.tell) as upstream,
            in_front_of(upstream.url, "--workers", "2", settings=PATIENT) as daemon,
            ended_with(daemon) as workers,
            connect(daemon.port) as client,
        ):
            workers.extend(children(daemon.process.pid))
            client.send(CHAT)
            story.goes_on.release()
            client.head()
            self.assertEqual(b"data: 1\n\n", client.chunk())
            daemon.signal(signal.SIGKILL)
            eventually(lambda: refused(daemon.port), "nobody is let in any more")
            eventually(lambda: sum(map(lives, workers)) == 1, "the one that has nothing to do ends")
            story.goes_on.release(2)
            self.assertEqual([b"data: 2\n\n"], list(client.chunks()))
            eventually(lambda: not any(map(lives, workers)), "the workers end")
