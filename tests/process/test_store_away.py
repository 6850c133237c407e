"""
A database that goes away under a running daemon, and a daemon that is killed while it writes.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from threading import Event, Lock
from unittest import TestCase

from tests.postgres import PASSWORD, server
from tests.process import databases
from tests.process.bearers import MASTER_KEY, Answer, Bearer, master
from tests.process.daemon import ANY_PORT, PATIENCE_SECONDS, Daemon, eventually

WRITERS = 4
ENOUGH_KEYS = 60


def on(url: str) -> Daemon:
    """
    A daemon on the database at *url*.
    """
    return Daemon("--demo", *ANY_PORT, said={"DATABASE_URL": url, "DHEERA_AI_MASTER_KEY": MASTER_KEY})


def is_ready(daemon: Daemon) -> bool:
    """
    Whether it says that it is ready.
    """
    answer = master(daemon).ask("GET", "/health/readiness")
    if answer.status == 200:
        return True
    assert (answer.status, answer.fields["retry-after"]) == (503, "1"), answer
    expected = {"status": "database away", "db": "Not connected", "spool": "writable"}
    assert answer.document == expected, answer
    return False


@contextmanager
def stopped(mode: str) -> Iterator[None]:
    """
    PostgreSQL does not run inside ``with``.
    """
    server().stop(mode)
    try:
        yield
    finally:
        server().start()


class Tenant:
    """
    A database with a user of its own, who can be locked out while others may go on.
    """

    def __init__(self, url: str) -> None:
        self._name = url.rpartition("/")[2]
        self._user = f"tenant_of_{self._name}"
        self.url = server().url(self._name, user=self._user)
        server().execute(
            f"create role {self._user} login password '{PASSWORD}'",
            f"alter database {self._name} owner to {self._user}",
        )

    def lock_out(self) -> None:
        """
        End all connections of the user, and allow no more.
        """
        server().execute(
            f"alter role {self._user} nologin",
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{self._user}'",  # noqa: S608 - our own name
        )

    def let_in(self) -> None:
        """
        Allow connections again.
        """
        server().execute(f"alter role {self._user} login")

    def change(self, statement: str) -> None:
        """
        What somebody else does in this database, and tells nobody.
        """
        server().execute(statement, name=self._name)

    def remove(self) -> None:
        """
        Leave nothing behind.
        """
        server().execute(f"reassign owned by {self._user} to postgres", f"drop role {self._user}", name=self._name)


@contextmanager
def tenant() -> Iterator[Tenant]:
    """
    Inside ``with`` there is one, with a database.
    """
    with databases.postgres() as url:
        made = Tenant(url)
        try:
            yield made
        finally:
            made.remove()


class AwayTests(TestCase):
    """
    PostgreSQL goes, and comes back.
    """

    def away(self, answer: Answer) -> None:
        """
        Assert that this is what is heard of a database that is away.
        """
        self.assertEqual((503, "no_db_connection"), (answer.status, answer.refusal), answer)
        self.assertEqual("1", answer.fields["retry-after"])
        self.assertEqual("dheera", answer.fields["x-dheera-error-source"])

    def test_stop_and_start(self) -> None:
        """
        PostgreSQL stops, in order or by a crash. The daemon is alive but not ready; keys that are in use go on, and so
        does the master key. Of others it is not known whether they are right: 503, not 401. Management is 503. When
        PostgreSQL is there again everything works by itself.
        """
        with databases.postgres() as url, on(url) as daemon:
            chief = master(daemon)
            in_use, unused = Bearer(daemon, chief.issue()), Bearer(daemon, chief.issue())
            narrow = Bearer(daemon, chief.issue(models=["ministral-*"]))
            nobody = Bearer(daemon, "sk-that-nobody-has-issued")
            self.assertEqual(["", "key_model_access_denied"], [in_use.chat().refusal, narrow.chat().refusal])
            self.assertEqual("", chief.chat().refusal)
            for mode in "fast", "immediate":
                with stopped(mode):
                    eventually(lambda: not is_ready(daemon), "it is not ready")
                    self.assertEqual(200, chief.ask("GET", "/health/liveliness").status)
                    self.assertEqual(["", ""], [in_use.chat().refusal, chief.chat().refusal])
                    self.assertEqual("key_model_access_denied", narrow.chat().refusal)
                    self.away(unused.chat())
                    self.away(nobody.chat())
                    self.away(chief.ask("POST", "/key/generate", {}))
                    self.away(chief.ask("POST", "/key/block", {"key": in_use.key}))
                    for path in "/key/list", f"/key/info?key={in_use.key}", "/audit", "/user/list":
                        self.away(chief.ask("GET", path))
                eventually(lambda: is_ready(daemon), "it is ready again")
                self.assertEqual(["", ""], [in_use.chat().refusal, Bearer(daemon, chief.issue()).chat().refusal])
                self.assertEqual("token_not_found_in_db", nobody.chat().refusal)
            self.assertEqual("", unused.chat().refusal)
            # What was answered with 503 has not happened, and what is done now is in force.
            self.assertEqual(5, chief.look("/key/list")["total_count"])
            chief.do("/key/block", key=in_use.key)
            self.assertEqual("auth_error", in_use.chat().refusal)
            self.assertEqual(2, daemon.log.count("PostgreSQL is back"))

    def test_changes_meanwhile(self) -> None:
        """
        What others change while the daemon hears nothing is in force as soon as it hears again, though nobody tells it.
        """
        with tenant() as owner, on(owner.url) as daemon:
            chief = master(daemon)
            blocked, deleted, other = (Bearer(daemon, chief.issue(key_alias=name)) for name in ("a", "b", "c"))
            for each in blocked, deleted, other:
                self.assertEqual("", each.chat().refusal)
            owner.lock_out()
            eventually(lambda: not is_ready(daemon), "it is not ready")
            owner.change("update keys set blocked = true where alias = 'a'")
            owner.change("delete from digests where key_id in (select id from keys where alias = 'b')")
            self.assertEqual(["", "", ""], [each.chat().refusal for each in (blocked, deleted, other)])
            owner.let_in()
            eventually(lambda: is_ready(daemon), "it is ready again")
            self.assertEqual(
                ["auth_error", "token_not_found_in_db", ""],
                [each.chat().refusal for each in (blocked, deleted, other)],
            )


class KillTests(TestCase):
    """
    ``kill -9`` while keys are made.
    """

    def test_sqlite(self) -> None:
        """
        Each key that was handed out before the daemon was killed works after it was started again, and is in the audit;
        so it is with a file.
        """
        with databases.sqlite() as url:
            self.killed(url)

    def test_postgres(self) -> None:
        """
        So it is with PostgreSQL.
        """
        with databases.postgres() as url:
            self.killed(url)

    def killed(self, url: str) -> None:
        """
        Kill a daemon that makes keys for several at once, and look for them in the next.
        """
        handed_out: list[str] = []
        lock, enough = Lock(), Event()

        def go_on(daemon: Daemon) -> None:
            chief = master(daemon)
            try:
                while True:
                    key = chief.issue()
                    with lock:
                        handed_out.append(key)
                        if len(handed_out) >= ENOUGH_KEYS:
                            enough.set()
            except (OSError, HTTPException):
                enough.set()

        with on(url) as daemon, ThreadPoolExecutor(WRITERS) as writers:
            writing = [writers.submit(go_on, daemon) for _ in range(WRITERS)]
            enough.wait(PATIENCE_SECONDS)
            daemon.signal(signal.SIGKILL)
            self.assertEqual(-signal.SIGKILL, daemon.ended())
            for each in writing:
                each.result()
        self.assertGreaterEqual(len(handed_out), ENOUGH_KEYS)
        with on(url) as daemon:
            refused = [key for key in handed_out if Bearer(daemon, key).ask("GET", "/mistral/v1/models").status != 200]
            self.assertEqual([], refused)
            chief = master(daemon)
            made = chief.look("/key/list")["total_count"]
            self.assertGreaterEqual(made, len(handed_out))
            self.assertEqual(made, chief.look("/audit?action=key.generate")["total_count"])
