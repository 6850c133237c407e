"""
``dheera_ai spend`` and ``dheera_ai prune``, in front of the real API in memory.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from unittest import TestCase

import click
from click.testing import CliRunner, Result

from dheera.commands.prune import prune
from dheera.commands.spend import spend
from dheera.commands.spend_tables import money
from dheera.definitions import CONFIG_VARIABLE, ENVIRONMENT
from dheera.records import Record
from tests.commands.bridge import Bridge
from tests.management.office import MASTER, START, Desk
from tests.management.spending.ledger import CENT, keep

NOTHING_SET = dict.fromkeys([*ENVIRONMENT, CONFIG_VARIABLE, "DHEERA_AI_URL"])
MARCH = ("--since", "2026-03-01", "--until", "2026-03-31")


@click.group()
@click.option("--port")
def program(port: str | None) -> None:
    """
    The program, as far as these commands see it.
    """


program.add_command(spend)
program.add_command(prune)


class SpendCase(TestCase):
    """
    A daemon with some calls in its ledger, and somebody who types.
    """

    def setUp(self) -> None:
        self.desk = Desk()
        self.bridge = Bridge(self.desk)
        self.bridge.__enter__()
        self.addCleanup(self.bridge.__exit__, None, None, None)
        self.ada = self.desk.generate(key_alias="ada")

    def call(self, key: Mapping[str, Any] | None = None, **fields: Any) -> Record:
        """
        A call that is in the ledger.
        """
        who = {} if key is None else {"key_id": key["key_id"], "key_alias": key["key_alias"]}
        return keep(self.desk, **who, **fields)

    def say(self, *words: str, send: str | None = None) -> Result:
        """
        What comes of ``dheera_ai`` and *words*.
        """
        variables = {**NOTHING_SET, "DHEERA_AI_URL": self.bridge.url, "DHEERA_AI_MASTER_KEY": MASTER}
        result = CliRunner().invoke(program, words, env=variables, input=send)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def done(self, *words: str) -> str:
        """
        Standard output of what goes well.
        """
        result = self.say(*words)
        self.assertEqual(0, result.exit_code, result.output)
        return result.stdout

    def refused(self, code: int, *words: str) -> str:
        """
        Standard error of what does not go well; standard output says nothing.
        """
        result = self.say(*words)
        self.assertEqual((code, ""), (result.exit_code, result.stdout), result.output)
        self.assertNotIn("Traceback", result.stderr)
        return result.stderr

    def lines(self, *words: str) -> list[list[str]]:
        """
        The words of each line of what goes well.
        """
        return [line.split() for line in self.done(*words).splitlines()]


class ReportTests(SpendCase):
    def setUp(self) -> None:
        super().setUp()
        self.call(self.ada, model="a", cost=1_234_500_000, team_id="search", tags=["x"])
        self.call(self.ada, model="b", cost=123_000, user_id="alice", at=START + timedelta(days=1))
        self.call(model="new", cost=None, estimated=True)

    def test_by_key(self) -> None:
        """
        Without a word it adds up by key, with a total: amounts stand below each other with all their digits.
        """
        told = self.done("spend", *MARCH)
        self.assertEqual(
            [
                "KEY    CALLS  UNPRICED  ESTIMATED  TOKENS IN  CACHED  TOKENS OUT  SPEND USD",
                "ada        2         0          0         20       8          10   1.234623",
                "-          1         1          1         10       4           5   no price",
                "TOTAL      3         1          1         30      12          15   1.234623",
            ],
            told.splitlines(),
        )
        self.assertEqual(told, self.done("spend", "report", *MARCH))

    def test_what_has_no_price(self) -> None:
        """
        It is told, and so is what was estimated, and of which days all is.
        """
        told = self.say("spend", *MARCH).stderr
        self.assertIn("Days of UTC, from 2026-03-01 to 2026-03-31.", told)
        self.assertIn("1 unpriced: there is no price, and they are in no sum.", told)
        self.assertIn("1 estimated: upstream did not say", told)
        told = self.say("spend", "--key", "ada", *MARCH).stderr
        self.assertNotIn("unpriced", told)

    def test_dimensions(self) -> None:
        """
        By whatever one likes, up to three at once, with commas or given again.
        """
        for by, names in {
            "user": ["-", "alice"],
            "team": ["search", "-"],
            "model": ["a", "b", "new"],
            "tag": ["x"],
            "day": ["2026-03-02", "2026-03-01"],
            "endpoint": ["chat/completions"],
            "end-user": ["-"],
        }.items():
            _, *rows = self.lines("spend", "--by", by, *MARCH)
            self.assertEqual([*names, "TOTAL"], [row[0] for row in rows], by)
        told = self.done("spend", "--by", "key,model", *MARCH)
        self.assertEqual(told, self.done("spend", "--by", "key", "--by", "model", *MARCH))
        self.assertEqual(["KEY", "MODEL"], told.split()[:2])

    def test_filters(self) -> None:
        """
        Of one key by its alias or id, of a model, a user, a team, a tag; also of a key that is gone.
        """
        key_id = self.ada["key_id"]
        for words in ("--model", "b"), ("--user", "alice"), ("--key", "ada", "--model", "b"), ("--key", key_id):
            self.assertIn("0.000123", self.done("spend", "--by", "day", *words, *MARCH), words)
        self.assertNotIn("0.000123", self.done("spend", "--tag", "x", *MARCH))
        self.assertNotIn("0.000123", self.done("spend", "--team", "search", *MARCH))
        self.assertNotIn("0.000123", self.done("spend", "--since", "2026-03-01", "--until", "2026-03-01"))
        self.desk.post("/key/delete", {"keys": [key_id]})
        self.assertIn("0.000123", self.done("spend", "--by", "day", "--key", key_id, *MARCH))
        self.assertIn("There is no key with the alias", self.refused(1, "spend", "--key", "ada", *MARCH))

    def test_limit(self) -> None:
        """
        So many lines, and the total of all; that there are more is told. More than a page are fetched page by page.
        """
        result = self.say("spend", "--by", "model", "--limit", "1", *MARCH)
        self.assertEqual(["MODEL", "a", "TOTAL"], [line.split()[0] for line in result.stdout.splitlines()])
        self.assertIn("1.234623", result.stdout.splitlines()[-1])
        self.assertIn("The first 1 lines", result.stderr)
        for number in range(1100):
            self.call(model=f"model-{number}")
        told = self.read("spend", "--by", "model", "--limit", "2000", *MARCH)
        self.assertEqual((1103, False), (len({row["model"] for row in told["results"]}), told["has_more"]))
        told = self.read("spend", "--by", "model", "--limit", "1050", *MARCH)
        self.assertEqual((1050, True), (len(told["results"]), told["has_more"]))

    def read(self, *words: str) -> Any:
        return json.loads(self.done(*words, "--json"))

    def test_json(self) -> None:
        """
        For scripts, numbers as they are, and null for what has no price.
        """
        told = self.read("spend", "--by", "model", *MARCH)
        self.assertEqual({"a": 1.2345, "b": 0.000123, "new": None}, {r["model"]: r["spend"] for r in told["results"]})
        self.assertEqual((["model"], 1.234623), (told["group_by"], told["totals"]["spend"]))

    def test_csv(self) -> None:
        """
        For spreadsheets: every digit, nothing for what has no price, and no formula of anybody's.
        """
        self.call(end_user="=1+1", cost=CENT)
        text = self.done("spend", "--by", "end-user,key", "--csv", *MARCH)
        rows = list(csv.DictReader(StringIO(text)))
        self.assertEqual({"'=1+1", ""}, {row["end_user"] for row in rows})
        self.assertEqual({"1.234623", "0.01", ""}, {row["spend"] for row in rows})
        self.assertEqual({"ada", ""}, {row["key_alias"] for row in rows})
        self.assertIn("contradict", self.refused(2, "spend", "--csv", "--json"))

    def test_wrong_words(self) -> None:
        """
        What cannot be meant is refused, with what can; what the API refuses is said in its words.
        """
        self.assertIn("end-user", self.refused(2, "spend", "--by", "colour"))
        self.assertIn("at most 3", self.refused(2, "spend", "--by", "key,user,team,model"))
        self.assertIn("7d", self.refused(2, "spend", "--since", "soon"))
        self.assertIn("unexpected extra argument", self.refused(2, "spend", "--by", "key", "logs"))
        self.assertIn("Sums by tag", self.refused(1, "spend", "--by", "tag,user"))
        self.assertIn("--port is an option of the daemon", self.refused(2, "--port", "1", "spend"))

    def test_the_last_days(self) -> None:
        """
        Without a first day it is that of thirty days ago.
        """
        self.done("spend")
        self.assertRegex(self.bridge.heard[-1].path, r"start_date=\d{4}-\d\d-\d\d")

    def test_help(self) -> None:
        """
        Each command explains itself, with examples that begin like a command, and needs no key for that.
        """
        for words in ("spend",), ("spend", "report"), ("spend", "logs"), ("prune",):
            result = CliRunner().invoke(program, [*words, "--help"], env=NOTHING_SET)
            self.assertEqual(0, result.exit_code, result.output)
            self.assertIn(f"  dheera_ai {words[0]}", result.stdout)


class LogsTests(SpendCase):
    def test_calls(self) -> None:
        """
        The latest calls, the newest first; what was estimated is marked, and what has no price is called so.
        """
        self.call(self.ada, model="a")
        self.call(model="b", cost=None, at=START + timedelta(hours=1))
        late = START + timedelta(hours=2)
        self.call(model="c", at=late, estimated=True, outcome="client_left", status=200)
        self.call(model="d", at=late + timedelta(hours=1), error="overloaded", status=503)
        _, *rows = self.done("spend", "logs").splitlines()
        self.assertEqual(["d", "c", "b", "a"], [row.split()[3] for row in rows])
        self.assertIn("503 overloaded", rows[0])
        for text in "200 client left", "~10", "~5", "~0.01":
            self.assertIn(text, rows[1])
        self.assertIn("no price", rows[2])
        for text in "2026-03-01 12:00:00", "ada", "chat/completions", "1.50 s", "0.01":
            self.assertIn(text, rows[3])

    def test_filters(self) -> None:
        """
        Of a key, failures, one call, some time.
        """
        wanted = self.call(self.ada, model="wanted", status=400, tags=["x"])
        self.call(model="other", at=START - timedelta(days=1))
        for words in (
            ("--key", "ada"),
            ("--status", "failure"),
            ("--call", wanted.call_id),
            ("--tag", "x"),
            ("--since", "2026-03-01"),
            ("--model", "wanted"),
        ):
            told = self.done("spend", "logs", *words)
            self.assertIn("wanted", told, words)
            self.assertNotIn("other", told, words)
        told = self.done("spend", "logs", "--until", "2026-02-28T23:00:00Z")
        self.assertNotIn("wanted", told)

    def test_limit(self) -> None:
        """
        So many calls, from as many pages as that takes; that there are more is told.
        """
        for number in range(1005):
            self.call(model="m", at=START - timedelta(seconds=number))
        result = self.say("spend", "logs")
        self.assertEqual(21, len(result.stdout.splitlines()))
        self.assertIn("The newest 20; there are more", result.stderr)
        told = json.loads(self.done("spend", "logs", "--limit", "1003", "--json"))
        self.assertEqual((1003, True), (len({row["request_id"] for row in told["data"]}), told["has_more"]))
        told = json.loads(self.done("spend", "logs", "--limit", "5000", "--json"))
        self.assertEqual((1005, False), (len({row["request_id"] for row in told["data"]}), told["has_more"]))

    def test_csv(self) -> None:
        """
        For spreadsheets, with all there is, and no formula of anybody's.
        """
        self.call(self.ada, model="@evil", tags=["x", "y"], cost=1)
        [row] = csv.DictReader(StringIO(self.done("spend", "logs", "--csv")))
        self.assertEqual(("'@evil", "x y", "0.000000001", "ada", "200"), tuple(row[name] for name in _SHOWN))

    def test_nothing(self) -> None:
        """
        No calls at all are no trouble.
        """
        self.assertEqual(1, len(self.done("spend", "logs").splitlines()))
        self.assertEqual(2, len(self.done("spend").splitlines()))


class PruneTests(SpendCase):
    def setUp(self) -> None:
        super().setUp()
        for number in range(4):
            self.call(at=START - timedelta(days=number))

    def kept(self) -> int:
        return len(self.done("spend", "logs").splitlines()) - 1

    def test_before(self) -> None:
        """
        Calls from before a day, or a time, go; the rest stays, and so do the sums.
        """
        self.assertEqual("Deleted 2 calls.\n", self.done("prune", "--before", "2026-02-28", "--yes"))
        self.assertEqual(2, self.kept())
        self.assertEqual("Deleted 1 call.\n", self.done("prune", "--before", "2026-03-01T12:00:00Z", "-y"))
        self.assertEqual("Deleted 0 calls.\n", self.done("prune", "--before", "2026-02-28", "--yes"))
        self.assertIn("0.04", self.done("spend", "--since", "2026-01-01", "--until", "2026-03-31"))

    def test_keep(self) -> None:
        """
        What is older than a span goes.
        """
        told = json.loads(self.done("prune", "--keep", "10000w", "--yes", "--json"))
        self.assertEqual(0, told["deleted"])
        self.assertLess(told["before"], "1900")
        self.assertEqual(4, self.kept())

    def test_it_asks(self) -> None:
        """
        Without a terminal nobody can be asked, and nothing is deleted.
        """
        self.assertIn("--yes", self.refused(2, "prune", "--before", "2026-02-28"))
        self.assertEqual(4, self.kept())

    def test_more_than_one_call(self) -> None:
        """
        It goes on until nothing is left.
        """
        for number in range(2500):
            self.call(at=START - timedelta(days=30, seconds=number))
        self.assertEqual("Deleted 2,500 calls.\n", self.done("prune", "--before", "2026-02-10", "--yes"))

    def test_wrong_words(self) -> None:
        """
        One of the two must be said, and be a time; a time to come is refused by the daemon.
        """
        self.assertIn("--keep 90d", self.refused(2, "prune"))
        self.assertIn("--keep 90d", self.refused(2, "prune", "--keep", "90d", "--before", "2026-02-28"))
        self.assertIn("--before", self.refused(2, "prune", "--before", "soon"))
        self.assertIn("--keep", self.refused(2, "prune", "--keep", "some"))
        future = self.refused(1, "prune", "--before", "2999-01-01", "--yes")
        self.assertIn("future", future)
        self.assertNotIn("again", future)  # that would come to the same
        self.assertIn("--port is an option of the daemon", self.refused(2, "--port", "1", "prune", "--keep", "1d"))
        self.assertEqual(4, self.kept())


class MoneyTests(TestCase):
    def test_places(self) -> None:
        """
        All amounts have as many places as the longest needs, and cents at least; none is rounded.
        """
        self.assertEqual(["1.00", "1,234.50", "no price"], money([1, Decimal("1234.5"), None]))
        self.assertEqual(["0.000000001", "7.000000000"], money([Decimal("1E-9"), 7]))
        self.assertEqual([], money([]))


_SHOWN = ("model", "request_tags", "spend", "key_alias", "status_code")
