"""
The management API does what its description says, and nothing else: schemathesis makes requests of it, and looks at
each answer.
"""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import TestCase

from tests.postgres import server
from tests.process.daemon import ANY_PORT, Daemon, environment

MASTER_KEY = "sk-master-of-the-description"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "ignored_auth",
)
TWINS = "/key/service-account/generate", "/key/{key}/regenerate"
"""
They take what ``/key/generate`` and ``/key/regenerate`` take, some fifty fields, and do the same with it.
"""
PATIENCE_SECONDS = 300


class DescribedTests(TestCase):
    def assert_described(self, *words: str, **said: str) -> None:
        """
        Each answer, to well-made and ill-made requests, is one that the description knows, and none is a 5xx.

        :param words: which requests.
        """
        with (
            TemporaryDirectory() as folder,
            Daemon(*ANY_PORT, "--demo", said={"DHEERA_AI_MASTER_KEY": MASTER_KEY, **said}) as daemon,
        ):
            tried = subprocess.run(
                [
                    *(str(Path(sysconfig.get_path("scripts")) / "st"), "run", f"{daemon.url}/openapi.json"),
                    *("--header", f"Authorization: Bearer {MASTER_KEY}", "--checks", ",".join(CHECKS)),
                    *("--seed", "1", *words),
                    *("--mode", "all", "--workers", "1", "--no-color"),  # CPython 3.11's ast is not safe among threads
                ],
                cwd=folder,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=False,
            )
            self.assertEqual(0, tried.returncode, "\n".join(line[:300] for line in tried.stdout.splitlines()[-80:]))
            self.assertIn("Tested: ", tried.stdout)
            self.assertNotIn("failed inside", daemon.log)

    def test_sqlite(self) -> None:
        """
        With SQLite: what each field may be, at its bounds and beyond; once where two routes take the same.
        """
        with TemporaryDirectory() as folder:
            twins = (word for path in TWINS for word in ("--exclude-path", path))
            url = f"sqlite:///{folder}/keys.sqlite"
            self.assert_described("--phases", "coverage", *twins, DATABASE_URL=url)

    def test_postgres(self) -> None:
        """
        With PostgreSQL: whatever fits the description, and whatever does not.
        """
        self.assert_described("--phases", "fuzzing", "--max-examples", "5", DATABASE_URL=server().url(server().fresh()))
