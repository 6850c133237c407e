"""
People with keys, and what they hear.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

from attrs import field, frozen

from tests.process.daemon import PATIENCE_SECONDS, Daemon, eventually

MASTER_KEY = "sk-master-of-the-house"
MODEL = "mistral-small-latest"


@frozen
class Answer:
    """
    What came back.

    :param fields: header lines, by their names in lower case.
    """

    status: int
    fields: dict[str, str] = field(repr=False)
    content: bytes

    @property
    def document(self) -> Any:
        """
        The JSON that it is.
        """
        return json.loads(self.content)

    @property
    def refusal(self) -> str:
        """
        Which sort of refusal it is, ``expired_key`` say; empty if it is none.
        """
        return "" if self.status == 200 else str(self.document["error"]["type"])


@frozen
class Bearer:
    """
    Somebody with a key, and the daemon to which it is offered.
    """

    daemon: Daemon
    key: str

    def ask(self, method: str, path: str, body: object = None) -> Answer:
        """
        Make a call.

        :param body: sent as JSON, unless there is none.
        """
        connection = HTTPConnection("127.0.0.1", self.daemon.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
            )
            with connection.getresponse() as answer:
                fields = {name.lower(): value for name, value in answer.getheaders()}
                return Answer(answer.status, fields, answer.read())
        finally:
            connection.close()

    def chat(self, model: str = MODEL) -> Answer:
        """
        Ask a model something.
        """
        messages = [{"role": "user", "content": "Hello"}]
        return self.ask("POST", "/mistral/v1/chat/completions", {"model": model, "messages": messages})

    def chat_with(self, body: str) -> Answer:
        """
        Ask as *body* says.
        """
        return self.ask("POST", "/mistral/v1/chat/completions", json.loads(body))

    def do(self, path: str, **body: Any) -> Any:
        """
        Manage something, which must succeed.

        :return: the answer.
        """
        return _successful(self.ask("POST", path, body))

    def look(self, path: str) -> Any:
        """
        Look at something, which must be there.
        """
        return _successful(self.ask("GET", path))

    def issue(self, **fields: Any) -> str:
        """
        Make a key that can do as *fields* say.
        """
        return str(self.do("/key/generate", **fields)["key"])

    def wait_for(self, refusal: str, model: str = MODEL) -> None:
        """
        Go on using the key, so that it is never forgotten, until that is answered with *refusal*; ``""`` until it is
        let through.
        """
        eventually(lambda: self.chat(model).refusal == refusal, f"a call is answered with {refusal or 'success'}")


def master(daemon: Daemon) -> Bearer:
    """
    Who runs *daemon*.
    """
    return Bearer(daemon, MASTER_KEY)


def _successful(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return answer.document
