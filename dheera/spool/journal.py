"""
Writing down what happens, in order. Ends are held for a moment, so that many are written together, and with the next
beginning: a write takes 3 us, a line more in it one. What cannot be written now waits in memory, and nothing is begun
meanwhile.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from attrs import define, field
from msgspec import structs
from twisted.logger import Logger

from dheera.bookkeeping import Entry
from dheera.records import Alert, Begun, Record, to_line
from dheera.spool.pen import Pen

log = Logger()

MOST_STRANGERS = 1000
"""
Lines about nothing that is open, refusals above all, that wait in memory. Others are bounded by what is open.
"""

_Line: TypeAlias = tuple[bytes, Record | Alert]
_BLANK = b"\n" * 4096
"""
What is written to see whether the disk is back: as much as a file system gives out at once.
"""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@define(eq=False)
class Journal:
    """
    The lines of one process.

    :param tell: told what readers should know, in its order, as soon as it is written.
    :param failed: told why lines cannot be written.
    :ivar begun: the exchanges that have begun and whose end is not written yet: where their lines are, and these, in
        the order in which they are in the files.
    :ivar written: lines.
    :ivar lost: lines that were given up.
    """

    _pen: Pen
    _tell: Callable[[Sequence[Entry]], None]
    _failed: Callable[[str], None]
    begun: dict[str, tuple[int, bytes]] = field(init=False, factory=dict)
    written: int = field(init=False, default=0)
    lost: int = field(init=False, default=0)
    _error: OSError | None = field(init=False, default=None)
    _held: list[_Line] = field(init=False, factory=list)
    _waiting: deque[_Line] = field(init=False, factory=deque)
    _strangers: int = field(init=False, default=0)

    @property
    def failing(self) -> str | None:
        """
        Why lines cannot be written; ``None`` if they can.
        """
        return None if self._error is None else self._error.strerror or str(self._error)

    @property
    def is_disk_full(self) -> bool:
        """
        Whether that is why.
        """
        return self._error is not None and self._error.errno in _FULL

    @property
    def waiting(self) -> int:
        """
        Lines in memory that are to be written yet.
        """
        return len(self._waiting)

    def begin(self, begun: Begun) -> None:
        """
        Write what is held, and that an exchange begins.

        :raises OSError: it is not written.
        """
        self._require_disk()
        line = to_line(begun) + b"\n"
        try:
            place = self._write(self._held, line)
        except OSError as error:
            self.fail(error)
            raise
        self.written += 1
        self.begun[begun.call_id] = place - len(line), line

    def _require_disk(self) -> None:
        if self._error is not None:
            raise OSError(*self._error.args)

    def put(self, value: Record | Alert) -> None:
        """
        Write it with the next `flush` or `begin`, or when that is possible again.
        """
        line = _line(value)
        if self._error is None:
            self._held.append((line, value))
        else:
            self._wait(line, value)

    def flush(self) -> None:
        """
        Write what is held.
        """
        if self._held:
            try:
                self._write(self._held)
            except OSError as error:
                self.fail(error)

    def _write(self, lines: list[_Line], last: bytes = b"") -> int:
        """
        Write *lines*, and *last* behind them, or nothing. If they are written, the list is empty afterwards.

        :return: the place behind them.
        """
        content = b"\n".join([*[line for line, _ in lines], last]) if lines else last
        end = self._pen.append(content)
        if lines:
            position = end - len(content)
            entries = []
            for line, value in lines:
                position += len(line) + 1
                entries.append(Entry(position=position, line=line, value=value))
                if isinstance(value, Record):
                    self.begun.pop(value.call_id, None)
            self.written += len(lines)
            lines.clear()
            self._tell(entries)
        return end

    def _wait(self, line: bytes, value: Record | Alert) -> None:
        if not isinstance(value, Record) or value.call_id not in self.begun:
            if self._strangers >= MOST_STRANGERS:
                self.lost += 1
                return
            self._strangers += 1
        self._waiting.append((line, value))

    def inherit(self, lines: Sequence[bytes]) -> int:
        """
        Write lines of somebody else, which readers find in the files.

        :return: the place of the first.
        :raises OSError: they are not written.
        """
        self._require_disk()
        self.flush()
        self._require_disk()
        content = b"\n".join(lines) + b"\n"
        place = self._pen.append(content)
        self.written += len(lines)
        return place - len(content)

    def carry(self, before: int) -> bool:
        """
        Write the lines of all that is open and began before that place anew, so that what lies there can go.

        :return: whether that was possible.
        """
        while self._error is None and self.begun:
            call_id, (place, line) = next(iter(self.begun.items()))
            if place >= before:
                break
            try:
                place = self._pen.append(line) - len(line)
            except OSError as error:
                self.fail(error)
                break
            del self.begun[call_id]
            self.begun[call_id] = place, line
        return self.open_since(before) >= before

    def open_since(self, end: int) -> int:
        """
        No exchange that is open began before this place.

        :param end: said if none is open.
        """
        return next(iter(self.begun.values()))[0] if self.begun else end

    def fail(self, error: OSError) -> None:
        """
        Nothing can be written until `retry` finds that it can.
        """
        self._error = error.with_traceback(None)
        for line, value in self._held:
            self._wait(line, value)
        self._held.clear()
        self._failed(self.failing or "")

    def retry(self) -> None:
        """
        Write what waits.
        """
        if self._error is None:
            return
        try:
            if not self._waiting:
                self._pen.append(_BLANK)
            while self._waiting:
                self._write([self._waiting[0]])
                self._waiting.popleft()
        except OSError as error:
            self.fail(error)
        else:
            self._error = None
            self._strangers = 0


def _line(value: Record | Alert) -> bytes:
    try:
        return to_line(value)
    except Exception:  # noqa: BLE001 - whatever a caller has sent: that the call is over must be written
        log.failure("A record cannot be written as it is; what the caller said is left out")
    if isinstance(value, Alert):
        return to_line(structs.replace(value, subject="", text="It cannot be shown."))
    return to_line(structs.replace(value, request=None, response=None, parameters={}, message=None, user_agent=""))
