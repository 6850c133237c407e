"""
How events leave: one line each, whatever they hold.
"""

from __future__ import annotations

import json
import subprocess
import sys
from io import StringIO
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent, Logger, LogLevel, LogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure

from dheera import logs
from dheera.keys import Secret

MOMENT = 1795372200.0  # 2026-11-22 18:30:00 UTC


class Hostile:
    """
    Something that cannot be written down.
    """

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


def failure(message: str = "boom") -> Failure:
    """
    Something that went wrong.
    """
    return Failure(ValueError(message))


class TextTests(TestCase):
    """
    For people.
    """

    def test_line(self) -> None:
        """
        Time, level, message.
        """
        event = {"log_time": MOMENT, "log_level": LogLevel.info, "log_format": "Served {count}", "count": 3}
        self.assertEqual("2026-11-22T18:30:00Z [info] Served 3\n", logs.as_text(event))

    def test_failure(self) -> None:
        """
        The traceback follows on lines that are indented, so that none of them can pass for an event.
        """
        event = {
            "log_time": MOMENT,
            "log_level": LogLevel.critical,
            "log_format": "It broke",
            "log_failure": failure("one\n2026-11-22T18:30:00Z [info] forged\x1b[2J"),
        }
        first, *rest = logs.as_text(event).splitlines()
        self.assertEqual("2026-11-22T18:30:00Z [critical] It broke", first)
        self.assertIn("ValueError: one", "".join(rest))
        self.assertIn("    2026-11-22T18:30:00Z [info] forged\\x1b[2J", rest)
        self.assertEqual([], [line for line in rest if not line.startswith("    ")])

    def test_control_characters(self) -> None:
        """
        Nothing in a message ends the line, steers a terminal or turns the direction of writing.
        """
        event = {
            "log_time": MOMENT,
            "log_level": LogLevel.warn,
            "log_format": "{path}",
            "path": "a\r\nb\x1b[31m\x00\u202e\x85c",
        }
        self.assertEqual("2026-11-22T18:30:00Z [warn] a\\r\\nb\\x1b[31m\\x00\\u202e\\x85c\n", logs.as_text(event))

    def test_nothing_to_say(self) -> None:
        """
        An event without words is no line.
        """
        self.assertEqual("", logs.as_text({"log_time": MOMENT, "log_level": LogLevel.info, "log_format": None}))

    def test_secret(self) -> None:
        """
        A secret that somebody logs hides itself.
        """
        event = {"log_time": MOMENT, "log_level": LogLevel.info, "log_format": "{key} {key!r}", "key": Secret("sk-x")}
        for line in logs.as_text(event), logs.as_json(event):
            self.assertNotIn("sk-x", line)


class JSONTests(TestCase):
    """
    For machines.
    """

    def test_line(self) -> None:
        """
        Time, level, namespace, message, and the fields that JSON knows; the event's own words for the first four lose.
        """
        event = {
            "log_time": MOMENT,
            "log_level": LogLevel.info,
            "log_namespace": "dheera.service",
            "log_format": "Served {count} of {thing}",
            "count": 3,
            "names": ["a", {"b": None}],
            "thing": Hostile,
            "peer": b"bytes",
            "nan": float("nan"),
            "level": "mine",
        }
        line = logs.as_json(event)
        self.assertEqual(
            {
                "time": "2026-11-22T18:30:00Z",
                "level": "info",
                "namespace": "dheera.service",
                "message": f"Served 3 of {Hostile}",
                "count": 3,
                "names": ["a", {"b": None}],
            },
            json.loads(line),
        )
        self.assertTrue(line.startswith('{"time": '))

    def test_failure(self) -> None:
        """
        The traceback is a field.
        """
        event = {"log_time": MOMENT, "log_level": LogLevel.critical, "log_format": "It broke", "log_failure": failure()}
        self.assertIn("ValueError: boom", json.loads(logs.as_json(event))["traceback"])


class AnyEventTests(TestCase):
    """
    Formatting raises nothing, and gives one line.
    """

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.one_of(
                st.sampled_from(
                    ["log_time", "log_level", "log_format", "log_failure", "failure", "why", "log_namespace", "count"]
                ),
                st.text(max_size=5),
            ),
            st.one_of(
                st.none(),
                st.integers(),
                st.integers(5000, 5001).map(lambda digits: 10**digits),
                st.floats(),
                st.text(),
                st.binary(),
                st.sampled_from(["{count}", "{count()}", "{", "{count!r:>{x}}", "{count.x[0]}"]),
                st.builds(Hostile),
                st.lists(st.builds(Hostile)),
                st.builds(failure, st.text()),
                st.sampled_from(list(LogLevel.iterconstants())),
            ),
        )
    )
    def test_any_event(self, event: LogEvent) -> None:
        """
        Whatever the event holds, JSON is one ASCII line that reads back, and text is lines that cannot be mistaken.
        """
        line = logs.as_json(event)
        self.assertEqual(1, line.count("\n"))
        self.assertTrue(line.isascii() and line[:-1].isprintable())
        self.assertLessEqual({"time", "level", "namespace", "message"}, json.loads(line).keys())
        first, *rest = logs.as_text(event).split("\n")
        self.assertTrue(first.isprintable())
        for each in rest:
            self.assertTrue(each.isprintable() and (not each or each.startswith("    ")))


class ObserverTests(TestCase):
    """
    From a logger to the line.
    """

    def setUp(self) -> None:
        self.out = StringIO()
        self.publisher = LogPublisher(logs.observer("text", self.out))
        self.log = Logger(namespace="here", observer=self.publisher)

    def test_levels(self) -> None:
        """
        What is for developers is left out, the rest is written at once.
        """
        self.log.debug("one")
        self.log.info("two")
        self.log.error("three")
        self.assertEqual(["[info] two", "[error] three"], [line[21:] for line in self.out.getvalue().splitlines()])

    def test_failure(self) -> None:
        """
        The traceback of what is being handled comes with it.
        """
        try:
            int("boom")
        except ValueError:
            self.log.failure("It broke in {place}", place="here")
        first, *rest = self.out.getvalue().splitlines()
        self.assertEqual("[critical] It broke in here", first[21:])
        self.assertIn("ValueError: invalid literal", rest[-1])

    def test_older_events(self) -> None:
        """
        Twisted's older errors read like the newer ones: the reason, then the traceback.
        """
        older = legacy.LogPublisher(publishPublisher=self.publisher)
        older.msg("plain\nwords")
        older.msg(failure=failure(), why="It broke", isError=1)
        first, second, *rest = self.out.getvalue().splitlines()
        self.assertEqual(["[info] plain\\nwords", "[critical] It broke"], [first[21:], second[21:]])
        self.assertEqual("    Failure: builtins.ValueError: boom", rest[-1])

    def test_begin(self) -> None:
        """
        Events go to the given stream from the first one on; standard output stays the program's own.
        """
        program = (
            "import sys, warnings; from twisted.logger import Logger; from dheera import logs; log = Logger('here');"
            "log.info('before'); logs.begin('json', sys.stderr); log.info('after {n}', n=1); print('mine')"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual("mine\n", done.stdout)
        self.assertEqual(["before", "after 1"], [json.loads(line)["message"] for line in done.stderr.splitlines()])
