"""
The guide that users have in hand: each of its commands, as it is printed there. Only the port is another.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar
from unittest import TestCase

from tests.process import databases
from tests.process.daemon import UPSTREAM_KEY, Daemon, alive, environment
from tests.process.peers import Peer, Upstream, answer

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

EXPORTS = """\
export DATABASE_URL=""
export DHEERA_AI_MASTER_KEY=""
export MISTRAL_API_BASE=""
"""

GENERATE = """\
curl -X POST 'http://0.0.0.0:4000/key/generate' \\
-H 'Authorization: Bearer sk-1234' \\
-H 'Content-Type: application/json' \\
-d '{}'
"""

GUIDES_KEY = "sk-1234ewknldferwedojwojw"


def pasted(command: str, daemon: Daemon) -> tuple[int, str, object]:
    """
    The command pasted into a shell: the status of the answer, where it came from if it is an error, its JSON.
    """
    here = command.replace(":4000/", f":{daemon.port}/")
    told = "'%{stderr}%{http_code} %{header_json}'"
    done = subprocess.run(
        ["bash", "-c", f"{here.rstrip()} --silent --show-error --write-out {told}"],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    status, _, fields = done.stderr.partition(" ")
    source = json.loads(fields).get("x-dheera-error-source", [""])[0]
    return int(status), source, json.loads(done.stdout)


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
        The command pasted into a shell.
        """
        return pasted(command, self.daemon)

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


class VirtualKeyTests(TestCase):
    """
    "Advanced - Use with Virtual Keys", from the environment to the call that developers make.
    """

    def test_usual_place(self) -> None:
        """
        With ``DATABASE_URL`` empty as it is printed, keys are kept in the state directory, where nobody else can read
        them.
        """
        with TemporaryDirectory() as folder:
            self.follow("", DHEERA_AI_STATE_DIR=f"{folder}/dheera")
            file = Path(folder, "dheera", "dheera.sqlite")
            self.assertEqual((0o700, 0o600), (file.parent.stat().st_mode & 0o777, file.stat().st_mode & 0o777))

    def test_sqlite(self) -> None:
        """
        So they are in the file that ``DATABASE_URL`` names.
        """
        with databases.sqlite() as url:
            self.follow(url)
            self.assertTrue(Path(url.removeprefix("sqlite:///")).is_file())

    def test_postgres(self) -> None:
        """
        So they are in PostgreSQL.
        """
        with databases.postgres() as url:
            self.follow(url)

    def follow(self, database: str, **said: str) -> None:
        """
        Do what the guide says, step by step.
        """
        heard: list[tuple[bytes, bytes]] = []

        def script(peer: Peer) -> None:
            while True:
                heard.append(peer.message())
                peer.send(answer(b'{"object": "chat.completion"}'))

        with Upstream(script) as upstream:
            values = iter([database, "sk-1234", upstream.url])
            exports = "\n".join(line.replace('""', f'"{next(values)}"') for line in EXPORTS.splitlines())
            shell = ("bash", "-c", f"{exports}\nexec dheera_ai")
            said |= {"DHEERA_AI_PORT": "0", "MISTRAL_API_KEY": UPSTREAM_KEY}
            with Daemon(program=shell, said=said) as daemon:
                self.assertRegex(daemon.output, r"\ARUNNING on http://0\.0\.0\.0:[0-9]+\n\Z")
                self.assertRegex(daemon.log, r"\[warn\] The master key is short")

                status, _, generated = pasted(GENERATE, daemon)
                self.assertEqual(200, status, generated)
                assert isinstance(generated, dict)
                key = generated["key"]
                self.assertRegex(key, r"\Ask-[A-Za-z0-9_-]{22,}\Z")

                told = pasted(CHAT_WITH_VIRTUAL_KEY.replace(GUIDES_KEY, key), daemon)
                self.assertEqual((200, "", {"object": "chat.completion"}), told)
                [(head, body)] = heard
                self.assertIn(f"\r\nAuthorization: Bearer {UPSTREAM_KEY}\r\n".encode(), head)
                self.assertNotIn(key.encode(), head)
                _, _, data = CHAT_WITH_VIRTUAL_KEY.partition("--data '")
                self.assertEqual(data.removesuffix("'\n").encode(), body)  # with the comma that JSON does not know

                # The key that is printed in the guide is nobody's, here; nor is a variable that nobody set.
                for command in CHAT_WITH_VIRTUAL_KEY, CHAT, CHAT_WITH_VIRTUAL_KEY.replace(GUIDES_KEY, key + "x"):
                    status, source, refused = pasted(command, daemon)
                    self.assertEqual((401, "dheera"), (status, source), refused)
                self.assertEqual(1, len(heard))
