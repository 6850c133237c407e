"""
How events leave: one line of text or one JSON object each. Only how; what is logged is said by the rooms.

Whatever an event holds, formatting it raises nothing, and none of it can begin a line of its own or
steer a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)


def begin(format: Literal["text", "json"], out: TextIO) -> None:  # noqa: A002 - it is called so in the settings
    """
    Send the events of this process, from those already waiting on, to *out*.
    """
    # Standard output stays what it is: the announcement goes there.
    globalLogBeginner.beginLoggingTo([observer(format, out)], redirectStandardIO=False)


def observer(format: Literal["text", "json"], out: TextIO) -> ILogObserver:  # noqa: A002 - the same
    """
    Writes events from level info on to *out*, each at once.
    """
    write = FileLogObserver(out, _FORMATS[format])
    return FilteringLogObserver(write, [LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)])


def as_text(event: LogEvent) -> str:
    """
    ``2026-11-22T18:30:00Z [info] message``; the lines of a traceback follow, indented.
    """
    message, traceback = _message(event), _traceback(event)
    if not message and not traceback:
        return ""  # nothing that a person could read
    first = f"{_time(event)} [{_level(event)}] {_on_one_line(message)}"
    return "".join(f"{line}\n" for line in [first, *("    " + _on_one_line(each) for each in traceback)])


def as_json(event: LogEvent) -> str:
    """
    Time, level, namespace and message; the fields of the event that JSON knows; the traceback, if any.
    """
    line: dict[str, object] = {
        "time": _time(event),
        "level": _level(event),
        "namespace": _word(event.get("log_namespace"), ""),
        "message": _message(event),
    }
    if traceback := _traceback(event):
        line["traceback"] = "\n".join(traceback)
    fields = {name: value for name, value in event.items() if _is_field(name, value)}
    # The first holds the order, the last the word.
    return json.dumps({**line, **fields, **line}, allow_nan=False) + "\n"


_FORMATS: Mapping[str, Callable[[LogEvent], str]] = {"text": as_text, "json": as_json}

# What Twisted adds to an event: its own, and that of the older twisted.python.log.
_TWISTEDS = frozenset({"failure", "isError", "system", "why"})


def _time(event: LogEvent) -> str:
    try:
        moment = datetime.fromtimestamp(event["log_time"], UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        moment = datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _level(event: LogEvent) -> str:
    return _word(getattr(event.get("log_level"), "name", None), "info")


def _word(value: object, otherwise: str) -> str:
    # Turning anything else into text may raise.
    return value if isinstance(value, str) else otherwise


def _message(event: LogEvent) -> str:
    if "failure" in event:
        # twisted.python.log writes the traceback into the message.
        return _word(event.get("why"), "Unhandled error")
    # Tells what it cannot format instead of raising.
    return formatEvent(event)


def _traceback(event: LogEvent) -> list[str]:
    failure = event.get("log_failure", event.get("failure"))
    if failure is None:
        return []
    try:
        return str(failure.getTraceback()).splitlines()
    except Exception as error:  # noqa: BLE001 - whatever was logged as a failure, the event is not lost
        return [f"(no traceback: {type(error).__name__})"]


def _is_field(name: str, value: Any) -> bool:
    if name.startswith("log_") or name in _TWISTEDS:
        return False
    try:
        json.dumps(value, allow_nan=False)
    except Exception:  # noqa: BLE001 - fields are anybody's objects; the message has told of them
        return False
    return True


def _on_one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)
