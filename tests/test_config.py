"""
The configuration: the order of its sources, and that whatever is wrong is told, all of it, without a secret.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import date, time
from pathlib import Path
from unittest import TestCase

import trustme
from attrs import fields
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from dheera import kinds
from dheera.config import ConfigurationError, load, state_directory
from dheera.definitions import ENVIRONMENT, OPTIONS, SETTINGS, Place
from dheera.endpoints import ENDPOINTS, is_free
from dheera.keys import Secret, WeightedKey
from dheera.kinds import API_BASE, KEY, KEYS
from dheera.money import Usd
from dheera.settings import (
    BalanceSettings,
    Config,
    KeySettings,
    LedgerSettings,
    Listen,
    MetricSettings,
    Mistral,
    OtherUpstream,
    RecordSettings,
    SpoolSettings,
    Storage,
)
from dheera.wire.limits import ClientLimits, ServerLimits

SECRET = "sk-planted-7f3a"


class ConfigTestCase(TestCase):
    """
    Configurations in a folder of their own.
    """

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.file = self.folder / "conf.toml"

    def load(
        self,
        toml: str | None = None,
        environment: Mapping[str, str] | None = None,
        **command_line: object,
    ) -> Config:
        if toml is not None:
            self.file.write_text(toml, encoding="utf-8")
        return load(None if toml is None else self.file, environment or {}, command_line)

    def problems(
        self,
        toml: str | None = None,
        environment: Mapping[str, str] | None = None,
        **command_line: object,
    ) -> list[str]:
        """
        What is found wrong, with the file by its bare name.
        """
        with self.assertRaises(ConfigurationError) as caught:
            self.load(toml, environment, **command_line)
        lines = str(caught.exception).split("\n")
        self.assertEqual(list(caught.exception.problems), lines)
        return [line.replace(f"{self.folder}/", "") for line in lines]


class SourcesTests(ConfigTestCase):
    """
    Who has the word.
    """

    def test_nothing_said(self) -> None:
        """
        Without any source there are the documented defaults.
        """
        self.assertEqual(
            Config(
                listen=Listen(
                    host="0.0.0.0",
                    port=4000,
                    endpoints=(),
                    tls_certificate=None,
                    tls_key=None,
                    open_to_network=False,
                ),
                mistral=Mistral(api_base="https://api.mistral.ai", api_key=None, ca_file=None),
                server_limits=ServerLimits(),
                client_limits=ClientLimits(),
                master_key=None,
                log_format="text",
                demo=False,
                drain_seconds=30.0,
            ),
            self.load(),
        )

    def test_order(self) -> None:
        """
        The file has the word over the defaults, the environment over the file, the command line over all.
        """
        toml = '[listen]\nhost = "127.0.0.1"\nport = 1'
        environment = {"DHEERA_AI_PORT": "2"}
        self.assertEqual(Listen(host="127.0.0.1", port=1), self.load(toml).listen)
        self.assertEqual(Listen(host="127.0.0.1", port=2), self.load(toml, environment).listen)
        self.assertEqual(Listen(host="127.0.0.1", port=3), self.load(toml, environment, port="3").listen)

    def test_environment(self) -> None:
        """
        Each variable reaches its setting.
        """
        config = self.load(
            environment={
                "MISTRAL_API_KEY": "k1",
                "MISTRAL_API_BASE": "http://10.0.0.5:8000/llm/v1",
                "DHEERA_AI_MASTER_KEY": "k2",
                "DATABASE_URL": "postgresql://dheera:pw@db/dheera",
                "DHEERA_AI_HOST": "::1",
                "DHEERA_AI_PORT": "0",
            }
        )
        secrets = [config.mistral.api_key, config.master_key, config.store.url]
        self.assertEqual(["k1", "k2", "postgresql://dheera:pw@db/dheera"], [each.reveal() for each in secrets if each])
        self.assertEqual("http://10.0.0.5:8000/llm/v1", config.mistral.api_base)
        self.assertEqual(Listen(host="::1", port=0), config.listen)

    def test_empty_is_not_set(self) -> None:
        """
        A variable that is set to the empty string is not set: what the file says stays.
        """
        toml = 'master_key = "k"\n[listen]\nport = 7'
        empty = dict.fromkeys([*ENVIRONMENT, "DHEERA_AI_CONFIG"], "")
        config = self.load(toml, empty)
        self.assertEqual(7, config.listen.port)
        assert config.master_key is not None
        self.assertEqual("k", config.master_key.reveal())
        self.assertEqual(Config(), load(None, empty, {}))

    def test_file_from_environment(self) -> None:
        """
        DHEERA_AI_CONFIG names the file unless the command line does; no other is looked for.
        """
        other = self.folder / "other.toml"
        other.write_text("[listen]\nport = 9")
        environment = {"DHEERA_AI_CONFIG": str(other)}
        self.assertEqual(9, load(None, environment, {}).listen.port)
        self.assertEqual(8, self.load("[listen]\nport = 8", environment).listen.port)

    def test_command_line(self) -> None:
        """
        Each option reaches its setting; what was not given says nothing.
        """
        config = self.load(listen=("tcp:1", "unix:/run/x"), demo=True, log_format="json", host=None, port=None)
        self.assertEqual(("tcp:1", "unix:/run/x"), config.listen.endpoints)
        self.assertTrue(config.demo)
        self.assertEqual("json", config.log_format)
        toml = 'demo = true\n[listen]\nendpoints = ["tcp:2"]'
        unsaid = self.load(toml, listen=(), demo=False, log_format=None, host=None, port=None)
        self.assertTrue(unsaid.demo)
        self.assertEqual(("tcp:2",), unsaid.listen.endpoints)

    def test_numbers(self) -> None:
        """
        A whole number does where seconds are wanted.
        """
        config = self.load("drain_seconds = 5\n[limits]\nidle_seconds = 1\nconnections = 3")
        self.assertEqual(5.0, config.drain_seconds)
        self.assertEqual(ServerLimits(idle_seconds=1.0, connections=3), config.server_limits)

    def test_every_name_has_a_setting(self) -> None:
        """
        Variables and options name settings that exist.
        """
        self.assertLessEqual({*ENVIRONMENT.values(), *OPTIONS.values()}, SETTINGS.keys())

    def test_limits_are_what_their_types_say(self) -> None:
        """
        A limit is a count where the wire declares a whole number, and only there.
        """
        for table, value in ("limits", ServerLimits), ("upstream_limits", ClientLimits):
            for each in fields(value):
                self.assertEqual(each.type == "int", SETTINGS[table, each.name] is kinds.COUNT, each.name)

    def test_state_directory(self) -> None:
        """
        The state directory is the one that is named, else the first that systemd gives, else one at home.
        """
        systemd = {"STATE_DIRECTORY": "/var/lib/dheera:/var/lib/other"}
        for environment, expected in (
            ({"DHEERA_AI_STATE_DIR": "/srv/keys", **systemd}, Path("/srv/keys")),
            (systemd, Path("/var/lib/dheera")),
            ({}, Path.home() / ".local/state/dheera"),
        ):
            self.assertEqual(expected, state_directory(load(None, environment, {}), environment))

    def test_state_directory_is_one(self) -> None:
        """
        What is there and no directory cannot be one.
        """
        self.file.write_text("")
        [problem] = self.problems(environment={"DHEERA_AI_STATE_DIR": str(self.file)})
        self.assertIn("which is no directory", problem)

    def test_values_are_small(self) -> None:
        """
        None of the values has more than a dozen fields, but the one that holds them all.
        """
        for value in (
            Listen,
            RecordSettings,
            SpoolSettings,
            LedgerSettings,
            MetricSettings,
            Mistral,
            OtherUpstream,
            BalanceSettings,
            KeySettings,
            Storage,
            ServerLimits,
            ClientLimits,
        ):
            self.assertLessEqual(len(fields(value)), 12, value)


class ProblemTests(ConfigTestCase):
    """
    Each problem names its place, what was found, and what was wanted.
    """

    def test_ceilings(self) -> None:
        """
        Ceilings are those of endpoints that there are: what is misspelt would let nothing through, without a word. Each
        has its place in our own example.
        """
        ceilings = {name: Usd.of(1) for name in ENDPOINTS}
        written = ", ".join(f'"{name}" = 1' for name in ENDPOINTS)
        self.assertEqual(ceilings, self.load(f"[allowances]\nceilings = {{ {written} }}").allowances.ceilings)
        [problem] = self.problems('[allowances]\nceilings = { other = 1, "batch/job" = 1 }')
        self.assertIn('[allowances] ceilings: found "batch/job" (a string) among them, which is none of', problem)
        self.assertIn("audio/speech, ", problem)
        example = (Path(__file__).parent.parent / "conf" / "dheera.toml").read_text(encoding="utf-8")
        billed = {name for name in ENDPOINTS if name == "batch/jobs" or not is_free(name, "POST")}
        self.assertEqual(set(), {name for name in billed if f'"{name}"' not in example})

    def test_wrong_values(self) -> None:
        """
        Every wrong value is told, in one go.
        """
        self.assertEqual(
            [
                'conf.toml: log_format: found "xml" (a string), wanted "text" or "json"',
                "conf.toml: demo: found 1 (a whole number), wanted true or false",
                'conf.toml: [listen] port: found "abc" (a string), wanted a whole number from 0 to 65535',
                'conf.toml: [listen] host: found "0.0.0.0:80" (a string), wanted an IP address or a host name',
                "conf.toml: [limits] connections: found 0 (a whole number), wanted a whole number above 0",
                "conf.toml: [limits] head_bytes: found 1.5 (a decimal number), wanted a whole number above 0",
                "conf.toml: [limits] header_count: found true (a boolean), wanted a whole number above 0",
                "conf.toml: [limits] body_bytes_per_second: found -1.0 (a decimal number), wanted a number above 0",
                (
                    "conf.toml: [upstream_limits] connect_seconds: found inf (a decimal number), "
                    "wanted a number of seconds above 0 and at most a year"
                ),
                (
                    "conf.toml: [upstream_limits] first_byte_seconds: found a date or time, "
                    "wanted a number of seconds above 0 and at most a year"
                ),
                (
                    "environment variable DHEERA_AI_PORT: found 65536 (a whole number), "
                    "wanted a whole number from 0 to 65535"
                ),
                'option --port: found "-1" (a string), wanted a whole number from 0 to 65535',
                'option --log-format: found "" (a string), wanted "text" or "json"',
            ],
            self.problems(
                """
                log_format = "xml"
                demo = 1
                [listen]
                port = "abc"
                host = "0.0.0.0:80"
                [limits]
                connections = 0
                head_bytes = 1.5
                header_count = true
                body_bytes_per_second = -1.0
                [upstream_limits]
                connect_seconds = inf
                first_byte_seconds = 2026-11-22
                """,
                {"DHEERA_AI_PORT": "65536"},
                port="-1",
                log_format="",
            ),
        )

    def test_unknown_names(self) -> None:
        """
        A name that is no setting is refused with the nearest that is: in its table, or else anywhere.
        """
        self.assertEqual(
            [
                "conf.toml: lissten: found no such setting, did you mean [listen]?",
                "conf.toml: api_key: found no such setting, did you mean [mistral] api_key?",
                (
                    "conf.toml: head_bytes: found no such setting, "
                    "did you mean [limits] head_bytes or [upstream_limits] head_bytes?"
                ),
                "conf.toml: [listen] prot: found no such setting, did you mean [listen] port?",
                (
                    "conf.toml: [mistral] zzz: found no such setting, "
                    "wanted one of [mistral] api_base, [mistral] api_key, [mistral] api_keys, [mistral] ca_file"
                ),
                (
                    'conf.toml: [mistral] "a\\nb": found no such setting, '
                    "wanted one of [mistral] api_base, [mistral] api_key, [mistral] api_keys, [mistral] ca_file"
                ),
            ],
            self.problems(
                f"""
                lissten = {{}}
                api_key = "{SECRET}"
                head_bytes = 1
                [listen]
                prot = 4000
                [mistral]
                zzz = 1
                "a\\nb" = 1
                """
            ),
        )

    def test_tables(self) -> None:
        """
        A value where a table is wanted, and a table where a value is wanted, are told by their types.
        """
        self.assertEqual(
            [
                "conf.toml: limits: found 5 (a whole number), wanted a table",
                "conf.toml: listen: found an array, wanted a table",
                "conf.toml: demo: found a table, wanted true or false",
                (
                    "conf.toml: [mistral] api_key: found a table (not shown), "
                    "wanted visible ASCII characters without a space"
                ),
            ],
            self.problems("limits = 5\n[[listen]]\n[demo]\n[mistral.api_key]"),
        )

    def test_key_in_place_of_a_table(self) -> None:
        """
        What may be a key is not told.
        """
        for name in "mistral", "upstreams":
            self.assertEqual(
                [f"conf.toml: {name}: found a string (not shown), wanted a table"],
                self.problems(f'{name} = "sk-canary"'),
            )

    def test_syntax(self) -> None:
        """
        What is not TOML is told with its line and column, at the end of the file too.
        """
        self.assertEqual(
            ["conf.toml: not valid TOML: Invalid value (at line 3, column 8)"],
            self.problems("# one\n[listen]\nport = abc\n"),
        )
        [unfinished] = self.problems("# one\nport = [")
        self.assertIn("at line 2, column 9, the end", unfinished)

    def test_unreadable_file(self) -> None:
        """
        A file that is not there, is no file, no UTF-8, or too deep is one problem of that file.
        """
        with self.assertRaises(ConfigurationError) as caught:
            load(None, {"DHEERA_AI_CONFIG": "/nowhere/x.toml"}, {})
        self.assertEqual("/nowhere/x.toml: cannot be read (No such file or directory)", str(caught.exception))
        with self.assertRaises(ConfigurationError) as caught:
            load(self.folder, {}, {})
        self.assertIn("Is a directory", str(caught.exception))
        self.file.write_bytes(b"# caf\xe9")
        with self.assertRaises(ConfigurationError) as caught:
            load(self.file, {}, {})
        self.assertIn("found no UTF-8 at byte 5", str(caught.exception))
        self.assertEqual(["conf.toml: found arrays or tables too deep to be read"], self.problems("a = " + "[" * 9000))

    def test_base_must_be_a_url(self) -> None:
        """
        The base of upstream is an http or https URL with a host and nothing but a path behind.
        """
        for base in (
            "http://localhost",
            "HTTPS://api.mistral.ai/",
            "https://api.mistral.ai/v1",
            "http://10.0.0.5:8000/llm/v1",
            "http://[::1]:8000",
        ):
            self.assertEqual(base, self.load(environment={"MISTRAL_API_BASE": base}).mistral.api_base)
        for base in (
            "ftp://x/",
            "http://",
            "http:///v1",
            "http://:80",
            "http://x:",
            "http://x:0",
            "http://x:99999",
            "http://x:port",
            "http://x y/",
            "http://x\n/",
            "http://x\\y",
            "http://x/a b",
            "http://x/../y",
            "http://[::1",
            "http://[::zz]",
            "https:/api.mistral.ai",
        ):
            [problem] = self.problems(environment={"MISTRAL_API_BASE": base})
            self.assertTrue(problem.startswith("environment variable MISTRAL_API_BASE: found "), problem)
            self.assertTrue(
                problem.endswith(", wanted an http or https URL with a host, without user, query and fragment")
            )

    def test_endpoints_exclude_an_address(self) -> None:
        """
        An address said beside endpoints, or above them, would be ignored: it is refused. Endpoints above an address
        have the word.
        """
        endpoints = '[listen]\nendpoints = ["tcp:1"]\n'
        self.assertEqual(
            [
                (
                    "conf.toml: [listen] port: found beside endpoints (conf.toml: [listen] endpoints), "
                    "wanted one of the two: endpoints say address, port and certificate themselves"
                )
            ],
            self.problems(endpoints + "port = 1"),
        )
        [above] = self.problems(endpoints, {"DHEERA_AI_HOST": "::"})
        self.assertIn("environment variable DHEERA_AI_HOST: found beside endpoints", above)
        [beside] = self.problems(listen=("tcp:1",), port="2")
        self.assertIn("option --port: found beside endpoints (option --listen)", beside)
        below = self.load("[listen]\nport = 5", {"DHEERA_AI_PORT": "6"}, listen=("tcp:7",))
        self.assertEqual(("tcp:7",), below.listen.endpoints)

    def test_endpoints(self) -> None:
        """
        An endpoint is a word, a colon, and something behind it.
        """
        for value, found in (
            ('"tcp:1"', '"tcp:1" (a string)'),
            ("[4000]", "4000 (a whole number) among them"),
            ('["tcp:1", "4000"]', '"4000" (a string) among them'),
            ('["tcp:"]', '"tcp:" (a string) among them'),
        ):
            [problem] = self.problems(f"[listen]\nendpoints = {value}")
            self.assertTrue(problem.startswith(f"conf.toml: [listen] endpoints: found {found}, wanted "), problem)

    def test_secrets_stay_secret(self) -> None:
        """
        No error tells a secret, however wrong it is and wherever it went.
        """
        for toml in (
            f'master_key = "{SECRET} "',
            f'master_key = ["{SECRET}"]',
            f'master_kye = "{SECRET}"',
            f'[store]\nurl = "{SECRET}"',
            f'[mistral]\napi_key = "{SECRET}\\n"',
            f'[mistral]\napi_key = "{SECRET}é"',
            f'[mistral]\napi_base = "{SECRET}"',
            f'[mistral]\napi_base = "https://user:{SECRET}@x/"',
            f'[mistral]\napi_base = "https://x/?key={SECRET}"',
            f'[mistral]\napi_base = "https://x/#{SECRET}"',
            f'[mistral]\napi_key = "{SECRET}',
            f'[mistral]\napi_key = {{ key = "{SECRET}" }}',
            f'[mistral]\napi_key = "{SECRET}"\napi_key = "{SECRET}"',
        ):
            with self.assertRaises(ConfigurationError) as caught:
                self.load(toml)
            self.assertNotIn(SECRET, str(caught.exception) + repr(caught.exception), toml)
        for name in "MISTRAL_API_KEY", "MISTRAL_API_BASE", "DHEERA_AI_MASTER_KEY", "DATABASE_URL":
            [problem] = self.problems(environment={name: f" {SECRET}"})
            self.assertIn(name, problem)
            self.assertNotIn(SECRET, problem)
        self.assertNotIn(SECRET, repr(self.load(environment={"MISTRAL_API_KEY": SECRET})))


class FileTests(ConfigTestCase):
    """
    Files that the configuration names are looked at before anything starts.
    """

    def setUp(self) -> None:
        super().setUp()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
        for name in "one", "other":
            leaf = authority.issue_cert("localhost")
            leaf.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))
            leaf.cert_chain_pems[0].write_to_path(str(self.folder / f"{name}.pem"))
            leaf.private_key_and_cert_chain_pem.write_to_path(str(self.folder / f"{name}-both.pem"))

    def test_relative_to_the_configuration(self) -> None:
        """
        A relative name begins at the folder of the file that says it.
        """
        config = self.load('[listen]\ntls_certificate = "one.pem"\ntls_key = "one.key"\n[mistral]\nca_file = "ca.pem"')
        self.assertEqual(self.folder / "one.pem", config.listen.tls_certificate)
        self.assertEqual(self.folder / "one.key", config.listen.tls_key)
        self.assertEqual(self.folder / "ca.pem", config.mistral.ca_file)

    def test_one_file(self) -> None:
        """
        The key may be in the file of the certificate.
        """
        config = self.load(f'[listen]\ntls_certificate = "{self.folder}/one-both.pem"')
        self.assertEqual(self.folder / "one-both.pem", config.listen.tls_certificate)
        self.assertIsNone(config.listen.tls_key)

    def test_empty_is_not_set(self) -> None:
        """
        An empty name is none.
        """
        self.assertEqual(Config(), self.load('[listen]\ntls_certificate = ""\ntls_key = ""\n[mistral]\nca_file = ""'))

    def test_missing(self) -> None:
        """
        A file that cannot be read is told with the reason.
        """
        self.assertEqual(
            [
                f'conf.toml: [listen] {key}: found "{name}" (a string), which cannot be read ({reason}), '
                "wanted the name of a PEM file"
                for key, name, reason in (
                    ("tls_certificate", "none.pem", "No such file or directory"),
                    ("tls_key", "", "Is a directory"),
                )
            ],
            [
                line.replace(f'"{self.folder}"', '""')
                for line in self.problems('[listen]\ntls_certificate = "none.pem"\ntls_key = "."')
            ],
        )

    def test_not_a_pair(self) -> None:
        """
        A key without certificate, a certificate without its key, or with a foreign or locked one, are refused.
        """
        self.assertEqual(
            ["conf.toml: [listen] tls_key: found a key alone, wanted tls_certificate beside it"],
            self.problems('[listen]\ntls_key = "one.key"'),
        )
        key = load_pem_private_key((self.folder / "one.key").read_bytes(), None)
        (self.folder / "locked.key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(SECRET.encode()))
        )
        for names in ("one.pem",), ("one.pem", "other.key"), ("one.key",), ("conf.toml",), ("one.pem", "locked.key"):
            said = zip(("tls_certificate", "tls_key"), names, strict=False)
            [problem] = self.problems("[listen]\n" + "\n".join(f'{key} = "{name}"' for key, name in said))
            self.assertIn("conf.toml: [listen] tls_certificate: found no certificate with its own, ", problem)
            self.assertNotIn("BEGIN", problem)

    def test_no_authorities(self) -> None:
        """
        A bundle without a certificate would trust nobody: it is refused, and so is one in a form that only OpenSSL has.
        """
        own = Path(self.folder, "one.pem").read_text().replace(" CERTIFICATE-", " TRUSTED CERTIFICATE-")
        Path(self.folder, "own.pem").write_text(own)
        for name in "conf.toml", "one.key", "own.pem":
            [problem] = self.problems(f'[mistral]\nca_file = "{name}"')
            self.assertIn("which has no certificates (", problem)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
scalars = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**63), max_value=2**63 - 1),
    st.integers(min_value=0, max_value=70000),
    st.floats(),
    texts,
    st.sampled_from(["", "text", "tcp:4000", "https://x", "localhost", ".", "/", "\x00"]),
    st.datetimes(),
    st.dates(),
    st.times(),
)


def written(value: object) -> str:
    """
    *value* in TOML.
    """
    match value:
        case bool() | float():
            text = str(value).lower()
        case int():
            # TOML's decimal numbers end where Python's conversion does; its hexadecimal ones do not.
            text = hex(value) if value >= 0 else str(value)
        case str():
            text = '"' + "".join(f"\\U{ord(each):08x}" for each in value) + '"'
        case list():
            text = "[" + ", ".join(map(written, value)) + "]"
        case dict():
            text = "{" + ", ".join(f"{written(key)} = {written(each)}" for key, each in value.items()) + "}"
        case date() | time():
            text = value.isoformat()
        case _:
            raise TypeError(type(value))
    return text


class UpstreamTests(ConfigTestCase):
    """
    Several keys, and servers beside Mistral's.
    """

    def test_keys(self) -> None:
        """
        Keys come as texts, or as tables with a weight and a name; from the environment with commas between them.
        """
        toml = """
            [mistral]
            api_keys = ["one", { key = "two", weight = 3, name = "spare" }]
            """
        self.assertEqual(
            (WeightedKey(Secret("one")), WeightedKey(Secret("two"), 3, "spare")), self.load(toml).mistral.api_keys
        )
        self.assertEqual(
            (WeightedKey(Secret("a")), WeightedKey(Secret("b"))),
            self.load(toml, {"MISTRAL_API_KEYS": "a, b"}).mistral.api_keys,
        )

    def test_wrong_keys(self) -> None:
        """
        What is wrong with keys is told without any of them.
        """
        wanted = KEYS.wanted
        for said, found in (
            ('["sk-a", { key = "sk-b", wait = 1 }]', "an array with other things in it (not shown)"),
            ('["sk-a", { weight = 1 }]', "an array with other things in it (not shown)"),
            ('["sk a"]', "an array with other things in it (not shown)"),
            (
                '[{ key = "a", name = "x" }, { key = "b", name = "x" }]',
                "an array in which two keys have the same name (not shown)",
            ),
        ):
            [problem] = self.problems(f"[mistral]\napi_keys = {said}")
            self.assertEqual(f"conf.toml: [mistral] api_keys: found {found}, wanted {wanted}", problem)

    def test_one_or_many(self) -> None:
        """
        One key and many are two ways to say the same; both at once is wrong, wherever they are said.
        """
        [problem] = self.problems('[mistral]\napi_keys = ["a"]', {"MISTRAL_API_KEY": "b"})
        self.assertEqual(
            "environment variable MISTRAL_API_KEY: found beside api_keys (conf.toml: [mistral] api_keys), "
            "wanted one of the two",
            problem,
        )

    def test_named(self) -> None:
        """
        Each table of upstreams is one, with settings of its own.
        """
        config = self.load(
            """
            [upstreams.local]
            api_base = "http://127.0.0.1:8000"
            priced = false
            [upstreams.other]
            prefix = "/elsewhere"
            api_base = "https://example.com/v1"
            api_key = "k"
            """
        )
        self.assertEqual(
            {
                "local": OtherUpstream(api_base="http://127.0.0.1:8000", priced=False),
                "other": OtherUpstream(prefix="/elsewhere", api_base="https://example.com/v1", api_key=Secret("k")),
            },
            config.upstreams,
        )

    def test_wrong_named(self) -> None:
        """
        An upstream needs an address and a place of its own, and says nothing that nobody knows.
        """
        self.assertEqual(
            [
                "conf.toml: [upstreams.local] api_bas: found no such setting, did you mean [upstreams.local] api_base?",
                f"[upstreams.local]: found no api_base, wanted {API_BASE.wanted}",
                '[upstreams.key] prefix: found "/key", wanted another one, since it is a part of dheera\'s own API',
                '[upstreams.b] prefix: found "/mistral", wanted another one, since it is the one of [mistral]',
                '[upstreams.c] prefix: found "/local", wanted another one, since it is the one of [upstreams.local]',
                '[upstreams.d] prefix: found "/v2", wanted another one, since it is a part of dheera\'s own API',
                "[upstreams.mistral]: found the name of Mistral's own, wanted another one, or [mistral]",
            ],
            self.problems(
                """
                [upstreams.local]
                api_bas = "http://x"
                priced = true
                [upstreams.key]
                api_base = "http://x"
                [upstreams.b]
                api_base = "http://x"
                prefix = "mistral"
                [upstreams.c]
                api_base = "http://x"
                prefix = "local"
                [upstreams.d]
                api_base = "http://x"
                prefix = "v2"
                [upstreams.mistral]
                api_base = "http://x"
                prefix = "free"
                """
            ),
        )


class CredentialTests(ConfigTestCase):
    """
    Secrets from files that systemd hands over.
    """

    def directory(self, **files: str) -> dict[str, str]:
        """
        The variable that names a directory with such files.
        """
        folder = self.folder / "credentials"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        return {"CREDENTIALS_DIRECTORY": str(folder)}

    def test_read(self) -> None:
        """
        Each is named after its setting; a line break at its end does not count. It goes before the file.
        """
        config = self.load(
            'master_key = "sk-of-the-file"',
            self.directory(
                **{"master_key": "sk-master\n", "mistral.api_key": "real", "store.url": "postgresql://u:p@db/d\n"}
            ),
        )
        self.assertEqual(
            (Secret("sk-master"), Secret("real"), Secret("postgresql://u:p@db/d")),
            (config.master_key, config.mistral.api_key, config.store.url),
        )

    def test_environment_first(self) -> None:
        """
        The environment overrides a credential.
        """
        said = {**self.directory(**{"mistral.api_key": "old"}), "MISTRAL_API_KEY": "new"}
        self.assertEqual(Secret("new"), self.load("", said).mistral.api_key)

    def test_upstreams(self) -> None:
        """
        The key of another upstream is a credential as well.
        """
        config = self.load(
            '[upstreams.local]\napi_base = "http://x"', self.directory(**{"upstreams.local.api_key": "theirs"})
        )
        self.assertEqual(Secret("theirs"), config.upstreams["local"].api_key)

    def test_others(self) -> None:
        """
        What is no secret of ours is not read: a unit may have credentials for other programs.
        """
        self.assertEqual(4000, self.load("", self.directory(**{"listen.port": "1", "tls.pem": "x"})).listen.port)

    def test_wrong(self) -> None:
        """
        One that does not fit is told by its name, without what is in it; so is a directory that is not there.
        """
        [problem] = self.problems("", self.directory(master_key="two words"))
        self.assertEqual(f"credential master_key: found a string (not shown), wanted {KEY.wanted}", problem)
        [problem] = self.problems("", {"CREDENTIALS_DIRECTORY": "/nowhere/at/all"})
        self.assertIn("/nowhere/at/all cannot be read", problem)


class AnythingTests(TestCase):
    """
    Whatever is written, there is a configuration or a list of what is wrong; never another error.
    """

    @settings(deadline=None)
    @given(
        place=st.sampled_from(sorted(SETTINGS)),
        value=st.one_of(
            scalars,
            st.lists(scalars, max_size=3),
            st.dictionaries(texts, scalars, max_size=3),
            st.integers(5000, 5001).map(lambda digits: 16**digits),
        ),
    )
    def test_any_value_anywhere(self, place: Place, value: object) -> None:
        """
        Any value for any setting either fits, or is a problem that names the setting on one line.
        """
        table, key = place[0].replace("*", "x"), place[1]
        toml = (f"[{table}]\n" if table else "") + f"{key} = {written(value)}"
        for problem in self.problems(toml.encode()):
            if problem != f"[{table}]: found no api_base, wanted {API_BASE.wanted}":
                self.assertIn(f"[{table}] {key}: " if table else f"{key}: ", problem)
            self.assertTrue(problem.isprintable(), problem)

    @settings(deadline=None)
    @given(table=texts, key=texts, value=scalars)
    def test_any_name(self, table: str, key: str, value: object) -> None:
        """
        A name that is no setting is refused, whatever it is.
        """
        problems = self.problems(f"{written(key)} = {written(value)}\n[{written(table)}]".encode())
        self.assertTrue(problems or key in {name for _, name in SETTINGS} or table in {of for of, _ in SETTINGS})

    @settings(deadline=None)
    @given(content=st.one_of(st.binary(max_size=200), texts.map(str.encode)))
    def test_any_file(self, content: bytes) -> None:
        """
        Any bytes at all.
        """
        self.problems(content)

    @settings(deadline=None)
    @given(
        environment=st.dictionaries(
            st.sampled_from(sorted(ENVIRONMENT)), st.text(st.characters(exclude_characters="\x00"))
        ),
        command_line=st.fixed_dictionaries(
            {}, optional={"host": texts, "port": texts, "listen": st.lists(texts), "log_format": texts}
        ),
    )
    def test_any_words(self, environment: dict[str, str], command_line: dict[str, object]) -> None:
        """
        Anything in the environment, lone surrogates too, and on the command line.
        """
        try:
            load(None, environment, command_line)
        except ConfigurationError as error:
            for problem in error.problems:
                self.assertRegex(problem, "^(environment variable|option) ")

    def problems(self, content: bytes) -> list[str]:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "conf.toml")
            file.write_bytes(content)
            try:
                load(file, {}, {})
            except ConfigurationError as error:
                return list(error.problems)
            return []
