"""
``dheera_ai doctor`` on set-ups that run, and on such as do not.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from unittest import TestCase

import trustme
from attrs import frozen

from dheera import __version__
from dheera.entities import now
from dheera.stores.migrations import migrations
from tests.postgres import PASSWORD, server
from tests.process import databases
from tests.process.bearers import MASTER_KEY
from tests.process.daemon import ANY_PORT, PATIENCE_SECONDS, UPSTREAM_KEY, Daemon, environment
from tests.process.peers import Peer, Script, Upstream, always, answer

SECRETS = (UPSTREAM_KEY, MASTER_KEY, PASSWORD, "canary")
KNOWN = migrations("postgres")[-1][0]


@frozen
class Visit:
    """
    What the doctor has found.
    """

    code: int
    findings: list[dict[str, str]]

    def of(self, name: str) -> tuple[str, str]:
        """
        How bad it is with that, and all words about it.
        """
        [found] = [each for each in self.findings if each["name"] == name]
        return found["state"], f"{found['found']}. {found['mend']}"

    @property
    def bad(self) -> list[tuple[str, str]]:
        """
        What is not well.
        """
        return [(each["state"], each["name"]) for each in self.findings if each["state"] != "ok"]


def models() -> bytes:
    """
    What an upstream answers now to a key that it knows.
    """
    return answer(b'{"object": "list", "data": []}', b"Date: " + format_datetime(now(), usegmt=True).encode())


def well(peer: Peer) -> None:
    """
    A script that answers so to all.
    """
    while True:
        peer.message()
        peer.send(models())


def by_key(heads: list[bytes], replies: Mapping[bytes, Callable[[], bytes]]) -> Script:
    """
    A script that answers each key in its way, and notes what it hears.
    """

    def script(peer: Peer) -> None:
        while True:
            head, _ = peer.message()
            heads.append(head)
            peer.send(next(reply() for key, reply in replies.items() if key in head))

    return script


class DoctorCase(TestCase):
    """
    A folder for the state, and an environment that tests fill.
    """

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.state = self.folder / "state"
        self.settings = ""
        self.said = {
            "DHEERA_AI_STATE_DIR": str(self.state),
            "DHEERA_AI_MASTER_KEY": MASTER_KEY,
            "MISTRAL_API_KEY": UPSTREAM_KEY,
            # Nobody listens there.
            "DHEERA_AI_PORT": "1",
        }

    def run_doctor(self, *words: str) -> subprocess.CompletedProcess[str]:
        """
        Run it; it names no secret.
        """
        file = self.folder / "dheera.toml"
        file.write_text(self.settings)
        file.chmod(0o600)
        # Options of the daemon may stand before the word, as for a check.
        done = subprocess.run(
            ["dheera_ai", "--config", str(file), "doctor", *words],
            env=environment(self.said),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS * 2,
            check=False,
        )
        for secret in SECRETS:
            self.assertNotIn(secret, done.stdout + done.stderr)
        return done

    def visit(self, *words: str) -> Visit:
        """
        What it finds.
        """
        done = self.run_doctor("--json", *words)
        self.assertEqual("", done.stderr)
        return Visit(done.returncode, json.loads(done.stdout))

    def daemon(self, *words: str) -> Daemon:
        """
        A daemon with the same settings.
        """
        file = self.folder / "running.toml"
        file.write_text(self.settings)
        said = {name: value for name, value in self.said.items() if name != "DHEERA_AI_PORT"}
        return self.enterContext(Daemon(*(words or ANY_PORT), "--config", str(file), said=said))

    def upstream(self, script: Script, **more: Any) -> Upstream:
        """
        In the place of Mistral.
        """
        made = self.enterContext(Upstream(script, **more))
        self.said["MISTRAL_API_BASE"] = made.url
        return made


class Well(DoctorCase):
    """
    A set-up that works.
    """

    def test_all(self) -> None:
        """
        All is well: a line for each, exit 0; the upstream has seen the key, and nothing was changed: no row, no file. A
        record is sent to sinks if one says so.
        """
        heads: list[bytes] = []
        self.upstream(by_key(heads, {UPSTREAM_KEY.encode(): models}))
        self.said["DATABASE_URL"] = self.enterContext(databases.postgres())
        calls = self.folder / "calls.jsonl"
        self.settings = f'[sinks.files]\nkind = "file"\npath = "{calls}"\n'
        daemon = self.daemon()
        before = set(self.folder.rglob("*"))
        done = self.run_doctor("--port", str(daemon.port))
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        *lines, last = done.stdout.splitlines()
        self.assertEqual(("All is well.", {"ok  "}), (last, {line[:4] for line in lines}), done.stdout)
        names = [line[6:].partition(":")[0] for line in lines]
        expected = ["configuration", "daemon", "master key", "ledger", "sink files", "upstream mistral", "clock"]
        expected += ["store", "connections of the store", "clock", "state directory", "disk", "open files", "sinks"]
        self.assertEqual(expected, names)
        self.assertIn(f"ready at {daemon.url}, version {__version__}", lines[1])
        self.assertRegex(lines[7], rf"PostgreSQL [0-9.]+, schema version {KNOWN}\.$")
        self.assertEqual([b"GET /v1/models HTTP/1.1"], [head.split(b"\r\n")[0] for head in heads])
        # The daemon writes its own into its spool.
        made = {path for path in self.folder.rglob("*") if "spool" not in path.parts} - before
        self.assertEqual({self.folder / "dheera.toml"}, made - {calls})
        self.assertFalse(calls.exists() and calls.read_bytes())
        sent = self.visit("--port", str(daemon.port), "--send")
        self.assertEqual((0, []), (sent.code, sent.bad))
        [record] = calls.read_bytes().splitlines()
        self.assertIn("test: true", json.loads(record)["tags"])

    def test_doors(self) -> None:
        """
        A daemon is found at a Unix socket, and behind TLS; what it says of the master key is the same.
        """
        self.upstream(well)
        issued = trustme.CA().issue_cert("example.org")
        issued.private_key_and_cert_chain_pem.write_to_path(self.folder / "example.pem")
        listen = f"unix:{self.folder}/socket"
        self.daemon("--listen", listen)
        found = self.visit("--listen", listen)
        self.assertEqual([("ok", f"ready at {listen}, version {__version__}. ")], [found.of("daemon")])
        self.assertEqual("ok", found.of("master key")[0])
        self.said["DHEERA_AI_HOST"] = "127.0.0.1"
        self.settings = f'[listen]\ntls_certificate = "{self.folder}/example.pem"\n'
        daemon = self.daemon()
        found = self.visit("--port", str(daemon.port))
        self.assertEqual(("ok", f"ready at {daemon.url}, version {__version__}. "), found.of("daemon"))
        self.assertEqual(("ok", "ok"), (found.of("master key")[0], found.of("certificate")[0]))


class Daemons(DoctorCase):
    """
    What is wrong with the daemon.
    """

    def setUp(self) -> None:
        super().setUp()
        self.upstream(well)

    def test_does_not_run(self) -> None:
        """
        That nothing runs is a warning, and nothing is made.
        """
        found = self.visit()
        self.assertEqual((0, [("warn", "daemon")]), (found.code, found.bad))
        self.assertRegex(found.of("daemon")[1], "not running.*http://127.0.0.1:1.*Start it: dheera_ai")
        self.assertFalse(self.state.exists())

    def test_another_program(self) -> None:
        """
        Another program in its place is a failure, and hears no key.
        """
        heads: list[bytes] = []
        other = self.enterContext(Upstream(by_key(heads, {b"": lambda: answer(b"<html>")})))
        found = self.visit("--port", str(other.port))
        self.assertEqual((1, [("fail", "daemon")]), (found.code, found.bad))
        self.assertIn("another program", found.of("daemon")[1])
        self.assertNotIn(MASTER_KEY.encode(), b"".join(heads))
        self.assertIn(b"/health/readiness", b"".join(heads))

    def test_other_key(self) -> None:
        """
        That it runs with another master key is a failure.
        """
        daemon = self.daemon()
        self.said["DHEERA_AI_MASTER_KEY"] = "sk-canary-another-master"
        found = self.visit("--port", str(daemon.port))
        self.assertEqual((1, [("fail", "master key")]), (found.code, found.bad))
        self.assertIn("does not know it", found.of("master key")[1])

    def test_sink_away(self) -> None:
        """
        What the daemon says of a sink that is away is told.
        """
        self.settings = '[sinks.hook]\nkind = "webhook"\nurl = "http://127.0.0.1:1/canary"\nbatch_seconds = 0.1\n'
        daemon = self.daemon()
        found = self.visit("--port", str(daemon.port), "--send")
        self.assertEqual(1, found.code)
        *_, tried = found.findings
        self.assertEqual(("fail", "sink hook"), (tried["state"], tried["name"]))
        self.assertIn("127.0.0.1:1 cannot be reached", tried["found"])


class Upstreams(DoctorCase):
    """
    What is wrong with upstreams.
    """

    def test_keys(self) -> None:
        """
        Each key of each upstream is tried; that one of them is unknown is a failure that says which, and what to do.
        """
        heads: list[bytes] = []
        unknown = answer(b"Bearer sk-canary-old", b"WWW-Authenticate: sk-canary-old", status=b"401 Unauthorized")
        self.upstream(by_key(heads, {b"canary-new": models, b"canary-old": lambda: unknown, b"/own": models}))
        del self.said["MISTRAL_API_KEY"]
        self.settings = (
            '[mistral]\napi_keys = ["sk-canary-new", { key = "sk-canary-old", name = "spare" }]\n'
            f'[upstreams.own]\napi_base = "{self.said["MISTRAL_API_BASE"]}/own"\n'
        )
        found = self.visit()
        self.assertEqual((1, [("warn", "daemon"), ("fail", "upstream mistral, key spare")]), (found.code, found.bad))
        self.assertRegex(found.of("upstream mistral, key spare")[1], "401.*console.mistral.ai.*MISTRAL_API_KEY")
        self.assertEqual(("ok", "ok"), (found.of("upstream mistral, key 1")[0], found.of("upstream own")[0]))
        self.assertEqual(3, len(heads))
        self.assertNotIn(b"canary", next(head for head in heads if b"/own/" in head))

    def test_unreached(self) -> None:
        """
        Upstreams that are not there, are not trusted, or say nothing are failures, each with what to look at; a silent
        one keeps nobody waiting.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        self.upstream(well, tls=context)
        silent = self.enterContext(Upstream(lambda peer: peer.swallow(1 << 30)))
        self.settings = (
            f'[upstreams.away]\napi_base = "http://127.0.0.1:1"\n[upstreams.silent]\napi_base = "{silent.url}"\n'
        )
        found = self.visit("--timeout", "2")
        for name, words in (
            ("mistral", r"certificate is not trusted.*\[mistral\] ca_file"),
            ("away", r"127.0.0.1:1 cannot be reached.*refused.*\[upstreams.away\] api_base"),
            ("silent", r".*"),
        ):
            state, told = found.of(f"upstream {name}")
            self.assertEqual("fail", state)
            self.assertRegex(told, words)

    def test_clock(self) -> None:
        """
        That this machine has another time than Mistral is told.
        """
        self.upstream(always(answer(b"{}", b"Date: Mon, 01 Jan 2024 00:00:00 GMT")))
        found = self.visit()
        self.assertEqual((1, "fail"), (found.code, found.of("clock")[0]))
        self.assertRegex(found.of("clock")[1], "s ahead of upstream mistral.*timedatectl")


class Stores(DoctorCase):
    """
    What is wrong with PostgreSQL.
    """

    def setUp(self) -> None:
        super().setUp()
        self.upstream(well)
        self.url = self.said["DATABASE_URL"] = self.enterContext(databases.postgres())

    def store(self) -> tuple[str, str]:
        """
        What is found of the store itself.
        """
        return next((each["state"], each["found"]) for each in self.visit().findings if each["name"] == "store")

    def test_versions(self) -> None:
        """
        An empty one is well, and stays empty; an older schema is a warning, a newer one a failure, and so is a server
        that cannot be written.
        """
        name = self.url.rpartition("/")[2]
        state, found = self.store()
        self.assertEqual("ok", state)
        self.assertRegex(found, r"^PostgreSQL [0-9.]+, empty")
        tables = "select count(*) from pg_tables where schemaname = 'public'"
        self.assertEqual([(0,)], server().execute(tables, name=name))
        server().execute(
            "create table schema_version (version int)", "insert into schema_version values (1)", name=name
        )
        self.assertEqual("warn", self.store()[0])
        server().execute("update schema_version set version = 9999", name=name)
        self.assertEqual("fail", self.store()[0])
        server().execute(f"alter database {name} set default_transaction_read_only = on")
        self.assertIn(("fail", "store"), self.visit().bad[2:])

    def test_away(self) -> None:
        """
        One that does not run, and one that does not let us in, is a failure; the others are looked at all the same.
        """
        self.said["DATABASE_URL"] = self.url.replace(PASSWORD, "canary-of-old")
        state, found = self.store()
        self.assertEqual("fail", state)
        self.assertIn("password authentication failed", found)
        self.said["DATABASE_URL"] = self.url
        with stopped():
            found_there = self.visit()
        self.assertEqual((1, [("warn", "daemon"), ("fail", "store")]), (found_there.code, found_there.bad))
        self.assertRegex(found_there.of("store")[1], rf"127.0.0.1:{server().port} cannot be used.*Start it")
        self.assertEqual("ok", found_there.of("disk")[0])


@contextmanager
def stopped() -> Iterator[None]:
    """
    PostgreSQL does not run inside ``with``.
    """
    server().stop()
    try:
        yield
    finally:
        server().start()


class Wrong(DoctorCase):
    """
    A configuration that cannot be used.
    """

    def test_exit(self) -> None:
        """
        All that is wrong is told, as by a check: exit 2.
        """
        self.settings = 'port = 1\n[sinks.file]\nkind = "file"\n'
        done = self.run_doctor()
        self.assertEqual((2, ""), (done.returncode, done.stdout))
        self.assertIn("dheera_ai: the configuration cannot be used\n  ", done.stderr)
        self.settings = '[sinks.file]\nkind = "file"\n'
        self.assertIn("[sinks.file] path", self.run_doctor().stderr)
        self.settings = ""
        done = self.run_doctor("--config", str(self.folder / "none.toml"))
        self.assertEqual(2, done.returncode)
        self.assertIn("none.toml: cannot be read", done.stderr)
        done = self.run_doctor("--listen", "nonsense:1")
        self.assertEqual(2, done.returncode)
        self.assertIn("--listen", done.stderr)
