"""
Everywhere that a call is told of: what they say must be the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import field, frozen
from prometheus_client.parser import text_string_to_metric_families

from dheera.money import NANO
from tests.process import ledgers
from tests.process.bearers import Bearer, master
from tests.process.daemon import Daemon, eventually
from tests.process.receivers import Receiver

SETTINGS = """
[sinks.calls]
kind = "file"
path = "{path}"
batch_seconds = 0.05
content = "{content}"

[sinks.hook]
kind = "webhook"
url = "{url}"
batch_seconds = 0.05
content = "{content}"
"""


@frozen(kw_only=True)
class Witnesses:
    """
    The ledger, `/spend/logs`, `/metrics` and two sinks of a daemon.

    :param database: its ``DATABASE_URL``.
    :param file: where its file sink writes.
    :param receiver: whom its webhook sink sends to.
    """

    daemon: Daemon
    database: str
    file: Path
    receiver: Receiver
    chief: Bearer = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "chief", master(self.daemon))

    def heard(self, alias: str, endpoint: str) -> dict[str, Any]:
        """
        What they say, when all have been told, of the one call that the key of this alias has made to *endpoint*.

        :raises AssertionError: they contradict each other.
        """
        where = f"key_alias = '{alias}' and endpoint = '{endpoint}'"
        eventually(
            lambda: ledgers.total(self.database, f"select count(*) from ledger where {where}") > 0,  # noqa: S608 - ours
            f"the call of {alias} to {endpoint} is in the ledger\n{self.daemon.log}",
        )
        columns = "call_id, model, end_user, outcome, status, cost, usage, estimated, price_list"
        [line] = ledgers.query(self.database, f"select {columns} from ledger where {where}")  # noqa: S608 - likewise
        kept = dict(zip(columns.split(", "), line, strict=True))
        kept["usage"] = json.loads(kept["usage"] or "{}") if not isinstance(kept["usage"], dict) else kept["usage"]
        call_id = kept["call_id"]
        [row] = self.chief.look(f"/spend/logs?request_id={call_id}")
        _agree(kept, _of_row(row), "/spend/logs")
        eventually(lambda: self._in_file(call_id) != [], "the file has been told")
        [written] = self._in_file(call_id)
        _agree(kept, _of_record(written), "the file")
        eventually(lambda: self._at_receiver(call_id) != [], "the webhook has been told")
        assert self._at_receiver(call_id) == [written]
        return {**written, "usage": kept["usage"]}

    def counted(self, name: str, **labels: str) -> float:
        """
        What ``/metrics`` say: the sum of all samples of this name with these labels.
        """
        text = self.chief.ask("GET", "/metrics").content.decode()
        families = text_string_to_metric_families(text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"dheera_{name}" and labels.items() <= sample.labels.items()
        )

    def _in_file(self, call_id: str) -> list[dict[str, Any]]:
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [json.loads(line) for line in lines if call_id in line]

    def _at_receiver(self, call_id: str) -> list[dict[str, Any]]:
        return [each for each in self.receiver.lines if each.get("call_id") == call_id]


def _agree(kept: dict[str, Any], told: dict[str, Any], by: str) -> None:
    assert told == {name: kept[name] for name in told}, f"{by}: {told}, and the ledger: {kept}"


def _of_row(row: dict[str, Any]) -> dict[str, Any]:
    more = row["metadata"]
    return {
        "call_id": row["request_id"],
        "model": row["model"] or None,
        "end_user": row["end_user"],
        "outcome": more["outcome"],
        "status": more["status_code"],
        "cost": None if row["spend"] is None else round(row["spend"] * NANO),
        "usage": more["usage"],
        "estimated": more["estimated"],
        "price_list": more["price_list"],
    }


def _of_record(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": record.get("answered_model") or record.get("model"),
        "end_user": record.get("end_user"),
        "outcome": record["outcome"],
        "status": record.get("status"),
        "cost": record.get("cost_nano_usd"),
        "usage": record.get("usage", {}),
        "estimated": record.get("estimated", False),
        "price_list": record.get("price_list"),
    }
