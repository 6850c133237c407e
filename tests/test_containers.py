"""
The image and its compose file, read as far as they can be where no container runs.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any
from unittest import TestCase

from packaging.specifiers import SpecifierSet
from ruamel.yaml import YAML

from dheera.config import load
from dheera.definitions import CREDENTIALS_VARIABLE
from dheera.keys import Secret
from dheera.settings import Config
from tests.dockerfile import DOCKERFILE, last, stages, variables

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMPOSE = ROOT / "compose.yaml"
SCRIPTS = Path(sysconfig.get_path("scripts"))


def lines(name: str) -> list[str]:
    """
    Those of a file at the top that mean something.
    """
    text = (ROOT / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


class DockerfileTests(TestCase):
    """
    ``Dockerfile`` makes the image.
    """

    def test_linted(self) -> None:
        """
        The linter finds nothing, not even a matter of style.
        """
        linted = subprocess.run([SCRIPTS / "hadolint", DOCKERFILE], capture_output=True, text=True, check=False)
        self.assertEqual((0, ""), (linted.returncode, linted.stdout + linted.stderr))

    def test_python(self) -> None:
        """
        It is built and run with one Python, which the project says it works with.
        """
        preamble, *parts = stages()
        [argument] = preamble
        minor = re.match(r"PYTHON=(\d+\.\d+)-slim-", argument.text)
        assert minor, argument
        self.assertTrue(SpecifierSet(PROJECT["project"]["requires-python"]).contains(minor[1]))
        self.assertIn(f"Programming Language :: Python :: {minor[1]}", PROJECT["project"]["classifiers"])
        self.assertEqual(["python:${PYTHON}"] * 2, [part[0].words[0] for part in parts])

    def test_takes_what_is_vouched_for(self) -> None:
        """
        Whatever is fetched while it is built, a lock file names its digest.
        """
        commands = [
            command for part in stages() for each in part if each.name == "RUN" for command in each.text.split("&&")
        ]
        fetching = [command for command in commands if re.search(r"\bpip\b.* (install|wheel|download) ", command)]
        self.assertEqual(3, len(fetching))
        for command in fetching:
            self.assertRegex(command, r" --(require-hashes|no-index) ")
        self.assertEqual(
            [], [command for command in commands if re.search(r"\b(apt-get|apt|curl|wget|git)\b", command)]
        )
        self.assertEqual([], [each for part in stages() for each in part if each.name == "ADD"])

    def test_sees_what_it_needs(self) -> None:
        """
        The builder is sent what a wheel is made of, and the lock files: no key, no history, no test.
        """
        project, targets = PROJECT["project"], PROJECT["tool"]["hatch"]["build"]["targets"]
        wheel = targets["wheel"]
        needed = {"pyproject.toml", project["readme"], *project["license-files"], *wheel["packages"]}
        needed |= {*wheel["shared-data"], "requirements.lock", "requirements-build.lock"}
        everything, *patterns = lines(".dockerignore")
        self.assertEqual("*", everything)
        self.assertEqual(needed, {pattern[1:] for pattern in patterns if pattern.startswith("!")})
        self.assertLess({"**/__pycache__", "**/dropin.cache"}, set(patterns))

    def test_copies_what_is_there(self) -> None:
        """
        What it copies by name exists, and the builder is sent it.
        """
        copies = [each for part in stages() for each in part if each.name == "COPY" and "--from" not in each.text]
        sources = [Path(source) for each in copies for source in each.words[:-1]]
        self.assertIn(Path("requirements.lock"), sources)
        for source in sources:
            self.assertTrue((ROOT / source).exists(), source)
            self.assertTrue(source == Path() or f"!{source.parts[0]}" in lines(".dockerignore"), source)

    def test_user(self) -> None:
        """
        It runs as a user with a number, as a cluster's policy can see, who is not root.
        """
        self.assertRegex(last("USER").text, r"^[1-9]\d{3,}:[1-9]\d{3,}$")

    def test_defaults(self) -> None:
        """
        What the image says about port and state is what dheera does there; its configuration is the sample.
        """
        config = load(ROOT / "conf" / "dheera.toml", variables(), {})
        self.assertEqual(last("EXPOSE").text, str(config.listen.port))
        self.assertEqual(last("VOLUME").text, str(config.store.state_dir))
        [copy] = [each for each in stages()[-1] if each.name == "COPY" and "--from" not in each.text]
        self.assertEqual(["conf/dheera.toml", variables()["DHEERA_AI_CONFIG"]], copy.words)
        self.assertEqual(["dheera_ai"], last("ENTRYPOINT").command)
        self.assertEqual("SIGTERM", last("STOPSIGNAL").text)


class ComposeTests(TestCase):
    """
    ``compose.yaml`` runs the image beside PostgreSQL.
    """

    compose: Any = YAML(typ="safe").load(COMPOSE)

    @property
    def dheera(self) -> Any:
        return self.compose["services"]["dheera"]

    @property
    def postgres(self) -> Any:
        return self.compose["services"]["postgres"]

    def test_linted(self) -> None:
        """
        It is what the specification of compose files says.
        """
        check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
        linted = subprocess.run(check, capture_output=True, text=True, check=False)
        self.assertEqual(0, linted.returncode, linted.stdout + linted.stderr)

    def test_names_meet(self) -> None:
        """
        Each secret, network and volume that is used is declared, and the other way round.
        """
        services = self.compose["services"].values()
        for kind in "secrets", "networks":
            self.assertEqual(set(self.compose[kind]), {name for service in services for name in service[kind]})
        mounts = {mount.split(":")[0] for service in services for mount in service["volumes"]}
        self.assertEqual(set(self.compose["volumes"]), {mount for mount in mounts if "/" not in mount})

    def test_secrets(self) -> None:
        """
        Secrets reach dheera as files that it reads by their names, and are nowhere in the compose file.
        """
        texts = {
            "master_key": "sk-master-of-compose",
            "mistral.api_key": "key-of-compose",
            "store.url": "postgresql://dheera:secret@postgres/dheera",
        }
        self.assertEqual(set(texts), set(self.dheera["secrets"]))
        self.assertEqual({CREDENTIALS_VARIABLE: "/run/secrets"}, self.dheera["environment"])
        with tempfile.TemporaryDirectory() as folder:
            for name, text in texts.items():
                Path(folder, name).write_text(text, encoding="utf-8")
            config = load(None, {CREDENTIALS_VARIABLE: folder}, {})
        said = (config.master_key, config.mistral.api_key, config.store.url)
        self.assertEqual(tuple(map(Secret, texts.values())), said)

    def test_secrets_stay_here(self) -> None:
        """
        The folder that holds the secrets is ignored by git.
        """
        folders = {str(Path(secret["file"]).parent) for secret in self.compose["secrets"].values()}
        self.assertEqual({"secrets"}, folders)
        self.assertIn("/secrets/", lines(".gitignore"))

    def test_database(self) -> None:
        """
        The database that the URL in the instructions names is the one that is made, and only dheera reaches it.
        """
        self.assertIn("postgresql://dheera:$password@postgres/dheera", COMPOSE.read_text(encoding="utf-8"))
        made = self.postgres["environment"]
        self.assertEqual(("dheera", "dheera"), (made["POSTGRES_USER"], made["POSTGRES_DB"]))
        self.assertEqual("/run/secrets/postgres_password", made["POSTGRES_PASSWORD_FILE"])
        self.assertEqual(["database"], self.postgres["networks"])
        self.assertTrue(self.compose["networks"]["database"]["internal"])
        self.assertNotIn("ports", self.postgres)

    def test_waits_for_the_database(self) -> None:
        """
        It is waited for until it takes connections over the network.
        """
        self.assertEqual({"postgres": {"condition": "service_healthy"}}, self.dheera["depends_on"])
        self.assertIn("--host=127.0.0.1", self.postgres["healthcheck"]["test"])

    def test_published_here_alone(self) -> None:
        """
        Keys are not sent through a network in clear text: without TLS it serves this machine.
        """
        port = Config().listen.port
        self.assertEqual([f"127.0.0.1:{port}:{port}"], self.dheera["ports"])

    def test_walls(self) -> None:
        """
        Nobody in it is root, holds a capability, gains a right, or writes anywhere but into a volume.
        """
        for service in self.compose["services"].values():
            self.assertTrue(service["read_only"])
            self.assertEqual(["ALL"], service["cap_drop"])
            self.assertEqual(["no-new-privileges:true"], service["security_opt"])
            self.assertEqual(set(), {"cap_add", "privileged", "network_mode", "pid", "ipc"} & set(service))
        self.assertRegex(self.postgres["user"], r"^[1-9]\d*:[1-9]\d*$")
        self.assertNotIn("user", self.dheera)  # the image says it

    def test_mounts(self) -> None:
        """
        The state outlives the container, and the configuration is a folder that can be edited outside.
        """
        configuration = Path(variables()["DHEERA_AI_CONFIG"])
        expected = [f"state:{last('VOLUME').text}", f"./conf:{configuration.parent}:ro"]
        self.assertEqual(expected, self.dheera["volumes"])
        self.assertTrue((ROOT / "conf" / configuration.name).is_file())

    def test_waits_for_the_drain(self) -> None:
        """
        A stop has as long as systemd would give it.
        """
        unit = (ROOT / "systemd" / "dheera.service").read_text(encoding="utf-8")
        [wait] = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
        self.assertGreaterEqual(int(self.dheera["stop_grace_period"].removesuffix("s")), int(wait))
