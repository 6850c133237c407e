"""
``dheera_ai keys import``, in front of the real API in memory.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from dheera.commands.key_import import BYTES_AT_ONCE, REASONS_KEPT, ROWS_AT_ONCE
from dheera.entities import Team
from dheera.keys import digest
from tests.commands.test_keys import KeysCase

COLUMNS = ("token", "key_name", "key_alias", "spend", "expires", "models", "metadata", "blocked", "rpm_limit")


def key(number: int) -> str:
    """
    A key as a developer has it.
    """
    return f"sk-from-litellm-{number:08}"


def line(number: int, **cells: Any) -> dict[str, Any]:
    """
    Its row.
    """
    return {"token": digest(key(number).encode()), "key_alias": f"k{number}", **cells}


def as_csv(*rows: dict[str, Any]) -> str:
    """
    Rows as psql writes them.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


class ImportCase(KeysCase):
    def setUp(self) -> None:
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "keys")

    def bring(self, content: str, *words: str, code: int = 0) -> tuple[str, str]:
        """
        What is said of an import: on standard output, and on standard error.
        """
        self.file.write_text(content, encoding="utf-8")
        result = self.say("import", str(self.file), *words)
        self.assertEqual(code, result.exit_code, result.output)
        self.assertNotIn("Traceback", result.stderr)
        for number in range(9):
            self.assertNotIn(digest(key(number).encode()), result.output)
        return result.stdout, result.stderr


class ImportTests(ImportCase):
    """
    From a file to a daemon.
    """

    def test_csv(self) -> None:
        """
        A developer goes on with the key that they have, and with all that was said of it.
        """
        told = self.bring(
            as_csv(
                line(
                    1,
                    key_name="sk-...0001",
                    spend="1.000000001",
                    expires="2027-01-01 00:00:00.5",
                    models='{a,"b c"}',
                    metadata='{"x": 1, "model_rpm_limit": {"a": 3}}',
                    blocked="t",
                    rpm_limit="7",
                ),
                line(2),
            )
        )
        self.assertEqual(("Imported 2; 0 already there; 0 failed.\n", ""), told)
        row = self.read("info", "k1")
        expected = {
            "key_name": "sk-...0001",
            "expires": "2027-01-01T00:00:00.5Z",
            "models": ["a", "b c"],
            "metadata": {"x": 1, "model_rpm_limit": {"a": 3}},
            "model_rpm_limit": {"a": 3},
            "blocked": True,
            "rpm_limit": 7,
        }
        expected["expires"] = row["expires"]
        self.assertEqual(expected, {name: row[name] for name in expected})
        self.assertTrue(row["expires"].startswith("2027-01-01T00:00:00.5"))
        kept = self.desk.opens(key(1))
        assert kept is not None
        self.assertEqual(1_000_000_001, kept.spend.nano)
        self.assertIsNotNone(self.desk.opens(key(2)))

    def test_json(self) -> None:
        """
        An array of objects, and objects a line each; from a file and from standard input.
        """
        self.bring(json.dumps([line(1), line(2)], indent=1))
        self.done("import", "-", send="\n".join(json.dumps(line(number)) for number in (3, 4)))
        for number in range(1, 5):
            self.assertIsNotNone(self.desk.opens(key(number)))

    def test_form(self) -> None:
        """
        What the file is may be said.
        """
        self.assertIn("no column token", self.bring(json.dumps([line(1)]), "--format", "csv", code=1)[1])

    def test_again(self) -> None:
        """
        Rows that are there already are passed over; what was changed meanwhile stays.
        """
        content = as_csv(line(1), line(2))
        self.bring(content)
        self.done("update", "k1", "--alias", "ada", "--rpm", "5")
        self.assertEqual("Imported 0; 2 already there; 0 failed.\n", self.bring(content)[0])
        self.assertEqual(5, self.read("info", "ada")["rpm_limit"])
        self.assertEqual(
            "Imported 1; 2 already there; 0 failed.\n", self.bring(content + as_csv(line(3)).split("\n")[1])[0]
        )

    def test_dry_run(self) -> None:
        """
        Nothing is changed, and what would be is told.
        """
        self.bring(as_csv(line(1)))
        told = self.bring(as_csv(line(1), line(2), line(3, blocked="maybe")), "--dry-run", code=1)
        self.assertEqual("Would import 1; 1 already there; 1 failed.\n", told[0])
        self.assertIsNone(self.desk.opens(key(2)))
        self.assertEqual(1, self.desk.get("/key/list").json["total_count"])

    def test_many(self) -> None:
        """
        More rows than go into one call, by their number and by their size; none is left out or comes twice.
        """
        rows = 2 * ROWS_AT_ONCE + 1
        self.assertEqual(
            f"Imported {rows:,}; 0 already there; 0 failed.\n", self.bring(as_csv(*map(line, range(rows))))[0]
        )
        self.assertEqual(rows, self.desk.get("/key/list").json["total_count"])
        self.bridge.heard.clear()
        large = {"note": "x" * (BYTES_AT_ONCE // 3)}
        self.bring("\n".join(json.dumps(line(number, metadata=large)) for number in range(2000, 2005)))
        sizes = [len(heard.body) for heard in self.bridge.heard if heard.path == "/key/import"]
        self.assertEqual(3, len(sizes))
        self.assertLess(max(sizes), BYTES_AT_ONCE + 1000)

    def test_nothing(self) -> None:
        """
        A table without rows is imported.
        """
        self.assertEqual("Imported 0; 0 already there; 0 failed.\n", self.bring(as_csv())[0])
        self.assertEqual("Imported 0; 0 already there; 0 failed.\n", self.bring("[]")[0])


class FailureTests(ImportCase):
    """
    Rows that cannot be imported, and files that cannot be read.
    """

    def test_rows(self) -> None:
        """
        Each is told with its line, its name and a reason; the others are imported, and the exit code is 1.
        """
        self.bring(as_csv(line(0)))
        out, told = self.bring(
            "\n".join(
                [
                    json.dumps(line(1)),
                    json.dumps({"key_alias": "ada"}),
                    json.dumps(line(3, models="{a")),
                    json.dumps(line(4, key_alias="k0")),
                    json.dumps(line(5, max_budget=-1)),
                    json.dumps(line(6, budget_duration="often")),
                    json.dumps(line(7, key_alias="\ud800")),
                    json.dumps(line(8)),
                ]
            ),
            code=1,
        )
        self.assertEqual("Imported 2; 0 already there; 6 failed.\n", out)
        lines = told.splitlines()
        self.assertEqual(6, len(lines))
        self.assertEqual("line 2 (ada): there is no token", lines[0])
        self.assertEqual("line 3 (k3): models: this is not an array", lines[1])
        self.assertTrue(any(each.startswith("line 4 (k0): ") and "key_alias" in each for each in lines), told)
        self.assertTrue(any(each.startswith("line 5 (k5): max_budget") for each in lines), told)
        self.assertTrue(any(each.startswith("line 6 (k6): ") and "budget_duration" in each for each in lines), told)
        self.assertTrue(any(each.startswith("line 7 (?): ") for each in lines), told)

    def test_teams_first(self) -> None:
        """
        A key of a team that is not here fails until the team is made: the help says so.
        """
        rows = json.dumps([line(1, team_id="search")])
        self.assertIn("POST /team/new", self.bring(rows, code=1)[1])
        self.assertIsNone(self.desk.opens(key(1)))
        self.keep(Team, "search")
        self.bring(rows)
        self.assertIsNotNone(self.desk.opens(key(1)))
        self.assertIn("Teams and budgets do not come along", " ".join(self.done("import", "--help").split()))

    def test_fields_missing(self) -> None:
        """
        A row that has not as many fields as the head is told with its line, and the others are imported.
        """
        out, told = self.bring(as_csv(line(1)) + "x,y\n" + as_csv(line(2)).split("\n")[1], code=1)
        self.assertEqual("Imported 2; 0 already there; 1 failed.\n", out)
        self.assertEqual(f"line 3: 2 fields, where the head has {len(COLUMNS)}\n", told)

    def test_may_not(self) -> None:
        """
        A key that may not manage is no fault of the rows.
        """
        self.file.write_text(as_csv(line(1)))
        key = self.done("create").strip()
        result = self.say("import", str(self.file), DHEERA_AI_MASTER_KEY=key)
        self.assertEqual((1, "Imported 0; 0 already there; 0 failed.\n"), (result.exit_code, result.stdout))
        self.assertIn("may not manage", result.stderr)

    def test_row_that_spoils_the_call(self) -> None:
        """
        Where the daemon refuses a whole call for one row, the others go without it.
        """
        deep: Any = "x"
        for _ in range(40):
            deep = [deep]
        rows = [line(number, metadata={"deep": deep} if number == 4 else {}) for number in range(7)]
        out, told = self.bring(json.dumps(rows), code=1)
        self.assertEqual("Imported 6; 0 already there; 1 failed.\n", out)
        self.assertTrue(told.startswith("line 1 (k4): "), told)

    def test_json(self) -> None:
        """
        For a script: one JSON document, and nothing beside it; no more failures are named than can be kept.
        """
        out, told = self.bring(as_csv(line(1), {"key_alias": "ada"}), "--json", code=1)
        self.assertEqual("", told)
        failure = {"line": 3, "key_alias": "ada", "failed_reason": "there is no token"}
        self.assertEqual(
            {"dry_run": False, "imported": 1, "already_there": 0, "failed": 1, "failures": [failure]}, json.loads(out)
        )
        out, _ = self.bring("{}\n" * (REASONS_KEPT + 5), "--json", code=1)
        self.assertEqual(REASONS_KEPT + 5, json.loads(out)["failed"])
        self.assertEqual(REASONS_KEPT, len(json.loads(out)["failures"]))

    def test_broken_file(self) -> None:
        """
        What stands before the place where a file cannot be read is imported, and the place is told.
        """
        out, told = self.bring(json.dumps(line(1)) + "\n{", code=1)
        self.assertEqual("Imported 1; 0 already there; 0 failed.\n", out)
        self.assertTrue(told.startswith("dheera_ai: line 2: not valid JSON"), told)
        self.assertRegex(told, r"[^.]\. Run it again when that is mended: [^.]*\.\n\Z")
        self.assertIsNotNone(self.desk.opens(key(1)))

    def test_wrong_file(self) -> None:
        """
        Another table, an empty file and no file: that alone is told.
        """
        out, told = self.bring("id,name\n1,2\n", code=1)
        self.assertEqual("", out)
        self.assertRegex(told, r"\Adheera_ai: line 1: there is no column token: .* csv header\.\n\Z")
        self.assertEqual(("", "dheera_ai: line 1: the file is empty.\n"), self.bring("", code=1))
        self.assertEqual(("", "dheera_ai: line 1: the file is empty.\n"), self.bring("", "--json", code=1))
        self.assertIn("No such file", self.refused(2, "import", str(self.file) + "x"))

    def test_daemon_away(self) -> None:
        """
        A daemon that is not there is told once, with what has been done so far.
        """
        self.file.write_text(as_csv(line(1)))
        result = self.say("import", str(self.file), url="http://127.0.0.1:1")
        self.assertEqual((1, "Imported 0; 0 already there; 0 failed.\n"), (result.exit_code, result.stdout))
        self.assertIn("Nothing answers", result.stderr)
        self.assertIn("Run it again", result.stderr)

    def test_deleted_since(self) -> None:
        """
        A key that was deleted comes back when it is imported again: the help says so.
        """
        content = as_csv(line(1))
        self.bring(content)
        self.done("delete", "--yes", "k1")
        self.assertEqual("Imported 1; 0 already there; 0 failed.\n", self.bring(content)[0])
        self.assertIn("come back", " ".join(self.done("import", "--help").split()))
