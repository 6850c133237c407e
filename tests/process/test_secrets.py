"""
Where keys must not be: each one that is planted is looked for in all that the daemon says and shows.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from unittest import TestCase

from attrs import define, field

from dheera.keys import digest
from tests.postgres import PASSWORD, server
from tests.process import databases
from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.daemon import UPSTREAM_KEY, Daemon, environment, in_front_of
from tests.process.peers import Peer, Upstream, answer, connect, request

CLIENT_KEY = "sk-client-canary-07aa"
OWN_KEY = "sk-own-canary-c81e"
NEXT_OWN_KEY = "sk-next-own-canary-6b2f"
NOTED_KEY = "sk-noted-canary-f00d"
PROMPT = "prompt-canary-3d5f"
DATABASE = f"postgresql://u:{PASSWORD}@localhost/x"
CANARIES = MASTER_KEY, UPSTREAM_KEY, CLIENT_KEY, OWN_KEY, NEXT_OWN_KEY, NOTED_KEY, PROMPT, PASSWORD
SETTINGS = "[keys]\nwrong_keys = 10000\nstrict_fields = true"


class Talk:
    """
    An upstream that answers one call, cuts the next in its body, breaks the rules in the third, and so on.
    """

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def script(self, peer: Peer) -> None:
        """
        One connection.
        """
        while True:
            head, _ = peer.message()
            self.heard.append(head)
            if b"/cut" in head:
                peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                return
            if b"/none" in head:
                return
            if b"/nonsense" in head:
                peer.send(f"NOT HTTP {UPSTREAM_KEY} {PROMPT}\r\n\r\n".encode())
                return
            peer.send(answer(b"{}", status=b"401 Unauthorized" if b"/refused" in head else b"200 OK"))


def converse(port: int) -> bytes:
    """
    Calls of every kind that may make the daemon say something, from clients that send their keys in every way.

    :return: all that the clients heard.
    """
    heard = b""
    body = b'{"prompt": "%b"}' % PROMPT.encode()
    credentials = (
        f"Authorization: Bearer {MASTER_KEY}",
        f"Authorization: Bearer {CLIENT_KEY}",
        f"authorization: Basic {CLIENT_KEY}",
        f"x-api-key: {MASTER_KEY}",
        f"api-key: {CLIENT_KEY}",
        f"Authorization: Bearer {CLIENT_KEY}\x01",
        f"{CLIENT_KEY}",
        f"Cookie: {CLIENT_KEY}\r\nX-Dheera-Key: {CLIENT_KEY}\r\nAuthorization: Bearer {MASTER_KEY}",
    )
    for credential in credentials:
        for path in "fine", "refused", "cut", "none", "nonsense", "a/../b":
            with connect(port) as client:
                lines = [credential.encode(), b"Connection: close"]
                client.send(request("POST", f"/mistral/v1/{path}?key={CLIENT_KEY}", *lines, body=body))
                heard += client.rest()
    with connect(port) as client:
        client.send(f"{CLIENT_KEY} {PROMPT}\r\n\r\n".encode())
        heard += client.rest()
    return heard


@define
class Office:
    """
    Keys that are made, used, changed and deleted.

    :ivar keys: all that there ever were, in the clear.
    :ivar refusals: what was heard where something was refused.
    :ivar own: what was heard by keys that asked about themselves.
    :ivar shown: what was heard by the one who may know what there is.
    :ivar audit: what was heard of the audit.
    """

    daemon: Daemon
    keys: list[str] = field(factory=list)
    refusals: str = ""
    own: str = ""
    shown: str = ""
    audit: str = ""

    def open(self) -> None:
        """
        Do all that can be done to keys.
        """
        chief = master(self.daemon)
        ours = chief.issue(key_alias="ours", metadata={"note": f"was {NOTED_KEY}", "password": PASSWORD})
        self.keys += [chief.issue(), chief.issue(key=OWN_KEY), ours]
        for each in self.keys:
            self.use(each, 200)
            self.shown += chief.ask("GET", f"/key/info?key={digest(each.encode())}").content.decode()
        for first, second in (CLIENT_KEY, self.keys[0]), (ours, MASTER_KEY):
            with connect(self.daemon.port) as client:
                lines = f"x-api-key: {first}".encode(), f"api-key: {second}".encode(), b"Connection: close"
                client.send(request("GET", "/mistral/v1/fine", *lines))
                self.refusals += client.rest().decode()
        self.refuse(chief)
        self.refuse(Bearer(self.daemon, ours))
        self.change(chief)
        for path in "/key/list?size=100", "/key/list?size=100&return_full_object=true", "/key/aliases":
            self.shown += chief.ask("GET", path).content.decode()
        self.audit = chief.ask("GET", "/audit?size=100").content.decode()

    def use(self, key: str, status: int) -> None:
        """
        Make a call with *key*, and let it ask about itself; all is answered with *status*.
        """
        bearer = Bearer(self.daemon, key)
        for method, path in ("POST", "/mistral/v1/fine"), ("GET", "/key/info"), ("GET", "/key/health"):
            told = bearer.ask(method, path, {"prompt": PROMPT} if method == "POST" else None)
            assert told.status == status, told
            if status == 200:
                self.own += told.content.decode()
            else:
                self.refusals += told.content.decode()

    def change(self, chief: Bearer) -> None:
        """
        Block, expire, regenerate and delete.
        """
        first, second, third = self.keys
        chief.do("/key/update", key=third, duration="1s", metadata={"note": f"is {NOTED_KEY}"})
        chief.do("/key/block", key=first)
        self.use(first, 401)
        chief.do("/key/unblock", key=first)
        self.use(first, 200)
        self.keys.append(chief.do(f"/key/{first}/regenerate")["key"])
        self.use(first, 401)
        self.keys.append(chief.do("/key/regenerate", key=second, new_key=NEXT_OWN_KEY, grace_period="1h")["key"])
        for each in self.keys[-2:]:
            self.use(each, 200)
        Bearer(self.daemon, third).wait_for("expired_key")
        self.use(third, 401)
        self.keys.append(chief.issue())
        chief.do("/key/delete", keys=[self.keys[-1]])
        self.use(self.keys[-1], 401)

    def refuse(self, bearer: Bearer) -> None:
        """
        Ask for what cannot be, with keys in all places where they can stand.
        """
        for key in CLIENT_KEY, OWN_KEY:
            asked: list[tuple[str, str, object]] = [
                ("POST", "/key/generate", {"key": OWN_KEY}),
                ("POST", "/key/generate", {"key": f"{key} "}),
                ("POST", "/key/generate", {key: 1}),
                ("POST", "/key/generate", {"duration": key}),
                ("POST", "/key/generate", {"models": key}),
                ("POST", "/key/generate", {"max_budget": key}),
                ("POST", "/key/generate", {"key_type": key}),
                ("POST", "/key/generate", {"team_id": key}),
                ("POST", "/key/generate", [key]),
                ("POST", "/key/update", {"key": key, "duration": []}),
                ("POST", "/key/update", {"key": [key]}),
                ("POST", "/key/block", {"key": CLIENT_KEY}),
                ("POST", "/key/regenerate", {"key": OWN_KEY, "new_key": OWN_KEY}),
                ("POST", f"/key/{CLIENT_KEY}/regenerate", {}),
                ("POST", f"/key/{key}/reset_spend", {"reset_to": key}),
                ("POST", "/key/delete", {"keys": [CLIENT_KEY]}),
                ("POST", "/key/import", {"keys": key}),
                ("GET", f"/key/info?key={CLIENT_KEY}", None),
                ("GET", f"/key/list?{key}=1", None),
                ("GET", f"/key/list?sort_by={key}", None),
                ("GET", f"/key/list?page={key}", None),
                ("PUT", f"/key/{key}/regenerate", {}),
                ("GET", f"/key/{key}", None),
                ("GET", f"/{key}", None),
            ]
            for method, path, body in asked:
                told = bearer.ask(method, path, body)
                assert told.status in (400, 401, 403, 404, 405, 422), (method, path, told)
                self.refusals += told.content.decode()


def found(secrets: set[str], places: Mapping[str, str]) -> list[tuple[str, str]]:
    """
    Which of *secrets* are in which of *places*. The texts themselves are long.
    """
    return [(secret, place) for secret in secrets for place, text in places.items() if secret in text]


def content_of(url: str) -> str:
    """
    All that is in the database at *url*.
    """
    if url.startswith("sqlite:"):
        file = Path(url.removeprefix("sqlite:///"))
        return "".join(each.read_text("latin-1") for each in file.parent.iterdir())
    name = url.rpartition("/")[2]
    tables = "select table_name from information_schema.tables where table_schema = 'public'"
    rows = [
        row
        for (table,) in server().execute(tables, name=name)
        for (row,) in server().execute(f"select t::text from {table} t", name=name)  # noqa: S608 - tables of ours
    ]
    return "\n".join(rows)


class SilenceTests(TestCase):
    """
    A daemon that has much to say.
    """

    def test_sqlite(self) -> None:
        """
        Neither the log, nor standard output, nor any refusal of ours, nor the audit, nor the list of processes holds a
        key, its digest, a prompt or a query; the database holds digests alone; and upstream gets its own key and never
        one of ours.
        """
        with databases.sqlite() as url:
            self.listen(url, "text")

    def test_postgres(self) -> None:
        """
        So it is with PostgreSQL, and a log of JSON. What PostgreSQL itself logs holds no key either.
        """
        with databases.postgres() as url:
            keys = self.listen(url, "json")
        # OWN_KEY was asked for as if it were the id of a team.
        kept_from_it = {*keys, MASTER_KEY, UPSTREAM_KEY} - {OWN_KEY}
        self.assertEqual([], found(kept_from_it, {"PostgreSQL": server().log}))

    def listen(self, url: str, form: str) -> list[str]:
        """
        Let a daemon say all that it has to say.

        :return: the keys that it made.
        """
        talk = Talk()
        with (
            Upstream(talk.script) as upstream,
            in_front_of(
                *(upstream.url, "--log-format", form),
                settings=SETTINGS,
                DHEERA_AI_MASTER_KEY=MASTER_KEY,
                DATABASE_URL=url,
            ) as daemon,
        ):
            office = Office(daemon)
            office.open()
            refusals = office.refusals + converse(daemon.port).decode()
            process = Path("/proc") / str(daemon.process.pid)
            arguments = (process / "cmdline").read_text()
            kept = content_of(url)
            daemon.signal(signal.SIGTERM)
            self.assertEqual(0, daemon.ended())
            said = daemon.output + daemon.log
        kept += content_of(url)
        self.assertIn("closed the connection", said)  # it did have something to say
        self.assertIn("not valid HTTP", said)
        self.assertIn("key.regenerate", office.audit)
        self.assertIn("expired_key", refusals)
        digests = [digest(key.encode()) for key in (*office.keys, CLIENT_KEY, MASTER_KEY)]
        self.assertIn(digests[1], office.shown)
        self.assertIn(digests[1], kept)
        places = {"log": said, "refusals": refusals, "arguments": arguments, "audit": office.audit}
        secrets = {*CANARIES, *office.keys}
        self.assertEqual([], found({*secrets, *digests}, places))
        noted = {NOTED_KEY, PASSWORD}  # what somebody notes beside a key is kept, and told, as it is
        self.assertEqual([], found({*secrets, *digests} - noted, {"own": office.own}))
        self.assertEqual([], found(secrets - noted, {"shown": office.shown, "kept": kept}))
        for head in talk.heard:
            self.assertEqual(1, head.count(UPSTREAM_KEY.encode()))
            path, _, lines = head.partition(b"\r\n")
            self.assertEqual([], found({*office.keys, MASTER_KEY, CLIENT_KEY}, {repr(path): lines.decode()}))
        return office.keys

    def test_start_that_fails(self) -> None:
        """
        What is said of a configuration that cannot be used holds none of its secrets.
        """
        said = {"MISTRAL_API_KEY": f"{UPSTREAM_KEY} \u00e4", "DHEERA_AI_MASTER_KEY": f"{MASTER_KEY} x"}
        said |= {"DATABASE_URL": PASSWORD, "MISTRAL_API_BASE": f"http://{CLIENT_KEY}@localhost"}
        with Daemon(said=said, serves=False) as daemon:
            self.assertEqual(2, daemon.ended())
            self.assertEqual(4, daemon.log.count("environment variable"))
            for canary in CANARIES:
                self.assertNotIn(canary, daemon.output + daemon.log)


class CheckTests(TestCase):
    """
    ``dheera_ai check`` in the environment of a real start.
    """

    def test_tells_no_secret(self) -> None:
        """
        It says what would be served and by which mode, and no secret.
        """
        said = {"MISTRAL_API_KEY": UPSTREAM_KEY, "DHEERA_AI_MASTER_KEY": MASTER_KEY, "DATABASE_URL": DATABASE}
        done = subprocess.run(
            ["dheera_ai", "check"], env=environment(said), capture_output=True, text=True, check=False
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        self.assertIn("with a master key", done.stdout)
        for canary in CANARIES:
            self.assertNotIn(canary, done.stdout)
