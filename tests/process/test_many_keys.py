"""
Very many keys in a file.
"""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import ClassVar
from unittest import TestCase

from dheera.keys import digest
from tests.process import databases
from tests.process.bearers import MASTER_KEY, Bearer, master
from tests.process.daemon import ANY_PORT, Daemon, Memory
from tests.process.peers import connect, request

MANY = int(os.environ.get("DHEERA_TEST_KEYS", "20000"))
"""
So many that a daemon which kept each of them would grow by twice ``MOST_MORE``.
"""
FEW = 10
OWNERS = 1000
CACHED = 50
SETTINGS = f"[keys]\ncached = {CACHED}\nwrong_keys = 1000000"
AT_ONCE = 50
MEBIBYTE = 1 << 20
MOST_GROWTH = MEBIBYTE
"""
What comes and goes. Each key that was kept would take some 2 KiB, each unknown one almost one.
"""
MOST_MORE = 20 * MEBIBYTE


def many_key(number: int) -> str:
    """
    One of those that there are.
    """
    return f"sk-one-of-many-{number:06}"


def nobodys_key(number: int) -> str:
    """
    One of those that there are not.
    """
    return f"sk-nobody-has-{number:06}"


def multiply(url: str, number: int) -> None:
    """
    Make of the one key that a daemon has made *number* more, of ``OWNERS`` users.
    """
    own = {
        "id": "'many-' || n",
        "digest": "digest_of(n)",
        "alias": "'many-' || n",
        "user_id": f"'user-' || (n % {OWNERS})",
    }
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.create_function("digest_of", 1, lambda n: digest(many_key(n).encode()))
        columns = [row[1] for row in connection.execute("pragma table_info(keys)")]
        connection.execute("begin")
        values = ", ".join(own.get(each, each) for each in columns)
        connection.execute("create temporary table numbers (n integer)")
        connection.executemany("insert into numbers values (?)", ((n,) for n in range(number)))
        connection.execute(
            f"insert into keys ({', '.join(columns)}) select {values} from numbers, (select * from keys limit 1)"  # noqa: S608 - nothing of it comes from outside
        )
        connection.execute("insert into digests (digest, key_id) select digest, id from keys where id like 'many-%'")
        connection.execute("commit")


def offered(daemon: Daemon, keys: Sequence[str]) -> Counter[bytes]:
    """
    Offer one key after the other, some at once, on one connection.

    :return: how often each status was answered.
    """
    heard: Counter[bytes] = Counter()
    with connect(daemon.port) as client:
        for start in range(0, len(keys), AT_ONCE):
            some = keys[start : start + AT_ONCE]
            client.send(
                b"".join(request("GET", "/key/health", f"Authorization: Bearer {key}".encode()) for key in some)
            )
            heard.update(client.message()[0].split(b" ")[1] for _ in some)
    return heard


def started(url: str) -> Daemon:
    """
    A daemon on the file at *url* that keeps few keys at hand.
    """
    said = {"DATABASE_URL": url, "DHEERA_AI_MASTER_KEY": MASTER_KEY}
    return Daemon("--demo", *ANY_PORT, said=said, settings=SETTINGS)


class ManyKeysTests(TestCase):
    """
    One daemon with many keys, and one with few.
    """

    many: ClassVar[Daemon]
    few: ClassVar[Daemon]

    @classmethod
    def setUpClass(cls) -> None:
        cls.many, cls.few = (cls.serving(number) for number in (MANY, FEW))

    @classmethod
    def serving(cls, number: int) -> Daemon:
        """
        A daemon with *number* keys, and one more.
        """
        url = cls.enterClassContext(databases.sqlite())
        with started(url) as daemon:
            master(daemon).issue()
        multiply(url, number)
        return cls.enterClassContext(started(url))

    def test_look_ups(self) -> None:
        """
        Each of a hundred keys opens, and is taken for the one that it is.
        """
        for number in range(0, MANY, MANY // 100):
            bearer = Bearer(self.many, many_key(number))
            self.assertEqual(200, bearer.ask("GET", "/mistral/v1/models").status)
            self.assertEqual(f"many-{number}", bearer.look("/key/info")["info"]["key_alias"])

    def pages(self, query: str) -> Iterator[str]:
        """
        The digests on all pages of a list.
        """
        chief, page, last = master(self.many), 1, 1
        while page <= last:
            answer = chief.look(f"/key/list?size=100&page={page}&{query}")
            yield from answer["keys"]
            page, last = page + 1, answer["total_pages"]

    def test_lists(self) -> None:
        """
        Lists count all keys, lead to the last of them, and find those of one user and the one with an alias.
        """
        chief = master(self.many)
        first, last = (chief.look(f"/key/list?size=100&page={page}") for page in (1, MANY // 100))
        self.assertGreater(first["total_count"], MANY)
        self.assertEqual([100, 100], [len(each["keys"]) for each in (first, last)])
        self.assertEqual(set(), {*first["keys"]} & {*last["keys"]})
        expected = [digest(many_key(number).encode()) for number in range(7, MANY, OWNERS)]
        self.assertCountEqual(expected, self.pages("user_id=user-7"))
        self.assertEqual([digest(many_key(777).encode())], list(self.pages("key_alias=many-777")))

    def test_change(self) -> None:
        """
        A key is made, blocked and deleted among them; an alias that one of them has is refused.
        """
        chief = master(self.many)
        key = chief.issue(key_alias="one-more")
        bearer = Bearer(self.many, key)
        self.assertEqual("", bearer.chat().refusal)
        chief.do("/key/block", key=key)
        self.assertEqual("auth_error", bearer.chat().refusal)
        chief.do("/key/delete", key_aliases=["one-more"])
        self.assertEqual("token_not_found_in_db", bearer.chat().refusal)
        self.assertEqual(400, chief.ask("POST", "/key/generate", {"key_alias": f"many-{MANY - 1}"}).status)

    def test_memory(self) -> None:
        """
        Neither keys beyond those that are kept at hand, nor keys that nobody has issued, make the daemon grow; nor does
        their number: with very many it takes about as much as with ten.
        """
        memory = Memory(self.many)
        self.offer(self.many, [many_key(number) for number in range(1500)], b"200")
        self.offer(self.many, [nobodys_key(number) for number in range(1500)], b"401")
        before = memory.bytes
        self.offer(self.many, [many_key(number) for number in range(MANY - 3000, MANY)], b"200")
        self.assertLess(memory.bytes - before, MOST_GROWTH)
        before = memory.bytes
        self.offer(self.many, [nobodys_key(number) for number in range(1500, 5000)], b"401")
        self.assertLess(memory.bytes - before, MOST_GROWTH)
        self.offer(self.few, [many_key(number) for number in range(FEW)], b"200")
        self.offer(self.few, [nobodys_key(number) for number in range(FEW)], b"401")
        self.assertLess(memory.bytes - Memory(self.few).bytes, MOST_MORE)

    def offer(self, daemon: Daemon, keys: Sequence[str], status: bytes) -> None:
        """
        Offer *keys*, all of which must be answered with *status*.
        """
        self.assertEqual(Counter({status: len(keys)}), offered(daemon, keys))
