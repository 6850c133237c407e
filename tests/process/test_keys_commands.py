"""
``dheera_ai keys`` as people run it: the real program in a shell and on a terminal, against a real daemon that keeps its
keys in a file; and the table that a real PostgreSQL writes.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import TestCase

import psycopg2  # type: ignore[import-untyped]  # it has no types

from dheera.keys import digest
from tests.postgres import server
from tests.process.daemon import ANY_PORT, PATIENCE_SECONDS, PROGRAM, Daemon, environment

MASTER = "sk-master-canary-8e21"

TABLE = """
create table "LiteLLM_VerificationToken" (
    token text primary key, key_name text, key_alias text, soft_budget_cooldown boolean not null default false,
    spend double precision not null default 0.0, expires timestamp(3), models text[],
    aliases jsonb not null default '{}', config jsonb not null default '{}', user_id text, team_id text,
    permissions jsonb not null default '{}',
    max_parallel_requests integer, metadata jsonb not null default '{}', blocked boolean, tpm_limit bigint,
    rpm_limit bigint, max_budget double precision, budget_duration text, budget_reset_at timestamp(3),
    allowed_cache_controls text[] default array[]::text[], allowed_routes text[] default array[]::text[],
    model_spend jsonb not null default '{}', model_max_budget jsonb not null default '{}', budget_id text,
    organization_id text, created_at timestamp(3) default current_timestamp, created_by text,
    updated_at timestamp(3) default current_timestamp, updated_by text
)
"""

OLD_KEYS = ("sk-litellm-canary-one", "sk-litellm-canary-two")

ROWS = """
insert into "LiteLLM_VerificationToken" (token, key_name, key_alias, spend, expires, models, metadata, blocked,
    max_budget, budget_duration, tpm_limit, team_id, created_at, created_by)
values ('{}', 'sk-...-one', 'ada "the first", äöü', 0.000123, '2999-01-02 03:04:05.678',
    array['mistral-small-latest', 'with "quotes", and \\'], '{{"note": "two\\nlines", "tags": ["a"]}}', false,
    50, '30d', 100000, 'search', '2025-01-02 03:04:05.678', 'admin');
insert into "LiteLLM_VerificationToken" (token, key_name, models) values ('{}', 'sk-...-two', '{{}}')
""".format(*(digest(each.encode()) for each in OLD_KEYS))


def status(daemon: Daemon, key: str) -> int:
    """
    How a call with this key is answered.
    """
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", "/mistral/v1/models", headers={"Authorization": f"Bearer {key}"})
        with connection.getresponse() as answer:
            answer.read()
            return answer.status
    finally:
        connection.close()


def make_team(daemon: Daemon, team_id: str) -> None:
    """
    What the import wants before it.
    """
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE_SECONDS)
    try:
        # The daemon of the second file has it already.
        connection.request("POST", "/team/new", json.dumps({"team_id": team_id}), {"Authorization": f"Bearer {MASTER}"})
        with connection.getresponse() as answer:
            assert answer.status in (200, 400), answer.read()
    finally:
        connection.close()


class Terminal:
    """
    The program on a terminal of 80 columns.
    """

    def __init__(self, daemon: Daemon, *words: str, key: str | None = MASTER) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        said = {"DHEERA_AI_URL": daemon.url, "TERM": "xterm"} | ({"DHEERA_AI_MASTER_KEY": key} if key else {})
        variables = {name: value for name, value in environment(said).items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            [*PROGRAM, "keys", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=variables,
            start_new_session=True,
            preexec_fn=_own_terminal,  # noqa: PLW1509 - no threads of ours hold locks here
        )
        os.close(theirs)
        self.seen = ""

    def wait_for(self, text: str) -> None:
        """
        Wait until *text* is seen.
        """
        latest = time.monotonic() + PATIENCE_SECONDS
        while text not in self.seen:
            assert time.monotonic() < latest, self.seen
            assert self._look(), self.seen

    def type(self, text: str) -> None:
        """
        Press keys.
        """
        os.write(self._ours, text.encode())

    def ended(self) -> int:
        """
        Wait for the end.

        :return: the exit code.
        """
        while self._look():
            pass
        os.close(self._ours)
        return self.process.wait(PATIENCE_SECONDS)

    def _look(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_SECONDS)
        assert ready, self.seen
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux says so when the other side is closed
            return False
        self.seen += data.decode()
        return bool(data)


def _own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class KeysCase(TestCase):
    """
    A daemon that serves the demo, and keeps its keys in a folder of its own.
    """

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    @contextmanager
    def daemon(self) -> Iterator[Daemon]:
        """
        It.
        """
        said = {"DHEERA_AI_MASTER_KEY": MASTER, "DATABASE_URL": f"sqlite:///{self.folder}/keys.db"}
        with Daemon("--demo", *ANY_PORT, said=said) as daemon:
            yield daemon

    def run_keys(self, daemon: Daemon, *words: str, send: bytes = b"", code: int = 0) -> str:
        """
        Standard output of ``dheera_ai keys``.
        """
        done = subprocess.run(
            [*PROGRAM, "keys", *words],
            input=send,
            env=environment({"DHEERA_AI_URL": daemon.url, "DHEERA_AI_MASTER_KEY": MASTER}),
            capture_output=True,
            check=False,
        )
        self.assertEqual(code, done.returncode, done.stdout + done.stderr)
        self.assertNotIn(b"Traceback", done.stderr)
        return done.stdout.decode()


class LifeTests(KeysCase):
    """
    The life of a key.
    """

    def test_life(self) -> None:
        """
        A key opens the proxy from when it is made until it is deleted, but not while it is blocked; rotated, the old
        one goes on for the grace period. The log of the daemon holds none of them.
        """
        with self.daemon() as daemon:
            first = self.run_keys(daemon, "create", "--alias", "ada", "--duration", "30d").strip()
            self.assertEqual(200, status(daemon, first))
            self.assertEqual("Blocked ada.\n", self.run_keys(daemon, "block", "ada"))
            self.assertEqual(401, status(daemon, first))
            self.run_keys(daemon, "unblock", "-", send=first.encode())
            self.assertEqual(200, status(daemon, first))
            second = self.run_keys(daemon, "rotate", "ada", "--grace-period", "1h").strip()
            self.assertEqual([200, 200], [status(daemon, first), status(daemon, second)])
            third = json.loads(self.run_keys(daemon, "rotate", "ada", "--json"))["key"]
            self.assertEqual([401, 401, 200], [status(daemon, each) for each in (first, second, third)])
            self.run_keys(daemon, "update", "ada", "--allowed-route", "/v1/nothing")
            self.assertEqual(403, status(daemon, third))
            self.run_keys(daemon, "update", "ada", "--clear", "allowed-route")
            self.assertEqual(200, status(daemon, third))
            self.assertEqual("Deleted ada.\n", self.run_keys(daemon, "delete", "--yes", "ada"))
            self.assertEqual(401, status(daemon, third))
            for each in first, second, third, MASTER, digest(first.encode()), digest(third.encode()):
                self.assertNotIn(each, daemon.log + daemon.output)

    def test_kept(self) -> None:
        """
        Keys outlive the daemon.
        """
        with self.daemon() as daemon:
            self.run_keys(daemon, "create", "--alias", "ada", "--max-budget", "0.000000001", "--tag", "ä")
        with self.daemon() as daemon:
            told = self.run_keys(daemon, "info", "ada")
            self.assertIn("budget             0.000000001 USD\n", told)
            self.assertIn("tags               ä\n", told)
            self.assertIn("ada ", self.run_keys(daemon, "list"))
            [row] = json.loads(self.run_keys(daemon, "list", "--json"))["keys"]
            self.assertEqual("ada", row["key_alias"])

    def test_open_mode(self) -> None:
        """
        A daemon without a master key says that it needs one.
        """
        with Daemon("--demo", *ANY_PORT) as daemon:
            done = subprocess.run(
                [*PROGRAM, "keys", "list", "--url", daemon.url],
                env=environment({"DHEERA_AI_MASTER_KEY": MASTER}),
                capture_output=True,
                text=True,
                check=False,
            )
        self.assertEqual((1, ""), (done.returncode, done.stdout))
        self.assertIn("DHEERA_AI_MASTER_KEY", done.stderr)


class ShellTests(KeysCase):
    """
    In a shell.
    """

    def bash(self, daemon: Daemon, script: str) -> tuple[int, str, str]:
        done = subprocess.run(
            ["bash", "-c", script],
            env=environment({"DHEERA_AI_PORT": str(daemon.port), "DHEERA_AI_MASTER_KEY": MASTER}),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def test_key_in_variable(self) -> None:
        """
        A script gets the key, and nothing else, into a variable, from the port alone.
        """
        with self.daemon() as daemon:
            script = (
                'KEY=$(dheera_ai keys create --alias ci --quiet) && printf %s "$KEY" | dheera_ai keys info - --json'
            )
            code, told, errors = self.bash(daemon, script)
        self.assertEqual((0, ""), (code, errors))
        self.assertEqual("ci", json.loads(told)["key_alias"])

    def test_reader_leaves(self) -> None:
        """
        A reader that has seen enough is no failure worth a traceback.
        """
        with self.daemon() as daemon:
            self.bash(daemon, "for n in 1 2 3; do dheera_ai keys create --quiet --alias $n; done")
            _, told, errors = self.bash(daemon, "dheera_ai keys list --all | head -n 1")
        self.assertTrue(told.startswith("KEY"))
        self.assertNotIn("Traceback", errors)
        self.assertNotIn("Exception", errors)


class TerminalTests(KeysCase):
    """
    On a terminal.
    """

    def test_table_fits(self) -> None:
        """
        Long names are cut, and no line is wider than the terminal.
        """
        with self.daemon() as daemon:
            self.run_keys(daemon, "create", "--alias", "a" * 200, "--user", "u" * 200)
            terminal = Terminal(daemon, "list")
            self.assertEqual(0, terminal.ended(), terminal.seen)
            self.assertIn("a…", terminal.seen)
            self.assertIn("u…", terminal.seen)
            self.assertIn("active", terminal.seen)
            self.assertLessEqual(max(len(line) for line in terminal.seen.split("\r\n")), 80)
            self.assertIn("a" * 200, self.run_keys(daemon, "list"))

    def test_confirms(self) -> None:
        """
        Deleting asks first, and only yes is yes.
        """
        with self.daemon() as daemon:
            key = self.run_keys(daemon, "create", "--alias", "ada").strip()
            for answer, code, opens in ("n", 1, 200), ("", 1, 200), ("y", 0, 401):
                terminal = Terminal(daemon, "delete", "ada")
                terminal.wait_for("Delete this key for good? [y/N]:")
                self.assertIn("ada  sk-...", terminal.seen)
                terminal.type(f"{answer}\n")
                self.assertEqual(code, terminal.ended(), terminal.seen)
                self.assertEqual(opens, status(daemon, key))

    def test_asks_for_master_key(self) -> None:
        """
        The master key can be typed, and is not seen.
        """
        with self.daemon() as daemon:
            terminal = Terminal(daemon, "list", "--key-file", "-", key=None)
            terminal.wait_for("Master key:")
            terminal.type(f"{MASTER}\n")
            self.assertEqual(0, terminal.ended(), terminal.seen)
            self.assertIn("0 in all.", terminal.seen)
            self.assertNotIn(MASTER, terminal.seen)

    def test_progress(self) -> None:
        """
        A long import shows how far it is, and takes that back at the end.
        """
        rows = [{"token": digest(str(number).encode())} for number in range(600)]
        file = self.folder / "rows.json"
        file.write_text(json.dumps(rows))
        with self.daemon() as daemon:
            terminal = Terminal(daemon, "import", str(file))
            self.assertEqual(0, terminal.ended(), terminal.seen)
        self.assertIn("\r500 rows\r600 rows", terminal.seen)
        self.assertTrue(terminal.seen.endswith("\r\x1b[KImported 600; 0 already there; 0 failed.\r\n"), terminal.seen)


class ImportTests(KeysCase):
    """
    The table of a real PostgreSQL.
    """

    def test_table(self) -> None:
        """
        As CSV and as JSON, all that it says arrives, the developers' keys open, and the other form finds them there.
        """
        name = server().fresh()
        self.addCleanup(server().drop, name)
        server().execute(TABLE, ROWS, name=name)
        connection = psycopg2.connect(server().url(name))
        self.addCleanup(connection.close)
        files = []
        for copied, ending in (
            ('"LiteLLM_VerificationToken" to stdout with csv header', "csv"),
            ("(select row_to_json(t) from \"LiteLLM_VerificationToken\" t) to stdout with csv quote e'\\x01'", "jsonl"),
        ):
            text = io.BytesIO()
            with connection.cursor() as cursor:
                cursor.copy_expert(f"copy {copied}", text)
            files.append(self.folder / f"keys.{ending}")
            # COPY quotes JSON for want of a plain form; psql -At would not.
            files[-1].write_bytes(text.getvalue().replace(b"\x01", b""))
        for first, second in (files, files[::-1]):
            with self.subTest(file=first.name), self.daemon() as daemon:
                make_team(daemon, "search")
                told = self.run_keys(daemon, "import", "--dry-run", str(first))
                self.assertEqual("Would import 2; 0 already there; 0 failed.\n", told)
                told = self.run_keys(daemon, "import", str(first))
                self.assertEqual("Imported 2; 0 already there; 0 failed.\n", told)
                told = self.run_keys(daemon, "import", "-", send=second.read_bytes())
                self.assertEqual("Imported 0; 2 already there; 0 failed.\n", told)
                self.assertEqual([200, 200], [status(daemon, each) for each in OLD_KEYS])
                row = json.loads(self.run_keys(daemon, "info", 'ada "the first", äöü', "--json"))
                expected = {
                    "key_name": "sk-...-one",
                    "spend": 0.000123,
                    "expires": "2999-01-02T03:04:05.678000Z",
                    "models": ["mistral-small-latest", 'with "quotes", and \\'],
                    "metadata": {"note": "two\nlines", "tags": ["a"]},
                    "tags": ["a"],
                    "blocked": False,
                    "max_budget": 50,
                    "budget_duration": "30d",
                    "tpm_limit": 100000,
                    "team_id": "search",
                    "created_at": "2025-01-02T03:04:05.678000Z",
                    "created_by": "admin",
                }
                self.assertEqual(expected, {name: row[name] for name in expected})
                self.run_keys(daemon, "delete", "--yes", "-", send="\n".join(OLD_KEYS).encode())
