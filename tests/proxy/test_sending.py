"""
Calls that are sent again, and calls that are not: what upstream gets, what the client is told, what is written down.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dheera.keys import Secret, WeightedKey
from dheera.records import Record, Try
from dheera.settings import AllowanceSettings, BalanceSettings, KeySettings
from tests.house import LAST_CHUNK, Answer, House, in_chunks, read_answer, request
from tests.network import UPSTREAM_HOST, UPSTREAM_PORT, Peer
from tests.wire.caller import OK

CHAT = b'{"model": "m", "messages": []}'
LARGE = 300_000
"""
More than is waited for before a call goes on.
"""
KEYS = tuple(WeightedKey(Secret(f"sk-canary-{place}")) for place in (1, 2, 3))
FINE = OK + b"Content-Length: 2\r\n\r\nok"


def declined(code: int, *fields: bytes) -> bytes:
    """
    An answer that says that nothing was done.
    """
    return b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n%b\r\nno" % (code, b"".join(line + b"\r\n" for line in fields))


class SendingTestCase(SynchronousTestCase):
    """
    A house whose upstream is a script.
    """

    def setUp(self) -> None:
        self.build()

    def build(self, **said: Any) -> None:
        self.house = House(**said)

    @property
    def upstream(self) -> Peer:
        return self.house.script.last

    def chat(self, body: bytes = CHAT, path: bytes = b"chat/completions", *fields: tuple[bytes, bytes]) -> Peer:
        return self.house.ask(b"/mistral/v1/" + path, *fields, method=b"POST", body=body)

    def apart(self, body: bytes, path: bytes = b"chat/completions", announced: int | None = None) -> Peer:
        """
        A call whose body comes after its head, in two pieces; all of it, unless more was *announced*.
        """
        length = b"%d" % (len(body) if announced is None else announced)
        client = self.house.send(request(b"/mistral/v1/" + path, (b"Content-Length", length), method=b"POST"))
        client.send(body[:7])
        client.send(body[7:])
        return client

    def sent(self) -> list[str]:
        """
        With which keys calls have come to upstream since this was asked last.
        """
        got = b"".join(each.taken() for each in self.house.script.connections)
        return [line.split(b"-")[-1].decode() for line in got.split(b"\r\n") if line.startswith(b"Authorization:")]

    def answered(self, client: Peer) -> Answer:
        return read_answer(client.received)

    def record(self) -> Record:
        """
        The one that was written.
        """
        [record] = self.house.records()
        return record

    def pass_time(self, seconds: float) -> None:
        self.house.network.advance(seconds)
        self.house.network.settle()


class WaitingTests(SendingTestCase):
    """
    With one key.
    """

    def test_short(self) -> None:
        """
        Upstream wants to be left alone for a moment: the call waits for it, and the client learns of nothing else.
        """
        for code in (429, 503):
            client = self.chat()
            self.upstream.send(declined(code, b"Retry-After: 2"))
            self.assertEqual(["canary"], self.sent())
            self.pass_time(1.9)
            self.assertEqual(([], b""), (self.sent(), client.received))
            self.pass_time(0.1)
            self.assertEqual(["canary"], self.sent())
            self.upstream.send(FINE)
            self.assertEqual((200, b"ok"), (self.answered(client).status, self.answered(client).body))
            record = self.record()
            self.assertEqual((2, None, 200), (record.attempts, record.upstream_key, record.status))
            self.assertEqual([Try(status=code, waited_us=2_000_000)], record.tries)
        self.assertEqual(1, len(self.house.script.connections))

    def test_long(self) -> None:
        """
        If it is longer than anybody waits, or not said how long, or upstream did something, the answer is the client's.
        """
        for answer in (
            declined(429, b"Retry-After: 3"),
            declined(503, b"Retry-After: 2.1"),
            declined(429),
            declined(503),
            declined(401, b"Retry-After: 0"),
            declined(403, b"Retry-After: 0"),
            declined(500, b"Retry-After: 0"),
            declined(502, b"Retry-After: 0"),
            declined(504, b"Retry-After: 0"),
        ):
            client = self.chat()
            self.upstream.send(answer)
            self.assertEqual(answer.split(b" ")[1], b"%d" % self.answered(client).status)
            self.assertEqual((1, []), (len(self.sent()), self.record().tries))

    def test_how_often(self) -> None:
        """
        A call is sent again as often as is set; then the answer is the client's.
        """
        client = self.chat()
        for _ in range(3):
            self.assertEqual(b"", client.received)
            self.upstream.send(declined(429, b"Retry-After: 0"))
            self.pass_time(0)
        self.assertEqual(429, self.answered(client).status)
        record = self.record()
        self.assertEqual((3, [429, 429]), (record.attempts, [each.status for each in record.tries]))

    def test_budget(self) -> None:
        """
        When what was saved up is used, only a part of the calls is sent again.
        """
        self.build(balance=BalanceSettings(retries=1, retry_percent=10))
        again = 0
        for _ in range(30):
            self.chat()
            self.upstream.send(declined(429, b"Retry-After: 0"))
            self.pass_time(0)
            self.upstream.send(declined(429, b"Retry-After: 0"))
            again += self.record().attempts - 1
        self.assertEqual(10 + 2, again)  # the first ten bring nothing while all is saved, from then on each a tenth

    def test_upload(self) -> None:
        """
        A request of which upstream has taken a part that is not here any more is not sent again.
        """
        for body in (CHAT, CHAT.ljust(LARGE)):
            client = self.apart(body, announced=LARGE)
            self.upstream.send(declined(429, b"Retry-After: 0"))
            self.assertEqual(429, self.answered(client).status)
        client = self.house.send(
            request(b"/mistral/v1/files", (b"Transfer-Encoding", b"chunked"), method=b"POST") + in_chunks(CHAT)
        )
        client.send(LAST_CHUNK)
        self.upstream.send(declined(429, b"Retry-After: 0"))
        self.assertEqual(429, self.answered(client).status)

    def test_interim(self) -> None:
        """
        Once the client has had an interim answer, the call is not sent again.
        """
        client = self.chat()
        self.upstream.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + declined(429, b"Retry-After: 0"))
        self.assertTrue(client.received.startswith(b"HTTP/1.1 103 "))
        self.assertEqual(429, read_answer(self.answered(client).rest).status)

    def test_no_leak(self) -> None:
        """
        An answer that is dropped and has not come as a whole takes its connection with it; nothing is left behind.
        """
        client = self.chat()
        first = self.upstream
        first.send(b"HTTP/1.1 429 No\r\nRetry-After: 1\r\nContent-Length: 1000000\r\n\r\nno")
        self.house.network.settle()
        self.assertEqual("reset", first.ended)
        self.pass_time(1)
        self.assertIsNot(first, self.upstream)
        self.upstream.send(FINE)
        self.assertEqual(200, self.answered(client).status)
        client.close()
        self.house.agent.close()
        self.house.network.settle()
        self.house.network.turn(1)
        self.assertTrue(self.house.is_empty())

    def test_client_leaves(self) -> None:
        """
        A client that leaves while its call waits ends it, even where answers are read to their end; it costs nothing.
        """
        prices = {"m": {"input_per_million": 1.0, "output_per_million": 1.0}}
        for rule in ("abort", "finish"):
            self.build(allowances=AllowanceSettings(on_client_left=rule), prices=prices)
            client = self.chat()
            self.upstream.send(declined(429, b"Retry-After: 1"))
            client.close()
            self.pass_time(2)
            self.assertEqual(1, len(self.sent()))
            record = self.record()
            self.assertEqual(("client_left", 0, 1), (record.outcome, record.cost_nano_usd, record.attempts))
            self.assertEqual([Try(status=429)], record.tries)
            self.assertNotIn("dheera_upstream_retries_total{", self.house.metrics.text().decode())

    def test_left_and_read(self) -> None:
        """
        A call whose client has left already is not sent again.
        """
        self.build(allowances=AllowanceSettings(on_client_left="finish"))
        client = self.chat()
        client.close()
        self.upstream.send(declined(429, b"Retry-After: 0"))
        self.pass_time(1)
        self.assertEqual((1, "client_left"), (len(self.sent()), self.record().outcome))

    def test_socket(self) -> None:
        """
        The handshake of a WebSocket is not sent again once upstream has answered.
        """
        fields = [
            (b"Connection", b"Upgrade"),
            (b"Upgrade", b"websocket"),
            (b"Sec-WebSocket-Version", b"13"),
            (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        ]
        client = self.house.ask(b"/mistral/v1/audio/transcriptions/realtime?model=m", *fields)
        self.upstream.send(declined(429, b"Retry-After: 0"))
        self.assertEqual((429, 1), (self.answered(client).status, len(self.sent())))


class ApartTests(SendingTestCase):
    """
    Head and body come one after the other, as most clients send them.
    """

    def test_again(self) -> None:
        """
        A body that is not large is waited for, and the call can be sent again; the time is not counted as ours.
        """
        client = self.house.send(
            request(b"/mistral/v1/chat/completions", (b"Content-Length", b"%d" % len(CHAT)), method=b"POST")
        )
        self.pass_time(3)
        client.send(CHAT[:5])
        self.assertEqual([], self.house.script.connections)
        client.send(CHAT[5:])
        self.upstream.send(declined(429, b"Retry-After: 0"))
        self.pass_time(0)
        self.assertTrue(self.upstream.received.endswith(CHAT))
        self.upstream.send(FINE)
        self.assertEqual((200, b"ok"), (self.answered(client).status, self.answered(client).body))
        self.assertEqual([b"0.000"], self.answered(client).values(b"x-dheera-overhead-ms"))
        record = self.record()
        self.assertEqual((2, len(CHAT), "m"), (record.attempts, record.request_bytes, record.model))
        self.assertEqual(0, record.overhead_us)
        self.assertGreaterEqual(record.duration_us, 3_000_000)
        self.assertEqual(0, self.house.headroom.taken_bytes)

    def test_no_room(self) -> None:
        """
        Where many bodies are here already, of what is kept for them half is left to those that must be read: others
        are passed on while they come, and none is refused.
        """
        self.build(keys=KeySettings(inspected_together_bytes=2 * len(CHAT)))
        waits = self.apart(CHAT[:10], announced=len(CHAT))
        self.assertEqual(([], len(CHAT)), (self.house.script.connections, self.house.headroom.taken_bytes))
        client = self.apart(CHAT[:10], announced=len(CHAT))
        self.assertTrue(self.upstream.received.endswith(CHAT[:10]))
        client.send(CHAT[10:])
        self.upstream.send(FINE)
        self.assertEqual(200, self.answered(client).status)
        waits.close()
        self.house.network.settle()
        self.assertEqual(0, self.house.headroom.taken_bytes)

    def test_client_leaves(self) -> None:
        """
        A client that leaves before all of its body has come costs nothing, and upstream hears nothing of it.
        """
        client = self.apart(CHAT[:10], announced=len(CHAT))
        client.close()
        self.house.network.settle()
        record = self.record()
        self.assertEqual(("client_left", 0, 10, 0), (
            record.outcome, record.attempts, record.request_bytes, record.cost_nano_usd
        ))  # fmt: skip
        self.assertEqual([], self.house.script.connections)
        self.assertTrue(self.house.is_empty())

    def test_too_slow(self) -> None:
        """
        A body that does not come is not waited for without end.
        """
        client = self.apart(CHAT[:10], announced=len(CHAT))
        self.house.network.turn(120)
        self.assertNotEqual("open", client.ended)
        self.assertEqual(0, self.house.headroom.taken_bytes)

    def test_named(self) -> None:
        """
        What a body names is seen though it comes late: such a call goes with the first key, others with any.
        """
        self.build(api_keys=KEYS)
        for body, keys in ((CHAT, ["1", "2", "3"]), (b'{"model": "m", "file_id": "f"}', ["1"])):
            used = []
            for _ in range(6):
                self.apart(body)
                used += self.sent()
                self.upstream.send(FINE)
            self.assertEqual(keys, sorted(set(used)))

    def test_cannot_be_searched(self) -> None:
        """
        What cannot be searched goes with the first key where it may name something, and tries no key anywhere.
        """
        self.build(api_keys=KEYS[:2])
        self.chat()
        [gone] = self.sent()
        self.upstream.send(declined(401))
        self.upstream.send(FINE)
        self.sent()
        self.pass_time(61)
        for path, key in (
            (b"chat/completions", "1"),
            (b"ocr", "1"),
            (b"audio/transcriptions", "1"),
            (b"embeddings", {"1": "2", "2": "1"}[gone]),
        ):
            for _ in range(2):
                self.apart(CHAT.ljust(LARGE), path)
                self.assertEqual([key], self.sent())
                self.upstream.send(FINE)
        self.chat()
        self.assertEqual([gone], self.sent())


class UnreachedTests(SendingTestCase):
    """
    Upstream cannot be reached.
    """

    def test_back_soon(self) -> None:
        """
        It is tried again, after a moment, also with an upload of which most is still to come.
        """
        self.house.network.listen(None)
        body = CHAT.ljust(LARGE)
        client = self.apart(body[:10], b"files", announced=LARGE)
        self.house.network.listen(self.house.script)
        self.pass_time(0.1)
        client.send(body[10:])
        self.assertTrue(self.upstream.received.endswith(body))
        self.upstream.send(FINE)
        self.assertEqual(200, self.answered(client).status)
        record = self.record()
        self.assertEqual((2, ["ConnectFailed"]), (record.attempts, [each.error for each in record.tries]))

    def test_away(self) -> None:
        """
        If it stays away, the client is told so.
        """
        self.house.network.listen(None)
        client = self.chat()
        self.house.network.turn(2)
        self.assertEqual(502, self.answered(client).status)
        record = self.record()
        self.assertEqual((3, "ConnectFailed", 0), (record.attempts, record.error, record.cost_nano_usd))
        self.assertEqual(["ConnectFailed"] * 2, [each.error for each in record.tries])

    def test_silent(self) -> None:
        """
        Who has waited long for a connection is not made to wait as long once more.
        """
        self.house.network.silent.add((UPSTREAM_HOST, UPSTREAM_PORT))
        client = self.chat()
        self.house.network.turn(10)
        self.assertEqual((502, 1), (self.answered(client).status, self.record().attempts))

    def test_cut(self) -> None:
        """
        A call that upstream may have begun on is not sent again, though no answer came.
        """
        client = self.chat()
        self.upstream.close()
        self.assertEqual((502, 1), (self.answered(client).status, self.record().attempts))

    def test_stale(self) -> None:
        """
        A connection that was closed while it was kept is replaced, and the record tells of it.
        """
        client = self.house.ask(b"/mistral/v1/models")
        self.upstream.send(FINE)
        client = self.house.ask(b"/mistral/v1/models")
        self.upstream.close()
        self.upstream.send(FINE)
        self.assertEqual(200, self.answered(client).status)
        record = self.house.records()[-1]
        self.assertEqual((2, [Try(error="AnswerCut")]), (record.attempts, record.tries))

    def test_stale_change(self) -> None:
        """
        A change that may be sent twice is, on such a connection, as far as calls may be sent again at all; what only
        reads is in any case. All of it counts.
        """
        for retries, method, status, more in (
            (2, b"DELETE", 200, 8),
            (0, b"DELETE", 502, 9),
            (0, b"GET", 200, 8),
        ):
            self.build(balance=BalanceSettings(retries=retries))
            self.house.ask(b"/mistral/v1/files/1")
            self.upstream.send(FINE)
            client = self.house.ask(b"/mistral/v1/files/1", method=method)
            self.upstream.close()
            if status == 200:
                self.upstream.send(FINE)
            self.assertEqual(status, self.answered(client).status)
            record = self.house.records()[-1]
            self.assertEqual(2 if status == 200 else 1, record.attempts)
            budget = self.house.upstream.budget
            budget._rules = BalanceSettings()
            left = 0
            while budget.allows(1):
                budget.take()
                left += 1
            self.assertEqual(more + 1, left)


class SeveralTests(SendingTestCase):
    """
    With several keys.
    """

    def setUp(self) -> None:
        self.build(api_keys=KEYS)

    def test_in_turns(self) -> None:
        """
        Calls that need nothing of what upstream keeps are spread over the keys; the record names the one.
        """
        for path in (b"chat/completions", b"embeddings", b"ocr"):
            used = []
            for _ in range(3):
                self.chat(path=path)
                used += self.sent()
                self.upstream.send(FINE)
            self.assertEqual(["1", "2", "3"], sorted(used))
            self.assertEqual(sorted(used), sorted((each.upstream_key or "")[-1] for each in self.house.records()))

    def test_first(self) -> None:
        """
        Calls that may name what is in a workspace go with the first key, always: by their endpoint, or by what is said.
        """
        for path, body in (
            (b"files", b"x"),
            (b"batch/jobs", b"{}"),
            (b"agents/completions", CHAT),
            (b"conversations", CHAT),
            (b"libraries", b"{}"),
            (b"fine_tuning/jobs", b"{}"),
            (b"no/such/thing", b"{}"),
            (b"ocr", b'{"document": {"type": "file", "file_id": "f"}}'),
            (b"chat/completions", b'{"model": "ft:mistral-small:1"}'),
            (b"audio/speech", b'{"model": "m", "input": "Hi", "voice_id": "v"}'),
        ):
            for _ in range(3):
                self.chat(body, path)
                self.assertEqual(["1"], self.sent(), path)
                self.upstream.send(FINE)

    def test_at_once(self) -> None:
        """
        A call that one key may not make now is made at once with another one that is free, however long upstream asks.
        """
        for code, field in (
            (429, b"Retry-After: 1000"),
            (429, b"A: b"),
            (503, b"Retry-After: 1000"),
            (401, b"A: b"),
        ):
            self.build(api_keys=KEYS)
            client = self.chat()
            [first] = self.sent()
            self.upstream.send(declined(code, field))
            [second] = self.sent()
            self.assertNotEqual(first, second)
            self.upstream.send(FINE)
            self.assertEqual(200, self.answered(client).status)
            record = self.record()
            self.assertEqual((2, f"key {second}"), (record.attempts, record.upstream_key))
            self.assertEqual([Try(key=f"key {first}", status=code)], record.tries)

    def test_none_left(self) -> None:
        """
        When all have declined, what the last one has said is the client's. None is asked twice.
        """
        client = self.chat()
        for _ in range(3):
            self.upstream.send(declined(429, b"Retry-After: 1000"))
        self.assertEqual((429, [b"1000"]), (self.answered(client).status, self.answered(client).values(b"retry-after")))
        self.assertEqual(["1", "2", "3"], sorted(self.sent()))
        client = self.chat()
        self.assertEqual(1, len(self.sent()))
        self.upstream.send(declined(429, b"Retry-After: 1000"))
        self.assertEqual(429, self.answered(client).status)

    def test_nobody_said_when(self) -> None:
        """
        With a key that takes no more calls, and has not said until when, none is sent again.
        """
        self.build(api_keys=KEYS[:2])
        client = self.chat()
        self.upstream.send(declined(429))
        self.upstream.send(declined(429))
        self.assertEqual(429, self.answered(client).status)
        self.assertEqual(["1", "2"], sorted(self.sent()))
        self.pass_time(10)
        self.assertEqual([], self.sent())

    def test_wait_for_one(self) -> None:
        """
        If all rest, the call waits for the one that has declined it, if that is not for long.
        """
        self.build(api_keys=KEYS[:2])
        client = self.chat()
        self.upstream.send(declined(429, b"Retry-After: 1000"))
        self.upstream.send(declined(429, b"Retry-After: 1"))
        first, second = self.sent()
        self.assertEqual(b"", client.received)
        self.pass_time(1)
        self.assertEqual([second], self.sent())
        self.upstream.send(FINE)
        self.assertEqual(200, self.answered(client).status)
        self.assertEqual([f"key {first}", f"key {second}"], [each.key for each in self.record().tries])

    def test_bound(self) -> None:
        """
        A call that only the first key may make is not made with another one.
        """
        for answer in (declined(429, b"Retry-After: 1000"), declined(401)):
            client = self.chat(path=b"files")
            self.upstream.send(answer)
            self.assertEqual(["1"], self.sent())
            self.assertNotEqual(b"", client.received)

    def test_unknown_key(self) -> None:
        """
        Of a key that upstream does not know the operator is told, and no client.
        """
        for _ in range(7):
            client = self.chat()
            if self.sent() == ["2"]:
                self.upstream.send(declined(401))
                self.sent()
            self.upstream.send(FINE)
            self.assertEqual(200, self.answered(client).status)
        self.assertEqual(["upstream mistral, key 2"], [alert.subject for alert in self.house.alerts])

    def test_refused_by_all(self) -> None:
        """
        A call that no key may make, sent again and again among others that are well, takes no more than one key out at
        a time, and the operator is told once of each.
        """
        for _ in range(10):
            for well in (False, True):
                client = self.chat()
                while not client.received:
                    self.upstream.send(FINE if well else declined(401))
                self.assertEqual(200 if well else 401, self.answered(client).status)
                self.pass_time(1)
        self.assertEqual({"warning"}, {alert.level for alert in self.house.alerts})
        subjects = [alert.subject for alert in self.house.alerts]
        self.assertEqual(sorted(set(subjects)), sorted(subjects))

    def test_refused_by_two(self) -> None:
        """
        If a third key may make the call, it was for both others that it could not be made with them.
        """
        self.chat()
        for answer in (declined(401), declined(401), FINE):
            self.upstream.send(answer)
        first, second, _ = self.sent()
        credentials = self.house.upstream.credentials
        assert credentials is not None
        self.assertEqual({f"key {first}", f"key {second}"}, {
            name for name, rests in credentials.resting().items() if rests
        })  # fmt: skip
        self.build(api_keys=KEYS)
        self.chat()
        for _ in range(3):
            self.upstream.send(declined(401))
        first, *_ = self.sent()
        credentials = self.house.upstream.credentials
        assert credentials is not None
        self.assertEqual([f"key {first}"], [name for name, rests in credentials.resting().items() if rests])

    def test_answer_has_begun(self) -> None:
        """
        What breaks in the middle of an answer is not begun anew.
        """
        client = self.chat()
        self.upstream.send(OK + b"Transfer-Encoding: chunked\r\n\r\n" + in_chunks(b"data: 1\n\n"))
        self.upstream.reset()
        self.assertEqual(1, len(self.sent()))
        self.assertNotIn(LAST_CHUNK, client.received)
        self.assertEqual([], self.record().tries)

    def test_trial_is_given_up(self) -> None:
        """
        A call that tries a key, and whose client leaves, leaves the trial to the next one.
        """
        self.build(api_keys=KEYS[:2])
        client = self.chat()
        [key] = self.sent()
        self.upstream.send(declined(401))
        self.upstream.send(FINE)
        self.sent()
        self.pass_time(61)
        client = self.chat()
        self.assertEqual([key], self.sent())
        client.close()
        self.chat()
        self.assertEqual([key], self.sent())

    def test_no_secret(self) -> None:
        """
        No record, and nothing that is shown of the objects, holds a key.
        """
        self.chat()
        self.upstream.send(declined(401))
        self.upstream.send(FINE)
        credentials = self.house.upstream.credentials
        assert credentials is not None
        shown = repr([self.record(), self.house.upstream, credentials, [*credentials], self.house.alerts])
        self.assertNotIn("canary", shown)


class OneTests(SendingTestCase):
    """
    One key alone is never rested.
    """

    def test_native(self) -> None:
        """
        Whatever upstream says to it, the next call is sent with it, and at once.
        """
        for answer in (declined(401), declined(429, b"Retry-After: 1000"), *([declined(500)] * 10)):
            client = self.chat()
            self.upstream.send(answer)
            self.assertEqual(["canary"], self.sent())
            self.assertIn(b"no", client.received)
            record = self.record()
            self.assertEqual((1, None), (record.attempts, record.upstream_key))
        self.assertEqual([], self.house.alerts)
