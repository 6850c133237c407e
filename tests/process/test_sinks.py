"""
Sinks that are away, that hang, that never come back.
"""

from __future__ import annotations

import signal
import subprocess

from tests.process import sinks
from tests.process.bearers import Bearer
from tests.process.daemon import Daemon, environment, eventually
from tests.process.receivers import Receiver


class AwayTests(sinks.SinkCase):
    """
    A sink that is not there.
    """

    def test_off_and_on(self) -> None:
        """
        While nobody listens where a webhook goes, calls and the file go on, and the daemon says what is the matter, to
        admins and to Prometheus. When somebody does, all calls arrive.
        """
        with self.daemon() as daemon:
            with self.under_load(daemon) as crowd:
                crowd.wait_for(30)
                eventually(lambda: self.sink(daemon)["status"] == "away", "it is known that the sink is away")
                crowd.wait_for(30)
            self.all_is_told(daemon)
            state = self.sink(daemon)
            self.assertEqual((0, 0), (state["sent"], state["lag"]["dropped"]))
            self.assertGreater(state["lag"]["waiting_bytes"], 0)
            self.assertRegex(state["reason"], "refused")
            self.assertIn('dheera_sink_away{sink="hook"} 1.0', self.metrics(daemon))
            self.assertIn('dheera_sink_away{sink="files"} 0.0', self.metrics(daemon))
            with self.receiver.on():
                self.all_is_told(daemon, self.receiver)
                eventually(lambda: self.sink(daemon)["lag"]["waiting_bytes"] == 0, "nothing waits")
            self.assertEqual("healthy", self.sink(daemon)["status"])
            self.assertIn('dheera_sink_away{sink="hook"} 0.0', self.metrics(daemon))
        self.assertEqual(1, daemon.log.count("Sink hook is away"))

    def test_hangs(self) -> None:
        """
        A sink that takes connections and never answers delays no call and no other sink.
        """
        other = self.enterContext(Receiver())
        self.add("other", other)
        self.settings = self.settings.replace("timeout_seconds = 30.0", "timeout_seconds = 1.0")
        with self.daemon() as daemon, other.on():
            with self.receiver.hanging():
                with self.under_load(daemon) as crowd:
                    crowd.wait_for(60)
                self.all_is_told(daemon, other)
                eventually(lambda: "did not answer" in self.sink(daemon)["reason"], "the sink hangs")
                self.assertEqual([], self.receiver.call_ids)
                self.assertEqual("healthy", self.sink(daemon, "other")["status"])
            with self.receiver.on():
                self.all_is_told(daemon, self.receiver)

    def test_stop(self) -> None:
        """
        A daemon stops in order while one sink is away and another one hangs, and another one may even be killed: what
        has not arrived is sent by the next.
        """
        other = self.enterContext(Receiver())
        self.add("other", other)
        with other.hanging():
            with self.daemon() as daemon:
                with self.under_load(daemon) as crowd:
                    crowd.wait_for(20)
                self.stop(daemon)
            self.assertEqual(len(self.till.seen), len(self.in_ledger))
            with self.daemon() as daemon:
                with self.under_load(daemon) as crowd:
                    crowd.wait_for(20)
                daemon.signal(signal.SIGKILL)
                self.assertEqual(-signal.SIGKILL, daemon.ended())
        self.assertEqual([], self.receiver.call_ids + other.call_ids)
        with self.receiver.on(), other.on(), self.daemon() as daemon:
            self.all_is_told(daemon, self.receiver, other)
            self.stop(daemon)

    def test_command(self) -> None:
        """
        ``dheera_ai sinks test`` sends a record past the daemon, says whether it arrived, and leaves the ledger alone.
        """
        file = self.folder / "dheera.toml"
        file.write_text(self.settings)
        command = ["dheera_ai", "sinks", "test", "hook", "--config", str(file)]
        said = environment({"DATABASE_URL": self.database, "DHEERA_AI_STATE_DIR": str(self.folder / "state")})

        def run() -> subprocess.CompletedProcess[str]:
            return subprocess.run(command, env=said, capture_output=True, text=True, check=False)

        done = run()
        self.assertEqual((1, ""), (done.returncode, done.stderr))
        self.assertRegex(done.stdout, r"\Ahook \(webhook\): did not arrive: .*refused")
        with self.receiver.on():
            done = run()
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        [call_id] = self.receiver.call_ids
        self.assertIn(call_id, done.stdout)
        self.assertEqual(["test: true"], self.receiver.lines[0]["tags"])
        self.assertFalse((self.folder / "dheera.sqlite").exists())

    def metrics(self, daemon: Daemon) -> str:
        """
        What Prometheus is told.
        """
        return Bearer(daemon, "").ask("GET", "/metrics").content.decode()
