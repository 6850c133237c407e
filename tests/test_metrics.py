"""
What is counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from cProfile import Profile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dheera import series
from dheera.accounts import REFRESH_SECONDS, Refreshment
from dheera.config import ConfigurationError
from dheera.errors import AnswerCut, NotAuthenticated
from dheera.metrics import COUNTED_TOGETHER, GROWING, LEVELS, WORST, Level, Metrics
from dheera.records import Record
from dheera.series import MOST_NAMES, Spread
from dheera.usage import Usage
from dheera.workers import DIRECTORY_VARIABLE, bury, shared_directory

_WORKER = """
import json, os, sys
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from dheera.accounts import Refreshment
from dheera.metrics import Level, Metrics
from tests.test_metrics import record

left = MmapedDict(os.path.join(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"gauge_livemax_{os.getpid()}.db"))
left.write_value(mmap_key("dheera_sink_away", "dheera_sink_away", ["sink"], ["old"], "Left"), 1.0, 0.0)
left.close()
calls = int(sys.argv[1])
metrics = Metrics(
    lambda model: True,
    lambda: [
        Level(name="spool_lag_bytes", labels=("ledger",), value=calls),
        Level(name="spool_lag_seconds", labels=("ledger",), value=calls),
        Level(name="sink_sent_records", labels=("files",), value=calls),
        Level(name="store_away", value=True),
    ],
)
refreshment = Refreshment(Clock(), metrics)
Deferred.fromCoroutine(refreshment.open())
metrics.began()
for _ in range(calls):
    metrics.began()
    metrics.ended(record())
metrics.refresh()
print("counted", flush=True)
for line in sys.stdin:
    print(json.dumps(metrics.text().decode()), flush=True)
metrics.began()
metrics.ended(record())
Deferred.fromCoroutine(refreshment.close())
"""
"""
Finds what another process of its number has left. Counts, tells what all have counted whenever it is asked, and counts
one more before it goes.
"""


def record(**said: Any) -> Record:
    """
    A chat that went well, with what is *said*.
    """
    usual: dict[str, Any] = {
        "call_id": "1",
        "started_at": datetime(2026, 11, 23, tzinfo=UTC),
        "node": "n",
        "method": "POST",
        "path": "/v1/chat/completions",
        "endpoint": "chat/completions",
        "model": "m",
        "key_alias": "ada",
        "team_alias": "search",
        "outcome": "complete",
        "status": 200,
        "usage": Usage(prompt_tokens=100, cached_tokens=64, completion_tokens=10, total_tokens=110),
        "cost_nano_usd": 1_500_000_000,
        "request_bytes": 7,
        "response_bytes": 9,
        "duration_us": 2_000_000,
        "first_byte_us": 1_000_000,
        "overhead_us": 200,
    }
    return Record(**(usual | said))


def samples(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """
    What *text* says, by name and labels.
    """
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


class SpreadTests(TestCase):
    """
    Times that are added up.
    """

    @given(st.lists(st.lists(st.integers(0, 4_000_000) | st.sampled_from([1_000_000, 2_000_000]), max_size=20)))
    def test_as_observed(self, told: list[list[int]]) -> None:
        """
        However often it is flushed, the library shows the same as if it had been told each by itself.
        """
        texts = []
        for is_added_up in (True, False):
            registry = CollectorRegistry()
            histogram = Histogram("seconds", "Times", registry=registry, buckets=(0.25, 1.0, 2.0))
            spread = Spread(histogram)
            for some in told:
                if is_added_up:
                    spread.add(some)
                    spread.add(some[:1])
                    spread.flush()
                else:
                    for microseconds in some + some[:1]:
                        histogram.observe(microseconds / 1_000_000)
            texts.append(samples(generate_latest(registry)))
        added_up, observed = (
            {key: each for key, each in text.items() if not key[0].endswith("_created")} for text in texts
        )
        total = ("seconds_sum", frozenset[tuple[str, str]]())
        self.assertAlmostEqual(observed.pop(total), added_up.pop(total))
        self.assertEqual(observed, added_up)


class MetricsTests(SynchronousTestCase):
    """
    From records to numbers.
    """

    def setUp(self) -> None:
        self.levels: list[Level] = []
        self.metrics = Metrics(lambda model: model == "m", lambda: self.levels)

    def value(self, name: str, **labels: str) -> float | None:
        """
        Of the metric of this name.
        """
        return samples(self.metrics.text()).get((f"dheera_{name}", frozenset(labels.items())))

    def end(self, **said: Any) -> None:
        self.metrics.began()
        self.metrics.ended(record(**said))

    def test_a_call(self) -> None:
        """
        Each of its figures is under its labels, and is counted once, however often somebody looks.
        """
        self.end()
        self.end()
        who = {"model": "m", "key": "ada", "team": "search"}
        for _ in range(2):
            at = {"endpoint": "chat/completions", "model": "m"}
            self.assertEqual(
                2, self.value("requests_total", endpoint=at["endpoint"], **who, status="200", outcome="complete")
            )
            self.assertEqual(3.0, self.value("cost_usd_total", **who))
            self.assertEqual(200, self.value("tokens_total", **who, kind="prompt"))
            self.assertEqual(128, self.value("tokens_total", **who, kind="cached"))
            self.assertEqual(20, self.value("tokens_total", **who, kind="completion"))
            self.assertEqual(14, self.value("bytes_total", endpoint=at["endpoint"], direction="up"))
            self.assertEqual(18, self.value("bytes_total", endpoint=at["endpoint"], direction="down"))
            self.assertEqual(4.0, self.value("request_duration_seconds_sum", **at))
            self.assertEqual(2.0, self.value("first_byte_seconds_sum", **at))
            self.assertAlmostEqual(0.0004, self.value("overhead_seconds_sum") or 0)

    def test_together(self) -> None:
        """
        All are counted, each by its own labels, though many are counted together.
        """
        for number in range(2 * COUNTED_TOGETHER + 3):
            self.end(status=200 if number % 3 else 500)
        who = {"endpoint": "chat/completions", "model": "m", "key": "ada", "team": "search", "outcome": "complete"}
        counted = [self.value("requests_total", **who, status=status) for status in ("200", "500")]
        self.assertEqual([87, 44], counted)

    def test_cannot_be_counted(self) -> None:
        """
        A record that cannot be counted is told in the log. Those that are counted together with it are counted all the
        same, and the last of them, with whose end that happens, ends like any other call.
        """

        def is_known(model: str) -> bool:
            if model == "bad":
                raise LookupError(model)
            return True

        self.metrics = Metrics(is_known)
        self.end(model="bad")
        for _ in range(COUNTED_TOGETHER - 1):
            self.end()
        self.assertEqual(1, len(self.flushLoggedErrors(LookupError)))
        who = {"endpoint": "chat/completions", "model": "m", "key": "ada", "team": "search", "outcome": "complete"}
        self.assertEqual(COUNTED_TOGETHER - 1, self.value("requests_total", **who, status="200"))

    def test_stream(self) -> None:
        """
        Of a stream also the longest silence, and the time of a token.
        """
        self.end(is_stream=True, longest_gap_us=500_000)
        at = {"endpoint": "chat/completions", "model": "m"}
        self.assertEqual(0.5, self.value("longest_gap_seconds_sum", **at))
        self.assertEqual(0.1, self.value("time_per_output_token_seconds_sum", **at))

    def test_cut_stream(self) -> None:
        """
        A stream that broke off before anything was said of its use has a longest silence all the same, and one whose
        use was estimated has no time for a token.
        """
        self.end(is_stream=True, longest_gap_us=500_000, usage=None, outcome="upstream_cut")
        self.end(is_stream=True, longest_gap_us=500_000, estimated=True)
        at = {"endpoint": "chat/completions", "model": "m"}
        self.assertEqual(1.0, self.value("longest_gap_seconds_sum", **at))
        self.assertEqual(0, self.value("time_per_output_token_seconds_count", **at))
        self.assertEqual(1, self.value("estimated_requests_total", **at))

    def test_no_answer(self) -> None:
        """
        A call whose client left before an answer has no status.
        """
        self.end(status=None, outcome="client_left")
        who = {"endpoint": "chat/completions", "model": "m", "key": "ada", "team": "search"}
        self.assertEqual(1, self.value("requests_total", **who, status="none", outcome="client_left"))

    def test_unknown_cost(self) -> None:
        """
        What has no price is counted as such.
        """
        self.end(cost_nano_usd=None)
        self.assertEqual(1, self.value("unpriced_requests_total", endpoint="chat/completions", model="m"))
        self.assertEqual(0, self.value("cost_usd_total", model="m", key="ada", team="search"))

    def test_under_way(self) -> None:
        """
        How many calls are under way, those included that are refused.
        """
        self.metrics.began()
        self.metrics.began()
        self.assertEqual(2, self.value("in_flight_requests"))
        self.metrics.ended(None)
        self.metrics.ended(record())
        self.assertEqual(0, self.value("in_flight_requests"))

    def test_refusals(self) -> None:
        """
        Refusals of ours and failures of upstream are told apart.
        """
        self.metrics.refused(NotAuthenticated("no"))
        self.metrics.refused(AnswerCut("cut"))
        self.assertEqual(1, self.value("refusals_total", reason="NotAuthenticated"))
        self.assertEqual(1, self.value("upstream_errors_total", reason="AnswerCut"))

    @given(st.lists(st.text(min_size=1, max_size=8), max_size=30))
    def test_models_are_bounded(self, names: list[str]) -> None:
        """
        A model that nobody knows is "other", whatever it is called.
        """
        metrics = Metrics(lambda model: model == "m")
        for name in names:
            metrics.ended(record(model=name))
        models = {dict(labels).get("model", "m") for _, labels in samples(metrics.text())}
        self.assertLessEqual(models, {"m", "other"})

    def test_keys_are_bounded(self) -> None:
        """
        So are keys beyond the first thousand.
        """
        for number in range(MOST_NAMES + 5):
            self.end(key_alias=f"key {number}")
        who = {"model": "m", "team": "search", "kind": "prompt"}
        self.assertEqual(100, self.value("tokens_total", key=f"key {MOST_NAMES - 1}", **who))
        self.assertEqual(500, self.value("tokens_total", key="other", **who))
        self.assertIsNone(self.value("tokens_total", key=f"key {MOST_NAMES}", **who))

    def test_known_models_are_bounded(self) -> None:
        """
        So are models where the operator's prices have a row for all that begin so, or for all there are.
        """
        self.patch(series, "MOST_NAMES", 100)
        metrics = Metrics(lambda _: True)
        for number in range(105):
            metrics.ended(record(model=f"ft:{number}"))
        counted = samples(metrics.text())
        models = {dict(labels).get("model", "ft:0") for _, labels in counted}
        self.assertEqual({f"ft:{number}" for number in range(100)} | {"other"}, models)

    def test_all_together_are_bounded(self) -> None:
        """
        So is what can be made of all of them: beyond that all is "other" but the endpoint, and nothing is lost. What
        was there before goes on under its name.
        """
        self.patch(series, "MOST_SERIES", 1000)
        metrics = Metrics(lambda _: True)
        for number in range(1000):
            metrics.ended(record(model=f"m{number % 100}", key_alias=f"k{number // 100}"))
        for number in range(3):
            metrics.ended(record(model="m0", key_alias="k0", team_alias=f"new {number}"))
        metrics.ended(record(model="m0", key_alias="k0"))
        counted = samples(metrics.text())
        tokens = {
            (told["model"], told["key"], told["team"]): value
            for (name, labels), value in counted.items()
            if name == "dheera_tokens_total" and (told := dict(labels))["kind"] == "prompt"
        }
        self.assertEqual(1001, len(tokens))
        self.assertEqual(300, tokens["other", "other", "other"])
        self.assertEqual(200, tokens["m0", "k0", "search"])

    def test_levels(self) -> None:
        """
        What goes up and down is asked for when somebody looks.
        """
        self.levels = [Level(name="spool_lag_bytes", labels=("ledger",), value=5), Level(name="store_away", value=True)]
        self.assertEqual(5, self.value("spool_lag_bytes", reader="ledger"))
        self.assertEqual(1, self.value("store_away"))
        self.levels = [Level(name="store_away", value=False)]
        self.assertEqual(0, self.value("store_away"))

    def test_gone(self) -> None:
        """
        A level that is told no longer, as that of a sink that a reload has left out, is 0.
        """
        levels = [Level(name="sink_away", labels=(name,), value=1) for name in ("a", "b")]
        metrics = Metrics(lambda _: True, lambda: levels)
        metrics.text()
        del levels[0]
        for _ in range(2):
            text = metrics.text().decode()
            self.assertIn('dheera_sink_away{sink="a"} 0.0', text)
            self.assertIn('dheera_sink_away{sink="b"} 1.0', text)

    def test_growing_levels(self) -> None:
        """
        What only grows is a counter: it is counted once however often somebody looks, and never falls.
        """
        for value, expected in (2, 2), (2, 2), (5, 5), (1, 5), (3, 7):
            self.levels = [Level(name="sink_retries", labels=("files",), value=value)]
            self.assertEqual(expected, self.value("sink_retries_total", sink="files"))
        self.assertLessEqual(GROWING | WORST, set(LEVELS))

    def test_one_series_each(self) -> None:
        """
        When a series began is not told: it would double the text.
        """
        self.end()
        self.assertNotIn(b"_created", self.metrics.text())

    def test_each_is_explained(self) -> None:
        """
        Each metric has a sentence.
        """
        for family in text_string_to_metric_families(self.metrics.text().decode()):
            self.assertTrue(family.documentation, family.name)
        self.assertTrue(all(text for text, _ in LEVELS.values()))

    def test_refresh_is_flat(self) -> None:
        """
        What is refreshed after one more call is as much after a thousand others as after ten.
        """
        self.assertEqual(*(self.calls_to_refresh(keys) for keys in (10, 1000)))

    def calls_to_refresh(self, keys: int) -> int:
        """
        How many functions are called after one more call, where calls of so many *keys* were counted before.
        """
        for number in range(keys):
            self.end(key_alias=f"key-{number}")
        self.metrics.refresh()
        self.end(key_alias="key-1")
        profile = Profile()
        profile.runcall(self.metrics.refresh)
        return sum(entry.callcount for entry in profile.getstats())


class WorkersTests(TestCase):
    """
    Many workers, one set of figures.
    """

    def setUp(self) -> None:
        there = tempfile.TemporaryDirectory()
        self.addCleanup(there.cleanup)
        self.folder = Path(there.name)

    def start(self, calls: int) -> subprocess.Popen[str]:
        """
        A worker, once it has counted so many calls; it goes when nobody talks to it any more.
        """
        worker = subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(calls)],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, DIRECTORY_VARIABLE: str(self.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(worker.communicate)
        self.addCleanup(worker.kill)
        assert worker.stdout is not None
        self.assertEqual("counted", worker.stdout.readline().strip())
        return worker

    def ask(self, worker: subprocess.Popen[str]) -> dict[str, float]:
        """
        What it tells: the sum of each name.
        """
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write("tell\n")
        worker.stdin.flush()
        found: dict[str, float] = {}
        for (name, _), value in samples(json.loads(worker.stdout.readline()).encode()).items():
            found[name.removeprefix("dheera_")] = found.get(name.removeprefix("dheera_"), 0) + value
        return found

    def test_all_together(self) -> None:
        """
        With a directory that they share, each worker tells of all: sums, and of what is bad the worst.
        """
        first, last = self.start(3), self.start(4)
        for worker in first, last:
            told = self.ask(worker)
            self.assertEqual(7, told["requests_total"])
            self.assertEqual(7, told["request_duration_seconds_count"])
            self.assertEqual(2, told["in_flight_requests"])
            self.assertEqual(7, told["sink_sent_records_total"])
            self.assertEqual(7, told["spool_lag_bytes"])
            self.assertEqual(4, told["spool_lag_seconds"])
            self.assertEqual(1, told["store_away"])
            self.assertNotIn("sink_away", told)

    def test_one_ends(self) -> None:
        """
        What a worker has counted stays when it goes, to the last call; its levels do not.
        """
        first, last = self.start(3), self.start(4)
        _, trouble = last.communicate(timeout=60)
        self.assertEqual((0, None), (last.returncode, trouble))
        self.assertEqual([], list(self.folder.glob(f"gauge_*_{last.pid}.db")))
        told = self.ask(first)
        self.assertEqual(8, told["requests_total"])
        self.assertEqual(8, told["request_duration_seconds_count"])
        self.assertEqual(7, told["sink_sent_records_total"])
        self.assertEqual(1, told["in_flight_requests"])
        self.assertEqual(3, told["spool_lag_seconds"])

    def test_one_is_killed(self) -> None:
        """
        The same when it had no time to say farewell, but for what it counted in its last seconds.
        """
        first, last = self.start(3), self.start(4)
        last.kill()
        last.wait(timeout=60)
        told = self.ask(first)
        self.assertEqual(7, told["requests_total"])
        self.assertEqual(1, told["in_flight_requests"])
        self.assertEqual(3, told["spool_lag_seconds"])


class DirectoryTests(TestCase):
    """
    Where workers count together.
    """

    def setUp(self) -> None:
        there = tempfile.TemporaryDirectory()
        self.addCleanup(there.cleanup)
        self.folder = Path(there.name)

    def choose(self, place: str | None) -> Path | None:
        """
        What is made of a value of the variable.
        """
        before = os.environ.pop(DIRECTORY_VARIABLE, None)
        try:
            if place is not None:
                os.environ[DIRECTORY_VARIABLE] = place
            return shared_directory()
        finally:
            os.environ.pop(DIRECTORY_VARIABLE, None)
            if before is not None:
                os.environ[DIRECTORY_VARIABLE] = before

    def test_choice(self) -> None:
        """
        Nobody need share; a directory that is not there is made.
        """
        self.assertIsNone(self.choose(None))
        self.assertEqual(self.folder / "a" / "b", self.choose(str(self.folder / "a" / "b")))
        self.assertTrue((self.folder / "a" / "b").is_dir())

    def test_no_directory(self) -> None:
        """
        What cannot be one is told to the operator, an empty value too: the library would take that for "here".
        """
        (self.folder / "file").touch()
        for place in "", str(self.folder / "file"), str(self.folder / "file" / "below"):
            with self.assertRaises(ConfigurationError) as caught:
                self.choose(place)
            self.assertEqual(
                f"{DIRECTORY_VARIABLE}: found {place!r}, wanted a directory that can be written", str(caught.exception)
            )

    def test_levels_of_the_dead(self) -> None:
        """
        They are taken away, and those of the one that is leaving; what was counted is not, nor what is somebody else's.
        """
        names = {"gauge_livesum_1.db", "counter_99999999.db", "gauge_livemax_x.db"}
        gone = {"gauge_livesum_99999999.db", f"gauge_livemax_{os.getpid()}.db", f"gauge_livesum_{'9' * 30}.db"}
        for name in names | gone:
            (self.folder / name).touch()
        bury(self.folder, os.getpid())
        self.assertEqual(names, {path.name for path in self.folder.iterdir()})


class RefreshmentTests(SynchronousTestCase):
    """
    What the others are shown is not old.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked = 0
        self.trouble: Exception | None = None
        self.refreshment = Refreshment(self.clock, Metrics(lambda _: True, self.levels))

    def levels(self) -> list[Level]:
        """
        None, or trouble.
        """
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return []

    def test_life(self) -> None:
        """
        From the opening to the close, every few seconds.
        """
        self.successResultOf(Deferred.fromCoroutine(self.refreshment.open()))
        self.clock.pump([REFRESH_SECONDS] * 3)
        self.assertEqual(3, self.asked)
        self.successResultOf(Deferred.fromCoroutine(self.refreshment.close()))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_trouble(self) -> None:
        """
        What goes wrong once is logged, and not the end of it.
        """
        self.successResultOf(Deferred.fromCoroutine(self.refreshment.open()))
        self.trouble = RuntimeError("once")
        self.clock.advance(REFRESH_SECONDS)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.trouble = None
        self.clock.advance(REFRESH_SECONDS)
        self.assertEqual(2, self.asked)
        self.successResultOf(Deferred.fromCoroutine(self.refreshment.close()))
