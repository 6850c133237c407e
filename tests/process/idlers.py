"""
Clients who connect and say nothing, in a process of their own: each takes an open file, and so does the daemon.

As a program: ``PORT COUNT FIRST``. It says ``open`` when all are connected. When the other end has closed them all, it
says how.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from attrs import define, field

from tests.process.daemon import PATIENCE_SECONDS

ROOT = Path(__file__).parent.parent.parent
PER_ADDRESS = 1000
TOLD = b"HTTP/1.1 503 "


@define
class Idlers:
    """
    So many of them inside ``with``; on leaving they are gone.

    :param first: of the addresses in 127.1.0.0/16 that they come from.
    """

    port: int
    count: int
    first: int = 0
    _process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Self:
        words = (str(each) for each in (self.port, self.count, self.first))
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, *words], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def wait(self) -> None:
        """
        Wait until all are connected.
        """
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "open\n"

    def ended(self) -> Counter[str]:
        """
        Wait until all are closed.

        :return: how many were told 503, how many were closed without a word, in order, and how many were reset.
        """
        said, _ = self._process.communicate(timeout=PATIENCE_SECONDS)
        return Counter(json.loads(said))


def idle(port: int, count: int, first: int) -> None:
    """
    Connect, and wait for the end.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    poll = select.epoll()
    open_ones = {}
    for number in range(count):
        sock = socket.socket()
        sock.settimeout(PATIENCE_SECONDS)
        sock.bind((f"127.1.0.{first + number // PER_ADDRESS}", 0))
        sock.connect(("127.0.0.1", port))
        open_ones[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    print("open", flush=True)  # noqa: T201 - this is what it is asked for
    ends: Counter[str] = Counter()
    while open_ones:
        for number, _ in poll.poll():
            with open_ones.pop(number) as sock:
                ends[_end(sock)] += 1
    print(json.dumps(ends))  # noqa: T201 - this is what it is asked for


def _end(sock: socket.socket) -> str:
    try:
        heard = sock.recv(1000)
    except ConnectionError:
        return "reset"
    return "told" if heard.startswith(TOLD) else "closed"


if __name__ == "__main__":
    idle(*map(int, sys.argv[1:]))
