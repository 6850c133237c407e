"""
The daemon of this checkout, by the Python that runs the bench: with everything on, and with less or more.
"""

from __future__ import annotations

import http.client
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path

from attrs import field, frozen

from bench.installing import NotInstalled, Tools
from bench.load import Place
from bench.programs import NotStarted
from bench.proxy import CLIENT_CREDENTIAL, Plan, Proxy

_MASTER_KEY = "sk-of-the-operator-of-this-bench"
_POSTGRES = "DHEERA_BENCH_POSTGRES"

_FILE_SINK = '[sinks.files]\nkind = "file"\npath = "{state}/records.jsonl"\n'
# There is no switch: the ledger waits longer than any round lasts.
_NO_LEDGER = "[ledger]\ndelay_seconds = 86400\n"
_BUDGET = {"max_budget": 10**8}
_RATES = {"rpm_limit": 10**9, "tpm_limit": 10**13}
_OF_VARIANTS = frozenset({"requests", "streams"})
_OF_WORKERS = frozenset({"requests"})


@frozen(kw_only=True)
class Dheera:
    """
    One way to run it.

    :param settings: the configuration file, with `{state}` for the state directory.
    :param limits: of the client's virtual key; None: there are no keys, any key passes.
    :param postgres: in the database that the environment names, in place of SQLite.
    """

    name: str
    settings: str = ""
    limits: Mapping[str, float] | None = None
    postgres: bool = False
    workers: int = 1
    sections: frozenset[str] | None = _OF_VARIANTS
    spread: bool = False
    pace: float = field(default=1.0, init=False)

    def version(self, tools: Tools) -> str:
        """The version, and the Python that runs it."""
        del tools
        if self.postgres and _POSTGRES not in os.environ:
            raise NotInstalled(f"{_POSTGRES} names no empty database (postgresql://...).")
        from dheera import __version__  # noqa: PLC0415 -- the others can be measured without it

        return f"{__version__} on {platform.python_implementation()} {platform.python_version()}"

    def plan(self, upstream: Place, *, port: int, scratch: Path, tools: Tools) -> Plan:
        """Settings by environment, and what has no variable by a configuration file; a state directory of its own."""
        del tools
        state = Path(tempfile.mkdtemp(dir=scratch))
        file = state / "dheera.toml"
        trust = "" if upstream.ca_file is None else f'[mistral]\nca_file = "{upstream.ca_file}"\n'
        file.write_text(trust + self.settings.format(state=state))
        environment = {
            "DHEERA_AI_STATE_DIR": str(state),
            "MISTRAL_API_BASE": upstream.url,
            "MISTRAL_API_KEY": upstream.credential.removeprefix("Bearer "),
        }
        if self.postgres:
            environment["DATABASE_URL"] = os.environ[_POSTGRES]
        if self.limits is not None:
            environment["DHEERA_AI_MASTER_KEY"] = _MASTER_KEY
        return Plan(
            arguments=[
                *(sys.executable, "-m", "dheera", "--host", "127.0.0.1", "--port", str(port)),
                *("--config", str(file)),
                *(["--workers", str(self.workers)] if self.workers > 1 else []),
            ],
            environment=environment,
            place=Place(url=f"http://127.0.0.1:{port}/mistral/v1", credential=CLIENT_CREDENTIAL),
            settle=lambda place: place if self.limits is None else _with_key(place, port, self.limits),
        )


def _with_key(place: Place, port: int, limits: Mapping[str, float]) -> Place:
    key = CLIENT_CREDENTIAL.removeprefix("Bearer ")
    _manage(port, "/key/delete", {"keys": [key]})  # a database that was used before has it
    status, said = _manage(port, "/key/generate", {"key": key, **limits})
    if status != HTTPStatus.OK:
        raise NotStarted(f"the key could not be made: {said!r}")
    return place


def _manage(port: int, path: str, body: Mapping[str, object]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", path, json.dumps(body), {"Authorization": f"Bearer {_MASTER_KEY}"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


_everything = partial(Dheera, settings=_FILE_SINK, limits=_BUDGET)

SUBJECT = _everything(name="dheera", sections=None)
"""
Everything on, as an operator runs it: a virtual key with a budget, spool, ledger in SQLite, and one file sink.
"""

VARIANTS: Sequence[Proxy] = (
    # Each has what the one before it has, and one thing more.
    Dheera(name="dheera-open", settings=_NO_LEDGER),
    Dheera(name="dheera-key", settings=_NO_LEDGER, limits={}),
    Dheera(name="dheera-ledger", limits={}),
    Dheera(name="dheera-sink", settings=_FILE_SINK, limits={}),
    # Here stands the subject: with a budget.
    _everything(name="dheera-limits", limits={**_BUDGET, **_RATES}),
    # Two workers beside one, both on all the cores that there are.
    _everything(name="dheera-spread", spread=True, sections=_OF_WORKERS),
    _everything(name="dheera-2-workers", workers=2, spread=True, sections=_OF_WORKERS),
    _everything(name="dheera-pg", postgres=True),
    _everything(name="dheera-pg-limits", postgres=True, limits={**_BUDGET, **_RATES}),
)
"""
What each part costs.
"""
