"""
What is said on PostgreSQL's channel of changes; and which of it comes back to who has said it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from secrets import token_urlsafe

import msgspec
from attrs import define, field
from msgspec import Struct

from dheera.boundaries import Change
from dheera.entities import KINDS

ANYTHING = Change("", "")
MOST_PAYLOADS = 100
LONGEST_PAYLOAD_BYTES = 7999
"""
PostgreSQL takes no longer ones. What is more than either is told as `ANYTHING`.
"""


class Notice(Struct, frozen=True, omit_defaults=True):
    """
    A change, as it is told to all processes.

    :param by: the transaction that made it; nobody but its own process knows it, and one made by hand has none.
    """

    kind: str
    id: str
    by: str = ""


@define
class _Expected:
    """
    The notices of one transaction.
    """

    left: int
    heard: bool = False


@define(eq=False)
class Echoes:
    """
    Knows the notices of this process, which has told itself of what it changed and need not hear it again.
    """

    _name: str = field(factory=lambda: token_urlsafe(9), init=False)
    _numbers: count[int] = field(factory=count, init=False)
    _expected: dict[str, _Expected] = field(factory=dict, init=False)

    def expect(self, changes: Sequence[Change]) -> tuple[str, list[str]]:
        """
        A transaction begins that makes *changes*.

        :return: a name for it, and what it has to say.
        """
        by = f"{self._name}.{next(self._numbers)}"
        notices = [_encode(change, by) for change in dict.fromkeys(changes)]
        if len(notices) > MOST_PAYLOADS or any(len(each) > LONGEST_PAYLOAD_BYTES for each in notices):
            notices = [_encode(ANYTHING, by)]
        self._expected[by] = _Expected(len(notices))
        return by, [each.decode() for each in notices]

    def hear(self, payload: str) -> Change | None:
        """
        The change that *payload* tells of; ``None`` if this process tells it itself, now or when it is done.
        """
        try:
            notice = msgspec.json.decode(payload, type=Notice)
        except msgspec.MsgspecError:
            return ANYTHING
        expected = self._expected.get(notice.by)
        if expected is not None:
            expected.left -= 1
            expected.heard = True
            if not expected.left:
                self._expected.pop(notice.by)
            return None
        return Change(notice.kind, notice.id) if notice.kind in KINDS else ANYTHING

    def fail(self, by: str) -> bool:
        """
        Nobody knows whether a transaction was done, or it was not: what is heard of it from now on is news.

        :return: whether something was heard of it already, so that it was done.
        """
        expected = self._expected.pop(by, None)
        return expected is None or expected.heard

    def forget(self) -> None:
        """
        What has been said may never be heard.
        """
        self._expected.clear()


def _encode(change: Change, by: str) -> bytes:
    return msgspec.json.encode(Notice(change.kind, change.id, by))
