"""
``twistd dheera``: its options, and the daemon that they describe.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar

from twisted.application.service import IService
from twisted.logger import Logger
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from dheera.config import ConfigurationError, load
from dheera.definitions import CONFIG_VARIABLE
from dheera.run import RunByTwistd, endpoint_problems, raise_file_limit
from dheera.service import build
from dheera.settings import Config

log = Logger()


class Options(UsageOptions):
    """
    The options of ``twistd dheera``: those of ``dheera_ai``, in twistd's manner.
    """

    optParameters: ClassVar[list[list[str | None]]] = [
        ["host", None, None, "Address to listen on [default: 0.0.0.0]."],
        ["port", None, None, "Port to listen on [default: 4000]."],
        ["config", "c", None, "TOML file with settings; conf/dheera.toml shows them all."],
    ]
    optFlags: ClassVar[list[list[str | None]]] = [
        ["demo", None, "Serve from a built-in stand-in for Mistral: no key, no network."],
    ]

    def __init__(self) -> None:
        UsageOptions.__init__(self)
        self["listen"] = []
        self._file: Path | None = None

    def opt_listen(self, endpoint: str) -> None:
        """
        Twisted endpoint string to listen at, such as tcp:4000 or unix:/run/dheera.sock; may be given several times.
        """
        self["listen"].append(endpoint)

    def postOptions(self) -> None:
        """
        Read the configuration, so that what is wrong with it is told as twistd tells wrong options.

        :raises UsageError: it cannot be used.
        """
        try:
            self.config = self.read()
        except ConfigurationError as error:
            raise UsageError(str(error)) from error
        from twisted.internet import reactor  # twistd has chosen one by now

        problems = endpoint_problems(reactor, self.config.listen.endpoints)
        if self.config.workers != 1:
            problems.append("workers: several are started by dheera_ai, or by systemd; twistd is one process")
        if problems:
            raise UsageError("\n".join(problems))

    def read(self) -> Config:
        """
        The configuration as it is now.

        :raises ConfigurationError: with all that is wrong.
        """
        said = {"host": self["host"], "port": self["port"], "listen": self["listen"], "demo": bool(self["demo"])}
        if self._file is None and (named := self["config"] or os.environ.get(CONFIG_VARIABLE)):
            self._file = Path(named).absolute()  # twistd goes into the background, and elsewhere
        return load(self._file, os.environ, said)


def makeService(options: Options) -> IService:
    """
    The daemon for ``twistd dheera``. It says where it serves in twistd's log; if it cannot start, the process ends with
    exit code 1.
    """
    from twisted.internet import reactor

    raise_file_limit()
    try:
        daemon = build(
            reactor,
            options.config,
            lambda text: log.info("{text}", text=text),
            read=options.read,
            command=[sys.executable, *sys.orig_argv[1:]],
        )
    except ConfigurationError as error:
        raise SystemExit(f"dheera: {error}") from None
    return RunByTwistd(reactor, daemon, {} if options.parent is None else options.parent)
