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
PATIENCE_SECONDS = 300


class DescribedTests(TestCase):
    def assert_described(self, *phases: str, examples: int, **said: str) -> None:
        """
        Each answer, to well-made and ill-made requests, is one that the description knows, and none is a 5xx.
        """
        with (
            TemporaryDirectory() as folder,
            Daemon(*ANY_PORT, "--demo", said={"DHEERA_AI_MASTER_KEY": MASTER_KEY, **said}) as daemon,
        ):
            tried = subprocess.run(
                [
                    *(str(Path(sysconfig.get_path("scripts")) / "st"), "run", f"{daemon.url}/openapi.json"),
                    *("--header", f"Authorization: Bearer {MASTER_KEY}", "--checks", ",".join(CHECKS)),
                    *("--phases", ",".join(phases), "--max-examples", str(examples), "--seed", "1"),
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
        With SQLite: what each field may be, at its bounds and beyond.
        """
        with TemporaryDirectory() as folder:
            self.assert_described("coverage", examples=1, DATABASE_URL=f"sqlite:///{folder}/keys.sqlite")

    def test_postgres(self) -> None:
        """
        With PostgreSQL: whatever fits the description, and whatever does not.
        """
        self.assert_described("fuzzing", examples=5, DATABASE_URL=server().url(server().fresh()))
