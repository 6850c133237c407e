"""
``dheera_ai keys``, in front of the real API in memory: what people and scripts see, and what comes of it.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any
from unittest import TestCase

from click.testing import CliRunner, Result

from dheera.boundaries import Add
from dheera.cli import dheera_ai
from dheera.commands.fields import OPTIONS
from dheera.definitions import CONFIG_VARIABLE, ENVIRONMENT
from dheera.entities import Budget, Team
from dheera.holding import Allowance, Claim, Share, Turn
from dheera.keys import digest
from dheera.money import NANO
from tests.commands.bridge import Bridge
from tests.management.office import MASTER, START, Desk

NOTHING_SET = dict.fromkeys([*ENVIRONMENT, CONFIG_VARIABLE, "DHEERA_AI_URL"])
COMMANDS = ("create", "list", "info", "update", "block", "unblock", "delete", "rotate", "import")


class KeysCase(TestCase):
    """
    A daemon, and somebody who types.
    """

    def setUp(self) -> None:
        self.desk = Desk()
        self.bridge = Bridge(self.desk)
        self.bridge.__enter__()
        self.addCleanup(self.bridge.__exit__, None, None, None)

    def say(self, *words: str, send: str | bytes | None = None, url: str | None = None, **said: str | None) -> Result:
        """
        What comes of ``dheera_ai keys`` and *words*.

        :param send: on standard input.
        :param said: variables; all others that could matter are taken away.
        """
        variables = {
            **NOTHING_SET,
            "DHEERA_AI_URL": url or self.bridge.url,
            "DHEERA_AI_MASTER_KEY": MASTER,
            **said,
        }
        result = CliRunner().invoke(dheera_ai, ["keys", *words], env=variables, input=send)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    def done(self, *words: str, send: str | bytes | None = None, **said: str | None) -> str:
        """
        Standard output of what goes well.
        """
        result = self.say(*words, send=send, **said)
        self.assertEqual(0, result.exit_code, result.output)
        return result.stdout

    def refused(self, code: int, *words: str, send: str | bytes | None = None, **said: str | None) -> str:
        """
        Standard error of what does not go well; standard output says nothing.
        """
        result = self.say(*words, send=send, **said)
        self.assertEqual((code, ""), (result.exit_code, result.stdout), result.output)
        self.assertNotIn("Traceback", result.stderr)
        return result.stderr

    def keep(self, sort: type[Team | Budget], name: str) -> None:
        """
        That there is such a thing.
        """
        self.desk.store.apply([Add(sort(id=name, created_at=START, updated_at=START))], [])

    def read(self, *words: str, **given: Any) -> Any:
        """
        The JSON of what goes well.
        """
        return json.loads(self.done(*words, "--json", **given))


class HelpTests(KeysCase):
    """
    What the commands say of themselves.
    """

    def test_help(self) -> None:
        """
        Each command is listed, explains itself and its options, and ends with an example that begins like a command.
        """
        told = self.done("--help")
        for command in COMMANDS:
            self.assertRegex(told, rf"(?m)^  {command} +\S.*[^.]\.$")
            each = self.done(command, "-h")
            self.assertIn(f"  dheera_ai keys {command}", each.split("Examples:\n")[1].replace("KEY=$(", ""))
            for option in "--url", "--key-file", "--ca-file", "--json":
                self.assertIn(option, each)

    def test_no_configuration(self) -> None:
        """
        The daemon's configuration is neither needed nor read.
        """
        self.done("list", DHEERA_AI_CONFIG="/nowhere.toml", DHEERA_AI_HOST="!", DATABASE_URL="!", MISTRAL_API_BASE="!")

    def test_options_of_the_daemon(self) -> None:
        """
        An option of the daemon before the word is refused, and not passed over.
        """
        for words in (["--port", "1"], ["--demo"], ["--config", "x"]):
            result = CliRunner().invoke(dheera_ai, [*words, "keys", "list"], env=NOTHING_SET)
            self.assertEqual(2, result.exit_code)
            self.assertIn(f"{words[0]} is an option of the daemon", result.stderr)


class ConnectionTests(KeysCase):
    """
    Which dheera is asked, and with which key.
    """

    def test_where(self) -> None:
        """
        The option has the word over the variable, and that over the port of this machine.
        """
        nowhere = "http://127.0.0.1:1"
        port = self.bridge.url.rpartition(":")[2]
        self.done("list", "--url", self.bridge.url, DHEERA_AI_URL=nowhere)
        self.done("list", DHEERA_AI_URL=self.bridge.url, DHEERA_AI_PORT="1")
        self.done("list", DHEERA_AI_URL=None, DHEERA_AI_PORT=port)
        self.done("list", "--url", f"{self.bridge.url}/")
        told = self.refused(1, "list", "--url", nowhere)
        self.assertTrue(told.startswith(f"dheera_ai: Nothing answers at {nowhere}."), told)
        self.assertIn("http://127.0.0.1:4000", self.refused(1, "list", DHEERA_AI_URL="", DHEERA_AI_MASTER_KEY="x"))

    def test_nowhere(self) -> None:
        """
        What is no URL, or no port, is wrong usage; the secrets in it are not told.
        """
        for url in "127.0.0.1:4000", "unix:/run/dheera.sock", "file:///etc/passwd", f"https://u:{MASTER}@x", "http://":
            told = self.refused(2, "list", "--url", url)
            self.assertIn("wanted an http or https URL", told)
            self.assertNotIn(MASTER, told)
        for port in "0", "65536", "x", "-1":
            self.assertIn("--url", self.refused(2, "list", DHEERA_AI_URL=None, DHEERA_AI_PORT=port))

    def test_no_key(self) -> None:
        """
        Without a key it says where it is taken from.
        """
        told = self.refused(2, "list", DHEERA_AI_MASTER_KEY=None)
        self.assertIn("DHEERA_AI_MASTER_KEY", told)
        self.assertIn("--key-file", told)

    def test_key_file(self) -> None:
        """
        The key may stand in a file, or come on standard input; then it is not taken from the environment.
        """
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "key")
            file.write_text(f"{MASTER}\n")
            self.done("list", "--key-file", str(file), DHEERA_AI_MASTER_KEY="wrong")
            self.done("list", "--key-file", "-", send=f"{MASTER}\n", DHEERA_AI_MASTER_KEY=None)
            key = self.done("create", "--alias", "ada").strip()
            self.assertIn(
                "alias              ada\n", self.done("info", "-", "--key-file", "-", send=f"{MASTER}\n{key}\n")
            )
            file.write_text("two words")
            told = self.refused(2, "list", "--key-file", str(file))
            self.assertIn("visible ASCII characters", told)
            self.assertNotIn("two words", told)
            file.write_text("\n")
            self.assertIn("found nothing", self.refused(2, "list", "--key-file", str(file)))
            file.write_bytes(b"\xff")
            self.assertIn("cannot be read", self.refused(2, "list", "--key-file", str(file)))
            self.assertIn("No such file", self.refused(2, "list", "--key-file", f"{folder}/none"))

    def test_wrong_key(self) -> None:
        """
        A key that may not manage: what the daemon says, and exit 1.
        """
        self.assertIn("must be the master key", self.refused(1, "list", DHEERA_AI_MASTER_KEY="sk-wrong-wrong-wrong"))
        key = self.done("create").strip()
        self.assertIn("may not manage", self.refused(1, "list", DHEERA_AI_MASTER_KEY=key))

    def test_unencrypted(self) -> None:
        """
        A key that would travel to another machine unencrypted is a warning, before it does.
        """
        told = self.say("list", url="http://dheera.invalid").stderr
        self.assertTrue(told.startswith("Warning: the key travels to http://dheera.invalid unencrypted."), told)
        self.assertNotIn("Warning", self.say("list", url="https://dheera.invalid").stderr)


class CreateTests(KeysCase):
    """
    Making keys.
    """

    def test_key_alone(self) -> None:
        """
        Standard output is the key alone; that it is shown once is said beside it, unless nothing is to be said.
        """
        result = self.say("create", "--alias", "ada", "--duration", "30d")
        self.assertRegex(result.stdout, r"\Ask-[A-Za-z0-9_-]{20,}\n\Z")
        self.assertIn("Made ada, good until 2026-03-31 12:00 UTC.", result.stderr)
        self.assertIn("only this once", result.stderr)
        self.assertNotIn(result.stdout.strip(), result.stderr)
        made = self.desk.opens(result.stdout.strip())
        assert made is not None
        self.assertEqual("ada", made.alias)
        quiet = self.say("create", "--quiet")
        self.assertEqual("", quiet.stderr)
        self.assertIsNotNone(self.desk.opens(quiet.stdout.strip()))

    def test_all_fields(self) -> None:
        """
        Each option is its field of the API, to the last digit.
        """
        self.keep(Team, "search")
        self.keep(Budget, "pot")
        options = {
            "--alias": "ada",
            "--duration": "2w",
            "--team": "search",
            "--user": "u1",
            "--budget": "pot",
            "--max-budget": "0.000000001",
            "--soft-budget": "0.1",
            "--budget-duration": "1mo",
            "--rpm": "0",
            "--tpm": "9007199254740991",
            "--max-parallel": "3",
            "--key-type": "llm_api",
            "--metadata": '{"ä": {"b": [1, 2.50, null]}}',
        }
        words = [word for pair in options.items() for word in pair]
        words += ["--models", "a", "--models", "b*", "--allowed-route", "/v1/x", "--tag", "t", "--tag", "u"]
        self.assertEqual({flag for flag, _ in OPTIONS.values()}, {word for word in words if word.startswith("--")})
        made = self.read("create", *words)
        expected = {
            "key_alias": "ada",
            "duration": "2w",
            "expires": "2026-03-15T12:00:00Z",
            "models": ["a", "b*"],
            "team_id": "search",
            "user_id": "u1",
            "budget_id": "pot",
            "max_budget": 1e-9,
            "soft_budget": 0.1,
            "budget_duration": "1mo",
            "rpm_limit": 0,
            "tpm_limit": 9007199254740991,
            "max_parallel_requests": 3,
            "key_type": "llm_api",
            "allowed_routes": ["/v1/x"],
            "tags": ["t", "u"],
            "metadata": {"ä": {"b": [1, 2.5, None]}},
        }
        self.assertEqual(expected, {name: made[name] for name in expected})

    def test_spellings(self) -> None:
        """
        An option may have two names; both say the same, also where it is cleared.
        """
        made = self.read("create", "--alias", "ada", "--model", "a", "--models", "b*")
        self.assertEqual(["a", "b*"], made["models"])
        self.assertEqual([], self.read("update", "ada", "--clear", "model")["models"])

    def test_nothing_said(self) -> None:
        """
        A key without options opens everything, for ever; what is not said is not sent.
        """
        self.assertIn("good for ever", self.say("create").stderr)
        self.assertEqual(b"{}", self.bridge.heard[-1].body)

    def test_never(self) -> None:
        """
        A duration may be said to have no end.
        """
        self.assertIsNone(self.read("create", "--duration", "never")["expires"])

    def test_service_account(self) -> None:
        """
        A key for a service of a team.
        """
        self.keep(Team, "search")
        made = self.read("create", "--service-account", "--team", "search", "--user", "u1")
        self.assertEqual(("search", None), (made["team_id"], made["user_id"]))
        self.assertIn("team", self.refused(1, "create", "--service-account"))

    def test_json(self) -> None:
        """
        For a script: the API's answer, and nothing on standard error.
        """
        result = self.say("create", "--json")
        self.assertEqual("", result.stderr)
        self.assertIsNotNone(self.desk.opens(json.loads(result.stdout)["key"]))

    def test_wrong_values(self) -> None:
        """
        A value that cannot be is wrong usage, and says what is wanted; nothing is sent.
        """
        for flag, value, words in (
            ("--duration", "soon", "30d"),
            ("--budget-duration", "never", "30d"),
            ("--max-budget", "much", "US dollars"),
            ("--max-budget", "NaN", "US dollars"),
            ("--rpm", "-1", "x>=0"),
            ("--metadata", "[1]", "JSON object"),
            ("--metadata", "{", "JSON object"),
            ("--metadata", "[" * 100_000, "JSON object"),
            ("--key-type", "admin", "management"),
        ):
            told = self.refused(2, "create", flag, value)
            self.assertIn(flag, told)
            self.assertIn(words, told)
        self.assertEqual([], self.bridge.heard)

    def test_refused(self) -> None:
        """
        What the daemon refuses is told with its words, and exit 1.
        """
        self.done("create", "--alias", "ada")
        self.assertIn("key_alias", self.refused(1, "create", "--alias", "ada"))
        self.assertIn("dheera_ai: max_budget must not be negative.", self.refused(1, "create", "--max-budget", "-1"))
        self.assertIn("There is no team with the id none.", self.refused(1, "create", "--team", "none"))


class ReferenceTests(KeysCase):
    """
    Which key is meant.
    """

    def setUp(self) -> None:
        super().setUp()
        made = self.read("create", "--alias", "ada")
        self.key, self.name = made["key"], made["key_id"]

    def test_ways_to_name_it(self) -> None:
        """
        By alias, id, digest in any case of letters, and itself on standard input.
        """
        token = digest(self.key.encode())
        for word in "ada", self.name, token, token.upper():
            result = self.say("info", word)
            self.assertIn(self.name, result.stdout)
            self.assertEqual("", result.stderr)
        result = self.say("info", "-", send=f"\n{self.key}\r\n")
        self.assertIn(self.name, result.stdout)
        self.assertEqual("", result.stderr)

    def test_key_in_arguments(self) -> None:
        """
        A key on the command line is a warning, and done nevertheless.
        """
        result = self.say("info", self.key)
        self.assertIn(self.name, result.stdout)
        self.assertTrue(result.stderr.startswith("Warning: "))
        self.assertNotIn(self.key, result.stderr)

    def test_key_stays_out_of_urls(self) -> None:
        """
        However a key is named, it is not part of a URL, which proxies would write to their logs.
        """
        self.say("info", self.key)
        self.done("block", "-", send=self.key)
        self.done("rotate", "-", send=self.key)
        self.assertGreater(len(self.bridge.heard), 4)
        for heard in self.bridge.heard:
            self.assertNotIn("sk-", heard.path)

    def test_alias_is_exact(self) -> None:
        """
        A part of an alias names nothing, and an alias that needs quoting is found.
        """
        for word in "ad", "ADA", "ada ", "*", "%":
            self.assertIn("There is no key with the alias or id", self.refused(1, "info", word))
        self.done("create", "--alias", "a&b=c/d ä%20")
        self.assertIn("a&b=c/d ä%20", self.done("info", "a&b=c/d ä%20"))

    def test_nobody(self) -> None:
        """
        What names no key is told; a key or digest that does is not repeated.
        """
        self.assertIn("the alias or id nobody", self.refused(1, "info", "nobody"))
        for word in "sk-nobody-has-this-key", "f" * 64:
            told = self.refused(1, "info", "-", send=word)
            self.assertIn("There is no", told)
            self.assertNotIn(word, told)
        self.assertIn("only how a key is shown", self.refused(1, "info", f"sk-...{self.key[-4:]}"))

    def test_all_or_nothing(self) -> None:
        """
        Where one of several is not found, none is touched.
        """
        self.refused(1, "block", "ada", "nobody")
        self.refused(1, "delete", "--yes", "ada", "nobody")
        key = self.desk.opens(self.key)
        assert key is not None
        self.assertFalse(key.blocked)

    def test_twice(self) -> None:
        """
        A key that is named twice is meant once.
        """
        self.assertEqual("Blocked ada.\n", self.done("block", "ada", self.name, "-", send=f"{self.key}\nada\n"))

    def test_one_alone(self) -> None:
        """
        Where one key is wanted, several are refused.
        """
        self.done("create", "--alias", "grace")
        self.assertIn("2 keys", self.refused(1, "rotate", "-", send="ada\ngrace\n"))
        self.assertIn("0 keys", self.refused(1, "update", "-", "--rpm", "1", send=""))

    def test_api_is_away(self) -> None:
        """
        A refusal other than that there is no such key is told as it is.
        """
        self.assertIn("Nothing answers", self.refused(1, "info", self.name, "--url", "http://127.0.0.1:1"))


class InfoTests(KeysCase):
    """
    All about a key.
    """

    def test_details(self) -> None:
        """
        People see words, scripts what the API says.
        """
        self.done("create", "--alias", "ada", "--max-budget", "50", "--budget-duration", "1mo", "--models", "a*")
        told = self.done("info", "ada")
        for line in (
            "alias              ada",
            "state              active",
            "expires            -",
            "models             a*",
            "routes             all but sensitive ones",
            "spend              0.00 USD",
            "budget             50.00 USD each 1mo, anew at 2026-04-01 00:00 UTC",
            "created            2026-03-01 12:00 UTC by master",
        ):
            self.assertIn(line + "\n", told)
        self.assertEqual("ada", self.read("info", "ada")["key_alias"])

    def test_more_budgets(self) -> None:
        """
        Budgets beside the usual one are told, each with its span; so is what a shared one says.
        """
        windows = [{"budget_duration": "1d", "max_budget": 5}]
        models = {"a*": {"budget_limit": 0.5, "time_period": "7d"}, "b": "0.25", "c": {"max_budget": 2}}
        self.desk.post("/budget/new", {"budget_id": "pot", "max_budget": 7, "budget_duration": "1mo"})
        self.desk.generate(key_alias="ada", budget_limits=windows, model_max_budget=models, budget_id="pot")
        told = self.done("info", "ada")
        for line in (
            "budget             -",
            "and                5.00 USD each 1d",
            "for a model        0.50 USD each 7d: a*",
            "for a model        0.25 USD: b",
            "for a model        2.00 USD: c",
            "shared budget      pot: 7.00 USD each 1mo, anew at 2026-04-01 00:00 UTC",
        ):
            self.assertIn(line + "\n", told)

    def test_limits(self) -> None:
        """
        At what spend an alert is sent, what is held, and the limits of single models, wherever they are written.
        """
        made = self.desk.generate(
            key_alias="ada",
            max_budget=1,
            soft_budget=0.75,
            model_rpm_limit={"a*": 1000},
            model_max_budget={"b": {"tpm_limit": 0}},
            metadata={"model_tpm_limit": {"c": 5}},
        )
        allowance = Allowance(subject=f"key/{made['key_id']}", kind="usd")
        claim = Claim(call_id="one", shares=[Share(allowance=allowance, cap=NANO, amount=NANO // 4)])
        free = self.done("info", "ada")
        self.desk.allowances.turn(Turn(owner="w1", claims=[claim]))
        told = self.done("info", "ada")
        for line in (
            "held               0.25 USD by calls that are under way",
            "alert at           0.75 USD",
            "for a model        1,000 requests a minute: a*",
            "for a model        0 tokens a minute: b",
            "for a model        5 tokens a minute: c",
        ):
            self.assertIn(line + "\n", told)
        self.assertEqual(3, told.count("for a model"))
        self.assertNotIn("held  ", free)

    def test_what_has_no_option(self) -> None:
        """
        The help says where to say what cannot be said here.
        """
        for command, path in (("create", "/key/generate"), ("update", "/key/update")):
            self.assertIn(f"POST {path} takes.", " ".join(self.done(command, "-h").split()))

    def test_several(self) -> None:
        """
        Several keys are several lists with an empty line between, and several JSON values: the help says so.
        """
        self.assertIn("of several keys, one value after another", " ".join(self.done("info", "-h").split()))
        self.done("create", "--alias", "ada")
        self.done("create", "--alias", "grace")
        self.assertEqual(1, self.done("info", "ada", "grace").count("\n\n"))
        told = self.done("info", "ada", "grace", "--json")
        first, end = json.JSONDecoder().raw_decode(told)
        self.assertEqual(["ada", "grace"], [first["key_alias"], json.loads(told[end:])["key_alias"]])

    def test_own(self) -> None:
        """
        Without a key, the one that asks; the master key is none that is kept.
        """
        key = self.done("create", "--alias", "ada").strip()
        self.assertIn("alias              ada\n", self.done("info", DHEERA_AI_MASTER_KEY=key))
        self.assertIn("Say which KEY", self.refused(1, "info"))


class UpdateTests(KeysCase):
    """
    Changing a key.
    """

    def setUp(self) -> None:
        super().setUp()
        self.done("create", "--alias", "ada", "--rpm", "5", "--models", "a", "--duration", "1d")

    def test_changes(self) -> None:
        """
        What is said changes, what is not said stays.
        """
        told = self.done("update", "ada", "--alias", "countess", "--tpm", "7", "--models", "b", "--duration", "never")
        self.assertIn("alias              countess\n", told)
        row = self.read("info", "countess")
        self.assertEqual((5, 7, ["b"], None), (row["rpm_limit"], row["tpm_limit"], row["models"], row["expires"]))

    def test_clear(self) -> None:
        """
        Fields are cleared by the words of the command line, or of the API.
        """
        changed = self.read("update", "ada", "--clear", "rpm", "--clear", "duration", "--clear", "models")
        self.assertEqual((None, None, []), (changed["rpm_limit"], changed["expires"], changed["models"]))
        for word in "max-budget", "max_budget", "team", "team_id", "max-parallel", "max_parallel", "key_alias":
            self.done("update", changed["key_id"], "--clear", word)
        self.assertIn("max-budget", self.refused(2, "update", "ada", "--clear", "nothing"))

    def test_every_field_can_be_cleared(self) -> None:
        """
        The API takes null for each field that has an option.
        """
        for flag, _ in OPTIONS.values():
            row = self.read("create")
            self.done("update", row["key_id"], "--clear", flag.removeprefix("--"))

    def test_nothing(self) -> None:
        """
        An update that changes nothing, or contradicts itself, is wrong usage.
        """
        self.assertIn("Say what is to change", self.refused(2, "update", "ada"))
        self.assertIn("contradict", self.refused(2, "update", "ada", "--rpm", "1", "--clear", "rpm"))


class BlockTests(KeysCase):
    """
    Blocking and unblocking.
    """

    def test_block(self) -> None:
        """
        Blocked keys are blocked until they are unblocked; each is told by its name.
        """
        key = self.done("create", "--alias", "ada").strip()
        other = self.read("create")
        self.assertEqual(f"Blocked ada.\nBlocked {other['key_id']}.\n", self.done("block", "ada", other["key_id"]))
        blocked = self.desk.opens(key)
        assert blocked is not None
        self.assertTrue(blocked.blocked)
        self.assertIn("state              blocked\n", self.done("info", "ada"))
        self.assertEqual("Unblocked ada.\n", self.done("unblock", "ada"))
        self.assertTrue(self.read("block", "ada")["blocked"])
        self.assertFalse(self.read("unblock", "ada")["blocked"])


class DeleteTests(KeysCase):
    """
    Deleting.
    """

    def test_delete(self) -> None:
        """
        A deleted key opens nothing.
        """
        key = self.done("create", "--alias", "ada").strip()
        self.assertEqual("Deleted ada.\n", self.done("delete", "--yes", "ada"))
        self.assertIsNone(self.desk.opens(key))
        self.assertIn("There is no key", self.refused(1, "delete", "--yes", "ada"))

    def test_asks(self) -> None:
        """
        Where nobody can be asked, nothing is deleted without --yes.
        """
        key = self.done("create", "--alias", "ada").strip()
        self.assertIn("--yes", self.refused(2, "delete", "ada"))
        self.assertIsNotNone(self.desk.opens(key))

    def test_json(self) -> None:
        """
        Scripts hear which keys are gone, by their ids.
        """
        row = self.read("create", "--alias", "ada")
        self.assertEqual({"deleted_keys": [row["key_id"]]}, self.read("delete", "--yes", "ada"))

    def test_many(self) -> None:
        """
        More keys than the API deletes at once.
        """
        ids = [self.desk.generate()["key_id"] for _ in range(501)]
        told = self.done("delete", "--yes", "-", send="\n".join(ids))
        self.assertEqual(501, told.count("Deleted "))
        self.assertEqual(0, self.desk.get("/key/list").json["total_count"])


class RotateTests(KeysCase):
    """
    Rotating.
    """

    def test_rotate(self) -> None:
        """
        The new key is printed alone, and the old one ends.
        """
        old = self.done("create", "--alias", "ada").strip()
        result = self.say("rotate", "ada")
        new = result.stdout.strip()
        self.assertRegex(result.stdout, r"\Ask-\S+\n\Z")
        self.assertIn("Rotated ada", result.stderr)
        self.assertIn("opens nothing any more", result.stderr)
        self.assertIsNone(self.desk.opens(old))
        self.assertIsNotNone(self.desk.opens(new))

    def test_grace(self) -> None:
        """
        With a grace period the old key goes on for that long.
        """
        old = self.done("create", "--alias", "ada").strip()
        result = self.say("rotate", "ada", "--grace-period", "24h", "--duration", "30d")
        self.assertIn("goes on opening for 24h", result.stderr)
        self.assertIn("good until 2026-03-31 12:00 UTC", result.stderr)
        self.assertIsNotNone(self.desk.opens(old))
        self.assertIn("30d", self.refused(2, "rotate", "ada", "--grace-period", "never"))

    def test_blocked(self) -> None:
        """
        A blocked key stays blocked, and that is told.
        """
        self.done("create", "--alias", "ada")
        self.assertNotIn("blocked", self.say("rotate", "ada").stderr)
        self.done("block", "ada")
        self.assertIn("It is still blocked. ", self.say("rotate", "ada").stderr)

    def test_ends(self) -> None:
        """
        The help says what becomes of older keys, and an expired key is told what it wants.
        """
        self.assertIn("so do older ones that are still in a grace period", " ".join(self.done("rotate", "-h").split()))
        self.done("create", "--alias", "ada", "--duration", "1h")
        self.desk.now = self.desk.now.replace(hour=14)
        self.assertIn("send a duration", self.refused(1, "rotate", "ada"))
        self.done("rotate", "ada", "--duration", "30d")

    def test_quiet(self) -> None:
        """
        Scripts may have the key alone, or JSON.
        """
        self.done("create", "--alias", "ada")
        result = self.say("rotate", "ada", "-q")
        self.assertEqual("", result.stderr)
        self.assertIsNotNone(self.desk.opens(self.read("rotate", "ada")["key"]))


class ListTests(KeysCase):
    """
    Listing.
    """

    def names(self, *words: str) -> list[str]:
        """
        What the first column says.
        """
        return [line.split()[0] for line in self.done("list", *words).splitlines()[1:]]

    def test_table(self) -> None:
        """
        A head, a line for each key, and beside it how many there are.
        """
        row = self.read("create", "--max-budget", "1234.5", "--duration", "30d")
        self.desk.now = self.desk.now.replace(hour=13)
        self.done("create", "--alias", "ada", "--user", "u1")
        self.done("block", "ada")
        result = self.say("list")
        head, first, second = result.stdout.splitlines()
        self.assertEqual(
            ["KEY", "SHOWN AS", "TEAM", "USER", "SPEND USD", "BUDGET USD", "EXPIRES (UTC)", "STATE"],
            re.split(r"  +", head),
        )
        self.assertRegex(first, r"^ada +sk-\.\.\.\S{4}  -     u1         0\.00           -  -                 blocked$")
        self.assertTrue(second.startswith(row["key_id"]))
        self.assertIn("1,234.50  2026-03-31 12:00  ", second)
        self.assertEqual("2 in all.\n", result.stderr)

    def test_budgets(self) -> None:
        """
        When a budget begins anew is told where one does, beside what was spent since it did last.
        """
        self.done("create", "--alias", "ada", "--max-budget", "10", "--budget-duration", "30d")
        self.done("create", "--alias", "grace", "--budget-duration", "30d")
        self.desk.post("/key/update", {"key": self.read("info", "ada")["key_id"], "spend": 4})
        head, *lines = self.done("list", "--sort", "alias", "--ascending").splitlines()
        self.assertIn("SPEND USD  BUDGET USD  ANEW (UTC)        EXPIRES (UTC)", head)
        self.assertIn("     4.00       10.00  2026-04-01 00:00  -", lines[0])
        self.assertIn("     0.00           -  -                 -", lines[1])
        self.done("delete", "--yes", "ada")
        self.assertNotIn("ANEW", self.done("list"))

    def test_types(self) -> None:
        """
        Types are told where one is not the usual.
        """
        self.done("create", "--alias", "ada")
        self.assertNotIn("TYPE", self.done("list"))
        self.done("create", "--alias", "root", "--key-type", "management")
        for words in ((), ("--all",)):
            head, first, second = self.done("list", "--sort", "alias", "--ascending", *words).splitlines()
            self.assertIn("  USER  TYPE        SPEND USD", head)
            self.assertIn("  default     ", first)
            self.assertIn("  management  ", second)

    def test_filters(self) -> None:
        """
        By team, user and alias, exactly or in part; the deleted.
        """
        self.keep(Team, "search")
        self.done("create", "--alias", "ada", "--team", "search")
        self.done("create", "--alias", "grace", "--user", "hopper")
        self.done("create", "--alias", "gone")
        self.done("delete", "--yes", "gone")
        self.assertEqual(["ada"], self.names("--team", "search"))
        self.assertEqual(["grace"], self.names("--user", "hopper"))
        self.assertEqual(["grace"], self.names("--alias", "grace"))
        self.assertEqual([], self.names("--alias", "grac"))
        self.assertEqual(["grace"], self.names("--alias", "GRAC", "--containing"))
        self.assertEqual(["gone"], self.names("--deleted"))

    def test_sorting(self) -> None:
        """
        By each of what is offered; the newest or largest first, or the other way round.
        """
        for alias in "b", "c", "a":
            self.done("create", "--alias", alias)
            self.desk.now = self.desk.now.replace(minute=self.desk.now.minute + 1)
        self.assertEqual(["a", "c", "b"], self.names())
        self.assertEqual(["b", "c", "a"], self.names("--ascending"))
        self.assertEqual(["a", "b", "c"], self.names("--sort", "alias", "--ascending"))
        for sort in "created", "updated", "expires", "spend", "alias", "team", "user":
            self.assertEqual(3, len(self.names("--sort", sort)))

    def test_pages(self) -> None:
        """
        A page says how many there are; all of them come with --all.
        """
        for number in range(5):
            self.desk.generate(key_alias=f"k{number}")
        result = self.say("list", "--size", "2", "--page", "3")
        self.assertEqual(2, len(result.stdout.splitlines()))
        self.assertEqual("5 in all, page 3 of 3: see --page and --all.\n", result.stderr)
        self.assertEqual(5, len(self.names("--all")))

    def test_json(self) -> None:
        """
        A page is the API's answer; all pages are one answer of its shape.
        """
        for number in range(101):
            self.desk.generate(key_alias=f"k{number}")
        page = self.read("list", "--size", "2")
        self.assertEqual((2, 101, 51), (len(page["keys"]), page["total_count"], page["total_pages"]))
        everything = self.read("list", "--all")
        self.assertEqual(page.keys(), everything.keys())
        self.assertEqual((101, 101, 1), (len(everything["keys"]), everything["total_count"], everything["total_pages"]))
        self.assertEqual({f"k{number}" for number in range(101)}, {row["key_alias"] for row in everything["keys"]})
        self.done("delete", "--yes", *(row["key_id"] for row in everything["keys"]))
        self.assertEqual([], self.read("list", "--all")["keys"])

    def test_piped(self) -> None:
        """
        Where the output goes to no terminal, nothing is cut.
        """
        self.done("create", "--alias", "a" * 250)
        self.assertEqual(["a" * 250], self.names())
