"""
What may not be told of calls: keys and their digests nowhere, what clients write only where it is asked for.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import TestCase

from attrs import frozen

from dheera.keys import digest
from tests.postgres import server
from tests.process import databases, ledgers
from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.daemon import ANY_PORT, Daemon, eventually
from tests.process.peers import STREAM_HEAD, Peer, Upstream, answer, chunk, connect, request
from tests.process.receivers import Receiver

REAL_KEY = "Rea1KeyOfUpstreamCanary0000a77f1"
"""
As Mistral's are: no prefix tells what it is.
"""
SPARE_KEY, OTHER_KEY = "Rea1KeyOfUpstreamCanary0000b88e2", "KeyOfAnotherUpstreamCanary00c99f"
"""
Of the same upstream, and of one beside it.
"""
REAL_KEYS = REAL_KEY, SPARE_KEY, OTHER_KEY
ALL_KEYS = " ".join(REAL_KEYS)
WRONG_KEY = "sk-wrong-canary-93c1"
PROMPT, ANSWER = "prompt-canary-3d5f", "answer-canary-77aa"
HIDDEN, FITTING = "hidden-canary-12ab", "card-canary-5555"
"""
In members, and in texts, that may not be shown however much is recorded.
"""
MODEL = "mistral-small-latest"

SETTINGS = """
[upstreams.other]
api_base = "{upstream}"
api_key = "{key}"

[records]
content = "{content}"
redact_paths = ["$..diagnosis"]
redact_patterns = ["card-canary-\\\\d+"]

[sinks.stdout]
content = "full"
batch_seconds = 0.05

[sinks.files]
kind = "file"
path = "{path}"
content = "full"
batch_seconds = 0.05

[sinks.hook]
kind = "webhook"
url = "{url}"
content = "full"
batch_seconds = 0.05

[sinks.other]
kind = "webhook"
url = "{other}"
shape = "litellm"
content = "full"
batch_seconds = 0.05
"""
DIGESTS_ARE_IN = {"keys", "digests"}
"""
The tables that are made for them.
"""
TABLES = {
    "sqlite": "select name from sqlite_schema where type = 'table'",
    "postgresql": "select table_name from information_schema.tables where table_schema = 'public'",
}


def script(peer: Peer) -> None:
    """
    An upstream that repeats what it was sent, credential and all, in an answer, a stream, or an error.
    """
    usage = '"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}'
    while True:
        head, body = peer.message()
        said = (
            f'{{"model": "{MODEL}", "heard": "Bearer {ALL_KEYS}", "text": "{ANSWER} {FITTING}", "diagnosis": "{HIDDEN}"'
        )
        if b"/cut" in head:
            peer.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n" + said.encode()
            )
            return
        if b'"stream": true' in body:
            peer.send(
                STREAM_HEAD + chunk(f"data: {said}, {usage}}}\n\n".encode()) + chunk(b"data: [DONE]\n\n") + chunk(b"")
            )
        elif b"/refused" in head:
            peer.send(answer(f'{said}, "message": "No such key: {ALL_KEYS}"}}'.encode(), status=b"401 Unauthorized"))
        else:
            peer.send(answer(f"{said}, {usage}}}".encode()))


@frozen(kw_only=True)
class Told:
    """
    All that a daemon has said and kept.

    :param places: what is to hold no key, by its name.
    :param tables: what the database holds, by its tables.
    :param keys: the keys that it has made.
    """

    places: dict[str, str]
    tables: dict[str, str]
    keys: list[str]

    def found(self, *texts: str) -> set[tuple[str, str]]:
        """
        Which of *texts* are in which places or tables.
        """
        everywhere = {**self.places, **{f"table {name}": text for name, text in self.tables.items()}}
        return {(text, name) for text in texts for name, content in everywhere.items() if text in content}


class CanaryTests(TestCase):
    """
    Calls of all sorts, with keys and content in all places where they may stand.
    """

    def test_none(self) -> None:
        """
        With ``content = "none"`` nothing of prompts and answers is anywhere, and no key.
        """
        with databases.sqlite() as url:
            told = self.listen("none", url)
        self.assert_no_keys(told)
        self.assertEqual(set(), told.found(PROMPT, ANSWER, HIDDEN, FITTING, '"temperature"'))

    def test_meta(self) -> None:
        """
        With ``content = "meta"`` settings are in records, and nothing of prompts and answers is; nor is any key.
        """
        with databases.postgres() as url:
            told = self.listen("meta", url)
        self.assert_no_keys(told)
        self.assertEqual(set(), told.found(PROMPT, ANSWER, HIDDEN, FITTING))
        self.assertIn('"temperature"', told.places["files"])
        self.assertEqual([], [key for key in (*told.keys, *REAL_KEYS, MASTER_KEY, WRONG_KEY) if key in server().log])

    def test_full(self) -> None:
        """
        With ``content = "full"`` prompts and answers are in the spool and in sinks, without what the rules take away,
        and nowhere else; nor is any key. A key whose metadata ask for less is heeded.
        """
        for database in databases.sqlite, databases.postgres:
            with database() as url:
                told = self.listen("full", url)
            self.assert_no_keys(told)
            sinks = {"spool", "stdout", "files", "hook", "other"}
            self.assertEqual({(text, sink) for text in (PROMPT, ANSWER) for sink in sinks}, told.found(PROMPT, ANSWER))
            self.assertEqual(set(), told.found(HIDDEN, FITTING, f"discreet-{PROMPT}"))

    def assert_no_keys(self, told: Told) -> None:
        """
        No key is anywhere, and no digest of one but in the tables for them.
        """
        keys = [*told.keys, *REAL_KEYS, MASTER_KEY, WRONG_KEY]
        self.assertEqual(set(), told.found(*keys))
        places = {f"table {name}" for name in DIGESTS_ARE_IN}
        digests = [digest(each.encode()) for each in keys]
        self.assertEqual(set(), {(text, name) for text, name in told.found(*digests) if name not in places})
        self.assertNotEqual(set(), told.found(*digests))  # they are looked for as they are written

    def listen(self, content: str, url: str) -> Told:
        """
        Let a daemon on the database at *url* do and tell all that it can.
        """
        with (
            TemporaryDirectory() as folder,
            Upstream(script) as upstream,
            Receiver() as hook,
            Receiver() as other,
            hook.on(),
            other.on(),
        ):
            file = Path(folder, "calls.jsonl")
            said = {
                "MISTRAL_API_BASE": upstream.url,
                "MISTRAL_API_KEYS": f"{REAL_KEY} {SPARE_KEY}",
                "DHEERA_AI_MASTER_KEY": MASTER_KEY,
                "DHEERA_AI_STATE_DIR": folder,
                "DATABASE_URL": url,
            }
            settings = SETTINGS.format(
                content=content, path=file, url=hook.url, other=other.url, upstream=upstream.url, key=OTHER_KEY
            )
            with Daemon(*ANY_PORT, said=said, settings=settings) as daemon:
                chief = master(daemon)
                keys = [chief.issue(key_alias="used"), chief.issue(key_alias="old", duration="1s")]
                keys.append(chief.issue(key_alias="discreet", metadata={"log_content": "none"}))
                heard = converse(daemon, keys)
                recorded = "select count(*) from ledger"
                eventually(lambda: all(each["lag"]["waiting_bytes"] == 0 for each in lags(chief)), "all have been told")
                self.assertGreater(ledgers.total(url, recorded), len(keys))
                heard |= {path: chief.ask("GET", path).content.decode() for path in ("/metrics", "/health/readiness")}
                heard |= {
                    path: chief.ask("GET", path).content.decode() for path in ("/health/services", "/global/spend")
                }
                self.assertIn("dheera_requests_total", heard["/metrics"])
                spool = "".join(
                    each.read_text("latin-1") for each in Path(folder, "spool").rglob("*") if each.is_file()
                )
                daemon.signal(signal.SIGTERM)
                self.assertEqual(0, daemon.ended())
                places = {
                    **heard,
                    "stdout": daemon.output,
                    "log": daemon.log,
                    "spool": spool,
                    "files": file.read_text(),
                    "hook": hook.content.decode(),
                    "other": other.content.decode(),
                }
            for name, text in places.items():
                self.assertNotEqual("", text, name)
            if url.startswith("sqlite:"):
                # The file as it is, which holds more than what can be selected.
                there = Path(url.removeprefix("sqlite:///")).parent.iterdir()
                raw = "".join(each.read_text("latin-1") for each in there)
                self.assertEqual([], [key for key in (*keys, *REAL_KEYS, MASTER_KEY, PROMPT, ANSWER) if key in raw])
            return Told(places=places, tables=tables(url), keys=keys)


def lags(chief: Bearer) -> list[Any]:
    """
    How far the ledger and the sinks are behind.
    """
    services = chief.look("/health/services")
    return [services["ledger"], *services["sinks"].values()]


def tables(url: str) -> dict[str, str]:
    """
    All that is in the database.
    """
    names = [name for (name,) in ledgers.query(url, TABLES[url.partition(":")[0]])]
    return {name: repr(ledgers.query(url, f"select * from {name}")) for name in names}  # noqa: S608 - tables of ours


def converse(daemon: Daemon, keys: list[str]) -> dict[str, str]:
    """
    Make calls.

    :return: what was heard in answers that are our own.
    """
    used, old, discreet = (Bearer(daemon, key) for key in keys)
    old.wait_for("expired_key")
    refusals = [each.chat().content for each in (old, Bearer(daemon, WRONG_KEY))]
    for bearer, prompt in (used, PROMPT), (discreet, f"discreet-{PROMPT}"), (master(daemon), PROMPT):
        for place in "/mistral/v1/chat/completions", "/mistral/v1/refused", "/mistral/v1/cut", "/other/v1/refused":
            for streams in True, False:
                body = chat(prompt, stream=streams)
                with connect(daemon.port) as client:
                    line = f"Authorization: Bearer {bearer.key}".encode()
                    client.send(
                        request(
                            "POST",
                            place,
                            line,
                            b"Content-Type: application/json",
                            b"Connection: close",
                            body=body,
                        )
                    )
                    client.rest()
    # Who puts their key where it does not belong.
    key = used.key
    for path in f"chat/completions?key={key}", f"files/{key}", f"audio/{key}/x":
        with connect(daemon.port) as client:
            lines = [f"{name}: {value}".encode() for name, value in misplaced(key)]
            body = chat(PROMPT, user=key, model=key, metadata={"tags": [key], "user_id": key}, api_key=key)
            client.send(request("POST", f"/mistral/v1/{path}", *lines, body=body))
            client.rest()
    refusals += [used.ask("GET", path).content for path in ("/spend/logs", "/key/list", f"/usage?key={WRONG_KEY}")]
    return {"refusals": b"".join(refusals).decode(), "/usage": used.ask("GET", "/usage").content.decode()}


def misplaced(key: str) -> list[tuple[str, str]]:
    """
    Header lines with a key in each.
    """
    return [
        ("Authorization", f"Bearer {key}"),
        ("Content-Type", "application/json"),
        ("Connection", "close"),
        ("User-Agent", f"agent {key}"),
        ("X-Dheera-End-User", key),
        ("X-Dheera-Tags", f"tag,{key}"),
        ("X-Forwarded-For", key),
        ("Cookie", f"token={key}"),
    ]


def chat(prompt: str, **more: object) -> bytes:
    """
    A chat about *prompt*, with members and texts that are not to be shown.
    """
    message = {"role": "user", "content": f"{prompt} {FITTING} {ALL_KEYS}"}
    fields = {"model": MODEL, "temperature": 0.5, "messages": [message], "diagnosis": HIDDEN, **more}
    return json.dumps(fields).encode()
