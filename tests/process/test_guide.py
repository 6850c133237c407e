"""
The guide that users have in hand: each of its commands, as it is printed there. Only the port is another.
"""

from __future__ import annotations

import json
import subprocess
from typing import ClassVar
from unittest import TestCase

from tests.process.daemon import Daemon, alive, environment

# The commands below are the guide's, to the letter: quotes, the comma that JSON does not know, and all.

OCR = """\
curl -L -X POST 'http://0.0.0.0:4000/mistral/v1/ocr' \\
-H 'Content-Type: application/json' \\
-H 'Authorization: Bearer sk-1234' \\
-d '{
    "model": "mistral-ocr-latest",
    "document": {
        "type": "image_url",
        "image_url": "https://raw.githubusercontent.com/mistralai/cookbook/refs/heads/main/mistral/ocr/receipt.png"
    }

}'
"""

OCR_WITH_UNEXPANDED_KEY = """\
curl -L -X POST 'http://0.0.0.0:4000/mistral/v1/ocr' \\
-H 'Content-Type: application/json' \\
-H 'Authorization: Bearer $DHEERA_AI_API_KEY' \\
-d '{
    "model": "mistral-ocr-latest",
    "document": {
        "type": "image_url",
        "image_url": "https://raw.githubusercontent.com/mistralai/cookbook/refs/heads/main/mistral/ocr/receipt.png"
    }
}'
"""

DIRECT_OCR = """\
curl https://api.mistral.ai/v1/ocr \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer ${MISTRAL_API_KEY}" \\
  -d '{
    "model": "mistral-ocr-latest",
    "document": {
        "type": "document_url",
        "document_url": "https://arxiv.org/pdf/2201.04234"
    },
    "include_image_base64": true
  }'
"""

CHAT = """\
curl -L -X POST 'http://0.0.0.0:4000/mistral/v1/chat/completions' \\
-H 'Content-Type: application/json' \\
-H 'Authorization: Bearer $DHEERA_AI_VIRTUAL_KEY' \\
-d '{
    "messages": [
        {
            "role": "user",
            "content": "I am going to Paris, what should I see?"
        }
    ],
    "max_tokens": 2048,
    "temperature": 0.8,
    "top_p": 0.1,
    "model": "mistral-large-latest",
}'
"""

DIRECT_CHAT = """\
curl -L -X POST 'https://api.mistral.ai/v1/chat/completions' \\
-H 'Content-Type: application/json' \\
-d '{
    "messages": [
        {
            "role": "user",
            "content": "I am going to Paris, what should I see?"
        }
    ],
    "max_tokens": 2048,
    "temperature": 0.8,
    "top_p": 0.1,
    "model": "mistral-large-latest",
}'
"""

CHAT_WITH_VIRTUAL_KEY = """\
curl -L -X POST 'http://0.0.0.0:4000/mistral/v1/chat/completions' \\
-H 'Content-Type: application/json' \\
-H 'Authorization: Bearer sk-1234ewknldferwedojwojw' \\
  --data '{
    "messages": [
        {
            "role": "user",
            "content": "I am going to Paris, what should I see?"
        }
    ],
    "max_tokens": 2048,
    "temperature": 0.8,
    "top_p": 0.1,
    "model": "qwen2.5-7b-instruct",
}'
"""


class CommandTests(TestCase):
    """
    The guide's calls, against the demo.
    """

    daemon: ClassVar[Daemon]

    @classmethod
    def setUpClass(cls) -> None:
        cls.daemon = cls.enterClassContext(Daemon("--demo", "--port", "0"))

    def pasted(self, command: str) -> tuple[int, str, object]:
        """
        The command pasted into a shell: the status of the answer, where it came from if it is an error, its JSON.
        """
        here = command.replace(":4000/", f":{self.daemon.port}/")
        told = "'%{stderr}%{http_code} %{header_json}'"
        done = subprocess.run(
            ["bash", "-c", f"{here.rstrip()} --silent --show-error --write-out {told}"],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(0, done.returncode, done.stderr)
        status, _, fields = done.stderr.partition(" ")
        source = json.loads(fields).get("x-dheera-error-source", [""])[0]
        return int(status), source, json.loads(done.stdout)

    def test_ocr(self) -> None:
        """
        OCR, with any bearer: one that looks like a key, and a variable that the shell did not expand.
        """
        for command in OCR, OCR_WITH_UNEXPANDED_KEY:
            status, source, answer = self.pasted(command)
            self.assertEqual((200, ""), (status, source), answer)
            assert isinstance(answer, dict)
            self.assertEqual("mistral-ocr-latest", answer["model"])
            self.assertEqual(1, answer["usage_info"]["pages_processed"])

    def test_chat(self) -> None:
        """
        The chat calls hold JSON which is none, for a comma at the end: that is upstream's to say, not ours, with
        whatever key.
        """
        for command in CHAT, CHAT_WITH_VIRTUAL_KEY:
            status, source, answer = self.pasted(command)
            self.assertEqual((422, "upstream"), (status, source), answer)
            assert isinstance(answer, dict)
            self.assertEqual("json_invalid", answer["detail"][0]["type"])

    def test_chat_mended(self) -> None:
        """
        Without that comma they are answered.
        """
        for command in CHAT, CHAT_WITH_VIRTUAL_KEY.replace("qwen2.5-7b-instruct", "mistral-small-latest"):
            status, source, answer = self.pasted(command.replace('",\n}', '"\n}'))
            self.assertEqual((200, ""), (status, source), answer)

    def test_anything(self) -> None:
        """
        ``bearer anything``, in lower case, or no credential at all.
        """
        for credential in "bearer anything", "Bearer DHEERA_AI_VIRTUAL_KEY", "":
            status, _, _ = self.pasted(OCR.replace("Bearer sk-1234", credential))
            self.assertEqual(200, status, credential)

    def test_replaced_base(self) -> None:
        """
        "Just replace https://api.mistral.ai/v1 with DHEERA_AI_PROXY_BASE_URL/mistral", in the calls of the guide that
        go to Mistral itself: with a variable that is empty, and with no credential at all.
        """
        for command, expected in (DIRECT_OCR, 200), (DIRECT_CHAT, 422), (DIRECT_CHAT.replace('",\n}', '"\n}'), 200):
            replaced = command.replace("https://api.mistral.ai/v1", "http://0.0.0.0:4000/mistral")
            status, _, answer = self.pasted(replaced)
            self.assertEqual(expected, status, answer)


class SetupTests(TestCase):
    """
    The guide's ways to start.
    """

    def test_quick_start(self) -> None:
        """
        With a key in the environment, ``dheera_ai`` says the line that the guide shows.
        """
        self.started('export MISTRAL_API_KEY="sk-1234"')

    def test_empty_exports(self) -> None:
        """
        So it does with the variables that the guide exports with nothing in them.
        """
        self.started('export DATABASE_URL=""\nexport DHEERA_AI_MASTER_KEY=""\nexport MISTRAL_API_BASE=""')

    def started(self, exports: str) -> None:
        """
        Run the exports, then the program by its bare name.
        """
        shell = ("bash", "-c", f"{exports}\nexec dheera_ai")
        with Daemon(program=shell, said={"DHEERA_AI_PORT": "0"}) as daemon:
            self.assertRegex(daemon.output, r"\ARUNNING on http://0\.0\.0\.0:[0-9]+\n\Z")
            self.assertTrue(alive(daemon.url))
